/**
 * The C library through bun:ffi: each function checked, failures as SystemError. The only file that imports bun:ffi.
 * Everything here is synchronous and costs about what the system call costs.
 */
import { CString, dlopen, type Pointer, ptr, read } from 'bun:ffi'
import { decodeText, encodeText } from './bytes.ts'

const LIBRARIES = [
  'libc.so.6',
  `libc.musl-${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}.so.1`,
  'libc.so',
]

/** What nearly every call of a plugin needs, bound at once: a symbol costs 7 µs, a dlopen of its own 30. */
const common = {
  __errno_location: { args: [], returns: 'ptr' },
  open: { args: ['ptr', 'i32', 'u32'], returns: 'i32' },
  close: { args: ['i32'], returns: 'i32' },
  read: { args: ['i32', 'ptr', 'usize'], returns: 'i64' },
  write: { args: ['i32', 'ptr', 'usize'], returns: 'i64' },
  socket: { args: ['i32', 'i32', 'i32'], returns: 'i32' },
  setsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'u32'], returns: 'i32' },
  connect: { args: ['i32', 'ptr', 'u32'], returns: 'i32' },
  send: { args: ['i32', 'ptr', 'usize', 'i32'], returns: 'i64' },
  recvfrom: { args: ['i32', 'ptr', 'usize', 'i32', 'ptr', 'ptr'], returns: 'i64' },
  setns: { args: ['i32', 'i32'], returns: 'i32' },
  statx: { args: ['i32', 'ptr', 'i32', 'u32', 'ptr'], returns: 'i32' },
  statfs: { args: ['ptr', 'ptr'], returns: 'i32' },
  fcntl: { args: ['i32', 'i32', 'ptr'], returns: 'i32' },
} as const

/** What keeps state on a disk: bound together when the first of them is called. */
const ofFiles = {
  flock: { args: ['i32', 'i32'], returns: 'i32' },
  unlink: { args: ['ptr'], returns: 'i32' },
  fsync: { args: ['i32'], returns: 'i32' },
  fchmod: { args: ['i32', 'u32'], returns: 'i32' },
  rename: { args: ['ptr', 'ptr'], returns: 'i32' },
  link: { args: ['ptr', 'ptr'], returns: 'i32' },
  mkdir: { args: ['ptr', 'u32'], returns: 'i32' },
  getdents64: { args: ['i32', 'ptr', 'usize'], returns: 'i64' },
} as const

/** What only some verbs of some plugins call: each is bound when it is first called. */
const occasional = {
  poll: { args: ['ptr', 'u64', 'i32'], returns: 'i32' },
  dup: { args: ['i32'], returns: 'i32' },
  bind: { args: ['i32', 'ptr', 'u32'], returns: 'i32' },
  getsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'ptr'], returns: 'i32' },
  sendto: { args: ['i32', 'ptr', 'usize', 'i32', 'ptr', 'u32'], returns: 'i64' },
  ioctl: { args: ['i32', 'u64', 'ptr'], returns: 'i32' },
  readlink: { args: ['ptr', 'ptr', 'usize'], returns: 'i64' },
  rmdir: { args: ['ptr'], returns: 'i32' },
  mount: { args: ['ptr', 'ptr', 'ptr', 'u64', 'ptr'], returns: 'i32' },
  umount2: { args: ['ptr', 'i32'], returns: 'i32' },
  unshare: { args: ['i32'], returns: 'i32' },
  kill: { args: ['i32', 'i32'], returns: 'i32' },
  symlink: { args: ['ptr', 'ptr'], returns: 'i32' },
  utimensat: { args: ['i32', 'ptr', 'ptr', 'i32'], returns: 'i32' },
  fsetxattr: { args: ['i32', 'ptr', 'ptr', 'usize', 'i32'], returns: 'i32' },
  lgetxattr: { args: ['ptr', 'ptr', 'ptr', 'usize'], returns: 'i64' },
  _exit: { args: ['i32'], returns: 'void' },
  umask: { args: ['u32'], returns: 'u32' },
  strerror: { args: ['i32'], returns: 'ptr' },
  getauxval: { args: ['u64'], returns: 'ptr' },
  posix_fadvise: { args: ['i32', 'i64', 'i64', 'i32'], returns: 'i32' },
} as const

function openLibrary<const T extends Parameters<typeof dlopen>[1]>(symbols: T) {
  for (const name of LIBRARIES) {
    try {
      return dlopen(name, symbols).symbols
    } catch {
      // the other C library's name is tried next
    }
  }
  throw new Error(`cannot open the C library as any of ${LIBRARIES.join(', ')}`)
}

type Common = ReturnType<typeof openLibrary<typeof common>>
type OfFiles = ReturnType<typeof openLibrary<typeof ofFiles>>
type Occasional = ReturnType<typeof openLibrary<typeof occasional>>

let openCommon: Common | undefined
let openOfFiles: OfFiles | undefined
const bound: Partial<Occasional> = {}

function libc(): Common {
  if (!openCommon) {
    openCommon = openLibrary(common)
    errnoLocation = openCommon.__errno_location() as Pointer | null
  }
  return openCommon
}

function filesLibc(): OfFiles {
  libc() // errno has to be within reach before a call, not bound after it
  openOfFiles ??= openLibrary(ofFiles)
  return openOfFiles
}

/** A function that is called now and then. */
function rarely<Name extends keyof Occasional>(name: Name): Occasional[Name] {
  libc()
  if (!bound[name]) Object.assign(bound, openLibrary({ [name]: occasional[name] }))
  return bound[name] as Occasional[Name]
}

/** Names of the C library's functions that this process has bound so far. */
export function boundFunctions(): string[] {
  return [
    ...(openCommon ? Object.keys(common) : []),
    ...(openOfFiles ? Object.keys(ofFiles) : []),
    ...Object.keys(bound),
  ]
}

/** Error numbers by name (asm-generic/errno-base.h, errno.h): those that callers tell apart. */
export const errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  ERANGE: 34,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENODATA: 61,
  EPROTO: 71,
  ERESTART: 85,
  EOVERFLOW: 75,
  EMSGSIZE: 90,
  ENOPROTOOPT: 92,
  EPROTONOSUPPORT: 93,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ENOBUFS: 105,
  ENOTCONN: 107,
  ETIMEDOUT: 110,
  EHOSTUNREACH: 113,
  EDQUOT: 122,
} as const

/** The words for an error number: "No such file or directory (ENOENT)". */
export function describeErrno(number: number): string {
  const words = rarely('strerror')(number)
  const name = Object.entries(errno).find(([, value]) => value === number)?.[0] ?? `errno ${number}`
  return words === null ? name : `${new CString(words)} (${name})`
}

/** A refused system call: what was being done, and the errno, to be compared with `errno.X`. */
export class SystemError extends Error {
  readonly operation: string
  readonly errno: number

  constructor(operation: string, number: number) {
    super(`${operation}: ${describeErrno(number)}`)
    this.name = 'SystemError'
    this.operation = operation
    this.errno = number
  }
}

/** True for a SystemError with one of these numbers. */
export function isErrno(thrown: unknown, ...numbers: number[]): thrown is SystemError {
  return thrown instanceof SystemError && numbers.includes(thrown.errno)
}

/** Passes a result on, or throws what errno says. Calls that a signal interrupted are the caller's to repeat. */
function checked(result: number | bigint, operation: () => string): number {
  const value = Number(result)
  const number = value >= 0 ? 0 : lastErrno() // first of all: whatever else is done may be a call with an errno of its own
  held.length = 0
  if (value >= 0) return value
  throw new SystemError(operation(), number)
}

/** Where this thread's errno is. */
let errnoLocation: Pointer | null | undefined

function lastErrno(): number {
  return errnoLocation ? read.i32(errnoLocation, 0) : 0
}

/**
 * A number of 32 bits that no other process can know: of where the kernel has put this one's memory, and of the time. Not for
 * secrets; start-up: the first Math.random() of a process would cost it 0.4 ms, Bun.nanoseconds() 0.2.
 */
export function unguessable(): number {
  libc()
  return ((errnoLocation ?? 0) / 4096 + Date.now()) >>> 0
}

/** What a call that is about to be made points to. Nothing else keeps it: of a pointer, the collector knows nothing. */
const held: Uint8Array[] = []

/** A pointer to bytes that stay until the call that they are for has been `checked`. */
function pointer(bytes: Uint8Array): Pointer {
  held.push(bytes)
  return ptr(bytes)
}

/** A pointer to a path or a name, likewise. */
function textPointer(text: string): Pointer {
  return pointer(cString(text))
}

/** Repeats a call that a signal interrupted (EINTR). */
function uninterrupted(call: () => number | bigint, operation: () => string): number {
  for (;;) {
    try {
      return checked(call(), operation)
    } catch (thrown) {
      if (!isErrno(thrown, errno.EINTR)) throw thrown
    }
  }
}

/** Text with the terminating zero that C wants. A zero inside would cut a path short, so it is refused. */
export function cString(text: string): Uint8Array {
  if (text.includes('\0')) throw new RangeError(`a zero byte inside ${JSON.stringify(text)}`)
  return encodeText(`${text}\0`)
}

// fcntl.h
export const O_RDONLY = 0
export const O_WRONLY = 1
export const O_RDWR = 2
export const O_CREAT = 0o100
export const O_EXCL = 0o200
export const O_TRUNC = 0o1000
export const O_NONBLOCK = 0o4000
/** ELOOP where the path itself, not a folder above it, is a symbolic link. */
export const O_NOFOLLOW = process.arch === 'arm64' ? 0o100000 : 0o400000
export const O_DIRECTORY = process.arch === 'arm64' ? 0o40000 : 0o200000
export const O_CLOEXEC = 0o2000000

/** Opens a file; always close-on-exec. `mode` counts when it is created. */
export function open(path: string, flags: number, mode = 0): number {
  return uninterrupted(
    () => libc().open(textPointer(path), flags | O_CLOEXEC, mode),
    () => `open ${path}`,
  )
}

/** As `open`, for what most often is not there: said without an exception, which would cost more than the call. */
export function openIfPresent(path: string, flags: number): number | undefined {
  const descriptor = libc().open(textPointer(path), flags | O_CLOEXEC, 0)
  const number = descriptor >= 0 ? 0 : lastErrno()
  held.length = 0
  if (number === 0) return descriptor
  if (number === errno.ENOENT || number === errno.ENOTDIR) return undefined
  if (number === errno.EINTR) return open(path, flags)
  throw new SystemError(`open ${path}`, number)
}

export function close(descriptor: number): void {
  checked(libc().close(descriptor), () => `close descriptor ${descriptor}`)
}

/** Another descriptor for the same open file. */
export function duplicate(descriptor: number): number {
  return checked(rarely('dup')(descriptor), () => `duplicate descriptor ${descriptor}`)
}

/** Reads at most `buffer.length` bytes; 0 at the end. */
export function readInto(descriptor: number, buffer: Uint8Array, what = `descriptor ${descriptor}`): number {
  return uninterrupted(
    () => libc().read(descriptor, pointer(buffer), buffer.length),
    () => `read ${what}`,
  )
}

/** Writes all bytes. */
export function writeAll(descriptor: number, bytes: Uint8Array, what = `descriptor ${descriptor}`): void {
  for (let at = 0; at < bytes.length; ) {
    const rest = bytes.subarray(at)
    at += uninterrupted(
      () => libc().write(descriptor, pointer(rest), rest.length),
      () => `write ${what}`,
    )
  }
}

/** Reads to the end. */
export function readAll(descriptor: number, what?: string): Uint8Array {
  let buffer = new Uint8Array(4096)
  let filled = 0
  for (;;) {
    const length = readInto(descriptor, buffer.subarray(filled), what)
    if (length === 0) return buffer.subarray(0, filled)
    filled += length
    if (filled < buffer.length) continue
    const larger = new Uint8Array(4 * filled)
    larger.set(buffer)
    buffer = larger
  }
}

export const SOCK_STREAM = 1
export const SOCK_DGRAM = 2
export const SOCK_RAW = 3
export const SOCK_NONBLOCK = 0o4000
const SOCK_CLOEXEC = 0o2000000

/** A new socket, close-on-exec, bound to the network namespace that the thread is in. */
export function socket(family: number, type: number, protocol: number): number {
  return checked(
    libc().socket(family, type | SOCK_CLOEXEC, protocol),
    () => `socket(${family}, ${type}, ${protocol})`,
  )
}

export function setSocketOption(descriptor: number, level: number, option: number, value: Uint8Array): void {
  checked(
    libc().setsockopt(descriptor, level, option, pointer(value), value.length),
    () => `setsockopt(${level}, ${option})`,
  )
}

/** Fills a structure, whose beginning may say what is asked for. */
export function getSocketOption(descriptor: number, level: number, option: number, value: Uint8Array): void {
  const length = Uint32Array.of(value.length)
  checked(
    rarely('getsockopt')(descriptor, level, option, ptr(value), ptr(length)),
    () => `getsockopt(${level}, ${option})`,
  )
}

const SOL_SOCKET = 1
const SO_ATTACH_FILTER = 26

/** Lets a socket hear only what a classic BPF program (an array of struct sock_filter) accepts. */
export function attachFilter(descriptor: number, program: Uint8Array): void {
  const header = new DataView(new ArrayBuffer(16)) // struct sock_fprog: count, then a pointer
  header.setUint16(0, program.length / 8, true)
  header.setBigUint64(8, BigInt(pointer(program)), true)
  setSocketOption(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, new Uint8Array(header.buffer))
}

const SO_RCVTIMEO = 20

/** Has a socket's reading give up after some seconds, with EAGAIN. */
export function limitReceiving(descriptor: number, seconds: number): void {
  const time = new Uint8Array(16) // struct timeval: seconds, microseconds
  time[0] = seconds
  setSocketOption(descriptor, SOL_SOCKET, SO_RCVTIMEO, time)
}

/** SO_SNDBUFFORCE, SO_RCVBUFFORCE */
const bufferOptions = { sending: 32, receiving: 33 }

/** Gives a socket's buffer room for so many bytes, whatever the usual limit; EPERM where one may not. */
export function enlargeBuffer(descriptor: number, which: 'sending' | 'receiving', bytes: number): void {
  const size = new Uint8Array(Int32Array.of(bytes).buffer)
  setSocketOption(descriptor, SOL_SOCKET, bufferOptions[which], size)
}

export function bind(descriptor: number, address: Uint8Array, what = `descriptor ${descriptor}`): void {
  checked(rarely('bind')(descriptor, pointer(address), address.length), () => `bind ${what}`)
}

export function connect(descriptor: number, address: Uint8Array, what = `descriptor ${descriptor}`): void {
  checked(libc().connect(descriptor, pointer(address), address.length), () => `connect ${what}`)
}

export const MSG_PEEK = 2
export const MSG_TRUNC = 0x20
export const MSG_DONTWAIT = 0x40

/** Sends one datagram. */
export function send(descriptor: number, bytes: Uint8Array, flags = 0): number {
  return uninterrupted(
    () => libc().send(descriptor, pointer(bytes), bytes.length, flags),
    () => 'send',
  )
}

/** Sends one datagram to a socket address (struct sockaddr as bytes). */
export function sendTo(descriptor: number, bytes: Uint8Array, address: Uint8Array): number {
  return uninterrupted(
    () =>
      rarely('sendto')(
        descriptor,
        bytes.length === 0 ? null : pointer(bytes), // nothing has no address
        bytes.length,
        0,
        pointer(address),
        address.length,
      ),
    () => 'sendto',
  )
}

/** socklen_t, in and out. */
const senderLength = new Uint8Array(4)

/**
 * Receives one datagram into a buffer; with MSG_TRUNC the answer is its true length. `sender`, where it is given, is filled
 * with the address that it came from (struct sockaddr as bytes).
 */
export function receive(descriptor: number, buffer: Uint8Array, flags = 0, sender?: Uint8Array): number {
  if (sender) senderLength[0] = sender.length
  return uninterrupted(
    () =>
      libc().recvfrom(
        descriptor,
        pointer(buffer),
        buffer.length,
        flags,
        sender ? pointer(sender) : null,
        sender ? pointer(senderLength) : null,
      ),
    () => 'recv',
  )
}

export const POLLIN = 1

/** Waits until a descriptor can be read, at most `milliseconds`; false when the time is over. */
export function waitReadable(descriptor: number, milliseconds: number): boolean {
  const request = new DataView(new ArrayBuffer(8)) // struct pollfd: fd, events, revents
  request.setInt32(0, descriptor, true)
  request.setInt16(4, POLLIN, true)
  const bytes = new Uint8Array(request.buffer)
  return (
    uninterrupted(
      () => rarely('poll')(pointer(bytes), 1, milliseconds),
      () => 'poll',
    ) > 0
  )
}

/** Moves the calling thread into a namespace; only netns.ts may call it. */
export function setNamespace(descriptor: number, kind: number, what: string): void {
  checked(libc().setns(descriptor, kind), () => `enter ${what}`)
}

/** Gives the calling thread new namespaces (sched.h, CLONE_NEW*). */
export function unshare(flags: number): void {
  checked(rarely('unshare')(flags), () => 'unshare')
}

export const LOCK_SH = 1
export const LOCK_EX = 2
export const LOCK_NB = 4

/** Locks an open file; false when LOCK_NB was asked for and another holds it. */
export function lock(descriptor: number, mode: number, what: string): boolean {
  return unlessTaken(
    () => filesLibc().flock(descriptor, mode),
    () => `lock ${what}`,
  )
}

/** False for a lock that another holds: without an exception, since one asks again and again. */
function unlessTaken(call: () => number, operation: () => string): boolean {
  const refusal = call() >= 0 ? 0 : lastErrno()
  if (refusal === errno.EAGAIN || refusal === errno.EACCES) return false
  if (refusal === errno.EINTR) return unlessTaken(call, operation)
  if (refusal !== 0) throw new SystemError(operation(), refusal)
  return true
}

/** The byte of a file that stands for something: a place far beyond its end, in two halves of 32 bits, the upper one below 2^31. */
export interface Place {
  high: number
  low: number
}

const F_OFD_SETLK = 37
const lockTypes = { shared: 0, exclusive: 1, none: 2 } as const // F_RDLCK, F_WRLCK, F_UNLCK

/**
 * Locks one byte of an open file for as long as the file is open (fcntl_locking(2), "Open file description locks"). Never
 * waits: false when another open file holds it.
 */
export function lockPlace(
  descriptor: number,
  { high, low }: Place,
  type: keyof typeof lockTypes,
  what: string,
): boolean {
  const request = new DataView(new ArrayBuffer(32)) // struct flock: type 2, whence 2, start 8, len 8, pid 4
  request.setInt16(0, lockTypes[type], true)
  request.setUint32(8, low, true)
  request.setUint32(12, high, true)
  request.setUint32(16, 1, true)
  return unlessTaken(
    () => libc().fcntl(descriptor, F_OFD_SETLK, ptr(request)),
    () => `lock ${what}`,
  )
}

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

const AT_FDCWD = -100
const AT_SYMLINK_NOFOLLOW = 0x100
const AT_EMPTY_PATH = 0x1000
const STATX_BASIC_STATS = 0x7ff

/** The status of what a path names; undefined when there is nothing. Links are followed, unless they are themselves meant. */
export function status(path: string, { follow = true } = {}): FileStatus | undefined {
  try {
    return statx(AT_FDCWD, path, { flags: follow ? 0 : AT_SYMLINK_NOFOLLOW, what: path })
  } catch (thrown) {
    if (isErrno(thrown, errno.ENOENT, errno.ENOTDIR)) return undefined
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
    libc().statx(descriptor, textPointer(path), flags, STATX_BASIC_STATS, pointer(bytes)),
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

/** Deletes a name. That there is none is said without an exception, which would cost more than the call: it is so most of the time. */
export function unlink(path: string): 'removed' | 'absent' {
  const number = filesLibc().unlink(textPointer(path)) === 0 ? 0 : lastErrno()
  held.length = 0
  if (number === 0) return 'removed'
  if (number === errno.ENOENT || number === errno.ENOTDIR) return 'absent'
  throw new SystemError(`delete ${path}`, number)
}

/** Deletes an empty folder. */
export function removeFolder(path: string): void {
  checked(rarely('rmdir')(textPointer(path)), () => `delete folder ${path}`)
}

export function rename(from: string, to: string): void {
  checked(filesLibc().rename(textPointer(from), textPointer(to)), () => `rename ${from} to ${to}`)
}

export function link(existing: string, name: string): void {
  checked(filesLibc().link(textPointer(existing), textPointer(name)), () => `link ${name} to ${existing}`)
}

export function makeFolder(path: string, mode: number): void {
  checked(filesLibc().mkdir(textPointer(path), mode), () => `create folder ${path}`)
}

export function symbolicLink(target: string, name: string): void {
  checked(rarely('symlink')(textPointer(target), textPointer(name)), () => `create link ${name}`)
}

/** Sets the time of a file's last change; that of its last access stays. */
export function setModified(path: string, time: { seconds: number; nanoseconds: number }): void {
  const times = new DataView(new ArrayBuffer(32)) // struct timespec[2]: access, modification
  times.setBigInt64(8, 0x3ffffffen, true) // UTIME_OMIT
  times.setBigInt64(16, BigInt(time.seconds), true)
  times.setBigInt64(24, BigInt(time.nanoseconds), true)
  checked(
    rarely('utimensat')(AT_FDCWD, textPointer(path), pointer(new Uint8Array(times.buffer)), 0),
    () => `set the time of ${path}`,
  )
}

/** Sets an extended attribute (xattr(7)) of an open file. */
export function setAttribute(descriptor: number, name: string, value: string): void {
  const bytes = encodeText(value)
  checked(
    rarely('fsetxattr')(descriptor, textPointer(name), pointer(bytes), bytes.length, 0),
    () => `set attribute ${name}`,
  )
}

/** An extended attribute of a file, and not of what a link leads to; undefined when it has none of that name, or the file system has none at all. */
export function readAttribute(path: string, name: string): string | undefined {
  const bytes = new Uint8Array(256)
  const length = Number(
    rarely('lgetxattr')(textPointer(path), textPointer(name), pointer(bytes), bytes.length),
  )
  const number = length >= 0 ? 0 : lastErrno()
  held.length = 0
  if (length >= 0) return decodeText(bytes.subarray(0, length))
  // without an exception: whoever asks thousands of files gets this answer from most
  if (([errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT] as number[]).includes(number)) return undefined
  throw new SystemError(`read attribute ${name} of ${path}`, number)
}

export function readLink(path: string): string {
  const bytes = new Uint8Array(4096) // PATH_MAX
  const length = checked(
    rarely('readlink')(textPointer(path), pointer(bytes), bytes.length),
    () => `readlink ${path}`,
  )
  return decodeText(bytes.subarray(0, length))
}

/** Fills a buffer with directory entries (struct linux_dirent64); 0 at the end. */
export function readFolderEntries(descriptor: number, buffer: Uint8Array): number {
  return checked(filesLibc().getdents64(descriptor, pointer(buffer), buffer.length), () => 'getdents64')
}

export function synchronize(descriptor: number, what: string): void {
  checked(filesLibc().fsync(descriptor), () => `fsync ${what}`)
}

export function changeMode(descriptor: number, mode: number, what: string): void {
  checked(filesLibc().fchmod(descriptor, mode), () => `chmod ${what}`)
}

/** Mounts; `type` and `source` may be empty, as for a bind mount. */
export function mount(source: string, target: string, options: { type?: string; flags: number }): void {
  const type = options.type === undefined ? null : textPointer(options.type)
  checked(
    rarely('mount')(textPointer(source), textPointer(target), type, options.flags, null),
    () => `mount ${source} on ${target}`,
  )
}

export function unmount(target: string, flags: number): void {
  checked(rarely('umount2')(textPointer(target), flags), () => `unmount ${target}`)
}

/** ioctl with a structure that the kernel reads and may fill. */
export function control(
  descriptor: number,
  request: number,
  argument: Uint8Array | number,
  what: string,
): void {
  const value = typeof argument === 'number' ? (argument as Pointer) : pointer(argument)
  checked(rarely('ioctl')(descriptor, request, value), () => what)
}

/** Sets which permissions new files and sockets of this process do not get; answers which they were. */
export function setFileMask(mask: number): number {
  return rarely('umask')(mask)
}

/** Ends the process without another thought. */
export function exitAtOnce(status: number): never {
  rarely('_exit')(status)
  throw new Error('unreachable')
}

/** Sends a signal; a negative process means its group. False when nobody is there. */
export function kill(process: number, signal: number): boolean {
  try {
    checked(rarely('kill')(process, signal), () => `send signal ${signal} to ${process}`)
    return true
  } catch (thrown) {
    if (isErrno(thrown, errno.ESRCH)) return false
    throw thrown
  }
}

const AT_EXECFN = 31 // include/uapi/linux/auxvec.h

/** The path that execve was given for this process: what argv[0] need not be. */
export function startedPath(): string {
  const path = rarely('getauxval')(AT_EXECFN)
  return path === null ? '' : new CString(path).toString()
}

const POSIX_FADV_DONTNEED = 4

/** Lets the page cache forget a file: the next who reads it reads it anew. Answers an error number instead of setting errno. */
export function forgetPages(descriptor: number, what: string): void {
  const number = rarely('posix_fadvise')(descriptor, 0, 0, POSIX_FADV_DONTNEED)
  if (number !== 0) throw new SystemError(`forget the pages of ${what}`, number)
}
