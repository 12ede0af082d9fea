/**
 * A DHCPv4 client's lease as a state machine (RFC 2131, 4.4): events in, a new state and actions out. Pure: clock, randomness,
 * sockets and files are the caller's. Times are milliseconds; `wakeAt` says when it wants a `timer` event.
 */
import { type ExchangeEvent, lose } from '../engine/exchange.ts'
import { adopt, step as leaseStep, type Protocol } from '../engine/lease.ts'
import { decline, onMessage } from './replies.ts'
import { discoverAgain, draw, encoding, pause, transmit } from './transitions.ts'
import { type Client, type Event, initialState, type Send, type State, type Step } from './types.ts'

const SENDS_PER_EXCHANGE = 3

const protocol: Protocol<Client, State, Send> = {
  ...encoding,
  prolong: (client, state, event) => transmit(client, { ...state, sends: 0, failures: 0 }, event),
  prolongAgain: (client, state, event) =>
    (state.sends < SENDS_PER_EXCHANGE ? transmit : pause)(client, state, event),
  isAsking: ({ phase }) => phase === 'selecting' || phase === 'requesting',
  askAgain,
  refusedAgain: (_client, state) => lose(state, state.lease, 'the address was refused and not granted again'),
  unanswered: ({ phase }) =>
    phase === 'selecting' ? 'no server offered an address' : 'no server acknowledged the request',
  decline,
  serverName: ({ server }) => server,
}

/** One step. Events that mean nothing in the present phase change nothing. */
export function step(client: Client, state: State, event: Event): Step {
  const party = { client, protocol }
  switch (event.type) {
    case 'start':
      return begin(
        client,
        { ...initialState, ...(event.earlierAddress ? { earlierAddress: event.earlierAddress } : {}) },
        event,
      )
    case 'confirm':
      return begin(client, { ...initialState, phase: 'rebooting', earlierAddress: event.address }, event)
    case 'adopt':
      return adopt(party, { ...initialState, transaction: draw(event) }, event)
    case 'message':
      return onMessage(client, state, event)
    default:
      return leaseStep(party, state, event)
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

/** Three sends to an exchange, and a pause between exchanges. */
function askAgain(client: Client, state: State, event: ExchangeEvent): Step {
  const { phase, sends } = state
  if (phase !== 'selecting' && phase !== 'requesting' && phase !== 'rebooting') return { state, actions: [] }
  if (sends >= SENDS_PER_EXCHANGE) return pause(client, state, event)
  if (sends > 0 || phase === 'rebooting') return transmit(client, state, event)
  return discoverAgain(client, state, event)
}
