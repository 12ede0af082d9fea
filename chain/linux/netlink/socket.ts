/**
 * A netlink socket and requests over it: sequence numbers, acknowledgements, dumps, batches, refusals with the kernel's
 * own sentence. Knows no family's objects.
 */
import {
  bind,
  close,
  describeErrno,
  errno,
  MSG_PEEK,
  MSG_TRUNC,
  receive,
  SOCK_RAW,
  send,
  setSocketOption,
  socket,
  waitReadable,
} from '../libc.ts'
import {
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
export class KernelError extends Error {
  readonly operation: string
  readonly errno: number
  readonly sentence: string | undefined

  constructor(operation: string, number: number, sentence?: string) {
    super(`${operation}: ${describeErrno(number)}${sentence ? `: ${sentence}` : ''}`)
    this.name = 'KernelError'
    this.operation = operation
    this.errno = number
    this.sentence = sentence
  }
}

/** True for a KernelError with one of these numbers. */
export function isRefusal(thrown: unknown, ...numbers: number[]): thrown is KernelError {
  return thrown instanceof KernelError && numbers.includes(thrown.errno)
}

/** Opens a netlink socket in the namespace that the thread is in; with groups, it also hears their events. */
export function openTransport(
  protocol: number,
  groups: readonly number[] = [],
): Transport & { descriptor: number } {
  const descriptor = socket(AF_NETLINK, SOCK_RAW, protocol)
  try {
    bind(descriptor, new Uint8Array([AF_NETLINK, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 'a netlink socket')
    const one = new Uint8Array([1, 0, 0, 0])
    setSocketOption(descriptor, SOL_NETLINK, NETLINK_EXT_ACK, one)
    setSocketOption(descriptor, SOL_NETLINK, NETLINK_CAP_ACK, one)
    if (protocol === NETLINK_ROUTE) setSocketOption(descriptor, SOL_NETLINK, NETLINK_GET_STRICT_CHK, one)
    for (const group of groups) {
      setSocketOption(descriptor, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, new Uint8Array([group, 0, 0, 0]))
    }
  } catch (thrown) {
    close(descriptor)
    throw thrown
  }
  return overDescriptor(descriptor)
}

function overDescriptor(descriptor: number): Transport & { descriptor: number } {
  let open = true
  const shut = () => {
    if (open) close(descriptor)
    open = false
  }
  let buffer = new Uint8Array(32768)
  return {
    descriptor,
    send: datagram => void send(descriptor, datagram),
    receive: () => {
      const length = receive(descriptor, buffer, MSG_PEEK | MSG_TRUNC)
      if (length > buffer.length) buffer = new Uint8Array(length)
      return buffer.slice(0, receive(descriptor, buffer))
    },
    close: shut,
    [Symbol.dispose]: shut,
  }
}

/** A route socket in the namespace that the thread is in. */
export function openRoute(): Transport {
  return openTransport(NETLINK_ROUTE)
}

let lastSequence = 0

function nextSequence(): number {
  lastSequence = (lastSequence + 1) >>> 0 || 1
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

/** As `batch`, with refusals as values beside the replies of the others. */
export function attempt(transport: Transport, asked: readonly Request[]): (Message[] | KernelError)[] {
  if (asked.length === 0) return []
  const sequences = asked.map(nextSequence)
  transport.send(
    join(
      ...asked.map(({ type, flags = 0, payload }, index) =>
        encodeMessage({ type, flags: REQUEST | ACK | flags, sequence: sequences[index] ?? 0, payload }),
      ),
    ),
  )
  return collect(transport, asked, sequences)
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
  return 4 + 4 * Math.ceil(readUint32(payload.subarray(4)) / 4)
}

/** A dump that changed while it was read keeps being read anew, this many times: each costs a fraction of a millisecond. */
const DUMP_ATTEMPTS = 64

/** Lists all objects of a kind. A dump that the kernel marks as interrupted is never returned: it is taken anew. */
export function dump(transport: Transport, asked: Request): Message[] {
  for (let attempts = 0; attempts < DUMP_ATTEMPTS; attempts++) {
    const found = dumpOnce(transport, asked)
    if (found) return found
  }
  throw new KernelError(
    asked.operation,
    errno.EAGAIN,
    `the list changed while it was read, ${DUMP_ATTEMPTS} times`,
  )
}

function dumpOnce(
  transport: Transport,
  { operation, type, flags = 0, payload }: Request,
): Message[] | undefined {
  const sequence = nextSequence()
  transport.send(encodeMessage({ type, flags: REQUEST | DUMP | flags, sequence, payload }))
  const found: Message[] = []
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
      } else found.push(message)
    }
  }
}

/**
 * Reads events from a socket that joined groups until one of them satisfies, or the time is over (milliseconds).
 * Answers whether it did. Look at the present state first, after joining, so that nothing falls between.
 */
export function awaitEvent(
  transport: Transport & { descriptor: number },
  satisfies: (message: Message) => boolean,
  milliseconds: number,
): boolean {
  const end = performance.now() + milliseconds
  for (;;) {
    const left = end - performance.now()
    if (left <= 0 || !waitReadable(transport.descriptor, Math.ceil(left))) return false
    for (const message of messages(transport.receive())) if (satisfies(message)) return true
  }
}
