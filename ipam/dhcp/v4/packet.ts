/** DHCPv4 messages as bytes (RFC 2131, 2132, 3396). Pure: no sockets, no clock; knows no meaning of an option but those that shape the message. */
import { addressBytes, addressText } from '../../../chain/ip/bytes.ts'
import { hardwareAddressBytes, hardwareAddressText } from '../../../chain/ip/hardware.ts'
import { PacketError } from '../codec.ts'

export interface Message {
  operation: 'request' | 'reply'
  transaction: number
  /** Seconds since the client began to ask. */
  seconds: number
  /** The client wants replies to be broadcast: it cannot receive at an address that it does not have yet. */
  broadcast: boolean
  /** ciaddr: the address that the client has. */
  clientAddress: string
  /** yiaddr: the address that it gets. */
  yourAddress: string
  /** siaddr: of the next server to boot from; not what identifies the DHCP server. */
  nextServer: string
  /** giaddr. */
  relay: string
  /** chaddr, of six bytes. */
  hardware: string
  options: ReadonlyMap<number, Uint8Array>
}

/** Option codes that the protocol itself needs (RFC 2132, 3442, 3397). */
export const option = {
  pad: 0,
  subnetMask: 1,
  routers: 3,
  nameServers: 6,
  domainName: 15,
  interfaceMtu: 26,
  staticRoutes: 33,
  requestedAddress: 50,
  leaseTime: 51,
  overload: 52,
  messageType: 53,
  serverIdentifier: 54,
  parameterRequest: 55,
  message: 56,
  maximumSize: 57,
  renewalTime: 58,
  rebindingTime: 59,
  clientIdentifier: 61,
  domainSearch: 119,
  classlessRoutes: 121,
  end: 255,
} as const

/** Values of option 53. */
export const messageType = {
  discover: 1,
  offer: 2,
  request: 3,
  decline: 4,
  acknowledge: 5,
  nak: 6,
  release: 7,
} as const

const BOOTREQUEST = 1
const BOOTREPLY = 2
const ETHERNET = 1
const BROADCAST_FLAG = 0x8000
const COOKIE = 0x63825363
const HARDWARE_AT = 28
const SERVER_NAME_AT = 44
const FILE_AT = 108
const COOKIE_AT = 236
const OPTIONS_AT = 240
/** BOOTP's size, which some relays and servers insist on (RFC 1542, 2.1). */
const SMALLEST = 300

/** A message as bytes, its options in ascending order, padded to BOOTP's size. Long values are split (RFC 3396). */
export function encodeMessage(message: Message): Uint8Array {
  const options = encodeOptions(message.options)
  const bytes = new Uint8Array(Math.max(SMALLEST, OPTIONS_AT + options.length))
  const view = new DataView(bytes.buffer)
  bytes.set([message.operation === 'request' ? BOOTREQUEST : BOOTREPLY, ETHERNET, 6])
  view.setUint32(4, message.transaction)
  view.setUint16(8, Math.min(0xffff, message.seconds))
  view.setUint16(10, message.broadcast ? BROADCAST_FLAG : 0)
  const addresses = [message.clientAddress, message.yourAddress, message.nextServer, message.relay]
  for (const [index, address] of addresses.entries()) bytes.set(addressBytes(address), 12 + index * 4)
  bytes.set(hardwareAddressBytes(message.hardware), HARDWARE_AT)
  view.setUint32(COOKIE_AT, COOKIE)
  bytes.set(options, OPTIONS_AT)
  return bytes
}

function encodeOptions(options: ReadonlyMap<number, Uint8Array>): Uint8Array {
  const parts: number[] = []
  for (const [code, value] of [...options].sort(([one], [other]) => one - other)) {
    let at = 0
    do {
      const part = value.subarray(at, Math.min(at + 255, value.length))
      parts.push(code, part.length, ...part)
      at += 255
    } while (at < value.length)
  }
  parts.push(option.end)
  return Uint8Array.from(parts)
}

/** A message from bytes. Throws PacketError for anything that is none; what follows the end of the options is passed over. */
export function decodeMessage(bytes: Uint8Array): Message {
  if (bytes.length < OPTIONS_AT)
    throw new PacketError(`${bytes.length} bytes: a message has at least ${OPTIONS_AT}`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const [operation, hardwareType, hardwareLength] = bytes
  if (operation !== BOOTREQUEST && operation !== BOOTREPLY) throw new PacketError(`operation ${operation}`)
  if (hardwareType !== ETHERNET || hardwareLength !== 6) {
    throw new PacketError(`hardware type ${hardwareType} with addresses of ${hardwareLength} bytes`)
  }
  if (view.getUint32(COOKIE_AT) !== COOKIE) throw new PacketError('no DHCP cookie')
  const address = (at: number) => addressText(bytes.subarray(at, at + 4)) // inside the fixed part, checked above
  return {
    operation: operation === BOOTREQUEST ? 'request' : 'reply',
    transaction: view.getUint32(4),
    seconds: view.getUint16(8),
    broadcast: (view.getUint16(10) & BROADCAST_FLAG) !== 0,
    clientAddress: address(12),
    yourAddress: address(16),
    nextServer: address(20),
    relay: address(24),
    hardware: hardwareAddressText(bytes.subarray(HARDWARE_AT, HARDWARE_AT + 6)),
    options: decodeOptions(bytes),
  }
}

/** Options of the last field, then of `file` and `sname` where option 52 says so; parts of one option are joined in that order. */
function decodeOptions(bytes: Uint8Array): Map<number, Uint8Array> {
  const parts = new Map<number, Uint8Array[]>()
  collectOptions(bytes.subarray(OPTIONS_AT), parts)
  const overload = parts.get(option.overload)?.[0]?.[0] ?? 0
  if (overload > 3) throw new PacketError(`option 52: ${overload} is not 1, 2 or 3`)
  if (overload & 1) collectOptions(bytes.subarray(FILE_AT, COOKIE_AT), parts)
  if (overload & 2) collectOptions(bytes.subarray(SERVER_NAME_AT, FILE_AT), parts)
  return new Map(Array.from(parts, ([code, values]) => [code, Buffer.concat(values)]))
}

function collectOptions(field: Uint8Array, parts: Map<number, Uint8Array[]>): void {
  for (let at = 0; at < field.length; ) {
    const code = field[at] ?? option.end
    if (code === option.end) return // a missing end is common, and harmless
    at++
    if (code === option.pad) continue
    const length = field[at]
    if (length === undefined) throw new PacketError(`option ${code}: its length is cut off`)
    const start = at + 1
    if (start + length > field.length) {
      throw new PacketError(`option ${code}: ${length} bytes, ${field.length - start} are left`)
    }
    const values = parts.get(code)
    const value = field.subarray(start, start + length)
    if (values) values.push(value)
    else parts.set(code, [value])
    at = start + length
  }
}
