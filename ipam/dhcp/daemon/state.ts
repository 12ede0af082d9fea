/**
 * Leases on disk: one JSON file for each, named by a hash of the client's identity, and a note beside it where a DEL found no
 * daemon. Format and names only; reading and writing are the caller's. Pure.
 */

import type { Mode } from '../configuration.ts'
import type { Lease as Lease6 } from '../slaac/types.ts'
import type { Lease } from '../v4/types.ts'

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

/** Where the daemon is found unless the configuration says otherwise. */
export const DEFAULT_SOCKET = '/run/cni/dhcp.sock'

const VERSION = 1

/** Where a daemon's leases are: the plugin finds the same folder from the same socket path. */
export function stateFolder(socketPath: string): string {
  return `/var/lib/cni/dhcp/${socketPath.replace(/^\/+/, '').replace(/[^A-Za-z0-9_.-]/g, '-')}`
}

export const LEASE_ENDING = '.lease'
export const LEASE6_ENDING = '.lease6'
const NOTE_ENDING = '.released'

/** Names of an attachment's files: identities hold slashes and can be longer than a name may be. */
export function fileName(
  identifier: string,
  ending: typeof LEASE_ENDING | typeof LEASE6_ENDING | typeof NOTE_ENDING = NOTE_ENDING,
): string {
  const hash = new Bun.CryptoHasher('sha256').update(identifier).digest('hex').slice(0, 32)
  return `${hash}${ending}`
}

export function isLeaseFile(name: string): boolean {
  return name.endsWith(LEASE_ENDING) || name.endsWith(LEASE6_ENDING)
}

export function isNoteFile(name: string): boolean {
  return name.endsWith(NOTE_ENDING)
}

/** JSON has no word for ever: null. `ahead` is what the wall's clock shows more than that of the lease's times. */
export function encodeLease(stored: StoredLease | StoredLease6, ahead = 0): string {
  const shifted = (key: string, value: unknown) =>
    typeof value === 'number' && /(At|Until|^until)$/.test(key) ? Math.round(value + ahead) : value
  return `${JSON.stringify({ version: VERSION, ...stored }, shifted)}\n`
}

function parse(text: string): Record<string, unknown> | undefined {
  const revived = (key: string, value: unknown) =>
    value === null && /(Seconds|Until|^until)$/.test(key) ? Number.POSITIVE_INFINITY : value
  try {
    const { version, ...stored } = JSON.parse(text, revived) as Record<string, unknown>
    return version === VERSION ? stored : undefined
  } catch {
    return undefined
  }
}

/** A lease from a file's text; undefined for one that is empty, torn, or of another version. */
export function decodeLease(text: string): StoredLease | undefined {
  const stored = parse(text) as StoredLease | undefined
  const { lease, provided, requested } = stored ?? {}
  const lists = [provided, requested, lease?.routers, lease?.routes, lease?.nameServers, lease?.search]
  const texts = [lease?.address, lease?.server, lease?.serverHardware]
  const isWhole = lists.every(Array.isArray) && texts.every(isText) && Number.isFinite(lease?.obtainedAt)
  return isWhole && hasFacts(stored) ? stored : undefined
}

/** As `decodeLease`, of IPv6. */
export function decodeLease6(text: string): StoredLease6 | undefined {
  const stored = parse(text) as StoredLease6 | undefined
  const { lease, mode } = stored ?? {}
  const { network } = lease ?? {}
  const lists = [lease?.held, lease?.routes, network?.routers, network?.prefixes, network?.routes]
  const more = [network?.nameServers, network?.search]
  const isLeased = lease?.dhcp === undefined || (isText(lease.dhcp.address) && isText(lease.dhcp.server))
  return [...lists, ...more].every(Array.isArray) && isLeased && isText(mode) && hasFacts(stored)
    ? stored
    : undefined
}

/** Whose a lease of either family is; undefined where its file is torn. */
export function decodeOwner(text: string): ReleaseNote | undefined {
  const { containerId, network, ifname } = parse(text) ?? {}
  return isText(containerId) && isText(network) && isText(ifname)
    ? { containerId, network, ifname }
    : undefined
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}

function hasFacts<Stored extends Facts>(stored: Stored | undefined): stored is Stored {
  if (!stored) return false
  const { containerId, network, ifname, netns, netnsIdentity, hardware, link, priority } = stored
  return (
    [containerId, network, ifname, netns, netnsIdentity, hardware].every(isText) &&
    [link, priority].every(Number.isFinite)
  )
}

/** The note of a DEL that found no daemon. */
export interface ReleaseNote {
  containerId: string
  network: string
  ifname: string
}

export function encodeNote(note: ReleaseNote): string {
  return `${JSON.stringify(note)}\n`
}
