/** Reads messages of Protocol Buffers by the numbers of their fields (https://protobuf.dev/programming-guides/encoding). Pure. */
import { CniError, code } from '../protocol/error.ts'

/** The fields that have bytes, in order. */
export type Fields = Readonly<Partial<Record<number, Uint8Array[]>>>

const truncated = () => new CniError(code.decoding, 'its answer ends within a field')

export function fieldsOf(bytes: Uint8Array): Fields {
  const fields: Partial<Record<number, Uint8Array[]>> = {}
  const reader = { bytes, at: 0 }
  while (reader.at < bytes.length) {
    const tag = varint(reader)
    const kind = tag % 8
    if (kind === 0) varint(reader)
    else {
      const value = take(reader, lengthOf(kind, reader))
      const number = (tag - kind) / 8
      if (kind !== 2) continue
      const values = fields[number] ?? []
      fields[number] = values
      values.push(value)
    }
  }
  return fields
}

interface Reader {
  bytes: Uint8Array
  at: number
}

/** Of what is no varint: 8 bytes, as many as it says itself, or 4. */
function lengthOf(kind: number, reader: Reader): number {
  if (kind === 1) return 8
  if (kind === 2) return varint(reader)
  if (kind === 5) return 4
  throw new CniError(code.decoding, `its answer has a field of the unknown kind ${kind}`)
}

function take(reader: Reader, length: number): Uint8Array {
  const end = reader.at + length
  if (end > reader.bytes.length) throw truncated()
  const value = reader.bytes.subarray(reader.at, end)
  reader.at = end
  return value
}

/** Beyond 2^53 it is not exact, which concerns numbers that nobody here reads. */
function varint(reader: Reader): number {
  let [value, scale] = [0, 1]
  for (;;) {
    const byte = reader.bytes[reader.at++]
    if (byte === undefined) throw truncated()
    value += (byte & 127) * scale
    scale *= 128
    if (byte < 128) return value
  }
}

export const textOf = (values: readonly Uint8Array[]) => new TextDecoder().decode(values.at(-1))
