/** The types of a DHCP client: who asks, what is held, what can happen to it and what it does. Types, and the state it begins with. Pure. */

import type {
  ExchangeAction,
  ExchangeEvent,
  ExchangeState,
  Step as ExchangeStep,
} from '../engine/exchange.ts'
import type { LeaseEvent } from '../engine/lease.ts'
import type { Timing } from '../engine/timing.ts'
import type { LeaseOffer } from './lease-offer.ts'
import type { Message } from './packet.ts'

/** Who asks, for what, and how patiently: all that does not change while a lease lives. */
export interface Client {
  /** Option 61 without its leading type byte. */
  identifier: string
  hardware: string
  provided: ReadonlyMap<number, Uint8Array>
  requested: readonly number[]
  /** Replies must be broadcast. */
  broadcast: boolean
  timing: Timing
}

export interface Lease extends LeaseOffer {
  /** Hardware address from which the acknowledgement came: the server's, or its relay's. */
  serverHardware: string
  obtainedAt: number
}

/**
 * init: nothing asked for. selecting, requesting: acquiring. rebooting: confirming an address it had. verifying: granted,
 * but another may have the address. bound, renewing, rebinding: held. stopped: over; `reason` says why.
 */
export type Phase =
  | 'init'
  | 'selecting'
  | 'requesting'
  | 'rebooting'
  | 'verifying'
  | 'bound'
  | 'renewing'
  | 'rebinding'
  | 'stopped'

export interface State extends ExchangeState {
  phase: Phase
  transaction: number
  /** When the client began to acquire. */
  beganAt: number
  /** Exchanges that came to nothing. */
  failures: number
  /** An address that it had, and would have again. */
  earlierAddress?: string
  offer?: LeaseOffer & { serverHardware: string }
  declined: number
  lease?: Lease
}

export type Event =
  | LeaseEvent
  | (ExchangeEvent &
      (
        | { type: 'start'; earlierAddress?: string }
        /** Confirm an address, never take another one. */
        | { type: 'confirm'; address: string }
        /** A lease read from disk. */
        | { type: 'adopt'; lease: Lease }
        | { type: 'message'; message: Message; hardware: string }
      ))

/** `confirm` is a REQUEST for an address that the client had (INIT-REBOOT). */
export type Kind = 'discover' | 'request' | 'confirm' | 'renew' | 'rebind' | 'decline' | 'release'

export interface Destination {
  hardware: string
  address: string
}

export interface Send {
  type: 'send'
  kind: Kind
  message: Message
  from: string
  to: Destination
}

export type Action = Send | ExchangeAction<Lease>
export type Step = ExchangeStep<State, Send>

export const initialState: State = {
  phase: 'init',
  transaction: 0,
  beganAt: 0,
  deadline: 0,
  sends: 0,
  failures: 0,
  declined: 0,
}
