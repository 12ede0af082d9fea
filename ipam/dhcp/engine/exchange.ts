/**
 * An exchange with DHCP servers, of either version: what is sent, for how long an answer is waited for, and what an answer makes
 * of the client's state. Written once, over an encoding that knows the messages. Pure: times are milliseconds.
 */
import type { Timing } from './timing.ts'

/** What a server offers, as far as an exchange is concerned with it; seconds from its reply, `Infinity` for ever. */
export interface Offered {
  address: string
  server: string
  renewalSeconds: number
  rebindingSeconds: number
}

export interface Leased extends Offered {
  obtainedAt: number
}

export interface ExchangeClient {
  timing: Timing
  /** Where a probe is answered by the client's own interface, it is no conflict. */
  hardware?: string
}

/** What the state of every client has; the phases that have no place here are the protocol's own. */
export interface ExchangeState {
  phase: string
  /** When it gives up acquiring. */
  deadline: number
  /** Sends of the present exchange. */
  sends: number
  wakeAt?: number
  /** The offer that is asked for, or the best so far. */
  offer?: Offered
  /** Until when others may say that the address is theirs; who did. */
  probeUntil?: number
  claimant?: string
  /** A server that has not the lease that another one gave: its answers are passed over. */
  excludedServer?: string
  lease?: Leased
  reason?: string
}

export interface ExchangeEvent {
  now: number
  random: () => number
}

export type How = 'acquired' | 'confirmed' | 'renewed'

/** What every client does besides sending. */
export type ExchangeAction<Lease> =
  | { type: 'probe'; address: string }
  /** Acquired, or renewed (perhaps with other times): keep it. */
  | { type: 'bound'; lease: Lease; how: How }
  /** Something for the log that changes nothing else. */
  | { type: 'note'; what: 'declined' | 'ignored' | 'refused' | 'rebinding'; why: string }
  /** The address must not be used any longer. */
  | { type: 'lost'; lease: Lease; why: string }
  | { type: 'failed'; why: string }
  | { type: 'released'; lease?: Lease }

export type LeaseOf<State extends ExchangeState> = NonNullable<State['lease']>

export interface Step<State extends ExchangeState, Own> {
  state: State
  actions: (Own | ExchangeAction<LeaseOf<State>>)[]
}

/** What a protocol says in an exchange. `Own` are its own actions, of which sending is one. */
export interface Encoding<Client extends ExchangeClient, State extends ExchangeState, Own> {
  /** What is sent in the present phase, and how long an answer may take; undefined where nothing is sent. */
  encode(
    client: Client,
    state: State,
    event: ExchangeEvent,
  ): { send: Own; wait: number; state: State } | undefined
  /** A message to which no answer is waited for. */
  encodeAlone(client: Client, state: State, what: { kind: 'release' | 'decline'; event: ExchangeEvent }): Own
  expiryOf(lease: LeaseOf<State>): number
}

const SHORTEST_RETRY = 250

/** Who is in an exchange, and how it speaks. */
export interface Party<Client extends ExchangeClient, State extends ExchangeState, Own> {
  client: Client
  protocol: Encoding<Client, State, Own>
}

/** Sends what the phase sends, and waits for an answer. */
export function transmit<Client extends ExchangeClient, State extends ExchangeState, Own>(
  { client, protocol }: Party<Client, State, Own>,
  state: State,
  event: ExchangeEvent,
): Step<State, Own> {
  const sent = protocol.encode(client, state, event)
  if (!sent) return still(state)
  const left = Math.max(0, phaseEnd(protocol, state) - event.now)
  // of a lease a third of what is left of the phase, of an acquisition until its end
  const share = state.lease ? Math.min(Math.max(SHORTEST_RETRY, left / 3), left) : left
  const wakeAt = event.now + Math.min(sent.wait, share)
  return { state: { ...sent.state, sends: state.sends + 1, wakeAt }, actions: [sent.send] }
}

/** When the phase ends if nothing comes: T2, expiry, or the acquisition's deadline. */
export function phaseEnd<State extends ExchangeState>(
  { expiryOf }: { expiryOf(lease: LeaseOf<State>): number },
  state: State,
): number {
  const { phase, deadline } = state
  const lease = state.lease as LeaseOf<State> | undefined
  if (!lease) return deadline
  if (phase === 'renewing') return lease.obtainedAt + lease.rebindingSeconds * 1000
  const expiry = expiryOf(lease)
  return phase === 'rebinding' ? expiry : Math.min(deadline, expiry)
}

/** After the request for an offer: others are asked whether they have the address. */
export function probe<State extends ExchangeState, Own>(
  { timing }: ExchangeClient,
  asked: Step<State, Own>,
  { now }: ExchangeEvent,
): Step<State, Own> {
  const { offer, lease } = asked.state
  if (!offer || lease || timing.probe === 0) return asked
  return {
    state: { ...asked.state, probeUntil: now + timing.probe },
    actions: [...asked.actions, { type: 'probe', address: offer.address }],
  }
}

/** Gives back what a server may have committed to a request whose answer has not come. */
export function returnOffer<Client extends ExchangeClient, State extends ExchangeState, Own>(
  { client, protocol }: Party<Client, State, Own>,
  state: State,
  event: ExchangeEvent,
): Own[] {
  const { offer, phase } = state
  if (!offer || phase !== 'requesting') return []
  const lease = { ...offer, obtainedAt: event.now }
  return [protocol.encodeAlone(client, { ...state, lease }, { kind: 'release', event })]
}

export function still<State extends ExchangeState>(state: State): { state: State; actions: [] } {
  return { state, actions: [] }
}

/** What is over in a state; all of it is left out where there is none. */
type Passing = 'wakeAt' | 'offer' | 'probeUntil' | 'claimant' | 'excludedServer'

function without<State extends ExchangeState>(state: State, ...keys: Passing[]): State {
  const rest = { ...state }
  for (const key of keys) delete rest[key]
  return rest
}

export function sleepUntilRenewal<State extends ExchangeState>(state: State, lease: LeaseOf<State>) {
  const renewal = lease.obtainedAt + lease.renewalSeconds * 1000
  return still({
    ...without(state, 'wakeAt'),
    phase: 'bound' as const,
    sends: 0,
    ...(Number.isFinite(renewal) ? { wakeAt: renewal } : {}),
  })
}

/** The lease is the client's: it sleeps until it is to be renewed. */
export function bind<State extends ExchangeState>(
  state: State,
  lease: LeaseOf<State>,
  how: How,
): Step<State, never> {
  const rest = without(state, 'offer', 'probeUntil', 'claimant', 'excludedServer')
  const bound = sleepUntilRenewal({ ...rest, lease }, lease)
  return { state: bound.state, actions: [{ type: 'bound', lease, how }] }
}

/**
 * What a server has granted that was asked for: bound, or waited with until others had the time to say that it is theirs.
 * Undefined where one has said so already.
 */
export function accept<State extends ExchangeState>(
  state: State,
  { lease, now, confirms }: { lease: LeaseOf<State>; now: number; confirms: boolean },
): Step<State, never> | undefined {
  if (confirms) return bind(state, lease, 'confirmed')
  if (state.phase !== 'requesting' || state.lease) return bind(state, lease, 'renewed')
  if (state.claimant !== undefined) return undefined
  if (now >= (state.probeUntil ?? 0)) return bind(state, lease, 'acquired')
  return still({ ...state, lease, phase: 'verifying' as const, wakeAt: state.probeUntil ?? now })
}

export function stop<State extends ExchangeState, Action extends { type: string }, Before>(
  state: State,
  last: Action,
  before: readonly Before[] = [],
): { state: State; actions: (Before | Action)[] } {
  const reason = 'why' in last ? String(last.why) : 'released'
  return {
    state: { ...without(state, 'wakeAt'), phase: 'stopped' as const, reason },
    actions: [...before, last],
  }
}

export function lose<State extends ExchangeState>(
  state: State,
  lease: LeaseOf<State>,
  why: string,
): Step<State, never> {
  return stop(state, { type: 'lost' as const, lease, why })
}
