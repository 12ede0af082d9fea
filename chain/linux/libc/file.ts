/** Open files, and whatever else has a descriptor: open, read, write, wait, lock, keep. Synchronous; each costs about what the system call costs. */
import { encodeText } from '../bytes.ts'
import { checked, errno, SystemError, uninterrupted } from './errno.ts'
import { asPointer, failureOf, libc, pointer, rarely, stateLibc, systemCall, textPointer } from './ffi.ts'
import { AT_FDCWD } from './status.ts'

const occasional = {
  openat: { args: ['i32', 'ptr', 'i32', 'u32'], returns: 'i32' },
  dup: { args: ['i32'], returns: 'i32' },
  poll: { args: ['ptr', 'u64', 'i32'], returns: 'i32' },
  ioctl: { args: ['i32', 'u64', 'ptr'], returns: 'i32' },
  fsetxattr: { args: ['i32', 'ptr', 'ptr', 'usize', 'i32'], returns: 'i32' },
  lseek: { args: ['i32', 'i64', 'i32'], returns: 'i64' },
  posix_fadvise: { args: ['i32', 'i64', 'i64', 'i32'], returns: 'i32' },
} as const

// fcntl.h
export const O_RDONLY = 0
export const O_WRONLY = 1
export const O_RDWR = 2
export const O_CREAT = 0o100
export const O_EXCL = 0o200
export const O_TRUNC = 0o1000
export const O_APPEND = 0o2000
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
  const number = failureOf(descriptor)
  if (number === 0) return descriptor
  if (number === errno.ENOENT || number === errno.ENOTDIR) return undefined
  if (number === errno.EINTR) return open(path, flags)
  throw new SystemError(`open ${path}`, number)
}

/** As `open`, from an open folder on. */
export function openIn(folder: number, path: string, flags: number): number {
  return uninterrupted(
    () => rarely(occasional, 'openat')(folder, textPointer(path), flags | O_CLOEXEC, 0),
    () => `open ${path}`,
  )
}

const SYS_OPENAT2 = 437 // on every architecture
const O_PATH = 0o10000000
const RESOLVE_NO_MAGICLINKS = 2

/** struct open_how: flags, mode, resolve, each of 64 bits. */
const throughPaths = Uint32Array.of(O_PATH | O_CLOEXEC, 0, 0, 0, RESOLVE_NO_MAGICLINKS, 0)

/**
 * What a path leads to, to be looked at and not to be read, where only folders and links that are paths lead there: below a
 * process's folder in /proc are others. Undefined where it is not so, where there is nothing, and before Linux 5.6.
 */
export function openThroughPaths(path: string): number | undefined {
  const [name, how] = [textPointer(path), pointer(throughPaths)]
  const descriptor = Number(systemCall(SYS_OPENAT2, AT_FDCWD, name, how, throughPaths.byteLength))
  return failureOf(descriptor) === 0 ? descriptor : undefined
}

export function close(descriptor: number): void {
  checked(libc().close(descriptor), () => `close descriptor ${descriptor}`)
}

/** Another descriptor for the same open file. */
export function duplicate(descriptor: number): number {
  return checked(rarely(occasional, 'dup')(descriptor), () => `duplicate descriptor ${descriptor}`)
}

/** Reads at most `buffer.length` bytes; 0 at the end. */
export function readInto(descriptor: number, buffer: Uint8Array, what = `descriptor ${descriptor}`): number {
  return uninterrupted(
    () => libc().read(descriptor, pointer(buffer), buffer.length),
    () => `read ${what}`,
  )
}

/** Has an open file read from its start again. */
export function rewind(descriptor: number): void {
  checked(rarely(occasional, 'lseek')(descriptor, 0, 0), () => `rewind descriptor ${descriptor}`)
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

export const POLLIN = 1
export const POLLOUT = 4
export const POLLHUP = 0x10

/**
 * Waits until something has happened at one of some descriptors, at most `milliseconds` (-1: without an end); answers what, in
 * their order (POLL*; POLLHUP also unasked, 0 where nothing has).
 */
export function waitFor(
  awaited: readonly (readonly [descriptor: number, events: number])[],
  milliseconds: number,
): number[] {
  const requests = new Int32Array(2 * awaited.length) // struct pollfd: fd, then events and revents, 16 bits each
  let filled = 0
  for (const [descriptor, events] of awaited) {
    requests[filled++] = descriptor
    requests[filled++] = events
  }
  uninterrupted(
    () => rarely(occasional, 'poll')(pointer(requests), awaited.length, milliseconds),
    () => 'poll',
  )
  const happened: number[] = []
  for (let at = 1; at < filled; at += 2) happened.push((requests[at] ?? 0) >> 16)
  return happened
}

/** Waits until a descriptor can be read, at most `milliseconds`; false when the time is over. */
export function waitReadable(descriptor: number, milliseconds: number): boolean {
  return waitFor([[descriptor, POLLIN]], milliseconds)[0] !== 0
}

export const LOCK_SH = 1
export const LOCK_EX = 2
export const LOCK_NB = 4

/** Locks an open file; false when LOCK_NB was asked for and another holds it. */
export function lock(descriptor: number, mode: number, what: string): boolean {
  return unlessTaken(
    () => stateLibc().flock(descriptor, mode),
    () => `lock ${what}`,
  )
}

/** False for a lock that another holds: without an exception, since one asks again and again. */
function unlessTaken(call: () => number, operation: () => string): boolean {
  const refusal = failureOf(call())
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
  { type, what }: { type: keyof typeof lockTypes; what: string },
): boolean {
  // struct flock: type and whence 4, padding 4, start 8, len 8, pid 4
  const request = Uint32Array.of(lockTypes[type], 0, low, high, 1, 0, 0, 0)
  return unlessTaken(
    () => libc().fcntl(descriptor, F_OFD_SETLK, pointer(request)),
    () => `lock ${what}`,
  )
}

export function synchronize(descriptor: number, what: string): void {
  checked(stateLibc().fsync(descriptor), () => `fsync ${what}`)
}

export function changeMode(descriptor: number, mode: number, what: string): void {
  checked(stateLibc().fchmod(descriptor, mode), () => `chmod ${what}`)
}

/** Sets an extended attribute (xattr(7)) of an open file. */
export function setAttribute(descriptor: number, name: string, value: string): void {
  const bytes = encodeText(value)
  checked(
    rarely(occasional, 'fsetxattr')(descriptor, textPointer(name), pointer(bytes), bytes.length, 0),
    () => `set attribute ${name}`,
  )
}

const POSIX_FADV_DONTNEED = 4

/** Lets the page cache forget a file: the next who reads it reads it again. Answers an error number instead of setting errno. */
export function forgetPages(descriptor: number, what: string): void {
  const number = rarely(occasional, 'posix_fadvise')(descriptor, 0, 0, POSIX_FADV_DONTNEED)
  if (number !== 0) throw new SystemError(`forget the pages of ${what}`, number)
}

/** ioctl with a structure that the kernel reads and may fill. */
export function control(
  descriptor: number,
  { request, argument }: { request: number; argument: Uint8Array | number },
  what: string,
): void {
  const value = typeof argument === 'number' ? asPointer(argument) : pointer(argument)
  checked(rarely(occasional, 'ioctl')(descriptor, request, value), () => what)
}
