/** What is known of a file without opening it, or of an open one: statx, statfs. */
import { checked, isErrno, nothingThere } from './errno.ts'
import { libc, pointer, textPointer } from './ffi.ts'

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

  get inode(): bigint {
    return this.#statx.getBigUint64(32, true)
  }

  /** The mount that it was found by: what lies below a folder is another thing by another mount. 0 before Linux 5.8. */
  get mount(): bigint {
    return this.#statx.getBigUint64(144, true)
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

  /** The same, in nanoseconds. */
  get modifiedNanoseconds(): bigint {
    return this.#statx.getBigInt64(112, true) * 1_000_000_000n + BigInt(this.#statx.getUint32(120, true))
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
  try {
    return statx(AT_FDCWD, path, { flags: follow ? 0 : AT_SYMLINK_NOFOLLOW, what: path })
  } catch (thrown) {
    if (isErrno(thrown, ...nothingThere)) return undefined
    throw thrown
  }
}

/** The status of an open file. */
export function statusOf(descriptor: number, what = `descriptor ${descriptor}`): FileStatus {
  return statx(descriptor, '', { flags: AT_EMPTY_PATH, what })
}

function statx(
  descriptor: number,
  path: string,
  { flags, what }: { flags: number; what: string },
): FileStatus {
  const bytes = new Uint8Array(256) // struct statx
  checked(
    libc().statx(descriptor, textPointer(path), flags, STATX_BASIC_STATS | STATX_MNT_ID, pointer(bytes)),
    () => `stat ${what}`,
  )
  return new FileStatus(new DataView(bytes.buffer))
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
