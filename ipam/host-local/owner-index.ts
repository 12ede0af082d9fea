/**
 * Who has which address, without reading the reservations: lists of ours under /run, each for a part of the containers. Only a
 * hint, confirmed by the files themselves. It is complete as long as the reservations' folder is as we left it, which the
 * folder's time of change tells: we set it to one that no other program would. The Go plugin's reservations, a crash and a reboot show.
 * So does whatever happens to a list: the stamp, which says all that, has a checksum of each.
 */
import {
  ensureFolder,
  fileNameFor,
  listFolder,
  nameIn,
  readState,
  removeFile,
  writeInPlace,
} from '../../chain/linux/files.ts'
import { SystemError } from '../../chain/linux/libc/errno.ts'
import { readLink, setModified, symbolicLink } from '../../chain/linux/libc/folder.ts'
import { status } from '../../chain/linux/libc/status.ts'
import { RUN_FOLDER } from '../../chain/plugin/state.ts'
import { kernelBoot } from './boot.ts'

/** Whose an address is. In the oldest format a reservation names the container alone. */
export interface Owner {
  containerId: string
  ifname?: string
}

export interface Entry {
  address: string
  owner: Owner
}

export interface OwnerIndex {
  /** The folder of the reservations. */
  folder: string
  /** The folder of the lists. */
  lists: string
  /** The kernel's name of this boot. */
  boot: string
  /** None but ours have changed the reservations: who is not in the lists holds nothing. Until a list is found to be another. */
  complete: boolean
  /** A checksum of each list, as the stamp has them. */
  sums: Uint32Array
}

/** The more, the shorter they are; their checksums have to fit into a link, which on some file systems takes 1023 characters. */
const LISTS = 128

export function openOwnerIndex(folder: string): OwnerIndex {
  const network = nameIn(folder)
  const lists = `${RUN_FOLDER}/host-local/${fileNameFor(`${network}-${digest(folder).slice(0, 8)}`)}`
  const index = { folder, lists, boot: kernelBoot(), complete: false, sums: new Uint32Array(LISTS) }
  const noted = attempt(() => readLink(stampPath(lists)))
  const [stamp, ...parts] = noted?.split('/') ?? []
  if (stamp === undefined || stamp !== stampOf(index)) return index
  const sums = decodeSums(parts.join(''))
  if (sums?.length !== index.sums.byteLength) return index
  new Uint8Array(index.sums.buffer).set(sums)
  return { ...index, complete: true }
}

const BASE64 = { alphabet: 'base64url', omitPadding: true } as const

/** undefined where somebody has meddled with the stamp. */
function decodeSums(text: string): Uint8Array | undefined {
  try {
    return Uint8Array.fromBase64(text, BASE64)
  } catch {
    return undefined
  }
}

/** In hexadecimal digits. */
function digest(text: string): string {
  return Bun.SHA512.hash(text, 'hex')
}

/** With the boot in it: of lists that are on a disk, as /run may be, a power cut can keep a part. */
function stampOf({ folder, boot }: OwnerIndex): string | undefined {
  const found = status(folder)
  return found && `${found.inode}.${found.modifiedExactly}.${boot}`
}

const stampPath = (lists: string) => `${lists}/stamp`

/** Without the hint everything still works, by reading: nothing that happens to it is worth a failure. */
export function attempt<T>(step: () => T): T | undefined {
  try {
    return step()
  } catch (thrown) {
    if (thrown instanceof SystemError) return undefined
    throw thrown
  }
}

/** Whether a step was taken to its end. */
function succeeds(step: () => void): boolean {
  return (
    attempt(() => {
      step()
      return true
    }) === true
  )
}

/** All of a container's interfaces are in one list. Any function that spreads names will do. */
function listOf(containerId: string): number {
  let sum = 0
  for (let at = 0; at < containerId.length; at++) sum = (sum * 31 + containerId.charCodeAt(at)) % LISTS
  return sum
}

const listPath = ({ lists }: OwnerIndex, list: number) => `${lists}/${list.toString(16)}`

const lineOf = ({ address, owner }: Entry) => `${address} ${owner.containerId} ${owner.ifname ?? ''}\n`

/** What is in a list; one that is not as it was written ends that all is known. */
function readList(index: OwnerIndex, list: number): Entry[] {
  const text = attempt(() => readState(listPath(index, list))) ?? ''
  if (Bun.hash.crc32(text) !== index.sums[list]) index.complete = false
  const lines = text.split('\n').filter(Boolean)
  return lines.map(line => {
    const [address = '', containerId = '', name] = line.split(' ')
    return { address, owner: { containerId, ...(name ? { ifname: name } : {}) } }
  })
}

/** Not atomic: the stamp is taken away before and set afterwards, so that what a kill has torn counts for nothing. */
function writeList(index: OwnerIndex, list: number, entries: readonly Entry[]): void {
  const text = entries.map(lineOf).join('')
  if (text === '') removeFile(listPath(index, list))
  else writeInPlace(listPath(index, list), text)
  index.sums[list] = Bun.hash.crc32(text) // of nothing: 0
}

/** What the lists say about a container. Whether they are complete is known afterwards. */
export function entriesFor(index: OwnerIndex, containerId: string): Entry[] {
  return readList(index, listOf(containerId)).filter(({ owner }) => owner.containerId === containerId)
}

/** Takes note of what one container has been given and what it has lost. Call it under the lock, after the files have changed. */
export function update(
  index: OwnerIndex,
  containerId: string,
  change: { given?: Entry[]; lost?: string[] },
): void {
  const { given = [], lost = [] } = change
  const gone = new Set([...lost, ...given.map(({ address }) => address)])
  const isNoted = succeeds(() => {
    ensureFolder(index.lists)
    removeFile(stampPath(index.lists))
    const list = listOf(containerId)
    const others = readList(index, list).filter(({ address }) => !gone.has(address))
    writeList(index, list, [...others, ...given])
    if (index.complete) stamp(index)
  })
  if (!isNoted) index.complete = false
}

/** Takes note of everything, after all reservations were read; of a part, where some could not be read (not `isWhole`). */
export function rebuild(
  index: OwnerIndex,
  { entries, isWhole }: { entries: readonly Entry[]; isWhole: boolean },
): void {
  const { lists } = index
  const isNoted = succeeds(() => {
    ensureFolder(lists)
    removeFile(stampPath(lists))
    for (const name of listFolder(lists) ?? []) removeFile(`${lists}/${name}`)
    index.sums.fill(0)
    const byList = Map.groupBy(entries, ({ owner }) => listOf(owner.containerId))
    for (const [list, part] of byList) writeList(index, list, part)
    if (isWhole) stamp(index)
  })
  index.complete = isNoted && isWhole
}

/** Of a path's parts, which may have 255 bytes. */
const LONGEST_PART = 200

/** Says that the reservations are as the lists have them. */
function stamp(index: OwnerIndex): void {
  setOwnTime(index.folder)
  const sums = new Uint8Array(index.sums.buffer).toBase64(BASE64)
  const parts = [stampOf(index)] // of a path: whoever follows the link finds nothing
  for (let at = 0; at < sums.length; at += LONGEST_PART) parts.push(sums.slice(at, at + LONGEST_PART))
  symbolicLink(parts.join('/'), stampPath(index.lists))
}

/**
 * Leaves a folder with a time of change of our own making. The one that it has says less: the clock of files may stand still for
 * 4 ms (CONFIG_HZ), and whatever another program does meanwhile does not show.
 */
function setOwnTime(folder: string): void {
  const [random = 0] = crypto.getRandomValues(new Uint32Array(1))
  const now = Date.now()
  setModified(folder, { seconds: (now - (now % 1000)) / 1000, nanoseconds: random % 1_000_000_000 })
}

const fullPath = ({ lists }: OwnerIndex, set: string) => `${lists}/full-${digest(set).slice(0, 16)}`

/** Takes note that every address of a set, named by any text of its own, has a file. It stays so until the folder changes. */
export function noteFull(index: OwnerIndex, set: string): void {
  attempt(() => {
    const path = fullPath(index, set)
    ensureFolder(index.lists)
    removeFile(path)
    if (!index.complete) setOwnTime(index.folder)
    symbolicLink(stampOf(index) ?? '', path)
  })
}

/** Whether a set was found full, and the folder has not changed since. */
export function isKnownFull(index: OwnerIndex, set: string): boolean {
  const noted = attempt(() => readLink(fullPath(index, set)))
  return noted !== undefined && noted === stampOf(index)
}
