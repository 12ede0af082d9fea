/**
 * Files whose state survives a kill or a power cut between any two system calls. Through libc: node:fs costs
 * a plugin 1.2 ms of its start-up. Knows paths and bytes, not what they mean.
 */
import { decodeText, encodeText } from './bytes.ts'
import { errno, isErrno, nothingThere, SystemError } from './libc/errno.ts'
import {
  changeMode,
  close,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_RDONLY,
  O_TRUNC,
  O_WRONLY,
  open,
  openIfPresent,
  readAll,
  synchronize,
  writeAll,
} from './libc/file.ts'
import { link, makeFolder, readFolderEntries, removeFolder, rename, unlink } from './libc/folder.ts'
import { status, statusOf } from './libc/status.ts'
import { now, tellOfFile } from './observer.ts'

/**
 * The text of a file that the kernel or an administrator has written, links followed; undefined when there is none. Anything but a
 * file is refused at once: a pipe would keep us waiting, for ever.
 */
export function readFile(path: string): string | undefined {
  const descriptor = openIfPresent(path, O_RDONLY | O_NONBLOCK)
  if (descriptor === undefined) return undefined
  try {
    if (statusOf(descriptor, path).kind === 'other' && path !== NOTHING)
      throw new SystemError(`read ${path}, which is not a file`, errno.EINVAL)
    return decodeText(readAll(descriptor, path))
  } finally {
    close(descriptor)
  }
}

/** what administrators name where there is to be nothing. */
const NOTHING = '/dev/null'

/**
 * The text of a file of our own; undefined when there is none. Of what is there in its place (a folder, a pipe, a link, which is
 * never followed) the text is empty, as of a file that a kill has torn.
 */
export function readState(path: string): string | undefined {
  let descriptor: number | undefined
  try {
    descriptor = openIfPresent(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW)
  } catch (thrown) {
    if (isErrno(thrown, ...noFile)) return ''
    throw thrown
  }
  if (descriptor === undefined) return undefined
  try {
    return statusOf(descriptor, path).kind === 'file' ? decodeText(readAll(descriptor, path)) : ''
  } finally {
    close(descriptor)
  }
}

/** How the kernel says, when a path is opened so that no link is followed, that there is a link, a socket or a folder. */
export const noFile: readonly number[] = [errno.ELOOP, errno.ENXIO, errno.EISDIR]

/** Writes to a file that exists already (as under /proc/sys), in one write. */
export function writeExisting(path: string, text: string): void {
  const began = now()
  const descriptor = open(path, O_WRONLY)
  try {
    writeAll(descriptor, encodeText(text), path)
  } finally {
    close(descriptor)
  }
  tellOfFile(began, () => `write ${text} to ${path}`)
}

/**
 * Writes a file of our own in the place of whatever is there: never through a link, nor into a file that has another name too. A kill
 * can leave it torn or absent: for what is worth nothing then, and must not leave a second name behind.
 */
export function writeInPlace(path: string, text: string, mode = 0o600): void {
  const began = now()
  const descriptor = createNew(path, mode)
  try {
    writeAll(descriptor, encodeText(text), path)
  } finally {
    close(descriptor)
  }
  tellOfFile(began, () => `write ${path}`)
}

/** A new file in the place of whatever is there. Another process may do the same at the same time: whoever comes last has made it. */
export function createNew(path: string, mode: number): number {
  for (let attempt = 1; ; attempt++) {
    removeFile(path)
    try {
      return open(path, O_WRONLY | O_CREAT | O_EXCL, mode)
    } catch (thrown) {
      if (attempt === 10 || !isErrno(thrown, errno.EEXIST)) throw thrown
    }
  }
}

/** Creates a folder and those above it; existing ones are fine. `durable`: what is made is there after a power cut. */
export function ensureFolder(path: string, mode = 0o755, options: { durable?: boolean } = {}): void {
  if (path === '' || path === '/' || status(path) !== undefined) return
  ensureFolder(folderOf(path), mode, options)
  try {
    makeFolder(path, mode)
  } catch (thrown) {
    if (!isErrno(thrown, errno.EEXIST)) throw thrown
  }
  if (options.durable) synchronizeFolder(folderOf(path))
}

const NAME_MAX = 255 // bytes, limits.h
const KEPT = 200

/** A name that a file can have: what would be too long is cut, and a hash of the whole stands for the rest. The ending stays. */
export function fileNameFor(name: string, ending = ''): string {
  const whole = name + ending
  if (whole.length <= NAME_MAX && encodeText(whole).length <= NAME_MAX) return whole
  const hash = new Bun.CryptoHasher('sha256').update(name).digest('hex').slice(0, 32)
  return `${name.replace(/[^\x21-\x7e]/g, '-').slice(0, KEPT)}-${hash}${ending}`
}

/** The folder that holds a path. */
export function folderOf(path: string): string {
  const end = path.lastIndexOf('/')
  return end < 0 ? '.' : path.slice(0, end) || '/'
}

/** The last part of a path. */
export function nameIn(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

/** Makes a folder's entries durable (a rename or a new name is, only after this). */
export function synchronizeFolder(path: string): void {
  const descriptor = open(path, O_RDONLY | O_DIRECTORY)
  try {
    synchronize(descriptor, path)
  } finally {
    close(descriptor)
  }
}

export interface WriteOptions {
  mode?: number
  durable?: boolean
  /** The temporary file, in the same file system; a random name beside the path when absent. It must not exist. */
  temporary?: string
}

/**
 * Replaces a file: temporary name, write, fsync, rename, fsync of the folder. After a crash at any point the path
 * holds either the old text or the new, never a part. `durable: false` leaves out the two fsyncs, for tmpfs.
 */
export function writeAtomically(path: string, text: string, options: WriteOptions = {}): void {
  const { durable = true } = options
  const began = now()
  writeTemporary({ path, text, ...options }, temporary => replace(temporary, path))
  if (durable) synchronizeFolder(folderOf(path))
  tellOfFile(began, () => `replace ${path}`)
}

/** Gives a file its name, in the place of whatever has it, an empty folder as well. */
export function replace(temporary: string, path: string): void {
  try {
    rename(temporary, path)
  } catch (thrown) {
    if (!isErrno(thrown, errno.EISDIR)) throw thrown
    removeFolder(path)
    rename(temporary, path)
  }
}

/**
 * Creates a file with its whole text, or says that the name is taken: temporary file, fsync, link, which fails with
 * EEXIST as O_EXCL does. A name that exists never holds less than the whole text.
 */
export function createExclusively(
  path: string,
  text: string,
  options: WriteOptions = {},
): 'created' | 'exists' {
  const { durable = true } = options
  const began = now()
  try {
    writeTemporary({ path, text, ...options }, temporary => link(temporary, path))
  } catch (thrown) {
    if (isErrno(thrown, errno.EEXIST)) return 'exists'
    throw thrown
  }
  if (durable) synchronizeFolder(folderOf(path))
  tellOfFile(began, () => `create ${path}`)
  return 'created'
}

/** The prefix of temporary names: a crash can leave one behind, and whoever lists the folder may delete it. */
export const TEMPORARY_PREFIX = '.catena-'

function randomNameBeside(path: string): string {
  const [high = 0, low = 0] = crypto.getRandomValues(new Uint32Array(2))
  const unique = high.toString(16).padStart(8, '0') + low.toString(16).padStart(8, '0')
  return `${folderOf(path)}/${TEMPORARY_PREFIX}${unique}`
}

function writeTemporary(
  file: { path: string; text: string } & WriteOptions,
  publish: (temporary: string) => void,
): void {
  const { text, mode = 0o600, durable = true, temporary = randomNameBeside(file.path) } = file
  const descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_TRUNC, mode)
  try {
    try {
      changeMode(descriptor, mode, temporary)
      writeAll(descriptor, encodeText(text), temporary)
      if (durable) synchronize(descriptor, temporary)
    } finally {
      close(descriptor)
    }
    publish(temporary)
  } finally {
    removeFile(temporary)
  }
}

/**
 * Deletes a file, or what is there in its place: a link, not what it leads to; a folder that is empty. One that is not was never ours,
 * and stays. Nothing there is an answer, not an error.
 */
export function removeFile(path: string): 'removed' | 'absent' {
  const began = now()
  try {
    const outcome = unlink(path)
    if (outcome === 'removed') tellOfFile(began, () => `remove ${path}`)
    return outcome
  } catch (thrown) {
    if (isErrno(thrown, errno.EISDIR)) return removeEmptyFolder(path)
    throw thrown
  }
}

function removeEmptyFolder(path: string): 'removed' | 'absent' {
  try {
    removeFolder(path)
    return 'removed'
  } catch (thrown) {
    if (isErrno(thrown, errno.ENOTEMPTY, errno.EBUSY, errno.ENOENT)) return 'absent'
    throw thrown
  }
}

/** The names in a folder, unordered, without `.` and `..`; undefined when there is no folder. About `atMost`, when given. */
export function listFolder(path: string, atMost = Number.POSITIVE_INFINITY): string[] | undefined {
  const names: string[] = []
  const visit: VisitName = (bytes, start) => {
    names.push(bytes.toString('utf8', start, bytes.indexOf(0, start)))
  }
  const isThere = scanFolder(path, visit, atMost)
  return isThere ? names : undefined
}

/** Where a name starts in a buffer; a zero ends it. It has to be read at once. */
export type VisitName = (bytes: Buffer, start: number) => void

/** Visits the names in a folder as bytes, for folders with tens of thousands of them. False when there is no folder. */
export function scanFolder(path: string, visit: VisitName, atMost = Number.POSITIVE_INFINITY): boolean {
  let descriptor: number | undefined
  try {
    descriptor = openIfPresent(path, O_RDONLY | O_DIRECTORY)
  } catch (thrown) {
    if (!isErrno(thrown, ...nothingThere)) throw thrown
  }
  if (descriptor === undefined) return false
  try {
    scanEntries(descriptor, visit, atMost)
    return true
  } finally {
    close(descriptor)
  }
}

const DOT = 0x2e

function scanEntries(descriptor: number, visit: VisitName, atMost: number): void {
  const bytes = Buffer.alloc(Math.min(262144, 32 * atMost + 512))
  let visited = 0
  for (;;) {
    const filled = readFolderEntries(descriptor, bytes)
    if (filled === 0 || visited >= atMost) return
    for (let at = 0; at < filled; visited++) {
      // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name; by hand, since this is what 60,000 names cost
      const length = (bytes[at + 16] ?? 0) | ((bytes[at + 17] ?? 0) << 8)
      const isOwnOrParent =
        bytes[at + 19] === DOT && (bytes[at + 20] === 0 || (bytes[at + 20] === DOT && bytes[at + 21] === 0))
      if (!isOwnOrParent) visit(bytes, at + 19)
      at += length
    }
  }
}
