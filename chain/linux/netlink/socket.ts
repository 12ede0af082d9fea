/**
 * A netlink socket and requests over it: sequence numbers, acknowledgements, dumps, batches, refusals with the kernel's
 * own sentence. Knows no family's objects.
 */
import { errno, isErrno, Refusal } from '../libc/errno.ts'
import { unguessable } from '../libc/ffi.ts'
import { close, waitReadable } from '../libc/file.ts'
import {
  connect,
  MSG_DONTWAIT,
  MSG_PEEK,
  MSG_TRUNC,
  receive,
  SOCK_RAW,
  send,
  setSocketOption,
  socket,
} from '../libc/socket.ts'
import { now, observer } from '../observer.ts'
import {
  align,
  attributeMap,
  CodecError,
  encodeMessage,
  join,
  type Message,
  messages,
  readInt32,
  readText,
  readUint32,
} from './codec.ts'

/** Datagrams to and from the kernel: the seam at which a test can play the kernel. */
export interface Transport {
  send(datagram: Uint8Array): void
  receive(): Uint8Array
  close(): void
  [Symbol.dispose](): void
}

const AF_NETLINK = 16
const SOL_NETLINK = 270
const NETLINK_ADD_MEMBERSHIP = 1
const NETLINK_NO_ENOBUFS = 5
const NETLINK_CAP_ACK = 10
const NETLINK_EXT_ACK = 11
const NETLINK_GET_STRICT_CHK = 12

export const NETLINK_ROUTE = 0
export const NETLINK_NETFILTER = 12

// linux/netlink.h
export const REQUEST = 1 // NLM_F_REQUEST
const ACK = 4 // NLM_F_ACK
/** NLM_F_ECHO: queueing disciplines are told to who asks only with it. */
export const ECHO = 8
const DUMP_INTERRUPTED = 0x10 // NLM_F_DUMP_INTR
const ACK_TLVS = 0x200 // NLM_F_ACK_TLVS
const CAPPED = 0x100 // NLM_F_CAPPED
export const REPLACE = 0x100 // NLM_F_REPLACE
export const EXCLUSIVE = 0x200 // NLM_F_EXCL
export const CREATE = 0x400 // NLM_F_CREATE
export const APPEND = 0x800 // NLM_F_APPEND
export const DUMP = 0x300 // NLM_F_DUMP
const ERROR = 2 // NLMSG_ERROR
const DONE = 3 // NLMSG_DONE
const MULTI = 2 // NLM_F_MULTI
const NLMSGERR_ATTR_MSG = 1

/** What is asked of the kernel. `operation` says it to a person: "set MTU 9000 on eth0". */
export interface Request {
  operation: string
  type: number
  flags?: number
  payload: Uint8Array
}

/** The kernel's refusal: what was being done, errno (to be compared with `errno.X`), and its own sentence if it gave one. */
export class KernelError extends Refusal {
  override name = 'KernelError'

  constructor(operation: string, number: number, said?: string) {
    super({ operation, errno: number, said })
  }
}

/** True for a KernelError with one of these numbers. */
export function isRefusal(thrown: unknown, ...numbers: number[]): thrown is KernelError {
  return thrown instanceof KernelError && numbers.includes(thrown.errno)
}

/** struct sockaddr_nl of the kernel: port 0. */
const KERNEL = new Uint8Array([AF_NETLINK, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
const PORT = 4 // where that structure has the port

/**
 * Opens a netlink socket in the namespace that the thread is in. It is connected to the kernel, which then refuses what any
 * other process in that namespace sends to it.
 */
export function openTransport(protocol: number): Transport & { descriptor: number } {
  const descriptor = socket(AF_NETLINK, SOCK_RAW, protocol)
  try {
    connect(descriptor, KERNEL, 'a netlink socket')
    for (const option of protocol === NETLINK_ROUTE ? routeOptions : anyOptions) ask(descriptor, option)
  } catch (thrown) {
    close(descriptor)
    throw thrown
  }
  return transportOver(descriptor)
}

const ON = new Uint8Array([1, 0, 0, 0])
/** What makes answers better: sentences since Linux 4.12, short refusals 4.3, filtered dumps 4.20. */
const anyOptions = [NETLINK_EXT_ACK, NETLINK_CAP_ACK]
const routeOptions = [NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK]

/** Asks for what not all kernels know. */
function ask(descriptor: number, option: number): void {
  try {
    setSocketOption(descriptor, { level: SOL_NETLINK, option }, ON)
  } catch (thrown) {
    if (!isErrno(thrown, errno.ENOPROTOOPT)) throw thrown
  }
}

/** What is being received, by all sockets: it is copied before anybody else receives. */
let buffer = new Uint8Array(32768)

/** Talks over a netlink socket that belongs to it from now on. What others than the kernel sent is passed over. */
export function transportOver(descriptor: number): Transport & { descriptor: number } {
  let open = true
  const shut = () => {
    if (open) close(descriptor)
    open = false
  }
  const sender = new Uint8Array(KERNEL.length)
  return {
    descriptor,
    send: datagram => void send(descriptor, datagram),
    receive() {
      for (;;) {
        const length = receive(descriptor, buffer, { flags: MSG_PEEK | MSG_TRUNC })
        if (length > buffer.length) buffer = new Uint8Array(length)
        const received = receive(descriptor, buffer, { sender })
        const isKernels = (sender[PORT] || sender[PORT + 1] || sender[PORT + 2] || sender[PORT + 3]) === 0
        if (isKernels) return buffer.slice(0, received)
      }
    },
    close: shut,
    [Symbol.dispose]: shut,
  }
}

/** A route socket in the namespace that the thread is in. */
export function openRoute(): Transport {
  return openTransport(NETLINK_ROUTE)
}

let lastSequence: number | undefined

function nextSequence(): number {
  lastSequence = ((lastSequence ?? unguessable()) + 1) >>> 0 || 1
  return lastSequence
}

/** Sends one request and returns the replies that came before its acknowledgement. */
export function request(transport: Transport, asked: Request): Message[] {
  return batch(transport, [asked])[0] ?? []
}

/**
 * Sends several requests in one datagram and returns each one's replies. The kernel carries out all of them, also
 * those after a refused one; the first refusal is thrown.
 */
export function batch(transport: Transport, asked: readonly Request[]): Message[][] {
  const answers = attempt(transport, asked)
  for (const answer of answers) if (answer instanceof KernelError) throw answer
  return answers as Message[][]
}

/** What the answers to so many requests take fits every socket's buffer, where one that does not is lost (ENOBUFS). */
const REQUESTS_AT_ONCE = 32

/** As `batch`, with refusals as values beside the replies of the others. */
export function attempt(transport: Transport, asked: readonly Request[]): (Message[] | KernelError)[] {
  if (asked.length === 0) return []
  if (asked.length > REQUESTS_AT_ONCE) {
    const some = attempt(transport, asked.slice(0, REQUESTS_AT_ONCE))
    return some.concat(attempt(transport, asked.slice(REQUESTS_AT_ONCE)))
  }
  const sequences = asked.map(nextSequence)
  const began = now()
  transport.send(join(...asked.map((each, index) => acknowledged(each, sequences[index]))))
  const answers = collect(transport, asked, sequences)
  if (observer) tell(began, asked, answers)
  return answers
}

/** A request as the kernel reads it, who answers it in any case. */
export function acknowledged({ type, flags = 0, payload }: Request, sequence = nextSequence()): Uint8Array {
  return encodeMessage({ type, flags: REQUEST | ACK | flags, sequence, payload })
}

/** Whoever watches is told what was asked, and of one refusal. */
export function tell(
  began: number,
  asked: readonly Request[],
  answers: readonly (Message[] | KernelError)[],
): void {
  const refusal = answers.find(answer => answer instanceof KernelError)
  const changes = asked.filter(({ type }) => isChange(type))
  observer?.({
    of: 'kernel',
    operations: (changes.length > 0 ? changes : asked).map(({ operation }) => operation),
    changes: changes.length > 0,
    began,
    ended: performance.now(),
    get refusal() {
      return refusal?.message // put into words only where somebody keeps it: "no such link" is an answer like others
    },
  })
}

const CONNTRACK = 1 // NFNL_SUBSYS_CTNETLINK, the upper byte of a type
const GET_CONNECTION = 1 // IPCTNL_MSG_CT_GET

/**
 * Of the route family's objects each has four types of messages (new, delete, get, set), of which the third asks
 * (linux/rtnetlink.h). nf_tables are changed by batches, never here.
 */
function isChange(type: number): boolean {
  const subsystem = type >> 8
  if (subsystem === CONNTRACK) return (type & 0xff) !== GET_CONNECTION
  return subsystem === 0 && (type & 3) !== 2
}

function collect(
  transport: Transport,
  asked: readonly Request[],
  sequences: number[],
): (Message[] | KernelError)[] {
  const answers: (Message[] | KernelError)[] = asked.map(() => [])
  let open = asked.length
  while (open > 0) {
    for (const message of messages(transport.receive())) {
      const index = sequences.indexOf(message.sequence)
      const answer = answers[index]
      const operation = asked[index]?.operation
      if (operation === undefined) continue // a late reply to an abandoned request, or an event
      if (message.type === ERROR) {
        open--
        const refusal = readRefusal(operation, message)
        if (refusal) answers[index] = refusal
      } else if (Array.isArray(answer)) answer.push(message)
    }
  }
  return answers
}

/** Reads an acknowledgement: undefined when its number is zero. A malformed sentence never hides the number. */
export function readRefusal(operation: string, message: Message): KernelError | undefined {
  const number = -readInt32(message.payload)
  if (number === 0) return undefined
  return new KernelError(operation, number, readSentence(message))
}

function readSentence({ type, flags, payload }: Message): string | undefined {
  if (!(flags & ACK_TLVS)) return undefined
  try {
    const start = type === DONE ? 4 : echoEnd(flags, payload)
    const sentence = attributeMap(payload.subarray(start)).get(NLMSGERR_ATTR_MSG)
    return sentence && readText(sentence)
  } catch (thrown) {
    if (thrown instanceof CodecError) return undefined
    throw thrown
  }
}

/** Where the attributes of an error begin: after the request, of which a capped error echoes the header only. */
function echoEnd(flags: number, payload: Uint8Array): number {
  const HEADER = 20 // struct nlmsgerr: the error and the header of the refused message
  if (flags & CAPPED) return HEADER
  return 4 + align(readUint32(payload.subarray(4)))
}

/** A dump that changed while it was read keeps being read again, this many times: each costs a fraction of a millisecond. */
const DUMP_ATTEMPTS = 64

/**
 * Lists the objects of a kind as `read` makes them out of messages, one after the other: what it makes nothing of is not kept,
 * however many there are. A dump that the kernel marks as interrupted is never returned: it is taken again.
 */
export function dump(transport: Transport, asked: Request): Message[]
export function dump<T>(transport: Transport, asked: Request, read: (message: Message) => T | undefined): T[]
export function dump(
  transport: Transport,
  asked: Request,
  read: (message: Message) => unknown = message => message,
): unknown[] {
  for (let attempts = 0; attempts < DUMP_ATTEMPTS; attempts++) {
    const began = now()
    const found = dumpOnce(transport, asked, read)
    const operations = [asked.operation]
    observer?.({ of: 'kernel', operations, changes: false, began, ended: performance.now() })
    if (found) return found
  }
  throw new KernelError(
    asked.operation,
    errno.EAGAIN,
    `the list changed while it was read, ${DUMP_ATTEMPTS} times`,
  )
}

function dumpOnce<T>(
  transport: Transport,
  { operation, type, flags = 0, payload }: Request,
  read: (message: Message) => T | undefined,
): T[] | undefined {
  const sequence = nextSequence()
  transport.send(encodeMessage({ type, flags: REQUEST | DUMP | flags, sequence, payload }))
  const found: T[] = []
  let interrupted = false
  for (;;) {
    for (const message of messages(transport.receive())) {
      if (message.sequence !== sequence) continue
      interrupted ||= (message.flags & DUMP_INTERRUPTED) !== 0
      if (message.type === ERROR) {
        const refusal = readRefusal(operation, message)
        if (refusal) throw refusal
        if (!(message.flags & MULTI)) return found
      } else if (message.type === DONE) {
        const refusal = message.payload.length >= 4 ? readRefusal(operation, message) : undefined
        if (refusal) throw refusal
        return interrupted ? undefined : found
      } else {
        const value = read(message)
        if (value !== undefined) found.push(value)
      }
    }
  }
}

/** What tells that something has happened. What it was is to be looked up: anybody in the namespace may send to a group. */
export interface Events {
  descriptor: number
  close(): void
  [Symbol.dispose](): void
}

/**
 * Opens a socket that hears of what happens to a group's objects (RTNLGRP_*), in the namespace that the thread is in. Where
 * more happens than it has room for, the rest is left out and no failure: what is there is reason enough to look.
 */
export function openEvents(group: number): Events {
  const events = openTransport(NETLINK_ROUTE)
  try {
    ask(events.descriptor, NETLINK_NO_ENOBUFS)
    const joined = { level: SOL_NETLINK, option: NETLINK_ADD_MEMBERSHIP }
    setSocketOption(events.descriptor, joined, new Uint8Array([group, 0, 0, 0]))
  } catch (thrown) {
    events.close()
    throw thrown
  }
  return events
}

/**
 * Looks each time that something has happened, until it is as awaited or the time is over (milliseconds). Answers whether it
 * is. Look once more after the socket was opened, before: so nothing falls between.
 */
export function awaitEvent({ descriptor }: Events, isDone: () => boolean, milliseconds: number): boolean {
  const end = performance.now() + milliseconds
  for (;;) {
    const left = end - performance.now()
    if (left <= 0 || !waitReadable(descriptor, Math.ceil(left))) return false
    passOver(descriptor, end)
    if (isDone()) return true
  }
}

const scratch = new Uint8Array(1) // the rest of a datagram is dropped

/** Takes the events that have come so far from a socket: one look is enough for all of them. */
export function passOver(descriptor: number, end: number): void {
  try {
    while (waitReadable(descriptor, 0) && performance.now() < end)
      receive(descriptor, scratch, { flags: MSG_DONTWAIT })
  } catch (thrown) {
    // ENOBUFS, of kernels that insist on it: some were lost, which is something that happened
    if (!isErrno(thrown, errno.EAGAIN, errno.ENOBUFS)) throw thrown
  }
}
