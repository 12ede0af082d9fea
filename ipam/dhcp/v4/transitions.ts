/** How a DHCPv4 client speaks in an exchange, and what it does in a way of its own: begins another exchange, and pauses. Pure. */
import {
  type Encoding,
  type ExchangeEvent,
  transmit as exchangeTransmit,
  phaseEnd,
} from '../engine/exchange.ts'
import { pauseAfter } from '../engine/timing.ts'
import { ANY_ADDRESS, BROADCAST_ADDRESS, BROADCAST_HARDWARE } from '../link/frame.ts'
import { composeMessage } from './message.ts'
import type { Client, Destination, Kind, Phase, Send, State, Step } from './types.ts'

const TO_ALL: Destination = { hardware: BROADCAST_HARDWARE, address: BROADCAST_ADDRESS }

const kinds: Partial<Record<Phase, Kind>> = {
  selecting: 'discover',
  requesting: 'request',
  rebooting: 'confirm',
  renewing: 'renew',
  rebinding: 'rebind',
}

/** An answer is waited for twice as long as the last time. */
export const encoding: Encoding<Client, State, Send> = {
  encode(client, state, { now }) {
    const kind = kinds[state.phase]
    if (!kind) return undefined
    const wait = client.timing.timeout * 2 ** state.sends
    return { send: sendAction(client, state, { kind, now }), wait, state }
  },
  encodeAlone: (client, state, { kind, event }) => sendAction(client, state, { kind, now: event.now }),
  expiryOf: ({ obtainedAt, leaseSeconds }) => obtainedAt + leaseSeconds * 1000,
}

function sendAction(client: Client, state: State, what: { kind: Kind; now: number }): Send {
  const { kind } = what
  const message = composeMessage(client, state, what)
  const held = state.lease
  if ((kind === 'renew' || kind === 'release') && held) {
    return {
      type: 'send',
      kind,
      message,
      from: held.address,
      to: { hardware: held.serverHardware, address: held.server },
    }
  }
  return {
    type: 'send',
    kind,
    message,
    from: kind === 'rebind' && held ? held.address : ANY_ADDRESS,
    to: TO_ALL,
  }
}

/** Sends what the phase sends. */
export function transmit(client: Client, state: State, event: ExchangeEvent): Step {
  return exchangeTransmit({ client, protocol: encoding }, state, event)
}

export function draw({ random }: ExchangeEvent): number {
  return Math.floor(random() * 0x1_0000_0000)
}

/** A new DISCOVER exchange of the same acquisition. */
export function discoverAgain(client: Client, state: State, event: ExchangeEvent): Step {
  const { offer: _offer, claimant: _claimant, probeUntil: _until, ...rest } = state
  return transmit(client, { ...rest, phase: 'selecting', transaction: draw(event), sends: 0 }, event)
}

/** After an exchange without answer: longer each time; with a lease, half of what is left (RFC 2131, 4.4.5). */
export function pause(client: Client, state: State, event: ExchangeEvent): Step {
  const left = phaseEnd(encoding, state) - event.now
  const backoff = pauseAfter(client.timing, state.failures, event.random)
  const wait = state.lease ? Math.max(backoff, left / 2) : backoff
  return {
    state: {
      ...state,
      sends: 0,
      failures: state.failures + 1,
      wakeAt: event.now + Math.min(wait, Math.max(0, left)),
    },
    actions: [],
  }
}
