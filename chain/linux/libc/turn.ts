/**
 * Waiting for connections beside other processes. Whoever waits in accept() is woken in turn; here the first of those that wait is, in
 * the order in which they have come to the socket (epoll(7), EPOLLEXCLUSIVE). So one process does nearly all of what few callers
 * want, and has its code compiled and in the processor's caches, and the others do what it is too busy for.
 */
import { checked, errno, SystemError } from './errno.ts'
import { asPointer, failureOf, libc, pointer, rarely } from './ffi.ts'
import { close, O_NONBLOCK } from './file.ts'

const occasional = {
  epoll_create1: { args: ['i32'], returns: 'i32' },
  epoll_ctl: { args: ['i32', 'i32', 'i32', 'ptr'], returns: 'i32' },
  epoll_wait: { args: ['i32', 'ptr', 'i32', 'i32'], returns: 'i32' },
} as const

// sys/epoll.h, fcntl.h
const EPOLL_CLOEXEC = 0o2000000
const EPOLL_CTL_ADD = 1
const EPOLLIN = 1
const EPOLLEXCLUSIVE = 1 << 28
const F_SETFL = 4

/** A struct epoll_event: what is awaited or has happened, and 8 bytes that are not used, which some machines align. */
const event = () => new Uint32Array(4)

/** A place among those that wait at a listening socket, which from now on never makes anybody wait in accept(). */
export function takePlace(listener: number): number {
  checked(libc().fcntl(listener, F_SETFL, asPointer(O_NONBLOCK)), () => 'fcntl F_SETFL')
  const place = checked(rarely(occasional, 'epoll_create1')(EPOLL_CLOEXEC), () => 'epoll_create1')
  try {
    const awaited = event()
    awaited[0] = EPOLLIN | EPOLLEXCLUSIVE
    checked(
      rarely(occasional, 'epoll_ctl')(place, EPOLL_CTL_ADD, listener, pointer(awaited)),
      () => 'epoll_ctl',
    )
    return place
  } catch (thrown) {
    close(place)
    throw thrown
  }
}

const LONGEST = 2 ** 31 - 1 // milliseconds, INT_MAX

/**
 * Waits at a place, at most so many seconds, 0: without an end, as sockets' own time limits have it. Answers what has ended that. Where
 * somebody has come, another may have been sooner at him.
 */
export function awaitTurn(place: number, seconds: number): 'somebody' | 'nobody' | 'a signal' {
  const needed = Math.ceil(1000 * seconds)
  const milliseconds = needed > LONGEST ? LONGEST : needed || -1
  const happened = rarely(occasional, 'epoll_wait')(place, pointer(event()), 1, milliseconds)
  const number = failureOf(happened)
  if (number === errno.EINTR) return 'a signal'
  if (number !== 0) throw new SystemError('epoll_wait', number)
  return happened > 0 ? 'somebody' : 'nobody'
}
