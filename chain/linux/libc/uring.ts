/**
 * io_uring (io_uring(7)): system calls that a thread of the kernel's makes for this process, which goes on meanwhile. Only what is sent
 * over sockets; for calls that wait in the kernel for long, and that no flag makes asynchronous.
 */
import { checked, errno, isErrno, SystemError, uninterrupted } from './errno.ts'
import { pointer, rarely, systemCall } from './ffi.ts'
import { close, readInto, waitReadable } from './file.ts'
import { mapMemory } from './memory.ts'

const IO_URING_SETUP = 425
const IO_URING_ENTER = 426

// linux/io_uring.h
const SINGLE_ISSUER = 0x1000 // IORING_SETUP_SINGLE_ISSUER
const DEFER_TASKRUN = 0x2000 // IORING_SETUP_DEFER_TASKRUN
const GETEVENTS = 1 // IORING_ENTER_GETEVENTS
const OFFSET_OF_REQUESTS = 0x10000000 // IORING_OFF_SQES
const OP_SEND = 26 // IORING_OP_SEND
const ASYNC = 0x10 // IOSQE_ASYNC

const IO_URING_REGISTER = 427
const REGISTER_EVENTFD = 4 // IORING_REGISTER_EVENTFD
const EFD_NONBLOCK = 0o4000
const EFD_CLOEXEC = 0o2000000

const occasional = {
  eventfd: { args: ['u32', 'i32'], returns: 'i32' },
} as const

const PARAMETERS = 120 // struct io_uring_params
const REQUEST = 64 // struct io_uring_sqe
const COMPLETION = 16 // struct io_uring_cqe: user_data 8, res 4, flags 4

/** What an event is read into. */
const counter = new Uint8Array(8)

/** What became of a call. */
export interface Completion {
  ticket: number
  /** What the call has answered; negative: the error number with which it was refused. */
  result: number
}

export interface Ring {
  /** Can be read once a call is done that has not been told. */
  descriptor: number
  /**
   * Has a thread of the kernel's send a datagram; answers a number by which its completion is known. Not while this thread is in
   * another namespace than its own: the kernel's thread begins where this one is, and keeps the namespace for as long as it rests.
   */
  send(descriptor: number, bytes: Uint8Array): number
  /** The calls that are done, each told once; waits until there are so many, of those that are under way. */
  completed(least?: number): Completion[]
}

/** Why there may be no ring: older kernels, sysctl kernel.io_uring_disabled, seccomp, no memory, no descriptors. */
const refusals = [
  errno.ENOSYS,
  errno.EINVAL,
  errno.EPERM,
  errno.EACCES,
  errno.ENOMEM,
  errno.EMFILE,
  errno.ENFILE,
]

/**
 * A ring that holds `entries` calls, a power of two, to the process's end; undefined where the kernel gives none. Since Linux 6.1:
 * before (DEFER_TASKRUN), a call that is done interrupts whatever this thread waits for.
 */
export function openRing(entries: number): Ring | undefined {
  const parameters = new DataView(new ArrayBuffer(PARAMETERS))
  parameters.setUint32(8, SINGLE_ISSUER | DEFER_TASKRUN, true)
  const bytes = new Uint8Array(parameters.buffer)
  const opened: number[] = []
  try {
    const ring = checked(systemCall(IO_URING_SETUP, entries, pointer(bytes)), () => 'io_uring_setup')
    opened.push(ring)
    const event = checked(rarely(occasional, 'eventfd')(0, EFD_NONBLOCK | EFD_CLOEXEC), () => 'eventfd')
    opened.push(event)
    const events = pointer(new Uint8Array(Int32Array.of(event).buffer))
    checked(systemCall(IO_URING_REGISTER, ring, REGISTER_EVENTFD, events, 1), () => 'io_uring_register')
    return ringAt({ ring, event }, placesOf(parameters))
  } catch (thrown) {
    for (const descriptor of opened) close(descriptor)
    if (isErrno(thrown, ...refusals)) return undefined
    throw thrown
  }
}

/** Where the two queues lie in the ring's memory, in bytes: struct io_sqring_offsets, io_cqring_offsets. */
function placesOf(parameters: DataView) {
  const at = (offset: number) => parameters.getUint32(offset, true)
  const requests = { count: at(0), tail: at(40 + 4), mask: at(40 + 8), array: at(40 + 24) }
  const completions = { count: at(4), head: at(80), tail: at(80 + 4), mask: at(80 + 8), first: at(80 + 20) }
  return { requests, completions }
}

function ringAt(
  opened: { ring: number; event: number },
  { requests, completions }: ReturnType<typeof placesOf>,
): Ring {
  const { max } = Math
  const size = max(requests.array + 4 * requests.count, completions.first + COMPLETION * completions.count)
  const memory = new DataView(mapMemory(opened.ring, size))
  const asked = new DataView(mapMemory(opened.ring, REQUEST * requests.count, OFFSET_OF_REQUESTS))
  const read = (place: number) => memory.getUint32(place, true)
  const write = (place: number, value: number) => memory.setUint32(place, value, true)
  /** What is being sent, which nobody else may keep: the kernel has no more than its address. */
  const underWay = new Map<number, Uint8Array>()
  let lastTicket = 0

  const enter = (submitted: number, least: number, flags: number) =>
    uninterrupted(
      () => systemCall(IO_URING_ENTER, opened.ring, submitted, least, flags),
      () => 'io_uring_enter',
    )
  const take = (): Completion[] => {
    const taken: Completion[] = []
    let head = read(completions.head)
    for (const tail = read(completions.tail); head !== tail; head = (head + 1) >>> 0) {
      const place = completions.first + COMPLETION * (head & read(completions.mask))
      const ticket = read(place)
      underWay.delete(ticket)
      taken.push({ ticket, result: memory.getInt32(place + 8, true) })
    }
    write(completions.head, head)
    return taken
  }

  return {
    descriptor: opened.event, // while nobody enters, a ring itself wakes nobody who waits for it
    send(socket, bytes) {
      const ticket = ++lastTicket >>> 0
      const tail = read(requests.tail)
      const index = tail & read(requests.mask)
      new Uint8Array(asked.buffer, REQUEST * index, REQUEST).set(sending(socket, bytes, ticket))
      write(requests.array + 4 * index, index)
      write(requests.tail, (tail + 1) >>> 0)
      underWay.set(ticket, bytes)
      try {
        if (enter(1, 0, 0) !== 1) throw new SystemError('io_uring_enter', errno.EAGAIN)
      } catch (thrown) {
        write(requests.tail, tail)
        underWay.delete(ticket)
        throw thrown
      }
      return ticket
    },
    completed(least = 0) {
      if (underWay.size === 0) return []
      const taken: Completion[] = []
      for (let awaited = Math.min(least, underWay.size); ; awaited = 0) {
        if (waitReadable(opened.event, 0)) readInto(opened.event, counter)
        enter(0, awaited, GETEVENTS)
        const more = take()
        if (more.length === 0) return taken
        taken.push(...more) // which is itself an event
      }
    },
  }
}

/** struct io_uring_sqe of a send that is not tried in this thread first. */
function sending(socket: number, bytes: Uint8Array, ticket: number): Uint8Array {
  const request = new DataView(new ArrayBuffer(REQUEST))
  request.setUint8(0, OP_SEND)
  request.setUint8(1, ASYNC)
  request.setInt32(4, socket, true)
  request.setBigUint64(16, BigInt(pointer(bytes)), true)
  request.setUint32(24, bytes.length, true)
  request.setUint32(32, ticket, true)
  return new Uint8Array(request.buffer)
}
