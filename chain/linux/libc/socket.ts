/** Sockets and what goes through them: addresses and options are structures as bytes. */
import { checked, uninterrupted } from './errno.ts'
import { libc, pointer, rarely, type Structure } from './ffi.ts'

const occasional = {
  bind: { args: ['i32', 'ptr', 'u32'], returns: 'i32' },
  getsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'ptr'], returns: 'i32' },
  sendto: { args: ['i32', 'ptr', 'usize', 'i32', 'ptr', 'u32'], returns: 'i64' },
} as const

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

/** An option of a protocol level (setsockopt(2)). */
export interface SocketOption {
  level: number
  option: number
}

export function setSocketOption(descriptor: number, { level, option }: SocketOption, value: Structure): void {
  checked(
    libc().setsockopt(descriptor, level, option, pointer(value), value.byteLength),
    () => `setsockopt(${level}, ${option})`,
  )
}

/** Fills a structure, whose beginning may say what is asked for. */
export function getSocketOption(descriptor: number, { level, option }: SocketOption, value: Structure): void {
  const length = Uint32Array.of(value.byteLength)
  checked(
    rarely(occasional, 'getsockopt')(descriptor, level, option, pointer(value), pointer(length)),
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
  setSocketOption(descriptor, { level: SOL_SOCKET, option: SO_ATTACH_FILTER }, new Uint8Array(header.buffer))
}

const SO_RCVTIMEO = 20

/** Has a socket's reading, or its waiting for callers, give up after some seconds, with EAGAIN. */
export function limitReceiving(descriptor: number, seconds: number): void {
  const time = Uint32Array.of(seconds, 0, (seconds % 1) * 1e6 + 0.5, 0) // struct timeval: seconds, microseconds
  setSocketOption(descriptor, { level: SOL_SOCKET, option: SO_RCVTIMEO }, time)
}

/** SO_SNDBUFFORCE, SO_RCVBUFFORCE */
const bufferOptions = { sending: 32, receiving: 33 }

/** Gives a socket's buffer room for so many bytes, whatever the usual limit; EPERM where one may not. */
export function enlargeBuffer(descriptor: number, which: 'sending' | 'receiving', bytes: number): void {
  const size = new Uint8Array(Int32Array.of(bytes).buffer)
  setSocketOption(descriptor, { level: SOL_SOCKET, option: bufferOptions[which] }, size)
}

export function bind(descriptor: number, address: Uint8Array, what = `descriptor ${descriptor}`): void {
  checked(rarely(occasional, 'bind')(descriptor, pointer(address), address.length), () => `bind ${what}`)
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
      rarely(occasional, 'sendto')(
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
export function receive(
  descriptor: number,
  buffer: Uint8Array,
  { flags = 0, sender }: { flags?: number; sender?: Uint8Array } = {},
): number {
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
