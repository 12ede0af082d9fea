/** Neighbour discovery as Ethernet frames (RFC 4861): ICMPv6 in IPv6, and the probe for an address that others may have. Pure. */
import { addressBytes, addressText } from '../../../chain/ip/bytes.ts'
import { hardwareAddressBytes, hardwareAddressText } from '../../../chain/ip/hardware.ts'
import { checksum } from './frame.ts'

export const ANY_ADDRESS = '::'
export const ALL_ROUTERS = 'ff02::2'

/** ICMPv6 types of neighbour discovery. */
export const icmpType = {
  routerSolicitation: 133,
  routerAdvertisement: 134,
  neighbourSolicitation: 135,
  neighbourAdvertisement: 136,
} as const

const ETHERNET_HEADER = 14
const IP_HEADER = 40
const ETH_P_IPV6 = 0x86dd
const ICMPV6 = 58
/** What came through a router has less: no host outside the link can speak as a neighbour (RFC 4861, 6.1). */
const HOP_LIMIT = 255

export interface Neighbourly {
  source: { hardware: string; address: string }
  destination: { hardware: string; address: string }
  /** The ICMPv6 message; its checksum is filled in when it is encoded. */
  message: Uint8Array
}

/** The group of hardware addresses that a multicast address is sent to (RFC 2464, 7). */
export function multicastHardware(address: string): string {
  return hardwareAddressText(Buffer.concat([Uint8Array.of(0x33, 0x33), addressBytes(address).subarray(12)]))
}

/** A message as an Ethernet frame. */
export function encodeFrame({ source, destination, message }: Neighbourly): Uint8Array {
  const frame = new Uint8Array(ETHERNET_HEADER + IP_HEADER + message.length)
  const view = new DataView(frame.buffer)
  frame.set(hardwareAddressBytes(destination.hardware), 0)
  frame.set(hardwareAddressBytes(source.hardware), 6)
  view.setUint16(12, ETH_P_IPV6)
  frame[ETHERNET_HEADER] = 0x60
  view.setUint16(ETHERNET_HEADER + 4, message.length)
  frame.set([ICMPV6, HOP_LIMIT], ETHERNET_HEADER + 6)
  frame.set(addressBytes(source.address), ETHERNET_HEADER + 8)
  frame.set(addressBytes(destination.address), ETHERNET_HEADER + 24)
  frame.set(message, ETHERNET_HEADER + IP_HEADER)
  view.setUint16(ETHERNET_HEADER + IP_HEADER + 2, 0)
  view.setUint16(ETHERNET_HEADER + IP_HEADER + 2, icmpChecksum(frame.subarray(ETHERNET_HEADER)))
  return frame
}

/** The checksum of an ICMPv6 message inside an IPv6 packet (RFC 8200, 8.1); 0 when it holds the right one already. */
function icmpChecksum(packet: Uint8Array): number {
  const message = packet.subarray(IP_HEADER)
  const pseudo = new Uint8Array(40)
  pseudo.set(packet.subarray(8, 40))
  new DataView(pseudo.buffer).setUint32(32, message.length)
  pseudo[39] = ICMPV6
  return checksum(Buffer.concat([pseudo, message]))
}

/** The message in a frame; undefined for anything that is not a whole, sound one from this link. */
export function decodeFrame(frame: Uint8Array): Neighbourly | undefined {
  if (frame.length < ETHERNET_HEADER + IP_HEADER + 4) return undefined
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length)
  const length = view.getUint16(ETHERNET_HEADER + 4)
  const end = ETHERNET_HEADER + IP_HEADER + length
  const packet = frame.subarray(ETHERNET_HEADER, end)
  const sound =
    view.getUint16(12) === ETH_P_IPV6 &&
    view.getUint8(ETHERNET_HEADER) >> 4 === 6 &&
    view.getUint8(ETHERNET_HEADER + 6) === ICMPV6 &&
    view.getUint8(ETHERNET_HEADER + 7) === HOP_LIMIT &&
    length >= 4 &&
    end <= frame.length &&
    icmpChecksum(packet) === 0 &&
    packet[IP_HEADER + 1] === 0 // code
  if (!sound) return undefined
  return {
    source: {
      hardware: hardwareAddressText(frame.subarray(6, 12)),
      address: addressText(packet.subarray(8, 24)),
    },
    destination: {
      hardware: hardwareAddressText(frame.subarray(0, 6)),
      address: addressText(packet.subarray(24, 40)),
    },
    message: packet.subarray(IP_HEADER),
  }
}

/**
 * Asks who has an address, without saying who asks (RFC 4862, 5.4.2): the kernel's own detection would do it only for an
 * address that is on the link, where the plugin that asked for it has not put it yet.
 */
export function neighbourProbe(hardware: string, address: string): Uint8Array {
  const target = addressBytes(address)
  const group = addressBytes('ff02::1:ff00:0') // the solicited-node group
  group.set(target.subarray(13), 13)
  const to = addressText(group)
  return encodeFrame({
    source: { hardware, address: ANY_ADDRESS },
    destination: { hardware: multicastHardware(to), address: to },
    message: Buffer.concat([Uint8Array.of(icmpType.neighbourSolicitation, 0, 0, 0, 0, 0, 0, 0), target]),
  })
}

/** Whose hardware address says in a frame that it has an address; undefined when it is about another one. */
export function neighbourClaimant(frame: Uint8Array, address: string): string | undefined {
  const found = decodeFrame(frame)
  if (found?.message[0] !== icmpType.neighbourAdvertisement || found.message.length < 24) return undefined
  return addressText(found.message.subarray(8, 24)) === address ? found.source.hardware : undefined
}
