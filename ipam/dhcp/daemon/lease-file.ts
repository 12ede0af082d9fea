/**
 * A lease's file: what a daemon must know to go on with a lease after its own restart. The names in it are older than those in
 * the program, and stay: another version of the daemon may have written it, or may be the next to read it. Pure.
 */
import type { Mode } from '../schema.ts'
import type { Held, Lease as Lease6 } from '../slaac/types.ts'
import type { Lease } from '../v4/types.ts'
import { isText, LEASE_VERSION, parseLeaseFile } from './state.ts'

/** What is known of an attachment, whatever it holds. */
export interface Facts {
  containerId: string
  network: string
  ifname: string
  /** As the runtime named it, without the daemon's prefix. */
  netns: string
  /** Device and inode: another namespace may have come to the same path. */
  netnsIdentity: string
  /** Index of the link: another one may have come to the same name. */
  link: number
  hardware: string
  priority: number
}

/** Everything that a daemon must know to go on with an IPv4 lease after its own restart. */
export interface StoredLease extends Facts {
  broadcast: boolean
  provided: [code: number, hexadecimal: string][]
  requested: number[]
  /** The interface has IPv6 addresses too, and is not brought down when the lease is lost. */
  shared?: boolean
  /** Times in milliseconds since the epoch. */
  lease: Lease
}

/** The same for what is held of IPv6. */
export interface StoredLease6 extends Facts {
  mode: Mode
  lease: Lease6
}

/** Which of a lease's numbers are times, as paths in its file; `*` is each of a list. */
interface Times {
  /** Milliseconds since the epoch, by the daemon's clock in memory and by the wall's on disk. */
  moments: readonly string[]
  /** Moments and durations that may be for ever, for which JSON has no number: null. */
  unlimited: readonly string[]
}

const times: Times = {
  moments: ['lease.obtainedAt'],
  unlimited: ['lease.leaseSeconds', 'lease.renewalSeconds', 'lease.rebindingSeconds'],
}

const ends6 = [
  'lease.network.routers.*.until',
  'lease.network.prefixes.*.validUntil',
  'lease.network.prefixes.*.preferredUntil',
  'lease.network.routes.*.until',
  'lease.network.nameServers.*.until',
  'lease.network.search.*.until',
]

const times6: Times = {
  moments: ['lease.dhcp.obtainedAt', ...ends6],
  unlimited: [
    'lease.dhcp.preferredSeconds',
    'lease.dhcp.validSeconds',
    'lease.dhcp.renewalSeconds',
    'lease.dhcp.rebindingSeconds',
    ...ends6,
  ],
}

type Change = (value: unknown) => unknown

/** A value with what is found at a path in it changed; what is not there stays so. */
function changedAt(value: unknown, [key, ...rest]: readonly string[], change: Change): unknown {
  if (key === undefined) return change(value)
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return key === '*' ? value.map(each => changedAt(each, rest, change)) : value
  const { [key]: inner } = value as Record<string, unknown>
  return inner === undefined ? value : { ...value, [key]: changedAt(inner, rest, change) }
}

function changed(stored: unknown, paths: readonly string[], change: Change): unknown {
  return paths.reduce((value, path) => changedAt(value, path.split('.'), change), stored)
}

function encode(stored: object, { moments }: Times, clockOffset: number): string {
  const onWall = changed({ version: LEASE_VERSION, ...stored }, moments, value =>
    typeof value === 'number' ? Math.round(value + clockOffset) : value,
  )
  return `${JSON.stringify(onWall)}\n`
}

function parse(text: string, { unlimited }: Times): unknown {
  return changed(parseLeaseFile(text), unlimited, value =>
    value === null ? Number.POSITIVE_INFINITY : value,
  )
}

/** `clockOffset` is what the wall's clock shows more than that of the lease's times. */
export function encodeLease(stored: StoredLease, clockOffset = 0): string {
  return encode(stored, times, clockOffset)
}

/** As `encodeLease`, of IPv6. */
export function encodeLease6({ lease, ...own }: StoredLease6, clockOffset = 0): string {
  const { held, otherConfiguration, ...rest } = lease
  const told = otherConfiguration === undefined ? {} : { told: otherConfiguration }
  const standing = held.map(({ state, ...each }) => ({ ...each, standing: state }))
  return encode({ ...own, lease: { ...rest, held: standing, ...told } }, times6, clockOffset)
}

/** A lease from a file's text; undefined for one that is empty, torn, or of another version. */
export function decodeLease(text: string): StoredLease | undefined {
  const stored = parse(text, times) as StoredLease | undefined
  const { lease, provided, requested } = stored ?? {}
  const lists = [provided, requested, lease?.routers, lease?.routes, lease?.nameServers, lease?.search]
  const texts = [lease?.address, lease?.server, lease?.serverHardware]
  const isWhole = lists.every(Array.isArray) && texts.every(isText) && Number.isFinite(lease?.obtainedAt)
  return isWhole && hasFacts(stored) ? stored : undefined
}

/** An IPv6 lease by the names of its file. */
interface LeaseOnDisk extends Omit<Lease6, 'held' | 'otherConfiguration'> {
  held: (Omit<Held, 'state'> & { standing: Held['state'] })[]
  told?: Lease6['otherConfiguration']
}

/** As `decodeLease`, of IPv6. */
export function decodeLease6(text: string): StoredLease6 | undefined {
  const stored = parse(text, times6) as (Omit<StoredLease6, 'lease'> & { lease: LeaseOnDisk }) | undefined
  const { lease, mode } = stored ?? {}
  const { network } = lease ?? {}
  const lists = [lease?.held, lease?.routes, network?.routers, network?.prefixes, network?.routes]
  const more = [network?.nameServers, network?.search]
  const isLeased = lease?.dhcp === undefined || (isText(lease.dhcp.address) && isText(lease.dhcp.server))
  const isWhole = [...lists, ...more].every(Array.isArray) && isLeased && isText(mode)
  return isWhole && stored?.lease.held.every(each => isText(each?.address)) && hasFacts(stored)
    ? { ...stored, lease: fromDisk(stored.lease) }
    : undefined
}

function fromDisk({ held, told, ...rest }: LeaseOnDisk): Lease6 {
  return {
    ...rest,
    held: held.map(({ standing, ...each }) => ({ ...each, state: standing })),
    ...(told === undefined ? {} : { otherConfiguration: told }),
  }
}

function hasFacts<Stored extends Facts>(stored: Stored | undefined): stored is Stored {
  if (!stored) return false
  const { containerId, network, ifname, netns, netnsIdentity, hardware, link, priority } = stored
  return (
    [containerId, network, ifname, netns, netnsIdentity, hardware].every(isText) &&
    [link, priority].every(Number.isFinite)
  )
}
