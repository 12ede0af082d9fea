/** Sockets between processes of one machine: listening, who called, messages and the descriptors that come beside them. */
import { checked, errno, SystemError, uninterrupted } from './errno.ts'
import { cString, failureOf, pointer, rarely } from './ffi.ts'
import { bind, connect, getSocketOption, SOCK_NONBLOCK, socket } from './socket.ts'

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
const MSG_TRUNC = 0x20
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
    const length = new Uint8Array(Uint32Array.of(name.length).buffer)
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
  const value = new Uint8Array(4)
  getSocketOption(descriptor, { level: SOL_SOCKET, option: name }, value)
  return new DataView(value.buffer).getInt32(0, true)
}

/** The next caller; undefined when none came in the time that `limitReceiving` gave, or a signal did. */
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
  const credentials = new Uint8Array(12) // struct ucred: pid, uid, gid
  getSocketOption(descriptor, { level: SOL_SOCKET, option: SO_PEERCRED }, credentials)
  const view = new DataView(credentials.buffer)
  return { process: view.getInt32(0, true), user: view.getUint32(4, true) }
}

/**
 * A descriptor of the process that connected, which can be read once that has ended: its number may be another's then. Undefined on
 * kernels before 6.5; ESRCH or EINVAL where it has ended already.
 */
export function peerProcess(descriptor: number): number | undefined {
  const value = new Uint8Array(4)
  try {
    getSocketOption(descriptor, { level: SOL_SOCKET, option: SO_PEERPIDFD }, value)
  } catch (thrown) {
    if (thrown instanceof SystemError && thrown.errno === errno.ENOPROTOOPT) return undefined
    throw thrown
  }
  return new DataView(value.buffer).getInt32(0, true)
}

const MOST_DESCRIPTORS = 8
const CONTROL_HEADER = 16 // struct cmsghdr: length 8, level 4, type 4

const bytesOf = ({ buffer }: DataView) => new Uint8Array(buffer)

/** struct msghdr for one buffer and room for descriptors. */
function header(buffer: Uint8Array, control: Uint8Array): DataView<ArrayBuffer> {
  const vector = new DataView(new ArrayBuffer(16)) // struct iovec
  vector.setBigUint64(0, BigInt(pointer(buffer)), true)
  vector.setBigUint64(8, BigInt(buffer.length), true)
  const message = new DataView(new ArrayBuffer(56))
  message.setBigUint64(16, BigInt(pointer(bytesOf(vector))), true)
  message.setBigUint64(24, 1n, true)
  if (control.length > 0) message.setBigUint64(32, BigInt(pointer(control)), true)
  message.setBigUint64(40, BigInt(control.length), true)
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
  const control = new Uint8Array(CONTROL_HEADER + 4 * MOST_DESCRIPTORS)
  let message = new DataView(new ArrayBuffer(56))
  const length = uninterrupted(
    () => {
      message = header(buffer, control) // another one each time: what it points to is kept for one call
      return rarely(occasional, 'recvmsg')(descriptor, pointer(bytesOf(message)), MSG_CMSG_CLOEXEC)
    },
    () => 'recvmsg',
  )
  const filled = Number(message.getBigUint64(40, true))
  const flags = message.getInt32(48, true)
  const view = new DataView(control.buffer)
  const descriptors: number[] = []
  const end = filled < CONTROL_HEADER || view.getInt32(12, true) !== SCM_RIGHTS ? 0 : view.getUint32(0, true)
  for (let at = CONTROL_HEADER; at < end; at += 4) descriptors.push(view.getInt32(at, true))
  return { length, descriptors, isCut: (flags & (MSG_TRUNC | MSG_CTRUNC)) !== 0 }
}

/** Sends one message with descriptors beside it. No signal where the other end is gone: EPIPE. */
export function sendMessage(
  descriptor: number,
  bytes: Uint8Array,
  descriptors: readonly number[] = [],
): void {
  const control = new Uint8Array(
    descriptors.length === 0 ? 0 : CONTROL_HEADER + 8 * Math.ceil(descriptors.length / 2),
  )
  if (descriptors.length > 0) {
    const view = new DataView(control.buffer)
    view.setUint32(0, CONTROL_HEADER + 4 * descriptors.length, true)
    view.setInt32(8, SOL_SOCKET, true)
    view.setInt32(12, SCM_RIGHTS, true)
    for (const [index, each] of descriptors.entries()) view.setInt32(CONTROL_HEADER + 4 * index, each, true)
  }
  uninterrupted(
    () => rarely(occasional, 'sendmsg')(descriptor, pointer(bytesOf(header(bytes, control))), MSG_NOSIGNAL),
    () => 'sendmsg',
  )
}
