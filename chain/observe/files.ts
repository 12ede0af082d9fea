/** What stands in files: networks, caches of runtimes, reservations of addresses, records of plugins. Whoever has written it. */
import { listFolder, nameIn, readState } from '../linux/files.ts'
import { SystemError } from '../linux/libc/errno.ts'
import { status } from '../linux/libc/status.ts'
import { RUN_FOLDER } from '../plugin/state.ts'
import { toCniError } from '../protocol/error.ts'
import {
  type CacheFile,
  listAttachmentFiles,
  listNetworkFiles,
  loadNetworkFile,
  type NetworkList,
  parseNetwork,
  parseNetworkList,
} from '../runtime/network.ts'

/** A network of a configuration file. */
export interface NetworkFile {
  path: string
  /** Absent where the file is broken. */
  network?: NetworkList
  /** Why it is. */
  problem?: string
}

export function readNetworkFiles(folders: readonly string[]): NetworkFile[] {
  return folders
    .flatMap(folder => listNetworkFiles(folder))
    .map(path => {
      try {
        return { path, network: loadNetworkFile(path) }
      } catch (thrown) {
        return { path, problem: toCniError(thrown).message }
      }
    })
}

/** The plugins of a configuration as text, of a list or of a single one; none where it cannot be read. */
export function pluginsIn(configuration: string): Readonly<Record<string, unknown>>[] {
  try {
    const { plugins } = parseNetworkList(configuration)
    return plugins.map(({ raw }) => raw)
  } catch {
    // a single plugin's, perhaps
  }
  try {
    return [parseNetwork(configuration).plugin.raw]
  } catch {
    return []
  }
}

/** A cached attachment's file, and when it was written. */
export interface SeenCache extends CacheFile {
  /** Milliseconds since the epoch. */
  modified: number
}

export function readCaches(folders: readonly string[]): SeenCache[] {
  return folders
    .flatMap(cacheFolder => listAttachmentFiles({ cacheFolder }))
    .map(file => ({ ...file, modified: modifiedOf(file.path) }))
}

const modifiedOf = (path: string) => status(path, { follow: false })?.modified ?? 0

/** A file by which host-local, ours or the Go plugin's, keeps an address for a container. */
export interface Reservation {
  network: string
  address: string
  path: string
  /** Absent where the file is empty or torn: then it is unowned. */
  containerId?: string
  ifname?: string
  modified: number
}

export function readReservations(folders: readonly string[]): Reservation[] {
  return folders.flatMap(folder =>
    (listFolder(folder) ?? []).toSorted().flatMap(network => {
      const names = listFolder(`${folder}/${network}`) ?? []
      return names
        .filter(isAddress)
        .toSorted()
        .map(address => readReservation(`${folder}/${network}`, address))
    }),
  )
}

/** Not the lock, nor where round robin stands, nor what is half done. */
function isAddress(name: string): boolean {
  return /[.:]/.test(name) && !name.startsWith('.') && !name.startsWith('last_reserved_ip.')
}

function readReservation(folder: string, address: string): Reservation {
  const path = `${folder}/${address}`
  const content = readState(path) ?? ''
  const [containerId = '', ifname] = content.trim().split(/\r?\n/)
  const isTorn = ifname === undefined && content.includes('\r') // as host-local has it
  return {
    network: nameIn(folder),
    address,
    path,
    ...(!isTorn && /^[a-zA-Z0-9][\w.-]*$/.test(containerId) ? { containerId } : {}),
    ...(ifname ? { ifname } : {}),
    modified: modifiedOf(path),
  }
}

/** A record that a plugin of ours keeps under /run. */
export interface StateRecord {
  path: string
  /** The plugin's affair: "firewall", "interfaces", "ports", "iptables". */
  about: string
  /** An owner's ID, an attachment's hash or a chain's name. */
  key: string
  content: Readonly<Record<string, unknown>>
}

const RECORDS = ['firewall', 'interfaces', 'iptables', 'ports']

export function readRecords(): StateRecord[] {
  return RECORDS.flatMap(about =>
    (listFolder(`${RUN_FOLDER}/${about}`) ?? [])
      .filter(name => name.endsWith('.json'))
      .toSorted()
      .map(name => {
        const path = `${RUN_FOLDER}/${about}/${name}`
        return { path, about, key: name.slice(0, -'.json'.length), content: contentOf(path) }
      }),
  )
}

function contentOf(path: string): StateRecord['content'] {
  try {
    const json: unknown = JSON.parse(readState(path) ?? '')
    return typeof json === 'object' && json !== null ? (json as StateRecord['content']) : {}
  } catch (thrown) {
    if (thrown instanceof SyntaxError || thrown instanceof SystemError) return {}
    throw thrown
  }
}
