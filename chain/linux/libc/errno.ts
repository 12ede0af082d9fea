/** Refused system calls: error numbers, their names and words, and the check that each call passes. */
import { type FailureParts, SystemFailure } from '../failure.ts'
import { failureOf, rarely, textAt } from './ffi.ts'

const occasional = {
  strerror: { args: ['i32'], returns: 'ptr' },
} as const

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
  ENFILE: 23,
  EMFILE: 24,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  EPIPE: 32,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENODATA: 61,
  EPROTO: 71,
  ERESTART: 85,
  EOVERFLOW: 75,
  EMSGSIZE: 90,
  EPROTOTYPE: 91,
  ENOPROTOOPT: 92,
  EPROTONOSUPPORT: 93,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ECONNRESET: 104,
  ENOBUFS: 105,
  ENOTCONN: 107,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EINPROGRESS: 115,
  EHOSTUNREACH: 113,
  EDQUOT: 122,
} as const

let names: ReadonlyMap<number, string> | undefined

function nameOf(number: number): string | undefined {
  names ??= new Map(Object.entries(errno).map(([name, value]) => [value, name]))
  return names.get(number)
}

/** The words for an error number: "No such file or directory (ENOENT)". */
export function describeErrno(number: number): string {
  const text = textAt(rarely(occasional, 'strerror')(number))
  const name = nameOf(number) ?? `errno ${number}`
  return text === undefined ? name : `${text} (${name})`
}

/**
 * What the kernel refuses with a number. The words are put together when somebody reads them, for most refusals are answers that
 * a caller tells by the number, and asking the C library for words costs a process 0.2 ms the first time.
 */
export abstract class Refusal extends SystemFailure {
  declare readonly errno: number

  constructor(parts: FailureParts & { errno: number }) {
    super(undefined, parts)
  }

  override get message(): string {
    return `${this.operation}: ${describeErrno(this.errno)}${this.said ? `: ${this.said}` : ''}`
  }
}

/** A refused system call: what was being done, and the errno, to be compared with `errno.X`. */
export class SystemError extends Refusal {
  override name = 'SystemError'

  constructor(operation: string, number: number) {
    super({ operation, errno: number })
  }
}

/** True for a SystemError with one of these numbers. */
export function isErrno(thrown: unknown, ...numbers: number[]): thrown is SystemError {
  return thrown instanceof SystemError && numbers.includes(thrown.errno)
}

/** How the kernel says of a path that there is nothing: no such name, or no folder where one of those above it should be. */
export const nothingThere: readonly number[] = [errno.ENOENT, errno.ENOTDIR, errno.ELOOP]

/** Passes a result on, or throws what errno says. Calls that a signal interrupted are the caller's to repeat. */
export function checked(result: number | bigint, operation: () => string): number {
  const number = failureOf(result)
  if (result >= 0) return Number(result)
  throw new SystemError(operation(), number)
}

/** Repeats a call that a signal interrupted (EINTR). */
export function uninterrupted(call: () => number | bigint, operation: () => string): number {
  for (;;) {
    try {
      return checked(call(), operation)
    } catch (thrown) {
      if (!isErrno(thrown, errno.EINTR)) throw thrown
    }
  }
}
