/** The types of what an attachment has of IPv6: addresses by router advertisements, by DHCPv6, or both. Types, and the state it begins with. Pure. */

import type { AddressState, NetworkRoute } from '../link/ipv6.ts'
import type { Mode } from '../schema.ts'
import type { Message } from '../v6/packet.ts'
import type {
  Action as DhcpAction,
  Client as DhcpClient,
  Lease as DhcpLease,
  State as DhcpState,
} from '../v6/types.ts'
import type { Advertisement } from './advertisement.ts'
import { emptyNetwork, type Network } from './network.ts'

export interface Client extends DhcpClient {
  mode: Mode
}

/** An address, and how it last was on the link, as far as this program had a hand in it. */
export interface Held {
  address: string
  prefixLength: number
  /** The prefix that it was made of; none when a DHCPv6 server gave it. */
  prefix?: string
  state: AddressState
}

/** What is kept, also over a restart of the daemon. Moments are milliseconds since the epoch. */
export interface Lease {
  held: Held[]
  network: Network
  /** Routes in the container that are this program's to take away. */
  routes: NetworkRoute[]
  dhcp?: DhcpLease
  /** What a DHCPv6 server said besides addresses. */
  otherConfiguration?: { nameServers: string[]; search: string[] }
}

/** acquiring: not all is there yet. held: it is. stopped: over; `reason` says why. */
export interface State {
  phase: 'init' | 'acquiring' | 'held' | 'stopped'
  /** How it came to be, for the log. */
  how: 'acquired' | 'confirmed'
  lease: Lease
  linkLocal: string
  /** Addresses that prevResult has, where they are confirmed and not acquired. */
  had?: string[]
  /** An address that it had from a server, and would have again. */
  earlierAddress?: string
  /** Router solicitations sent, and when the next one is due. */
  solicitations: number
  solicitAt?: number
  /** What the first advertisement that was of use has led to; undefined before it. */
  plan?: { dhcp: boolean; inform: boolean; slaac: boolean }
  /** Until when others may say that an address made of a prefix is theirs. */
  probeUntil?: number
  dhcp?: DhcpState
  /** When the lease was last saved. */
  savedAt: number
  wakeAt?: number
  /** Why the last advertisement that came was of no use. */
  useless?: string
  reason?: string
}

export type Event = { now: number; random: () => number } & (
  | { type: 'start'; linkLocal: string; earlierAddress?: string }
  /** Confirm addresses, never take others. */
  | { type: 'confirm'; linkLocal: string; addresses: string[] }
  | { type: 'adopt'; lease: Lease }
  | { type: 'timer' }
  | { type: 'advertisement'; advertisement: Advertisement }
  | { type: 'message'; message: Message }
  | { type: 'conflict'; address: string; hardware: string }
  | { type: 'release' }
)

export type Action =
  | Extract<DhcpAction, { type: 'send' | 'probe' | 'failed' }>
  | { type: 'solicit' }
  | {
      type: 'note'
      what: 'declined' | 'deprecated' | 'ignored' | 'lost' | 'preferred' | 'rebinding' | 'refused' | 'routed'
      why: string
      /** The one that it is about, where it is about one. */
      address?: string
    }
  | { type: 'bound'; lease: Lease; how: 'acquired' | 'confirmed' | 'renewed' | 'refreshed' }
  /** An address is to be put on the link, marked as deprecated, or taken away. */
  | { type: 'address'; held: Held }
  | { type: 'routes'; added: NetworkRoute[]; removed: NetworkRoute[] }
  | { type: 'lost'; why: string; address?: string }
  | { type: 'released' }

export interface Step {
  state: State
  actions: Action[]
}

export const initialState: State = {
  phase: 'init',
  how: 'acquired',
  lease: { held: [], network: emptyNetwork, routes: [] },
  linkLocal: '',
  solicitations: 0,
  savedAt: 0,
}
