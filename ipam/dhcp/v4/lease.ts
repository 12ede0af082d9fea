/**
 * A DHCPv4 client's lease as a state machine (RFC 2131, 4.4): events in, a new state and actions out. Pure: clock, randomness,
 * sockets and files are the caller's. Times are milliseconds; `wakeAt` says when it wants a `timer` event.
 */
import { onConflict, onMessage } from './replies.ts'
import {
  discoverAgain,
  draw,
  lose,
  pause,
  returnOffer,
  SENDS_PER_EXCHANGE,
  sendAction,
  settle,
  sleepUntilRenewal,
  stop,
  transmit,
} from './transitions.ts'
import {
  type Action,
  type Client,
  type Event,
  initialState,
  type Lease,
  type State,
  type Step,
} from './types.ts'

/** One step. Events that mean nothing in the present phase change nothing. */
export function step(client: Client, state: State, event: Event): Step {
  switch (event.type) {
    case 'start':
      return begin(client, { ...initialState, ...(event.wanted ? { wanted: event.wanted } : {}) }, event)
    case 'confirm':
      return begin(client, { ...initialState, phase: 'rebooting', wanted: event.address }, event)
    case 'adopt':
      return onTimer(
        client,
        { ...initialState, phase: 'bound', lease: event.lease, transaction: draw(event) },
        event,
      )
    case 'timer':
      return state.wakeAt !== undefined && event.now >= state.wakeAt
        ? onTimer(client, state, event)
        : { state, actions: [] }
    case 'message':
      return onMessage(client, state, event)
    case 'conflict':
      return onConflict(client, state, event)
    case 'release':
      return release(client, state, event)
  }
}

/** From the beginning: the clock of "no more tries" starts. */
function begin(client: Client, state: State, event: Event): Step {
  const { now } = event
  const phase = state.phase === 'rebooting' ? 'rebooting' : 'selecting'
  const deadline = now + client.timing.resendTimeout
  return transmit(
    client,
    { ...state, phase, transaction: draw(event), beganAt: now, deadline, sends: 0 },
    event,
  )
}

function onTimer(client: Client, state: State, event: Event): Step {
  const { now } = event
  const { lease, phase } = state
  if (phase === 'verifying')
    return now >= (state.probeUntil ?? 0) ? settle(state, 'acquired') : { state, actions: [] }
  if (lease && now >= lease.obtainedAt + lease.leaseSeconds * 1000)
    return lose(state, lease, 'the lease has expired')
  if (lease && phase !== 'selecting' && phase !== 'requesting')
    return onLeaseTimer(client, state, { lease, event })
  if (now >= state.deadline) return giveUp(client, state, event)
  if (phase !== 'selecting' && phase !== 'requesting' && phase !== 'rebooting') return { state, actions: [] }
  if (state.sends < SENDS_PER_EXCHANGE && state.sends > 0) return transmit(client, state, event)
  if (state.sends === 0)
    return phase === 'rebooting' ? transmit(client, state, event) : discoverAgain(client, state, event)
  return pause(client, state, event)
}

function onLeaseTimer(client: Client, state: State, { lease, event }: { lease: Lease; event: Event }): Step {
  const { now } = event
  const since = now - lease.obtainedAt
  if (since < lease.renewalSeconds * 1000) return sleepUntilRenewal(state, lease)
  const phase = since < lease.rebindingSeconds * 1000 ? 'renewing' : 'rebinding'
  if (phase !== state.phase) {
    const next = transmit(client, { ...state, phase, sends: 0, failures: 0 }, event)
    const note: Action[] =
      phase === 'rebinding'
        ? [{ type: 'note', what: 'rebinding', why: `${lease.server} did not renew the lease` }]
        : []
    return { state: next.state, actions: [...note, ...next.actions] }
  }
  if (state.sends < SENDS_PER_EXCHANGE) return transmit(client, state, event)
  return pause(client, state, event)
}

/** No more tries. What a server may have committed on our behalf is given back. */
function giveUp(client: Client, state: State, event: Event): Step {
  if (state.lease) return lose(state, state.lease, 'the address was refused and not granted again')
  const asked =
    state.phase === 'selecting' ? 'no server offered an address' : 'no server acknowledged the request'
  return stop(state, { type: 'failed', why: `no more tries: ${asked}` }, returnOffer(client, state, event))
}

/** Gives the address back; during an acquisition also the one that a server may have committed already. */
function release(client: Client, state: State, event: Event): Step {
  const { lease, phase } = state
  if (phase === 'stopped') return { state, actions: [{ type: 'released' }] }
  const held = lease ? [sendAction(client, state, 'release', event.now)] : returnOffer(client, state, event)
  return stop(state, { type: 'released', ...(lease ? { lease } : {}) }, held)
}
