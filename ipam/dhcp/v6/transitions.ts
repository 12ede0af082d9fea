/** How a DHCPv6 client speaks in an exchange: what it sends in a phase, and how long it waits (RFC 8415, 15). Pure. */
import { type Encoding, type ExchangeEvent, transmit as exchangeTransmit } from '../engine/exchange.ts'
import type { Timing } from '../engine/timing.ts'
import { composeMessage } from './message.ts'
import type { Client, Kind, Own, Phase, Send, State, Step } from './types.ts'

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

/** An answer is waited for about twice as long as the last time. */
export const encoding: Encoding<Client, State, Own> = {
  encode(client, state, event) {
    const exchange = exchanges[state.phase]
    if (!exchange) return undefined
    const waited = waitOf(state, { ...exchange, ...client.timing }, event)
    return {
      send: sendAction(client, state, { kind: exchange.kind, now: event.now }),
      wait: waited,
      state: { ...state, waited },
    }
  },
  encodeAlone: (client, state, { kind, event }) =>
    sendAction(client, { ...state, transaction: draw(event), sends: 0 }, { kind, now: event.now }),
  expiryOf: ({ obtainedAt, validSeconds }) => obtainedAt + validSeconds * 1000,
}

function sendAction(client: Client, state: State, what: { kind: Kind; now: number }): Send {
  return { type: 'send', kind: what.kind, message: composeMessage(client, state, what) }
}

/** Sends what the phase sends. */
export function transmit(client: Client, state: State, event: ExchangeEvent): Step {
  return exchangeTransmit({ client, protocol: encoding }, state, event)
}

/** Begins the exchange of a phase: a new transaction, and the first send. */
export function begin(client: Client, state: State, event: ExchangeEvent): Step {
  const transaction = draw(event)
  return transmit(client, { ...state, transaction, beganAt: event.now, sends: 0, waited: 0 }, event)
}

function draw({ random }: ExchangeEvent): number {
  return Math.floor(random() * 0x100_0000)
}

/** RFC 8415, 15, with the daemon's flags as bounds. The first SOLICIT is waited for longer, never shorter (18.2.1). */
function waitOf(state: State, bounds: Exchange & Timing, { random }: ExchangeEvent): number {
  const jitter = (random() * 2 - 1) * 0.1
  const longest = Math.min(bounds.longest, state.longestSolicit, bounds.resendMax)
  if (state.sends === 0) {
    const first = Math.min(bounds.first, bounds.timeout)
    return first * (1 + (state.phase === 'soliciting' ? Math.abs(jitter) : jitter))
  }
  const next = state.waited * (2 + jitter)
  return next > longest ? longest * (1 + jitter) : next
}

export function hasSentAll({ phase, sends }: State): boolean {
  return sends >= (exchanges[phase]?.most ?? Number.POSITIVE_INFINITY)
}
