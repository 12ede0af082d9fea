/** The types of a DHCPv6 client: who asks, what is held, what can happen to it and what it does. Types, and the state it begins with. Pure. */
import type {
  ExchangeAction,
  ExchangeEvent,
  ExchangeState,
  Step as ExchangeStep,
} from '../engine/exchange.ts'
import type { LeaseEvent } from '../engine/lease.ts'
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

export interface State extends ExchangeState {
  phase: Phase
  transaction: number
  /** When the first message of the present exchange was sent. */
  beganAt: number
  /** The last wait for an answer. */
  waited: number
  /** No SOLICIT waits longer, as servers may say. */
  longestSolicit: number
  /** An address that it had, and would have again. */
  earlierAddress?: string
  offer?: LeaseOffer
  /** While offers are collected: until when. */
  collectUntil?: number
  declined: number
  /** Why the last server that answered gave nothing. */
  refusal?: string
  lease?: Lease
}

export type Event =
  | LeaseEvent
  | (ExchangeEvent &
      (
        | { type: 'start'; earlierAddress?: string }
        /** Confirm an address, never take another one. */
        | { type: 'confirm'; address: string }
        /** Ask for name servers only. */
        | { type: 'inform' }
        | { type: 'adopt'; lease: Lease }
        | { type: 'message'; message: Message }
      ))

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
