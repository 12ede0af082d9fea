/**
 * The life of a lease, of either version of DHCP: taken up, verified, renewed, rebound, given back, lost. Written once, over an
 * exchange and what a protocol does in a way of its own. Pure, as the exchange.
 */
import {
  bind,
  type Encoding,
  type ExchangeClient,
  type ExchangeEvent,
  type ExchangeState,
  type LeaseOf,
  lose,
  returnOffer,
  type Step,
  sleepUntilRenewal,
  still,
  stop,
} from './exchange.ts'

/** What a protocol does in a way of its own. */
export interface Protocol<Client extends ExchangeClient, State extends ExchangeState, Own>
  extends Encoding<Client, State, Own> {
  /** Begins to ask for another term. */
  prolong(
    client: Client,
    state: State & { phase: 'renewing' | 'rebinding' },
    event: ExchangeEvent,
  ): Step<State, Own>
  /** No server has answered in a phase in which a lease is held. */
  prolongAgain(client: Client, state: State, event: ExchangeEvent): Step<State, Own>
  /** True in phases in which a new address is asked for, or once more that of a lease. */
  isAsking(state: State): boolean
  /** No server has answered while an address is asked for. */
  askAgain(client: Client, state: State, event: ExchangeEvent): Step<State, Own>
  /** A lease that was asked for once more is not granted. */
  refusedAgain(
    client: Client,
    state: State & { lease: LeaseOf<State> },
    event: ExchangeEvent,
  ): Step<State, Own>
  /** Why an acquisition has come to nothing. */
  unanswered(state: State): string
  /** Tells the server that another host has the address, and asks for another one. */
  decline(client: Client, state: State, event: ExchangeEvent): Step<State, Own>
  /** A server for the log. */
  serverName(lease: LeaseOf<State>): string
}

/** Whose lease it is, and how it speaks. */
export interface LeaseParty<Client extends ExchangeClient, State extends ExchangeState, Own> {
  client: Client
  protocol: Protocol<Client, State, Own>
}

/** Goes on with a lease from before a restart. */
export function adopt<Client extends ExchangeClient, State extends ExchangeState, Own>(
  party: LeaseParty<Client, State, Own>,
  initial: State,
  { lease, ...event }: ExchangeEvent & { lease: LeaseOf<State> },
): Step<State, Own> {
  return onTime(party, { ...initial, phase: 'bound' as const, lease }, event)
}

/** What happens to a lease of either version alike. */
export type LeaseEvent = ExchangeEvent &
  (
    | { type: 'timer' }
    /** Another host speaks for the address that is being probed. */
    | { type: 'conflict'; address: string; hardware: string }
    | { type: 'release' }
  )

/** One step. Events that mean nothing in the present phase change nothing. */
export function step<Client extends ExchangeClient, State extends ExchangeState, Own>(
  party: LeaseParty<Client, State, Own>,
  state: State,
  event: LeaseEvent,
): Step<State, Own> {
  switch (event.type) {
    case 'timer':
      return onTimer(party, state, event)
    case 'conflict':
      return onConflict(party, state, event)
    case 'release':
      return release(party, state, event)
  }
}

/** A timer that is not due changes nothing. */
function onTimer<Client extends ExchangeClient, State extends ExchangeState, Own>(
  party: LeaseParty<Client, State, Own>,
  state: State,
  event: ExchangeEvent,
): Step<State, Own> {
  return state.wakeAt !== undefined && event.now >= state.wakeAt ? onTime(party, state, event) : still(state)
}

function onTime<Client extends ExchangeClient, State extends ExchangeState, Own>(
  party: LeaseParty<Client, State, Own>,
  state: State,
  event: ExchangeEvent,
): Step<State, Own> {
  const { client, protocol } = party
  const { now } = event
  const { phase } = state
  const lease = state.lease as LeaseOf<State> | undefined
  if (phase === 'stopped') return still(state)
  if (lease && now >= protocol.expiryOf(lease)) return lose(state, lease, 'the lease has expired')
  if (lease && phase === 'verifying')
    return now >= (state.probeUntil ?? 0) ? bind(state, lease, 'acquired') : still(state)
  if (lease && !protocol.isAsking(state)) return whileHeld(party, { ...state, lease }, event)
  return now >= state.deadline ? giveUp(party, state, event) : protocol.askAgain(client, state, event)
}

/** Sleeps, renews with the server that gave the lease, and then with any. */
function whileHeld<Client extends ExchangeClient, State extends ExchangeState, Own>(
  { client, protocol }: LeaseParty<Client, State, Own>,
  state: State & { lease: LeaseOf<State> },
  event: ExchangeEvent,
): Step<State, Own> {
  const { lease } = state
  const since = event.now - lease.obtainedAt
  if (since < lease.renewalSeconds * 1000) return sleepUntilRenewal<State>(state, lease)
  const phase = since < lease.rebindingSeconds * 1000 ? 'renewing' : 'rebinding'
  if (phase === state.phase) return protocol.prolongAgain(client, state, event)
  const next = protocol.prolong(client, { ...state, phase }, event)
  if (phase === 'renewing') return next
  const why = `${protocol.serverName(lease)} did not renew the lease`
  return { state: next.state, actions: [{ type: 'note', what: 'rebinding', why }, ...next.actions] }
}

/** No more tries. What a server may have committed on our behalf is given back. */
function giveUp<Client extends ExchangeClient, State extends ExchangeState, Own>(
  party: LeaseParty<Client, State, Own>,
  state: State,
  event: ExchangeEvent,
): Step<State, Own> {
  const { client, protocol } = party
  const lease = state.lease as LeaseOf<State> | undefined
  if (lease) return protocol.refusedAgain(client, { ...state, lease }, event)
  const why = `no more tries: ${protocol.unanswered(state)}`
  return stop(state, { type: 'failed' as const, why }, returnOffer(party, state, event))
}

/** Gives the address back; during an acquisition also the one that a server may have committed already. */
function release<Client extends ExchangeClient, State extends ExchangeState, Own>(
  party: LeaseParty<Client, State, Own>,
  state: State,
  event: ExchangeEvent,
): Step<State, Own> {
  if (state.phase === 'stopped') return { state, actions: [{ type: 'released' }] }
  const lease = state.lease as LeaseOf<State> | undefined
  if (!lease) return stop(state, { type: 'released' as const }, returnOffer(party, state, event))
  const given = party.protocol.encodeAlone(party.client, state, { kind: 'release', event })
  return stop(state, { type: 'released' as const, lease }, [given])
}

/** Another host speaks for an address that was probed. */
function onConflict<Client extends ExchangeClient, State extends ExchangeState, Own>(
  { client, protocol }: LeaseParty<Client, State, Own>,
  state: State,
  event: ExchangeEvent & { address: string; hardware: string },
): Step<State, Own> {
  const { address, hardware } = event
  if (hardware === client.hardware || address !== state.offer?.address) return still(state)
  const contested = { ...state, claimant: hardware }
  if (state.phase === 'verifying') return protocol.decline(client, contested, event)
  return still(state.phase === 'requesting' ? contested : state)
}
