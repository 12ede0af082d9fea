/**
 * Messages of D-Bus as bytes (D-Bus Specification, "Message Format"): method calls with strings and booleans, and whatever
 * comes back. Pure.
 */

export type Value = string | boolean | number

export interface Call {
  serial: number
  destination: string
  path: string
  interface: string
  member: string
  args?: readonly (string | boolean)[]
}

/** 1 a call, 2 an answer, 3 an error, 4 a signal. */
export interface Message {
  type: number
  /** The serial of the call that this answers. */
  replySerial?: number
  errorName?: string
  /** Who sent it, by the name that the bus gave it: what is said here, the bus says. */
  sender?: string
  /** The body's values, up to the first of a type that is not understood. */
  values: Value[]
}

/** Bytes that are not what the specification says. */
export class DbusCodecError extends Error {
  override name = 'DbusCodecError'
}

const METHOD_CALL = 1
const VERSION = 1
const HEADER = 16 // up to and including the length of the array of fields
const field = {
  path: 1,
  interface: 2,
  member: 3,
  errorName: 4,
  replySerial: 5,
  destination: 6,
  sender: 7,
  signature: 8,
}
/** The specification allows 128 MiB: more than whoever asks for a yes or no should ever have to keep. */
const LONGEST_MESSAGE = 1024 * 1024

const alignments: Readonly<Record<string, number>> = {
  y: 1,
  b: 4,
  n: 2,
  q: 2,
  i: 4,
  u: 4,
  h: 4,
  s: 4,
  o: 4,
  g: 1,
}

/** Values one after the other, each at its alignment, in little endian. */
class Writer {
  #bytes: number[] = []

  get length(): number {
    return this.#bytes.length
  }

  align(to: number): this {
    while (this.#bytes.length % to !== 0) this.#bytes.push(0)
    return this
  }

  byte(...values: readonly number[]): this {
    this.#bytes.push(...values)
    return this
  }

  uint32(value: number): this {
    return this.align(4).byte(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24)
  }

  text(value: string): this {
    const bytes = Buffer.from(value)
    return this.uint32(bytes.length).byte(...bytes, 0)
  }

  signature(value: string): this {
    const bytes = Buffer.from(value)
    return this.byte(bytes.length, ...bytes, 0)
  }

  value(value: string | boolean): this {
    return typeof value === 'string' ? this.text(value) : this.uint32(value ? 1 : 0)
  }

  bytes(): Uint8Array {
    return Uint8Array.from(this.#bytes)
  }
}

/** A method call. */
export function encodeCall({
  serial,
  destination,
  path,
  interface: name,
  member,
  args = [],
}: Call): Uint8Array {
  const body = new Writer()
  for (const value of args) body.value(value)
  const fields = new Writer()
  const add = (code: number, type: string, value: string) => {
    fields.align(8).byte(code).signature(type)
    if (type === 'g') fields.signature(value)
    else fields.text(value)
  }
  add(field.path, 'o', path)
  add(field.interface, 's', name)
  add(field.member, 's', member)
  add(field.destination, 's', destination)
  const signature = args.map(value => (typeof value === 'string' ? 's' : 'b')).join('')
  if (signature !== '') add(field.signature, 'g', signature)
  const head = new Writer()
    .byte('l'.charCodeAt(0), METHOD_CALL, 0, VERSION)
    .uint32(body.length)
    .uint32(serial)
    .uint32(fields.length)
    .byte(...fields.bytes()) // begins at 16, and so keeps its alignment
    .align(8)
  return Buffer.concat([head.bytes(), body.bytes()])
}

/** Reads values of either byte order; every length is checked before it is believed. */
class Reader {
  #at = 0
  readonly #view: DataView
  readonly #bytes: Uint8Array
  readonly #little: boolean

  constructor(bytes: Uint8Array, little: boolean) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#little = little
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length
  }

  align(to: number): void {
    this.#take(-this.#at & (to - 1))
  }

  byte(): number {
    return this.#view.getUint8(this.#take(1))
  }

  uint32(): number {
    this.align(4)
    return this.#view.getUint32(this.#take(4), this.#little)
  }

  text(length: number): string {
    const start = this.#take(length + 1)
    return Buffer.from(this.#bytes.subarray(start, start + length)).toString()
  }

  /** A value of a basic type; undefined for a type that is not understood. */
  value(type: string): Value | undefined {
    switch (type) {
      case 'y':
        return this.byte()
      case 'b':
        return this.uint32() !== 0
      case 'i':
        return this.uint32() | 0
      case 'u':
      case 'h':
        return this.uint32()
      case 's':
      case 'o':
        return this.text(this.uint32())
      case 'g':
        return this.text(this.byte())
      default:
        return undefined
    }
  }

  #take(length: number): number {
    const start = this.#at
    if (start + length > this.#bytes.length)
      throw new DbusCodecError(`${length} bytes needed at ${start}, the message has ${this.#bytes.length}`)
    this.#at += length
    return start
  }
}

/** The first message of a stream with its length in bytes; undefined while it is not all there. */
export function decodeMessage(bytes: Uint8Array): { message: Message; length: number } | undefined {
  if (bytes.length < HEADER) return undefined
  const little = byteOrder(bytes)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const fieldsLength = view.getUint32(12, little)
  const bodyLength = view.getUint32(4, little)
  if (fieldsLength + bodyLength > LONGEST_MESSAGE)
    throw new DbusCodecError(`a message of ${fieldsLength} bytes of fields and ${bodyLength} of body`)
  const fieldsEnd = HEADER + fieldsLength
  const bodyStart = (fieldsEnd + 7) & ~7
  const length = bodyStart + bodyLength
  if (bytes.length < length) return undefined
  const { signature, ...fields } = readFields(new Reader(bytes.subarray(0, fieldsEnd), little))
  const values = readBody(new Reader(bytes.subarray(bodyStart, length), little), signature)
  return { message: { type: bytes[1] ?? 0, ...fields, values }, length }
}

function byteOrder(bytes: Uint8Array): boolean {
  const mark = String.fromCharCode(bytes[0] ?? 0)
  if (mark === 'l' || mark === 'B') return mark === 'l'
  throw new DbusCodecError(`a message begins with ${JSON.stringify(mark)}, not with its byte order`)
}

function readFields(reader: Reader) {
  for (let skipped = 0; skipped < HEADER; skipped++) reader.byte()
  const fields: { signature: string; replySerial?: number; errorName?: string; sender?: string } = {
    signature: '',
  }
  while (!reader.isAtEnd) {
    reader.align(8)
    const code = reader.byte()
    const type = reader.text(reader.byte())
    const value = reader.value(type)
    if (value === undefined)
      throw new DbusCodecError(`header field ${code} is of type ${JSON.stringify(type)}`)
    if (code === field.signature) fields.signature = String(value)
    if (code === field.replySerial) fields.replySerial = Number(value)
    if (code === field.errorName) fields.errorName = String(value)
    if (code === field.sender) fields.sender = String(value)
  }
  return fields
}

function readBody(reader: Reader, signature: string): Value[] {
  const values: Value[] = []
  for (const type of signature) {
    const alignment = alignments[type]
    if (alignment === undefined) break
    reader.align(alignment)
    const value = reader.value(type)
    if (value === undefined) break
    values.push(value)
  }
  return values
}
