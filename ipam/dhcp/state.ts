/**
 * Leases on disk: one JSON file for each, named by a hash of the client's identity, and a note beside it where a DEL found no
 * daemon. Format and names only; reading and writing are the caller's. Pure.
 */
import type { Lease } from './client.ts'

/** Everything that a daemon must know to go on with a lease after its own restart. */
export interface StoredLease {
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
  broadcast: boolean
  provided: [code: number, hexadecimal: string][]
  requested: number[]
  priority: number
  /** Times in milliseconds since the epoch. */
  lease: Lease
}

/** Where the daemon is found unless the configuration says otherwise. */
export const DEFAULT_SOCKET = '/run/cni/dhcp.sock'

const VERSION = 1

/** Where a daemon's leases are: the plugin finds the same folder from the same socket path. */
export function stateFolder(socketPath: string): string {
  return `/var/lib/cni/dhcp/${socketPath.replace(/^\/+/, '').replace(/[^A-Za-z0-9_.-]/g, '-')}`
}

const LEASE_ENDING = '.lease'
const NOTE_ENDING = '.released'

/** Names of a lease's files: identities hold slashes and can be longer than a name may be. */
export function fileNames(identifier: string): { lease: string; note: string } {
  const hash = new Bun.CryptoHasher('sha256').update(identifier).digest('hex').slice(0, 32)
  return { lease: `${hash}${LEASE_ENDING}`, note: `${hash}${NOTE_ENDING}` }
}

export function isLeaseFile(name: string): boolean {
  return name.endsWith(LEASE_ENDING)
}

export function isNoteFile(name: string): boolean {
  return name.endsWith(NOTE_ENDING)
}

/** JSON has no word for ever: null. */
export function encodeLease(stored: StoredLease): string {
  return `${JSON.stringify({ version: VERSION, ...stored })}\n`
}

/** A lease from a file's text; undefined for one that is empty, torn, or of another version. */
export function decodeLease(text: string): StoredLease | undefined {
  try {
    const value = JSON.parse(text) as StoredLease & { version: unknown }
    if (value.version !== VERSION || !isWhole(value)) return undefined
    const { leaseSeconds, renewalSeconds, rebindingSeconds } = value.lease
    const { version: _version, ...stored } = value
    const times = {
      leaseSeconds: leaseSeconds ?? Number.POSITIVE_INFINITY,
      renewalSeconds: renewalSeconds ?? Number.POSITIVE_INFINITY,
      rebindingSeconds: rebindingSeconds ?? Number.POSITIVE_INFINITY,
    }
    return { ...stored, lease: { ...stored.lease, ...times } }
  } catch {
    return undefined
  }
}

/** The fields without which a lease cannot be renewed or released. */
function isWhole({ lease, ...stored }: StoredLease): boolean {
  const texts = [
    stored.containerId,
    stored.network,
    stored.ifname,
    stored.netns,
    stored.netnsIdentity,
    stored.hardware,
  ]
  const leaseTexts = [lease.address, lease.server, lease.serverHardware]
  const lists = [
    stored.provided,
    stored.requested,
    lease.routers,
    lease.routes,
    lease.nameServers,
    lease.search,
  ]
  return (
    [...texts, ...leaseTexts].every(text => typeof text === 'string') &&
    lists.every(list => Array.isArray(list)) &&
    [stored.link, stored.priority, lease.obtainedAt].every(number => Number.isFinite(number))
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
