/**
 * Reservations on disk, in the Go plugin's place and format: a file per address, named by it, with its owner inside. Beside
 * them, in places of ours, an index from owner to addresses and a marker per address that says "of this boot". Both are
 * hints: what a reservation file says is the truth.
 */
import {
  createExclusively,
  ensureFolder,
  folderOf,
  type HeldLock,
  listFolder,
  readFile,
  removeFile,
  takeLock,
  writeAtomically,
} from '../../chain/linux/files.ts'

/** The attachment that holds an address. */
export interface Owner {
  containerId: string
  interface: string
}

export interface Store {
  /** `<dataDir>/<network>`. */
  folder: string
  /** Owner → addresses, on disk: survives a reboot, so that a container gets its address again. */
  index: string
  /** Address → nothing, in memory: gone with a reboot, so that what is left on disk is known to be old. */
  markers: string
}

const INDEX = '/var/lib/cni/catena/host-local'
const MARKERS = '/run/catena/host-local'

/** Where a network's reservations are. A data folder of its own has an index and markers of its own. */
export function storeOf(dataDir: string, network: string): Store {
  const folder = `${dataDir}/${network}`
  const key = `${digest(dataDir).slice(0, 8)}-${network}`
  return { folder, index: `${INDEX}/${key}`, markers: `${MARKERS}/${key}` }
}

function digest(text: string): string {
  return new Bun.CryptoHasher('sha512').update(text).digest('hex')
}

/** Takes the network's lock, the same as the Go plugin's. */
export function lockStore({ folder }: Store): HeldLock {
  ensureFolder(folder)
  return takeLock(`${folder}/lock`, { mode: 0o750 })
}

function contentOf({ containerId, interface: name }: Owner): string {
  return `${containerId}\r\n${name}`
}

function indexPath({ index }: Store, owner: Owner): string {
  return `${index}/${digest(contentOf(owner)).slice(0, 32)}`
}

const isAddress = (name: string) => /^[0-9a-f.:]+$/.test(name) && /[.:]/.test(name) && !name.startsWith('.')

/** The addresses that have a file, by name alone. */
export function reservedAddresses({ folder }: Store): string[] {
  return (listFolder(folder) ?? []).filter(isAddress)
}

/** The addresses that were reserved since the machine started. */
export function markedAddresses({ markers }: Store): Set<string> {
  return new Set(listFolder(markers) ?? [])
}

/** What a reservation file says: its owner; 'nobody' for an empty or torn one; undefined when there is none. */
export function ownerAt({ folder }: Store, address: string): Partial<Owner> | 'nobody' | undefined {
  const text = readFile(`${folder}/${address}`)?.trim()
  if (text === undefined) return undefined
  const [containerId, name] = text.split('\r\n')
  if (!containerId || containerId.includes('\0')) return 'nobody'
  return { containerId, ...(name === undefined ? {} : { interface: name }) }
}

/** True when the file is this owner's. The oldest format names the container alone. */
export function isHeldBy(store: Store, address: string, owner: Owner): boolean {
  const found = ownerAt(store, address)
  if (found === undefined || found === 'nobody') return false
  return found.containerId === owner.containerId && (found.interface ?? owner.interface) === owner.interface
}

/**
 * Reserves an address. Order, for power cuts: text, fsync, then the name by link(2), then the folder's fsync: a name that is
 * there is whole, and one that was answered stays. Index and marker come after it: without them a DEL reads the files.
 */
export function reserve(store: Store, address: string, owner: Owner): 'reserved' | 'taken' {
  if (createExclusively(`${store.folder}/${address}`, contentOf(owner)) === 'exists') return 'taken'
  ensureFolder(store.markers)
  writeAtomically(`${store.markers}/${address}`, '', { durable: false })
  remember(store, owner, [...indexed(store, owner), address])
  return 'reserved'
}

function remember(store: Store, owner: Owner, addresses: readonly string[]): void {
  const path = indexPath(store, owner)
  ensureFolder(folderOf(path))
  writeAtomically(path, [...new Set(addresses)].join('\n'), { durable: false }) // a hint: losing it costs time only
}

/** Marks an address as reserved in this boot. */
export function mark({ markers }: Store, address: string): void {
  ensureFolder(markers)
  writeAtomically(`${markers}/${address}`, '', { durable: false })
}

function indexed(store: Store, owner: Owner): string[] {
  return (readFile(indexPath(store, owner)) ?? '').split('\n').filter(isAddress)
}

/** The owner's addresses by the index alone, each confirmed by its file: no other file is read. */
export function knownAddresses(store: Store, owner: Owner): string[] {
  return indexed(store, owner).filter(address => isHeldBy(store, address, owner))
}

/** The owner's addresses: by the index if it knows any, else by reading every file, as for what the Go plugin reserved. */
export function findAddresses(store: Store, owner: Owner): string[] {
  const known = knownAddresses(store, owner)
  return known.length > 0
    ? known
    : reservedAddresses(store).filter(address => isHeldBy(store, address, owner))
}

/** Frees one address, whoever holds it. */
export function free(store: Store, address: string): 'removed' | 'absent' {
  const outcome = removeFile(`${store.folder}/${address}`)
  removeFile(`${store.markers}/${address}`)
  return outcome
}

/** Frees all that an owner has. */
export function releaseOwner(store: Store, owner: Owner): 'removed' | 'absent' {
  const addresses = findAddresses(store, owner)
  for (const address of addresses) free(store, address)
  removeFile(indexPath(store, owner))
  return addresses.length > 0 ? 'removed' : 'absent'
}

/** The address that a range set handed out last. */
export function lastReserved({ folder }: Store, set: number): string | undefined {
  return readFile(`${folder}/last_reserved_ip.${set}`)?.trim()
}

export function setLastReserved({ folder }: Store, set: number, address: string): void {
  writeAtomically(`${folder}/last_reserved_ip.${set}`, address, { durable: false })
}
