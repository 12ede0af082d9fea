/** A family of addresses, as the registry of a daemon sees it: how something is held of it for an attachment. */
import type { Result } from '../../../chain/protocol/result.ts'
import type { FamilySpec } from '../configuration.ts'
import type { LeaseContext } from '../engine/event-loop.ts'
import type { ClientLink } from '../link/client-link.ts'
import type { Options } from './flags.ts'
import type { Facts } from './lease-file.ts'

/** What a call asks for, read from the network's configuration. */
export interface LeaseSpec extends FamilySpec {
  provided: ReadonlyMap<number, Uint8Array>
  requested: number[]
}

/** What is held, or being acquired, of one family for one attachment. */
export interface LeaseHandle {
  clientLink: ClientLink
  /** Nothing is held, or going to be. */
  isOver(): boolean
  isHeld(): boolean
  /** Why the container has not all that it was given; undefined when it has. */
  problem(): string | undefined
  /** What there is, once it is; throws why there is nothing. */
  ready(): Promise<Result>
  /**
   * `before` is what the attachment had under the same identity: the same is asked for again. `fresh`: there is nothing of
   * the container's own on the link yet.
   */
  acquire(before: LeaseHandle | undefined, about: { fresh: boolean }): Promise<Result>
  /** Finds out whether addresses are still the container's; never takes others. */
  confirm(addresses: string[]): Promise<Result>
  /** The address that would be asked for again. */
  address(): string | undefined
  release(): void
  close(): void
}

/** What a family gets to hold something with. */
export interface Setting<Lease = unknown> {
  identifier: string
  options: Options
  context: LeaseContext<Lease>
}

/** `Own` is what is known of an attachment for as long as something is held; on disk there is a lease beside it. */
export interface Family<Own extends Facts = Facts, Lease = unknown> {
  ending: '.lease' | '.lease6'
  isRequested(spec: LeaseSpec): boolean
  /** True for addresses of the family, as text. */
  includes(address: string): boolean
  /** For the log. */
  addressOf(lease: Lease): string
  describe(facts: Facts, spec: LeaseSpec, about: { clientLink: ClientLink; options: Options }): Own
  encode(own: Own, lease: Lease, clockOffset: number): string
  decode(text: string): { own: Own; lease: Lease } | undefined
  /** The first thing done with it is to acquire or to confirm. */
  hold(clientLink: ClientLink, own: Own, setting: Setting<Lease>): LeaseHandle
  /** Goes on with a lease from disk. */
  adopt(clientLink: ClientLink, stored: { own: Own; lease: Lease }, setting: Setting<Lease>): LeaseHandle
  /** The same where namespace or link have gone: best effort. Answers what became of it, for the log. */
  releaseOrphan(
    stored: { own: Own; lease: Lease },
    setting: Pick<Setting, 'identifier' | 'options'> & { now: number },
  ): { event: string; address: string; why: string; error?: string }
}

/** How a family holds: by a lease client of its own, which the registry knows as a handle. */
export function holding<Own extends Facts, Lease, LeaseClient extends { adopt(lease: Lease): void }>(
  leaseClientOf: (clientLink: ClientLink, own: Own, setting: Setting<Lease>) => LeaseClient,
  leaseHandleOf: (leaseClient: LeaseClient, own: Own) => LeaseHandle,
): Pick<Family<Own, Lease>, 'hold' | 'adopt'> {
  return {
    hold: (clientLink, own, setting) => leaseHandleOf(leaseClientOf(clientLink, own, setting), own),
    adopt(clientLink, { own, lease }, setting) {
      const leaseClient = leaseClientOf(clientLink, own, setting)
      leaseClient.adopt(lease)
      return leaseHandleOf(leaseClient, own)
    },
  }
}
