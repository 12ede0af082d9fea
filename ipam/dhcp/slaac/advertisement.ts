/** Router solicitations and advertisements as bytes (RFC 4861, 4191, 8106). Pure: knows no clock and no sockets. */

import { addressText } from '../../../chain/ip/bytes.ts'
import { hardwareAddressBytes } from '../../../chain/ip/hardware.ts'
import { isLinkLocal, isMulticast } from '../../../chain/ip/text.ts'
import { namesIn, PacketError } from '../codec.ts'
import {
  ALL_ROUTERS,
  ANY_ADDRESS,
  decodeFrame,
  encodeFrame,
  icmpType,
  multicastHardware,
  type Neighbourly,
} from '../link/neighbour.ts'

/** Lifetimes are seconds, `Infinity` for ever. */
export interface Advertisement {
  /** The router's link-local address. */
  router: string
  /** For how long it is a default router; 0: it is none. */
  lifetimeSeconds: number
  preference: Preference
  /** M: addresses are to be had by DHCPv6; O: other things are. */
  managed: boolean
  other: boolean
  mtu?: number
  prefixes: AdvertisedPrefix[]
  routes: { destination: string; preference: Preference; lifetimeSeconds: number }[]
  nameServers: { value: string; lifetimeSeconds: number }[]
  search: { value: string; lifetimeSeconds: number }[]
}

export interface AdvertisedPrefix {
  prefix: string
  length: number
  /** L: its addresses are on the link. A: addresses may be made of it. */
  onLink: boolean
  autonomous: boolean
  validSeconds: number
  preferredSeconds: number
}

/** RFC 4191: high, medium, low. */
export type Preference = 1 | 0 | -1

/** Option types. */
const option = { source: 1, prefix: 3, mtu: 5, route: 24, nameServers: 25, search: 31 } as const
const HEADER = 16
const SMALLEST_MTU = 1280 // RFC 8200, 5
const FOREVER = 0xffffffff

/** A solicitation as a frame. `address` is the sender's link-local one. */
export function encodeSolicitation(hardware: string, address: string): Uint8Array {
  const source =
    address === ANY_ADDRESS ? [] : [Uint8Array.of(option.source, 1), hardwareAddressBytes(hardware)]
  return encodeFrame({
    source: { hardware, address },
    destination: { hardware: multicastHardware(ALL_ROUTERS), address: ALL_ROUTERS },
    message: Buffer.concat([Uint8Array.of(icmpType.routerSolicitation, 0, 0, 0, 0, 0, 0, 0), ...source]),
  })
}

/** The advertisement in a frame; undefined for a frame that holds none. Throws PacketError for one that is malformed. */
export function decodeAdvertisement(frame: Uint8Array): Advertisement | undefined {
  const found = decodeFrame(frame)
  return found?.message[0] === icmpType.routerAdvertisement ? readAdvertisement(found) : undefined
}

/** RFC 4861, 6.1.2: what makes an advertisement invalid is refused, options that are unknown or contradictory are passed over. */
function readAdvertisement({ source, message }: Neighbourly): Advertisement {
  if (message.length < HEADER) throw new PacketError(`${message.length} bytes of a router advertisement`)
  if (!isLinkLocal(source.address)) throw new PacketError(`${source.address} is not a link-local address`)
  const view = viewOf(message)
  const flags = view.getUint8(5)
  const found: Advertisement = {
    router: source.address,
    lifetimeSeconds: view.getUint16(6),
    preference: preferenceIn(flags) ?? 0,
    managed: (flags & 0x80) !== 0,
    other: (flags & 0x40) !== 0,
    prefixes: [],
    routes: [],
    nameServers: [],
    search: [],
  }
  for (const each of optionsIn(message.subarray(HEADER))) takeOption(found, each)
  return found
}

function optionsIn(bytes: Uint8Array): Uint8Array[] {
  const options: Uint8Array[] = []
  for (let at = 0; at < bytes.length; ) {
    const length = (bytes[at + 1] ?? 0) * 8
    if (length === 0 || at + length > bytes.length) {
      throw new PacketError(`option ${bytes[at]}: ${length} bytes, ${bytes.length - at} are left`)
    }
    options.push(bytes.subarray(at, at + length))
    at += length
  }
  return options
}

function takeOption(found: Advertisement, bytes: Uint8Array): void {
  switch (bytes[0]) {
    case option.prefix:
      if (bytes.length === 32) found.prefixes.push(...prefixIn(bytes))
      break
    case option.mtu: {
      const mtu = bytes.length === 8 ? viewOf(bytes).getUint32(4) : 0
      if (mtu >= SMALLEST_MTU) found.mtu = mtu
      break
    }
    case option.route:
      found.routes.push(...routeIn(bytes))
      break
    case option.nameServers: {
      const lifetimeSeconds = secondsAt(bytes, 4)
      for (let at = 8; at + 16 <= bytes.length; at += 16)
        found.nameServers.push({ value: addressText(bytes.subarray(at, at + 16)), lifetimeSeconds })
      break
    }
    case option.search: {
      const lifetimeSeconds = secondsAt(bytes, 4)
      for (const value of namesIn(bytes.subarray(8))) found.search.push({ value, lifetimeSeconds })
      break
    }
  }
}

/** None for a prefix that says nothing of use: link-local, multicast, or preferred for longer than it is valid (RFC 4862, 5.5.3). */
function prefixIn(bytes: Uint8Array): AdvertisedPrefix[] {
  const length = bytes[2] ?? 0
  const flags = bytes[3] ?? 0
  const validSeconds = secondsAt(bytes, 4)
  const preferredSeconds = secondsAt(bytes, 8)
  const prefix = prefixText(bytes.subarray(16, 32), length)
  const useless = prefix === undefined || isLinkLocal(prefix) || isMulticast(prefix)
  if (useless || preferredSeconds > validSeconds) return []
  const onLink = (flags & 0x80) !== 0
  const autonomous = (flags & 0x40) !== 0
  return [{ prefix, length, onLink, autonomous, validSeconds, preferredSeconds }]
}

function routeIn(bytes: Uint8Array): Advertisement['routes'] {
  const length = bytes[2] ?? 0
  const preference = preferenceIn(bytes[3] ?? 0)
  const network = new Uint8Array(16)
  network.set(bytes.subarray(8, 24))
  const prefix = prefixText(network, length)
  if (prefix === undefined || preference === undefined || 8 + Math.ceil(length / 8) > bytes.length) return []
  return [{ destination: `${prefix}/${length}`, preference, lifetimeSeconds: secondsAt(bytes, 4) }]
}

/** The two bits of RFC 4191, 2.1; undefined for the reserved value. */
function preferenceIn(flags: number): Preference | undefined {
  return ([0, 1, undefined, -1] as const)[(flags >> 3) & 3]
}

/** A network's address, bits behind its length cleared; undefined for an impossible length. */
export function prefixText(bytes: Uint8Array, length: number): string | undefined {
  if (length > 128) return undefined
  const cleared = bytes.map((byte, index) => byte & (0xff00 >> Math.min(8, Math.max(0, length - index * 8))))
  return addressText(cleared)
}

function secondsAt(bytes: Uint8Array, at: number): number {
  const seconds = viewOf(bytes).getUint32(at)
  return seconds === FOREVER ? Number.POSITIVE_INFINITY : seconds
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}
