/** Sockets between processes of one machine: listening, who called, messages and the descriptors that come beside them. */
import { checked, errno, SystemError, uninterrupted } from './errno.ts'
import { cString, failureOf, libc, pointer, rarely } from './ffi.ts'
import {
  bind,
  connect,
  getSocketOption,
  MSG_DONTWAIT,
  MSG_TRUNC,
  SOCK_NONBLOCK,
  send,
  socket,
} from './socket.ts'

const occasional = {
  listen: { args: ['i32', 'i32'], returns: 'i32' },
  accept4: { args: ['i32', 'ptr', 'ptr', 'i32'], returns: 'i32' },
  recvmsg: { args: ['i32', 'ptr', 'i32'], returns: 'i64' },
  sendmsg: { args: ['i32', 'ptr', 'i32'], returns: 'i64' },
  getsockname: { args: ['i32', 'ptr', 'ptr'], returns: 'i32' },
} as const

const AF_UNIX = 1
const SOCK_SEQPACKET = 5
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_TYPE = 3
const SO_PEERCRED = 17
const SO_ACCEPTCONN = 30
const SO_PEERPIDFD = 77
const SCM_RIGHTS = 1
const MSG_CTRUNC = 0x8
const MSG_NOSIGNAL = 0x4000
const MSG_CMSG_CLOEXEC = 0x40000000

/** struct sockaddr_un */
function address(path: string): Uint8Array {
  const name = cString(path)
  const bytes = new Uint8Array(2 + name.length)
  bytes[0] = AF_UNIX
  bytes.set(name, 2)
  return bytes
}

/** A socket of whole messages (SOCK_SEQPACKET), bound to a path; it takes no call before `listen`. */
export function bindPackets(path: string): number {
  const descriptor = socket(AF_UNIX, SOCK_SEQPACKET, 0)
  bind(descriptor, address(path), path)
  return descriptor
}

/** A socket of whole messages, connected to who listens at a path. Does not wait for room in the queue: EAGAIN. */
export function connectPackets(path: string): number {
  const descriptor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0)
  connect(descriptor, address(path), path)
  return descriptor
}

/**
 * Lets others call. Who calls when so many wait is refused at once (EAGAIN), if he does not want to wait. From then on this process
 * is the one that callers see, also where it was another that had listened before.
 */
export function listen(descriptor: number, queue: number): void {
  checked(rarely(occasional, 'listen')(descriptor, queue), () => 'listen')
}

/** Whether a descriptor is a listening socket of whole messages between processes. */
export function isListening(descriptor: number): boolean {
  try {
    const type = option(descriptor, SO_TYPE)
    const name = new Uint8Array(2)
    const length = Uint32Array.of(name.length)
    checked(
      rarely(occasional, 'getsockname')(descriptor, pointer(name), pointer(length)),
      () => 'getsockname',
    )
    return type === SOCK_SEQPACKET && name[0] === AF_UNIX && option(descriptor, SO_ACCEPTCONN) === 1
  } catch (thrown) {
    if (thrown instanceof SystemError) return false
    throw thrown
  }
}

function option(descriptor: number, name: number): number {
  const value = new Uint32Array(1)
  getSocketOption(descriptor, { level: SOL_SOCKET, option: name }, value)
  return value[0] ?? 0
}

/** The next caller; undefined when there is none and one is not waited for, or a signal came. */
export function accept(descriptor: number): number | undefined {
  const connection = rarely(occasional, 'accept4')(descriptor, null, null, SOCK_CLOEXEC)
  const number = failureOf(connection)
  if (number === 0) return connection
  if (number === errno.EAGAIN || number === errno.EINTR) return undefined
  throw new SystemError('accept', number)
}

export interface Peer {
  process: number
  user: number
}

/** Who connected, or listens: as the kernel noted it at that moment (SO_PEERCRED). */
export function peerOf(descriptor: number): Peer {
  const credentials = new Uint32Array(3) // struct ucred: pid, uid, gid
  getSocketOption(descriptor, { level: SOL_SOCKET, option: SO_PEERCRED }, credentials)
  const [process = 0, user = -1] = credentials
  return { process, user }
}

/**
 * A descriptor of the process that connected, which can be read once that has ended: its number may be another's then. Undefined on
 * kernels before 6.5; ESRCH or EINVAL where it has ended already.
 */
export function peerProcess(descriptor: number): number | undefined {
  const value = new Uint32Array(1)
  try {
    getSocketOption(descriptor, { level: SOL_SOCKET, option: SO_PEERPIDFD }, value)
  } catch (thrown) {
    if (thrown instanceof SystemError && thrown.errno === errno.ENOPROTOOPT) return undefined
    throw thrown
  }
  return value[0]
}

const MOST_DESCRIPTORS = 8
const CONTROL_HEADER = 4 // words of a struct cmsghdr: length 2, level, type

/** Words of a struct msghdr, and of the struct iovec behind it. */
const part = { vector: 4, vectorLength: 6, control: 8, controlLength: 10, flags: 12, iovec: 14 } as const
const MESSAGE = 18

/** A struct msghdr for one buffer and for what comes beside it. */
function header(buffer: Uint8Array, control: Uint32Array): Uint32Array<ArrayBuffer> {
  const message = new Uint32Array(MESSAGE)
  const setLong = (at: number, value: number) => {
    message[at] = value
    message[at + 1] = value / 2 ** 32
  }
  setLong(part.vector, pointer(message) + 4 * part.iovec)
  setLong(part.vectorLength, 1)
  setLong(part.iovec, pointer(buffer))
  setLong(part.iovec + 2, buffer.length)
  setLong(part.control, pointer(control))
  setLong(part.controlLength, control.byteLength)
  return message
}

export interface Received {
  length: number
  /** Close-on-exec, and the receiver's to close. */
  descriptors: number[]
  /** There was more than the buffer, or the room for descriptors, could take. */
  isCut: boolean
}

/** One message and the descriptors beside it. A length of 0 is the end. */
export function receiveMessage(descriptor: number, buffer: Uint8Array): Received {
  const control = new Uint32Array(CONTROL_HEADER + MOST_DESCRIPTORS)
  let message = control
  const length = uninterrupted(
    () => {
      message = header(buffer, control) // another one each time: what it points to is kept for one call
      return rarely(occasional, 'recvmsg')(descriptor, pointer(message), MSG_CMSG_CLOEXEC)
    },
    () => 'recvmsg',
  )
  const filled = (message[part.controlLength] ?? 0) / 4
  const isFilled = filled >= CONTROL_HEADER && control[3] === SCM_RIGHTS
  const end = isFilled ? (control[0] ?? 0) / 4 : CONTROL_HEADER
  const isCut = ((message[part.flags] ?? 0) & (MSG_TRUNC | MSG_CTRUNC)) !== 0
  return { length, descriptors: [...control.subarray(CONTROL_HEADER, end)], isCut }
}

/**
 * The same of what has come already; undefined where that is nothing. Descriptors are nobody's then: they are closed by the kernel.
 */
export function messageAtHand(
  descriptor: number,
  buffer: Uint8Array,
): Pick<Received, 'length' | 'isCut'> | undefined {
  const length = Number(
    libc().recvfrom(descriptor, pointer(buffer), buffer.length, MSG_TRUNC | MSG_DONTWAIT, null, null),
  )
  const number = failureOf(length)
  if (number === 0) return { length: Math.min(length, buffer.length), isCut: length > buffer.length }
  if (number === errno.EAGAIN || number === errno.EINTR) return undefined
  throw new SystemError('recv', number)
}

/** Sends one message with descriptors beside it. No signal where the other end is gone: EPIPE. */
export function sendMessage(
  descriptor: number,
  bytes: Uint8Array,
  descriptors: readonly number[] = [],
): void {
  if (descriptors.length === 0) {
    send(descriptor, bytes, MSG_NOSIGNAL)
    return
  }
  const control = new Uint32Array(CONTROL_HEADER + 2 * Math.ceil(descriptors.length / 2))
  control.set([4 * (CONTROL_HEADER + descriptors.length), 0, SOL_SOCKET, SCM_RIGHTS, ...descriptors])
  uninterrupted(
    () => rarely(occasional, 'sendmsg')(descriptor, pointer(header(bytes, control)), MSG_NOSIGNAL),
    () => 'sendmsg',
  )
}
