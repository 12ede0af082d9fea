/** What a DHCPv6 client does in more than one situation: sends, settles, stops; and how long it waits (RFC 8415, 15). Pure. */
import type { Timing } from '../engine/timing.ts'
import { composeMessage } from './message.ts'
import type { Action, Client, Event, Kind, Lease, Phase, State, Step } from './types.ts'

interface Exchange {
  kind: Kind
  /** IRT and MRT, milliseconds (RFC 8415, 7.6). */
  first: number
  longest: number
  /** MRC: so many sends, then it has failed. */
  most?: number
}

const exchanges: Partial<Record<Phase, Exchange>> = {
  soliciting: { kind: 'solicit', first: 1000, longest: Number.POSITIVE_INFINITY }, // until the server's SOL_MAX_RT
  requesting: { kind: 'request', first: 1000, longest: 30_000, most: 10 },
  confirming: { kind: 'confirm', first: 1000, longest: 4000 },
  informing: { kind: 'inform', first: 1000, longest: 3_600_000 },
  renewing: { kind: 'renew', first: 10_000, longest: 600_000 },
  rebinding: { kind: 'rebind', first: 10_000, longest: 600_000 },
}

const SHORTEST_RETRY = 250

/** Begins an exchange: a new transaction, and the first send. */
export function begin(client: Client, state: State, phase: Phase, event: Event): Step {
  const transaction = draw(event)
  return transmit(client, { ...state, phase, transaction, beganAt: event.now, sends: 0, waited: 0 }, event)
}

function draw({ random }: Event): number {
  return Math.floor(random() * 0x100_0000)
}

/** Sends what the phase sends, and waits for about twice as long as the last time. */
export function transmit(client: Client, state: State, event: Event): Step {
  const exchange = exchanges[state.phase]
  if (!exchange) return { state, actions: [] }
  const waited = waitOf(client.timing, exchange, state, event)
  const wakeAt = event.now + Math.min(waited, shareOf(state, event.now))
  const message = composeMessage(client, state, exchange.kind, event.now)
  return {
    state: { ...state, sends: state.sends + 1, waited, wakeAt },
    actions: [{ type: 'send', kind: exchange.kind, message }],
  }
}

/** RFC 8415, 15, with the daemon's flags as bounds. The first SOLICIT is waited for longer, never shorter (18.2.1). */
function waitOf({ timeout, resendMax }: Timing, exchange: Exchange, state: State, { random }: Event): number {
  const jitter = (random() * 2 - 1) * 0.1
  const longest = Math.min(exchange.longest, state.longestSolicit, resendMax)
  if (state.sends === 0) {
    const first = Math.min(exchange.first, timeout)
    return first * (1 + (state.phase === 'soliciting' ? Math.abs(jitter) : jitter))
  }
  const next = state.waited * (2 + jitter)
  return next > longest ? longest * (1 + jitter) : next
}

export function hasSentAll({ phase, sends }: State): boolean {
  return sends >= (exchanges[phase]?.most ?? Number.POSITIVE_INFINITY)
}

/** What may be waited for at most: of a lease, a third of what is left of the phase; of an acquisition, until its end. */
function shareOf(state: State, now: number): number {
  const left = Math.max(0, phaseEnd(state) - now)
  return state.lease ? Math.min(Math.max(SHORTEST_RETRY, left / 3), left) : left
}

function phaseEnd({ phase, lease, deadline }: State): number {
  if (!lease) return deadline
  if (phase === 'renewing') return lease.obtainedAt + lease.rebindingSeconds * 1000
  const expiry = expiryOf(lease)
  return phase === 'rebinding' ? expiry : Math.min(deadline, expiry)
}

export function expiryOf({ obtainedAt, validSeconds }: Lease): number {
  return obtainedAt + validSeconds * 1000
}

/** One message that nobody's answer is waited for. */
export function sendOnce(client: Client, state: State, kind: 'release' | 'decline', event: Event): Action {
  const alone: State = { ...state, transaction: draw(event), sends: 0 }
  return { type: 'send', kind, message: composeMessage(client, alone, kind, event.now) }
}

export function sleepUntilRenewal(state: State, lease: Lease): Step {
  const { wakeAt: _wake, ...rest } = state
  const renewal = lease.obtainedAt + lease.renewalSeconds * 1000
  return {
    state: { ...rest, phase: 'bound', sends: 0, ...(Number.isFinite(renewal) ? { wakeAt: renewal } : {}) },
    actions: [],
  }
}

export function settle(state: State, lease: Lease, how: 'acquired' | 'confirmed' | 'renewed'): Step {
  const { offer: _offer, probeUntil: _until, claimant: _claimant, excludedServer: _shunned, ...rest } = state
  const { state: bound } = sleepUntilRenewal({ ...rest, lease }, lease)
  return { state: bound, actions: [{ type: 'bound', lease, how }] }
}

export function stop(state: State, last: Action, before: Action[] = []): Step {
  const { wakeAt: _wake, ...rest } = state
  const reason = 'why' in last ? last.why : 'released'
  return { state: { ...rest, phase: 'stopped', reason }, actions: [...before, last] }
}

export function lose(state: State, lease: Lease, why: string): Step {
  return stop(state, { type: 'lost', lease, why })
}

/** Gives back what a server may have committed to a request whose answer has not come. */
export function returnOffer(client: Client, state: State, event: Event): Action[] {
  const { phase, offer } = state
  if (!offer || phase !== 'requesting') return []
  return [sendOnce(client, { ...state, lease: { ...offer, obtainedAt: event.now } }, 'release', event)]
}
