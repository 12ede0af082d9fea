/** What is known of a file without opening it, or of an open one: statx, statfs. */
import { checked, nothingThere, SystemError } from './errno.ts'
import { failureOf, libc, pointer, rarely, textPointer } from './ffi.ts'

const occasional = {
  fstatfs: { args: ['i32', 'ptr'], returns: 'i32' },
} as const

/** Words of a struct statx: those of 64 bits are two, the lower one first. */
const word = {
  ...{ links: 4, mode: 7, inode: 8, size: 10, modified: 28, nanoseconds: 30 },
  ...{ deviceMajor: 34, deviceMinor: 35, mount: 36 },
} as const
const WORDS = 64

const IDENTITY = [word.deviceMajor, word.deviceMinor, word.inode, word.inode + 1]
const IDENTITY_AND_MOUNT = [...IDENTITY, word.mount, word.mount + 1]

/** Of 64 bits; exact up to 2^53. */
const exact = (high: number, low: number) => high * 2 ** 32 + low

/** The status of a file, a struct statx: read as far as it is asked for, since big integers cost a plugin time at their first use. */
export class FileStatus {
  readonly #statx: Uint32Array

  constructor(statx: Uint32Array) {
    this.#statx = statx
  }

  /** Device and inode: the identity of a file or of a namespace. */
  get device(): string {
    return `${this.#statx[word.deviceMajor]}:${this.#statx[word.deviceMinor]}`
  }

  /** In decimal digits. */
  get inode(): string {
    const high = this.#statx[word.inode + 1] ?? 0
    const low = this.#statx[word.inode] ?? 0
    return high === 0 ? String(low) : String((BigInt(high) << 32n) | BigInt(low))
  }

  /** Whether another status is of the same file; with `mount`, found by the same mount too (not known before Linux 5.8). */
  isOf(file: FileStatus, { mount = false } = {}): boolean {
    for (const at of mount ? IDENTITY_AND_MOUNT : IDENTITY)
      if (this.#statx[at] !== file.#statx[at]) return false
    return true
  }

  /** How many names it has. */
  get links(): number {
    return this.#statx[word.links] ?? 0
  }

  /** st_mode: type and permissions. */
  get mode(): number {
    return (this.#statx[word.mode] ?? 0) & 0xffff
  }

  /** Of anything else (pipes, sockets, devices) reading may never end, or never begin. */
  get kind(): 'file' | 'folder' | 'other' {
    const type = this.mode & 0o170000 // S_IFMT
    return type === 0o100000 ? 'file' : type === 0o040000 ? 'folder' : 'other' // S_IFREG, S_IFDIR
  }

  get size(): number {
    return exact(this.#statx[word.size + 1] ?? 0, this.#statx[word.size] ?? 0)
  }

  /** Last change, milliseconds since the epoch. */
  get modified(): number {
    const high = this.#statx[word.modified + 1] ?? 0
    const seconds = exact(high | 0, this.#statx[word.modified] ?? 0) // signed
    return seconds * 1000 + Math.floor((this.#statx[word.nanoseconds] ?? 0) / 1e6)
  }

  /** The same to the nanosecond, as a text that no other moment has. */
  get modifiedExactly(): string {
    const digits = (index: number) => this.#statx[index]?.toString(16)
    return `${digits(word.modified + 1)}-${digits(word.modified)}-${digits(word.nanoseconds)}`
  }
}

/** Where relative paths begin: the folder that the process is in. */
export const AT_FDCWD = -100
const AT_SYMLINK_NOFOLLOW = 0x100
const AT_EMPTY_PATH = 0x1000
const STATX_BASIC_STATS = 0x7ff
const STATX_MNT_ID = 0x1000

/** The status of what a path names; undefined when there is nothing. Links are followed, unless they are themselves meant. */
export function status(path: string, { follow = true } = {}): FileStatus | undefined {
  return statusFrom(AT_FDCWD, path, follow ? 0 : AT_SYMLINK_NOFOLLOW)
}

/** The same from an open folder on. */
export function statusFrom(folder: number, path: string, flags = 0): FileStatus | undefined {
  const found = statx(folder, path, flags)
  if (typeof found !== 'number') return found
  if (nothingThere.includes(found)) return undefined
  throw new SystemError(`stat ${path}`, found)
}

/** The status of an open file. */
export function statusOf(descriptor: number, what = `descriptor ${descriptor}`): FileStatus {
  const found = statx(descriptor, '', AT_EMPTY_PATH)
  if (typeof found !== 'number') return found
  throw new SystemError(`stat ${what}`, found)
}

/** The number of a refusal is an answer like another: there often is nothing, and an exception would cost more than the call. */
function statx(descriptor: number, path: string, flags: number): FileStatus | number {
  const words = new Uint32Array(WORDS) // struct statx
  const number = failureOf(
    libc().statx(descriptor, textPointer(path), flags, STATX_BASIC_STATS | STATX_MNT_ID, pointer(words)),
  )
  return number === 0 ? new FileStatus(words) : number
}

/** The type of the file system that holds a path (linux/magic.h). */
export function fileSystemType(path: string): number {
  const words = new Uint32Array(WORDS) // struct statfs; f_type comes first
  checked(libc().statfs(textPointer(path), pointer(words)), () => `statfs ${path}`)
  return words[0] ?? 0 // a magic number has 32 bits
}

/** The same of an open file. */
export function fileSystemTypeOf(descriptor: number): number {
  const words = new Uint32Array(WORDS)
  checked(
    rarely(occasional, 'fstatfs')(descriptor, pointer(words)),
    () => `statfs of descriptor ${descriptor}`,
  )
  return words[0] ?? 0
}

/** What a file system has left, and how it is mounted. */
export interface Room {
  bytes: number
  /** How many more files; where it does not count them, Infinity. */
  files: number
  isReadOnly: boolean
  mayExecute: boolean
}

const ST_RDONLY = 1 // statfs(2)
const ST_NOEXEC = 8

/** The room in the file system that holds a path, for those without privileges. */
export function roomIn(path: string): Room {
  const bytes = new Uint8Array(256) // struct statfs
  checked(libc().statfs(textPointer(path), pointer(bytes)), () => `statfs ${path}`)
  const view = new DataView(bytes.buffer)
  const field = (index: number) => Number(view.getBigUint64(8 * index, true))
  const flags = field(10) // f_type, f_bsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree, f_fsid, f_namelen, f_frsize, f_flags
  return {
    bytes: field(1) * field(4),
    files: field(5) === 0 ? Number.POSITIVE_INFINITY : field(6),
    isReadOnly: (flags & ST_RDONLY) !== 0,
    mayExecute: (flags & ST_NOEXEC) === 0,
  }
}
