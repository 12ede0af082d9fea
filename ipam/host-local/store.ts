/**
 * Reservations on disk, in the Go plugin's place and format: a file per address, named by it, with its owner inside; its lock;
 * and where round robin stands. Knows no ranges.
 */
import { decodeText, encodeText, join } from '../../chain/linux/bytes.ts'
import {
  createNew,
  ensureFolder,
  listFolder,
  noFile,
  readState,
  removeFile,
  replace,
  scanFolder,
  synchronizeFolder,
  TEMPORARY_PREFIX,
  writeInPlace,
} from '../../chain/linux/files.ts'
import { errno, isErrno, SystemError } from '../../chain/linux/libc/errno.ts'
import {
  close,
  O_CREAT,
  O_EXCL,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_RDONLY,
  O_WRONLY,
  open,
  readAll,
  readInto,
  synchronize,
  writeAll,
} from '../../chain/linux/libc/file.ts'
import { link } from '../../chain/linux/libc/folder.ts'
import { status, statusOf } from '../../chain/linux/libc/status.ts'
import { type HeldLock, takeLock, unlessUnwritable } from '../../chain/linux/lock.ts'
import { now, tellOfFile } from '../../chain/linux/observer.ts'
import { markAsOfThisBoot } from './boot.ts'
import {
  attempt,
  type Entry,
  entriesFor,
  type Owner,
  type OwnerIndex,
  openOwnerIndex,
  rebuild,
  update,
} from './owner-index.ts'

/** A network's reservations, locked. */
export interface Store {
  /** `<dataDir>/<network>`. */
  folder: string
  index: OwnerIndex
  /** Says something to the operator. */
  warn(text: string): void
  [Symbol.dispose](): void
}

/** Locks a network's reservations, with the Go plugin's lock. A folder that is made is there after a power cut. */
export function openStore(folder: string, warn: Store['warn']): Store {
  ensureFolder(folder, 0o755, { durable: true })
  return storeIn(folder, warn, lockFolder(folder))
}

function lockFolder(folder: string): HeldLock {
  return takeLock(`${folder}/lock`, { mode: 0o750 })
}

function storeIn(folder: string, warn: Store['warn'], lock: HeldLock | undefined): Store {
  const dispose = () => lock?.[Symbol.dispose]()
  try {
    return { folder, warn, index: openOwnerIndex(folder), [Symbol.dispose]: dispose }
  } catch (thrown) {
    dispose() // or undoing, in this very process, would wait for it
    throw thrown
  }
}

/** As `openStore`, where nothing is to be made: undefined when there are no reservations. A full disk does not keep it. */
export function openStoreIfPresent(folder: string, warn: Store['warn']): Store | undefined {
  return status(folder)?.kind === 'folder'
    ? storeIn(
        folder,
        warn,
        unlessUnwritable(() => lockFolder(folder)),
      )
    : undefined
}

/** Names that can be addresses: not the lock, nor where round robin stands, nor what is half done. */
function isReservation(name: string): boolean {
  return (
    name !== 'lock' && !name.startsWith('last_reserved_ip.') && !name.startsWith('.') && /[.:]/.test(name)
  )
}

const LINE_BREAK = '\r\n' // as the Go plugin writes it on every system

function contentOf({ containerId, ifname: name }: Owner): string {
  return `${containerId}${LINE_BREAK}${name ?? ''}`
}

/** The owner that a reservation names; undefined for an empty or torn one, or what is no reservation at all: it is unowned. */
function parseOwner(content: string): Owner | undefined {
  const [containerId = '', name] = content.trim().split(LINE_BREAK)
  if (!/^[a-zA-Z0-9][\w.-]*$/.test(containerId)) return undefined // as SPEC.md, "Parameters", has it
  if (name !== undefined) return { containerId, ifname: name }
  return content.includes('\r') ? undefined : { containerId }
}

/** The owner of an address: 'unowned' when its file is empty or torn, undefined when there is none. */
export function ownerOf({ folder }: Pick<Store, 'folder'>, address: string): Owner | 'unowned' | undefined {
  const content = readReservation(`${folder}/${address}`)
  return content === undefined ? undefined : (parseOwner(content) ?? 'unowned')
}

/** As long as the identifiers of all known runtimes, and more. */
const buffer = new Uint8Array(1024)

/** As `readState`, with less ado: there may be thousands. */
function readReservation(path: string): string | undefined {
  try {
    const descriptor = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW)
    try {
      const length = readInto(descriptor, buffer, path)
      const start = buffer.slice(0, length)
      if (length < buffer.length) return decodeText(start)
      if (statusOf(descriptor, path).kind !== 'file') return '' // a device, which may have no end
      return decodeText(join(start, readAll(descriptor, path)))
    } finally {
      close(descriptor)
    }
  } catch (thrown) {
    if (isErrno(thrown, errno.ENOENT)) return undefined
    if (isErrno(thrown, errno.EAGAIN, ...noFile)) return '' // EAGAIN: a pipe that somebody might write to
    throw thrown
  }
}

/** "container c1, interface eth0", for errors. */
export function describeOwner({ containerId, ifname: name }: Owner): string {
  return `container ${containerId}${name ? `, interface ${name}` : ''}`
}

function sameOwner(one: Owner, other: Owner): boolean {
  return one.containerId === other.containerId && one.ifname === other.ifname
}

/** So many files are read without a second thought: it takes a millisecond or two. */
const FEW = 512

/** Whether it would take long to know who holds what: someone else has changed the folder, and it is not small. */
export function isUnknownCrowd(store: Store): boolean {
  if (store.index.complete) return false
  let names = 0
  scanFolder(store.folder, () => void names++, FEW)
  return names >= FEW
}

/**
 * The addresses of an owner. Reads its own files alone; where someone else has changed the folder, all of them, so that what the
 * Go plugin gave, and what is left after a reboot, is known. The next call knows it without reading.
 */
export function addressesOf(store: Store, owner: Owner): string[] {
  const { index } = store
  const hinted = entriesFor(index, owner.containerId)
  const read = index.complete ? confirmed(store, hinted) : readAllEntries(store)
  const exact = read.filter(entry => sameOwner(entry.owner, owner))
  const oldest = read.filter(entry => sameOwner(entry.owner, { containerId: owner.containerId }))
  return (exact.length > 0 ? exact : oldest).map(({ address }) => address).toSorted()
}

/**
 * The addresses that were given to an owner, as the lists or the runtime (`told`) have it, and whose files somebody has damaged
 * since: unowned, or of a container without an interface, as we never write them, and as a torn one may look.
 */
export function damagedOf(store: Store, owner: Owner, told: readonly string[]): string[] {
  const hinted = entriesFor(store.index, owner.containerId)
    .filter(entry => sameOwner(entry.owner, owner))
    .map(({ address }) => address)
  return [...new Set([...hinted, ...told])].filter(address => isDamaged(ownerOf(store, address)))
}

function isDamaged(found: Owner | 'unowned' | undefined): boolean {
  return found === 'unowned' || (found !== undefined && found.ifname === undefined)
}

/** What the files say about the addresses that the index names. */
function confirmed(store: Store, entries: readonly Entry[]): Entry[] {
  return entries.flatMap(({ address }) => {
    const owner = ownerOf(store, address)
    return owner === undefined || owner === 'unowned' ? [] : [{ address, owner }]
  })
}

/** Reads every reservation, for the index. */
function readAllEntries(store: Store): Entry[] {
  const { entries, unreadable } = readEntries(store)
  rebuild(store.index, { entries, isWhole: unreadable === 0 })
  return entries
}

/** Reads every reservation. What is empty or torn is deleted: it is unowned. What cannot be read stays. */
function readEntries({ folder, warn }: Store): { entries: Entry[]; unreadable: number } {
  const entries: Entry[] = []
  let unreadable = 0
  for (const name of listFolder(folder) ?? []) {
    if (name.startsWith(TEMPORARY_PREFIX)) removeFile(`${folder}/${name}`) // of one that was killed: we hold the lock
    if (!isReservation(name)) continue
    try {
      const owner = ownerOf({ folder }, name)
      if (owner === 'unowned') {
        const isGone = removeFile(`${folder}/${name}`) === 'removed'
        const end = isGone
          ? 'deleted, the address is free'
          : 'left as it is, the address is not given to anybody'
        warn(`host-local: ${folder}/${name} names no owner (a write was cut off): ${end}\n`)
      } else if (owner) entries.push({ address: name, owner })
    } catch (thrown) {
      if (!(thrown instanceof SystemError)) throw thrown
      warn(`host-local: ${thrown.message}: left as it is\n`)
      unreadable++
    }
  }
  return { entries, unreadable }
}

/** Frees every address but those of owners that are kept; takes every step, and answers what the system refused. */
export function keepOnly(store: Store, isKept: (owner: Owner) => boolean): SystemError[] {
  const refusals: SystemError[] = []
  const { entries, unreadable } = readEntries(store)
  const left = entries.filter(({ address, owner }) => {
    if (isKept(owner)) return true
    try {
      removeFile(`${store.folder}/${address}`)
      return false
    } catch (thrown) {
      if (!(thrown instanceof SystemError)) throw thrown
      refusals.push(thrown)
      return true
    }
  })
  rebuild(store.index, { entries: left, isWhole: unreadable === 0 })
  return refusals
}

/** A reservation that was written and is not yet sure to survive a power cut. */
export interface Reservation {
  address: string
  descriptor: number
}

/** Whether an address has a file; an empty one, or something else under its name, is unowned. */
export type Presence = 'absent' | 'empty' | 'taken'

export function presenceOf({ folder }: Store, address: string): Presence {
  const path = `${folder}/${address}`
  try {
    const found = status(path, { follow: false })
    if (found === undefined) return 'absent'
    const isEmpty =
      found.kind === 'folder' ? listFolder(path, 1)?.length === 0 : found.kind === 'other' || found.size === 0
    return isEmpty ? 'empty' : 'taken'
  } catch (thrown) {
    if (thrown instanceof SystemError) return 'taken' // there is something, whatever it is
    throw thrown
  }
}

/**
 * Writes a reservation: text into a temporary file, then its name. By link(2), which fails where there is one; by rename(2) over
 * what it `replaces`. Whoever is killed between any two calls leaves no file with less than its whole text.
 * The fsyncs come later and without the lock (`makeDurable`).
 */
export function reserve(
  { index, folder }: Store,
  { address, owner, replaces = false }: { address: string; owner: Owner; replaces?: boolean },
): Reservation {
  const path = `${folder}/${address}`
  const temporary = `${folder}/${TEMPORARY_PREFIX}${address}`
  const { complete } = index
  const began = now()
  index.complete = false // until it is sure what has been written
  const descriptor = createTemporary(temporary)
  let isNamed = false
  try {
    writeAll(descriptor, encodeText(contentOf(owner)), temporary)
    markAsOfThisBoot(descriptor)
    if (replaces) replace(temporary, path)
    else link(temporary, path)
    isNamed = true
    removeFile(temporary)
  } catch (thrown) {
    close(descriptor)
    attempt(() => removeFile(temporary))
    if (isNamed) attempt(() => removeFile(path))
    throw thrown
  }
  index.complete = complete
  tellOfFile(began, () => `reserve ${path}`)
  return { address, descriptor }
}

/** One that is there was left by a kill, and may be another name of a reservation: it is not written to. */
function createTemporary(path: string): number {
  try {
    return open(path, O_WRONLY | O_CREAT | O_EXCL, 0o600)
  } catch (thrown) {
    if (!isErrno(thrown, errno.EEXIST)) throw thrown
    return createNew(path, 0o600)
  }
}

/**
 * Makes reservations survive a power cut: their text, then the folder's names. Names first, fsync second, is one commit of the
 * file system's journal instead of two, and outside the lock others share it. A power cut in between can leave a name
 * without text: free, as everything of an ADD that never answered.
 */
export function makeDurable({ folder }: Pick<Store, 'folder'>, reservations: readonly Reservation[]): void {
  for (const { address, descriptor } of reservations) synchronize(descriptor, `${folder}/${address}`)
  if (reservations.length > 0) synchronizeFolder(folder)
}

/** Notes for later calls who got what; under the lock, when all files are written. */
export function noteGiven(store: Store, owner: Owner, addresses: readonly string[]): void {
  const given = addresses.map(address => ({ address, owner }))
  update(store.index, owner.containerId, { given })
}

/**
 * Frees addresses that a container holds, or held before their files were damaged; others' stay. No fsync: after a power cut the
 * reservation would be one of an earlier boot, which is reclaimed.
 */
export function release(
  store: Store,
  { containerId }: Owner,
  addresses: readonly string[],
): 'removed' | 'absent' {
  const isHeld = (address: string) => {
    const found = ownerOf(store, address)
    return found !== undefined && found !== 'unowned' && found.containerId === containerId
  }
  const held = addresses.filter(address => isHeld(address) || isDamaged(ownerOf(store, address)))
  for (const address of held) removeFile(`${store.folder}/${address}`)
  const hinted = entriesFor(store.index, containerId).map(({ address }) => address)
  const lost = hinted.filter(address => !isHeld(address))
  if (lost.length > 0 || held.length > 0) update(store.index, containerId, { lost })
  return held.length > 0 ? 'removed' : 'absent'
}

/** The address that a range set handed out last. Anything but an address means that there was none. */
export function lastReserved({ folder }: Store, set: number): string {
  return readState(`${folder}/last_reserved_ip.${set}`) ?? ''
}

/** Not atomic, as the Go plugin's: losing it loses nothing but the order. */
export function setLastReserved({ folder }: Store, set: number, address: string): void {
  writeInPlace(`${folder}/last_reserved_ip.${set}`, address)
}
