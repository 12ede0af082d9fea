/** DHCPv6 messages as bytes (RFC 8415, 8 and 21). Pure: knows the shape of options, not what a client makes of them. */
import { PacketError } from '../codec.ts'

export interface Option {
  code: number
  value: Uint8Array
}

export interface Message {
  type: number
  /** 24 bits. */
  transaction: number
  options: Option[]
}

/** Message types (RFC 8415, 7.3). */
export const messageType = {
  solicit: 1,
  advertise: 2,
  request: 3,
  renew: 5,
  rebind: 6,
  reply: 7,
  release: 8,
  decline: 9,
  informationRequest: 11,
} as const

/** Option codes (RFC 8415, 21; RFC 3646). */
export const option = {
  client: 1,
  server: 2,
  addresses: 3,
  address: 5,
  requested: 6,
  preference: 7,
  elapsed: 8,
  status: 13,
  nameServers: 23,
  search: 24,
  longestSolicit: 82,
} as const

/** Status codes (RFC 8415, 21.13), by the names that they have there. */
export const statusCode = {
  success: 0,
  unspecified: 1,
  noAddresses: 2,
  noBinding: 3,
  notOnLink: 4,
  useMulticast: 5,
} as const

const HEADER = 4

export function encodeMessage({ type, transaction, options }: Message): Uint8Array {
  const head = Uint8Array.of(type, transaction >> 16, transaction >> 8, transaction)
  return Buffer.concat([head, encodeOptions(options)])
}

export function encodeOptions(options: readonly Option[]): Uint8Array {
  return Buffer.concat(
    options.flatMap(({ code, value }) => [
      Uint8Array.of(code >> 8, code, value.length >> 8, value.length),
      value,
    ]),
  )
}

/** Throws PacketError for anything that is no message. */
export function decodeMessage(bytes: Uint8Array): Message {
  const [type = 0, high = 0, middle = 0, low = 0] = bytes
  if (bytes.length < HEADER) throw new PacketError(`${bytes.length} bytes: a message has at least ${HEADER}`)
  return {
    type,
    transaction: (high << 16) | (middle << 8) | low,
    options: decodeOptions(bytes.subarray(HEADER)),
  }
}

/** Throws PacketError for an option that is cut off. */
export function decodeOptions(bytes: Uint8Array): Option[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const options: Option[] = []
  for (let at = 0; at < bytes.length; ) {
    if (at + 4 > bytes.length) throw new PacketError('the head of an option is cut off')
    const code = view.getUint16(at)
    const length = view.getUint16(at + 2)
    const start = at + 4
    if (start + length > bytes.length) {
      throw new PacketError(`option ${code}: ${length} bytes, ${bytes.length - start} are left`)
    }
    options.push({ code, value: bytes.subarray(start, start + length) })
    at = start + length
  }
  return options
}

/** The first option of a code: those that a client reads must not come twice. */
export function optionValue(options: readonly Option[], code: number): Uint8Array | undefined {
  return options.find(each => each.code === code)?.value
}
