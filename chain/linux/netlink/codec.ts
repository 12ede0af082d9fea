/** Netlink messages as bytes (linux/netlink.h). Pure: no sockets, no system calls, no notion of a link or a rule. */
import { decodeText, encodeText, join } from '../bytes.ts'

export { join }

/** Bytes that are not what the protocol says. */
export class CodecError extends Error {
  override name = 'CodecError'
}

export interface Attribute {
  /** Without NLA_F_NESTED and NLA_F_NET_BYTEORDER. */
  type: number
  value: Uint8Array
}

export interface Message {
  type: number
  flags: number
  sequence: number
  payload: Uint8Array
}

const MESSAGE_HEADER = 16 // struct nlmsghdr
const ATTRIBUTE_HEADER = 4 // struct nlattr
const TYPE_MASK = 0x3fff // NLA_TYPE_MASK
const NESTED = 0x8000 // NLA_F_NESTED

/** NLMSG_ALIGN, NLA_ALIGN: the next multiple of four. */
export function align(length: number): number {
  return (length + 3) & ~3
}

/**
 * A view of bytes, for structures of many fields. Not for a number alone: the first look at the buffer behind a small array
 * copies it, which costs more than the bytes that are put together by hand here.
 */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

// Attributes are taken apart by hand, here and below: a table that is listed has thousands of them, and calls cost more than all else.

/** What is wrong with the attribute at a place: every length is checked before it is believed. */
function malformed(bytes: Uint8Array, at: number): CodecError {
  const left = bytes.length - at
  return new CodecError(
    left < ATTRIBUTE_HEADER
      ? `attribute at byte ${at}: ${left} bytes left, a header needs ${ATTRIBUTE_HEADER}`
      : `attribute at byte ${at}: length ${littleEndian16(bytes, at)}, ${left} bytes left`,
  )
}

/** Attributes in order. */
export function attributes(bytes: Uint8Array): Attribute[] {
  const found: Attribute[] = []
  for (let at = 0; at < bytes.length; ) {
    const length = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)
    if (length < ATTRIBUTE_HEADER || length > bytes.length - at) throw malformed(bytes, at)
    found.push({
      type: ((bytes[at + 2] ?? 0) | ((bytes[at + 3] ?? 0) << 8)) & TYPE_MASK,
      value: bytes.subarray(at + ATTRIBUTE_HEADER, at + length),
    })
    at += (length + 3) & ~3
  }
  return found
}

/** The value of the first attribute of a type among well-formed ones; takes nothing else apart. */
export function findAttribute(bytes: Uint8Array, type: number): Uint8Array | undefined {
  for (let at = 0; at + ATTRIBUTE_HEADER <= bytes.length; ) {
    const length = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)
    if ((((bytes[at + 2] ?? 0) | ((bytes[at + 3] ?? 0) << 8)) & TYPE_MASK) === type)
      return bytes.subarray(at + ATTRIBUTE_HEADER, at + length)
    at += length < ATTRIBUTE_HEADER ? ATTRIBUTE_HEADER : (length + 3) & ~3
  }
  return undefined
}

/** Attributes by type; of a repeated one, the last. */
export interface AttributeMap {
  has(type: number): boolean
  get(type: number): Uint8Array | undefined
}

/** Attributes by type. They are cut out when they are asked for: of the sixty that a link has, ten are. */
export function attributeMap(bytes: Uint8Array): AttributeMap {
  const places = new Map<number, number>()
  for (let at = 0; at < bytes.length; ) {
    const length = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)
    if (length < ATTRIBUTE_HEADER || length > bytes.length - at) throw malformed(bytes, at)
    places.set(((bytes[at + 2] ?? 0) | ((bytes[at + 3] ?? 0) << 8)) & TYPE_MASK, at)
    at += (length + 3) & ~3
  }
  return {
    has: type => places.has(type),
    get(type) {
      const at = places.get(type)
      if (at === undefined) return undefined
      return bytes.subarray(at + ATTRIBUTE_HEADER, at + littleEndian16(bytes, at))
    },
  }
}

/** The messages of a datagram. */
export function messages(bytes: Uint8Array): Message[] {
  const found: Message[] = []
  for (let at = 0; at < bytes.length; ) {
    const left = bytes.length - at
    if (left < MESSAGE_HEADER) {
      throw new CodecError(`message at byte ${at}: ${left} bytes left, a header needs ${MESSAGE_HEADER}`)
    }
    const length = littleEndian32(bytes, at)
    if (length < MESSAGE_HEADER || length > left) {
      throw new CodecError(`message at byte ${at}: length ${length}, ${left} bytes left`)
    }
    found.push({
      type: littleEndian16(bytes, at + 4),
      flags: littleEndian16(bytes, at + 6),
      sequence: littleEndian32(bytes, at + 8),
      payload: bytes.subarray(at + MESSAGE_HEADER, at + length),
    })
    at += align(length)
  }
  return found
}

/** One message as bytes, padded to four; the sender's port is left to the kernel. */
export function encodeMessage({ type, flags, sequence, payload }: Message): Uint8Array {
  const bytes = new Uint8Array(align(MESSAGE_HEADER + payload.length))
  putLittleEndian32(bytes, 0, MESSAGE_HEADER + payload.length)
  putLittleEndian32(bytes, 4, (type & 0xffff) | (flags << 16))
  putLittleEndian32(bytes, 8, sequence)
  bytes.set(payload, MESSAGE_HEADER)
  return bytes
}

/** An attribute as bytes, padded to four outside its length. */
export function attribute(type: number, value: Uint8Array): Uint8Array {
  const length = ATTRIBUTE_HEADER + value.length
  if (length > 0xffff) throw new CodecError(`attribute ${type}: ${value.length} bytes do not fit`)
  const bytes = new Uint8Array(align(length))
  bytes[0] = length
  bytes[1] = length >> 8
  bytes[2] = type
  bytes[3] = type >> 8
  bytes.set(value, ATTRIBUTE_HEADER)
  return bytes
}

export function nested(type: number, ...parts: readonly Uint8Array[]): Uint8Array {
  return attribute(type | NESTED, join(...parts))
}

export function flag(type: number): Uint8Array {
  return attribute(type, new Uint8Array(0))
}

export function uint8(type: number, value: number): Uint8Array {
  return attribute(type, new Uint8Array([value]))
}

export function uint16(type: number, value: number): Uint8Array {
  return attribute(type, new Uint8Array([value, value >> 8]))
}

export function uint32(type: number, value: number): Uint8Array {
  return attribute(type, new Uint8Array([value, value >> 8, value >> 16, value >> 24]))
}

export function int32(type: number, value: number): Uint8Array {
  return uint32(type, value >>> 0)
}

export function uint64(type: number, value: bigint): Uint8Array {
  const bytes = new Uint8Array(8)
  viewOf(bytes).setBigUint64(0, value, true)
  return attribute(type, bytes)
}

/** Network byte order: netfilter's integers. */
export function uint32Big(type: number, value: number): Uint8Array {
  return attribute(type, new Uint8Array([value >> 24, value >> 16, value >> 8, value]))
}

export function uint16Big(type: number, value: number): Uint8Array {
  return attribute(type, new Uint8Array([value >> 8, value]))
}

/** Text with its terminating zero. */
export function text(type: number, value: string): Uint8Array {
  return attribute(type, encodeText(`${value}\0`))
}

function littleEndian16(bytes: Uint8Array, at: number): number {
  return (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)
}

function littleEndian32(bytes: Uint8Array, at: number): number {
  const low = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)
  return (low | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24)) >>> 0
}

function putLittleEndian32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value
  bytes[at + 1] = value >> 8
  bytes[at + 2] = value >> 16
  bytes[at + 3] = value >> 24
}

function sized(value: Uint8Array, length: number, what: string): Uint8Array {
  if (value.length < length) throw new CodecError(`${what}: ${value.length} bytes, ${length} expected`)
  return value
}

export function readUint8(value: Uint8Array): number {
  return sized(value, 1, 'an 8-bit integer')[0] ?? 0
}

export function readUint16(value: Uint8Array): number {
  return littleEndian16(sized(value, 2, 'a 16-bit integer'), 0)
}

export function readUint32(value: Uint8Array): number {
  return littleEndian32(sized(value, 4, 'a 32-bit integer'), 0)
}

export function readInt32(value: Uint8Array): number {
  return readUint32(value) | 0
}

export function readUint64(value: Uint8Array): bigint {
  return viewOf(sized(value, 8, 'a 64-bit integer')).getBigUint64(0, true)
}

export function readUint16Big(value: Uint8Array): number {
  const bytes = sized(value, 2, 'a 16-bit integer')
  return ((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0)
}

export function readUint32Big(value: Uint8Array): number {
  const number = readUint32(value)
  return ((number << 24) | ((number & 0xff00) << 8) | ((number >> 8) & 0xff00) | (number >>> 24)) >>> 0
}

export function readUint64Big(value: Uint8Array): bigint {
  return viewOf(sized(value, 8, 'a 64-bit integer')).getBigUint64(0, false)
}

/** Text up to its first zero, or whole. */
export function readText(value: Uint8Array): string {
  const end = value.indexOf(0)
  return decodeText(end < 0 ? value : value.subarray(0, end))
}

/** A fixed structure at the start of a payload, and what follows it. */
export function split(payload: Uint8Array, length: number): [DataView, Uint8Array] {
  return [viewOf(sized(payload, length, 'a structure')), after(payload, length)]
}

/** What follows a fixed structure at the start of a payload. */
export function after(payload: Uint8Array, length: number): Uint8Array {
  return sized(payload, length, 'a structure').subarray(align(length))
}
