/** The types of a DHCPv6 client: who asks, what is held, what can happen to it and what it does. Types, and the state it begins with. Pure. */
import type { ExchangeAction, Step as ExchangeStep } from '../engine/exchange.ts'
import type { Timing } from '../engine/timing.ts'
import type { Identity, LeaseOffer, Reply } from './lease-offer.ts'
import type { Message } from './packet.ts'

/** Who asks, and how patiently. */
export interface Client extends Identity {
  timing: Timing
}

/** Milliseconds since the epoch. */
export interface Lease extends LeaseOffer {
  obtainedAt: number
}

/**
 * soliciting, requesting: acquiring. confirming: asking whether an address that it had is still its own. verifying: granted,
 * but another may have the address. informing: asking for name servers only. bound, renewing, rebinding: held. stopped: over.
 */
export type Phase =
  | 'init'
  | 'soliciting'
  | 'requesting'
  | 'confirming'
  | 'verifying'
  | 'informing'
  | 'bound'
  | 'renewing'
  | 'rebinding'
  | 'stopped'

export interface State {
  phase: Phase
  transaction: number
  /** When the first message of the present exchange was sent. */
  beganAt: number
  /** When it gives up acquiring. */
  deadline: number
  /** Sends of the present exchange, and the last wait for an answer. */
  sends: number
  waited: number
  /** No SOLICIT waits longer, as servers may say. */
  longestSolicit: number
  wakeAt?: number
  /** An address that it had, and would have again. */
  earlierAddress?: string
  /** The best offer so far. */
  offer?: LeaseOffer
  /** While offers are collected: until when. */
  collectUntil?: number
  /** Until when others may say that the address is theirs; who did. */
  probeUntil?: number
  claimant?: string
  declined: number
  /** A server that has not the lease that another one gave: its answers are passed over. */
  excludedServer?: string
  /** Why the last server that answered gave nothing. */
  refusal?: string
  lease?: Lease
  reason?: string
}

export type Event = { now: number; random: () => number } & (
  | { type: 'start'; earlierAddress?: string }
  /** Confirm an address, never take another one. */
  | { type: 'confirm'; address: string }
  /** Ask for name servers only. */
  | { type: 'inform' }
  | { type: 'adopt'; lease: Lease }
  | { type: 'timer' }
  | { type: 'message'; message: Message }
  | { type: 'conflict'; address: string; hardware: string }
  | { type: 'release' }
)

/** `confirm` is a REBIND for an address that the client had: CONFIRM would tell only that the link is the same. */
export type Kind = 'solicit' | 'request' | 'confirm' | 'renew' | 'rebind' | 'inform' | 'decline' | 'release'

export interface Send {
  type: 'send'
  kind: Kind
  message: Message
}

/** What DHCPv6 alone does. */
export type Own = Send | { type: 'informed'; reply: Pick<Reply, 'nameServers' | 'search'> }
export type Action = Own | ExchangeAction<Lease>
export type Step = ExchangeStep<State, Own>

const LONGEST_SOLICIT = 3_600_000 // RFC 8415, 7.6: SOL_MAX_RT

export const initialState: State = {
  phase: 'init',
  transaction: 0,
  beganAt: 0,
  deadline: 0,
  sends: 0,
  waited: 0,
  longestSolicit: LONGEST_SOLICIT,
  declined: 0,
}
