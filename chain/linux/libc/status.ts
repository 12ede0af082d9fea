/** What is known of a file without opening it, or of an open one: statx, statfs. */
import { checked, nothingThere, SystemError } from './errno.ts'
import { failureOf, libc, pointer, textPointer } from './ffi.ts'

/** Words of a struct statx: device and inode; the mount. */
const IDENTITY = [136, 140, 32, 36]
const IDENTITY_AND_MOUNT = [...IDENTITY, 144, 148]

/** The status of a file, a struct statx: read as far as it is asked for, since big integers cost a plugin time at their first use. */
export class FileStatus {
  readonly #statx: DataView

  constructor(statx: DataView) {
    this.#statx = statx
  }

  /** Device and inode: the identity of a file or of a namespace. */
  get device(): string {
    return `${this.#statx.getUint32(136, true)}:${this.#statx.getUint32(140, true)}`
  }

  /** In decimal digits. */
  get inode(): string {
    const high = this.#statx.getUint32(36, true)
    const low = this.#statx.getUint32(32, true)
    return high === 0 ? String(low) : String(this.#statx.getBigUint64(32, true))
  }

  /** Whether another status is of the same file; with `mount`, found by the same mount too (not known before Linux 5.8). */
  isOf(file: FileStatus, { mount = false } = {}): boolean {
    const [own, other] = [this.#statx, file.#statx]
    for (const at of mount ? IDENTITY_AND_MOUNT : IDENTITY)
      if (own.getUint32(at, true) !== other.getUint32(at, true)) return false
    return true
  }

  /** How many names it has. */
  get links(): number {
    return this.#statx.getUint32(16, true)
  }

  /** st_mode: type and permissions. */
  get mode(): number {
    return this.#statx.getUint16(28, true)
  }

  /** Of anything else (pipes, sockets, devices) reading may never end, or never begin. */
  get kind(): 'file' | 'folder' | 'other' {
    const type = this.mode & 0o170000 // S_IFMT
    return type === 0o100000 ? 'file' : type === 0o040000 ? 'folder' : 'other' // S_IFREG, S_IFDIR
  }

  get size(): number {
    return Number(this.#statx.getBigUint64(40, true))
  }

  /** Last change, milliseconds since the epoch. */
  get modified(): number {
    return (
      Number(this.#statx.getBigInt64(112, true)) * 1000 + Math.floor(this.#statx.getUint32(120, true) / 1e6)
    )
  }

  /** The same to the nanosecond, as a text that no other moment has. */
  get modifiedExactly(): string {
    const word = (at: number) => this.#statx.getUint32(at, true).toString(16)
    return `${word(116)}-${word(112)}-${word(120)}`
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
  const found = statx(AT_FDCWD, path, follow ? 0 : AT_SYMLINK_NOFOLLOW)
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
  const bytes = new Uint8Array(256) // struct statx
  const number = failureOf(
    libc().statx(descriptor, textPointer(path), flags, STATX_BASIC_STATS | STATX_MNT_ID, pointer(bytes)),
  )
  return number === 0 ? new FileStatus(new DataView(bytes.buffer)) : number
}

/** The type of the file system that holds a path (linux/magic.h). */
export function fileSystemType(path: string): number {
  const bytes = new Uint8Array(256) // struct statfs; f_type comes first
  checked(libc().statfs(textPointer(path), pointer(bytes)), () => `statfs ${path}`)
  return new DataView(bytes.buffer).getUint32(0, true) // a magic number has 32 bits
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
