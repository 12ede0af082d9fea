/**
 * A DHCPv6 client's lease as a state machine (RFC 8415, 18.2): events in, a new state and actions out. Pure, as in IPv4.
 * Times are milliseconds; `wakeAt` says when it wants a `timer` event.
 */
import { onConflict, onMessage, request, solicitAgain, withoutThatServer } from './replies.ts'
import {
  begin,
  expiryOf,
  hasSentAll,
  lose,
  returnOffer,
  sendOnce,
  settle,
  sleepUntilRenewal,
  stop,
  transmit,
} from './transitions.ts'
import { type Client, type Event, initialState, type Lease, type State, type Step } from './types.ts'

/** One step. Events that mean nothing in the present phase change nothing. */
export function step(client: Client, state: State, event: Event): Step {
  const fresh: State = { ...initialState, deadline: event.now + client.timing.resendTimeout }
  switch (event.type) {
    case 'start':
      return begin(
        client,
        { ...fresh, ...(event.wanted ? { wanted: event.wanted } : {}) },
        'soliciting',
        event,
      )
    case 'confirm':
      return begin(client, { ...fresh, wanted: event.address }, 'confirming', event)
    case 'inform':
      return begin(client, { ...fresh, deadline: event.now + client.timing.timeout }, 'informing', event)
    case 'adopt':
      return onTimer(client, { ...fresh, phase: 'bound', lease: event.lease }, event)
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

function onTimer(client: Client, state: State, event: Event): Step {
  const { now } = event
  const { lease, phase } = state
  if (phase === 'stopped') return { state, actions: [] }
  if (lease && now >= expiryOf(lease)) return lose(state, lease, 'the lease has expired')
  if (lease && phase === 'verifying') {
    return now >= (state.probeUntil ?? 0) ? settle(state, lease, 'acquired') : { state, actions: [] }
  }
  if (lease && phase !== 'requesting') return onLeaseTimer(client, state, { lease, event })
  if (now >= state.deadline) return giveUp(client, state, event)
  if (phase === 'soliciting' && state.offer && now >= (state.collectUntil ?? 0))
    return request(client, state, event)
  if (phase === 'soliciting' && state.sends === 0) return begin(client, state, 'soliciting', event)
  if (hasSentAll(state)) return solicitAgain(client, state, event)
  return transmit(client, state, event)
}

function onLeaseTimer(client: Client, state: State, { lease, event }: { lease: Lease; event: Event }): Step {
  const since = event.now - lease.obtainedAt
  if (since < lease.renewalSeconds * 1000) return sleepUntilRenewal(state, lease)
  const phase = since < lease.rebindingSeconds * 1000 ? 'renewing' : 'rebinding'
  if (phase === state.phase) return transmit(client, state, event)
  const next = begin(client, state, phase, event)
  if (phase === 'renewing') return next
  const why = `server ${lease.server} did not renew the lease`
  return { state: next.state, actions: [{ type: 'note', what: 'rebinding', why }, ...next.actions] }
}

/** No more tries. What a server may have committed on our behalf is given back. */
function giveUp(client: Client, state: State, event: Event): Step {
  if (state.lease) return withoutThatServer(client, state, { why: 'no answer to a new request', event })
  const said = state.refusal === undefined ? '' : `: the last answer was ${state.refusal}`
  const asked = {
    requesting: 'no server granted what it had offered',
    confirming: `no server confirmed ${state.wanted}`,
    informing: 'no server answered the request for information',
  }[state.phase as string]
  const why = `no more tries: ${asked ?? 'no DHCPv6 server offered an address'}${said}`
  return stop(state, { type: 'failed', why }, returnOffer(client, state, event))
}

/** Gives the address back; during an acquisition also the one that a server may have committed already. */
function release(client: Client, state: State, event: Event): Step {
  const { lease, phase } = state
  if (phase === 'stopped') return { state, actions: [{ type: 'released' }] }
  const held = lease ? [sendOnce(client, state, 'release', event)] : returnOffer(client, state, event)
  return stop(state, { type: 'released', ...(lease ? { lease } : {}) }, held)
}
