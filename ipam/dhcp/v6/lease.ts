/**
 * A DHCPv6 client's lease as a state machine (RFC 8415, 18.2): events in, a new state and actions out. Pure, as in IPv4.
 * Times are milliseconds; `wakeAt` says when it wants a `timer` event.
 */
import type { ExchangeEvent } from '../engine/exchange.ts'
import { adopt, step as leaseStep, type Protocol } from '../engine/lease.ts'
import { decline, onMessage, request, solicitAgain, withoutThatServer } from './replies.ts'
import { begin, encoding, hasSentAll, transmit } from './transitions.ts'
import { type Client, type Event, initialState, type Own, type State, type Step } from './types.ts'

const protocol: Protocol<Client, State, Own> = {
  ...encoding,
  prolong: begin,
  prolongAgain: transmit,
  isAsking: ({ phase }) => phase === 'requesting',
  askAgain,
  refusedAgain: (client, state, event) =>
    withoutThatServer(client, state, { why: 'no answer to a new request', event }),
  unanswered,
  decline,
  serverName: ({ server }) => `server ${server}`,
}

/** One step. Events that mean nothing in the present phase change nothing. */
export function step(client: Client, state: State, event: Event): Step {
  const fresh: State = { ...initialState, deadline: event.now + client.timing.resendTimeout }
  const party = { client, protocol }
  switch (event.type) {
    case 'start':
      return begin(
        client,
        {
          ...fresh,
          phase: 'soliciting',
          ...(event.earlierAddress ? { earlierAddress: event.earlierAddress } : {}),
        },
        event,
      )
    case 'confirm':
      return begin(client, { ...fresh, phase: 'confirming', earlierAddress: event.address }, event)
    case 'inform':
      return begin(
        client,
        { ...fresh, phase: 'informing', deadline: event.now + client.timing.timeout },
        event,
      )
    case 'adopt':
      return adopt(party, fresh, event)
    case 'message':
      return onMessage(client, state, event)
    default:
      return leaseStep(party, state, event)
  }
}

/** The best offer is taken when offers have been collected for long enough; what is not answered is sent again. */
function askAgain(client: Client, state: State, event: ExchangeEvent): Step {
  const { phase, offer, sends } = state
  if (phase === 'soliciting' && offer && event.now >= (state.collectUntil ?? 0))
    return request(client, state, event)
  if (phase === 'soliciting' && sends === 0) return begin(client, state, event)
  if (hasSentAll(state)) return solicitAgain(client, state, event)
  return transmit(client, state, event)
}

function unanswered({ phase, refusal, earlierAddress }: State): string {
  const said = refusal === undefined ? '' : `: the last answer was ${refusal}`
  const asked = {
    requesting: 'no server granted what it had offered',
    confirming: `no server confirmed ${earlierAddress}`,
    informing: 'no server answered the request for information',
  }[phase as string]
  return `${asked ?? 'no DHCPv6 server offered an address'}${said}`
}
