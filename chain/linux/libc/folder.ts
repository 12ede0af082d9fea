/** Names in folders: created, renamed, linked, deleted, listed, and what belongs to a name without opening it. */
import { decodeText } from '../bytes.ts'
import { checked, errno, nothingThere, SystemError, uninterrupted } from './errno.ts'
import { failureOf, pointer, rarely, stateLibc, textPointer } from './ffi.ts'
import { AT_FDCWD } from './status.ts'

const occasional = {
  rmdir: { args: ['ptr'], returns: 'i32' },
  symlink: { args: ['ptr', 'ptr'], returns: 'i32' },
  readlink: { args: ['ptr', 'ptr', 'usize'], returns: 'i64' },
  utimensat: { args: ['i32', 'ptr', 'ptr', 'i32'], returns: 'i32' },
  lgetxattr: { args: ['ptr', 'ptr', 'ptr', 'usize'], returns: 'i64' },
} as const

/** Deletes a name. That there is none is said without an exception, which would cost more than the call: it is so most of the time. */
export function unlink(path: string): 'removed' | 'absent' {
  const number = failureOf(stateLibc().unlink(textPointer(path)))
  if (number === 0) return 'removed'
  if (nothingThere.includes(number)) return 'absent'
  if (number === errno.EINTR) return unlink(path) // network file systems are interrupted here too
  throw new SystemError(`delete ${path}`, number)
}

/** Deletes an empty folder. */
export function removeFolder(path: string): void {
  uninterrupted(
    () => rarely(occasional, 'rmdir')(textPointer(path)),
    () => `delete folder ${path}`,
  )
}

export function rename(from: string, to: string): void {
  uninterrupted(
    () => stateLibc().rename(textPointer(from), textPointer(to)),
    () => `rename ${from} to ${to}`,
  )
}

export function link(existing: string, name: string): void {
  uninterrupted(
    () => stateLibc().link(textPointer(existing), textPointer(name)),
    () => `link ${name} to ${existing}`,
  )
}

export function makeFolder(path: string, mode: number): void {
  uninterrupted(
    () => stateLibc().mkdir(textPointer(path), mode),
    () => `create folder ${path}`,
  )
}

export function symbolicLink(target: string, name: string): void {
  checked(rarely(occasional, 'symlink')(textPointer(target), textPointer(name)), () => `create link ${name}`)
}

export function readLink(path: string): string {
  const target = linkTarget(path)
  if (typeof target === 'string') return target
  throw new SystemError(`readlink ${path}`, target)
}

/** Where a link leads; or the number of a refusal, which where it is unknown what a path names is an answer like another. */
export function linkTarget(path: string): string | number {
  const bytes = new Uint8Array(4096) // PATH_MAX
  const length = Number(rarely(occasional, 'readlink')(textPointer(path), pointer(bytes), bytes.length))
  return failureOf(length) || decodeText(bytes.subarray(0, length))
}

/** Fills a buffer with directory entries (struct linux_dirent64); 0 at the end. */
export function readFolderEntries(descriptor: number, buffer: Uint8Array): number {
  return checked(stateLibc().getdents64(descriptor, pointer(buffer), buffer.length), () => 'getdents64')
}

/** Sets the time of a file's last change; that of its last access stays. */
export function setModified(path: string, time: { seconds: number; nanoseconds: number }): void {
  const times = new DataView(new ArrayBuffer(32)) // struct timespec[2]: access, modification
  times.setUint32(8, 0x3ffffffe, true) // UTIME_OMIT
  times.setUint32(16, time.seconds, true)
  times.setUint32(20, time.seconds / 2 ** 32, true)
  times.setUint32(24, time.nanoseconds, true)
  checked(
    rarely(occasional, 'utimensat')(AT_FDCWD, textPointer(path), pointer(new Uint8Array(times.buffer)), 0),
    () => `set the time of ${path}`,
  )
}

/** An extended attribute of a file, and not of what a link leads to; undefined when it has none of that name, or the file system has none at all. */
export function readAttribute(path: string, name: string): string | undefined {
  const bytes = new Uint8Array(256)
  const length = Number(
    rarely(occasional, 'lgetxattr')(textPointer(path), textPointer(name), pointer(bytes), bytes.length),
  )
  const number = failureOf(length)
  if (length >= 0) return decodeText(bytes.subarray(0, length))
  // without an exception: whoever asks thousands of files gets this answer from most
  if (([errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT] as number[]).includes(number)) return undefined
  throw new SystemError(`read attribute ${name} of ${path}`, number)
}
