/**
 * Where a daemon's leases are on disk, and whose they are: one JSON file for each, named by a hash of the client's identity, and
 * a note beside it where a DEL found no daemon. What plugin and daemon both must know; reading and writing are the caller's. Pure.
 */

/** Where the daemon is found unless the configuration says otherwise. */
export const DEFAULT_SOCKET = '/run/cni/dhcp.sock'

/** Of a lease's file; one of another version is not read. */
export const LEASE_VERSION = 1

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

/** Whose a lease of either family is; undefined where its file is torn. */
export function decodeOwner(text: string): ReleaseNote | undefined {
  const { containerId, network, ifname } = parseLeaseFile(text) ?? {}
  return isText(containerId) && isText(network) && isText(ifname)
    ? { containerId, network, ifname }
    : undefined
}

/** What is in a lease's file; undefined for one that is empty, torn, or of another version. */
export function parseLeaseFile(text: string): Record<string, unknown> | undefined {
  try {
    const { version, ...stored } = JSON.parse(text) as Record<string, unknown>
    return version === LEASE_VERSION ? stored : undefined
  } catch {
    return undefined
  }
}

export function isText(value: unknown): value is string {
  return typeof value === 'string'
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
