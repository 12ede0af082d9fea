/** UDP datagrams in IPv4 in Ethernet as bytes, for packet sockets (RFC 768, 791, 894), and ARP probes (RFC 826, 5227). Pure; knows no DHCP. */
import { addressBytes, addressText } from '../../../chain/ip/bytes.ts'
import { hardwareAddressBytes, hardwareAddressText } from '../../../chain/ip/hardware.ts'

export const BROADCAST_HARDWARE = 'ff:ff:ff:ff:ff:ff'
export const ANY_ADDRESS = '0.0.0.0'
export const BROADCAST_ADDRESS = '255.255.255.255'

const ETHERNET_HEADER = 14
const IP_HEADER = 20
const UDP_HEADER = 8
const ETH_P_IP = 0x0800
const ETH_P_ARP = 0x0806
const UDP = 17
const TIME_TO_LIVE = 64

export interface Endpoint {
  hardware: string
  address: string
  port: number
}

export interface Datagram {
  source: Endpoint
  destination: Endpoint
  payload: Uint8Array
}

/** A datagram as an Ethernet frame, both checksums filled in. */
export function encodeFrame({ source, destination, payload }: Datagram): Uint8Array {
  const frame = new Uint8Array(ETHERNET_HEADER + IP_HEADER + UDP_HEADER + payload.length)
  const view = new DataView(frame.buffer)
  frame.set(hardwareAddressBytes(destination.hardware), 0)
  frame.set(hardwareAddressBytes(source.hardware), 6)
  view.setUint16(12, ETH_P_IP)
  const ip = ETHERNET_HEADER
  frame[ip] = 0x45 // version 4, header of five words
  view.setUint16(ip + 2, frame.length - ip)
  frame.set([TIME_TO_LIVE, UDP], ip + 8)
  frame.set(addressBytes(source.address), ip + 12)
  frame.set(addressBytes(destination.address), ip + 16)
  view.setUint16(ip + 10, checksum(frame.subarray(ip, ip + IP_HEADER)))
  const udp = ip + IP_HEADER
  view.setUint16(udp, source.port)
  view.setUint16(udp + 2, destination.port)
  view.setUint16(udp + 4, frame.length - udp)
  frame.set(payload, udp + UDP_HEADER)
  view.setUint16(udp + 6, udpChecksum(frame.subarray(ip)) || 0xffff) // zero would say "no checksum"
  return frame
}

/** The checksum of a UDP datagram inside an IPv4 packet, whose header gives the addresses. */
function udpChecksum(packet: Uint8Array): number {
  const udp = packet.subarray(IP_HEADER)
  const pseudo = new Uint8Array(12)
  pseudo.set(packet.subarray(12, 20))
  pseudo.set([0, UDP, udp.length >> 8, udp.length & 0xff], 8)
  return checksum(Buffer.concat([pseudo, udp]))
}

/** The one's complement sum of 16-bit words, complemented (RFC 1071). */
export function checksum(bytes: Uint8Array): number {
  let sum = 0
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

/**
 * The datagram in an Ethernet frame; undefined for anything that is not a whole, sound, unfragmented one. The UDP checksum
 * is not looked at: between links of one machine the kernel leaves it to hardware that is not there.
 */
export function decodeFrame(frame: Uint8Array): Datagram | undefined {
  if (frame.length < ETHERNET_HEADER + IP_HEADER + UDP_HEADER) return undefined
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length)
  if (view.getUint16(12) !== ETH_P_IP) return undefined
  const packet = soundPacket(frame.subarray(ETHERNET_HEADER))
  if (!packet) return undefined
  const ip = new DataView(packet.buffer, packet.byteOffset, packet.length)
  const udp = (ip.getUint8(0) & 0xf) * 4
  if (packet.length < udp + UDP_HEADER) return undefined
  const length = ip.getUint16(udp + 4)
  if (length < UDP_HEADER || udp + length > packet.length) return undefined
  return {
    source: {
      hardware: hardwareAddressText(frame.subarray(6, 12)),
      address: addressText(packet.subarray(12, 16)),
      port: ip.getUint16(udp),
    },
    destination: {
      hardware: hardwareAddressText(frame.subarray(0, 6)),
      address: addressText(packet.subarray(16, 20)),
      port: ip.getUint16(udp + 2),
    },
    payload: packet.subarray(udp + UDP_HEADER, udp + length),
  }
}

/** The IPv4 packet without the padding behind it, if its header is sound, it carries UDP and is no fragment. */
function soundPacket(bytes: Uint8Array): Uint8Array | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const header = (view.getUint8(0) & 0xf) * 4
  const total = view.getUint16(2)
  const sound =
    view.getUint8(0) >> 4 === 4 &&
    header >= IP_HEADER &&
    total >= header + UDP_HEADER &&
    total <= bytes.length &&
    (view.getUint16(6) & 0x3fff) === 0 && // no "more fragments", no offset
    view.getUint8(9) === UDP &&
    checksum(bytes.subarray(0, header)) === 0
  return sound ? bytes.subarray(0, total) : undefined
}

/** An ARP probe: who has this address? The sender's own stays zero, so that no host learns a wrong one (RFC 5227, 2.1.1). */
export function arpProbe(hardware: string, address: string): Uint8Array {
  const mac = hardwareAddressBytes(hardware)
  return Buffer.concat([
    hardwareAddressBytes(BROADCAST_HARDWARE),
    mac,
    Uint8Array.of(ETH_P_ARP >> 8, ETH_P_ARP & 0xff, 0, 1, 8, 0, 6, 4, 0, 1), // Ethernet, IPv4, lengths 6 and 4, request
    mac,
    new Uint8Array(4),
    new Uint8Array(6),
    addressBytes(address),
  ])
}

/**
 * Whose hardware address says in an ARP frame that it has an address; undefined when it is about another one. Somebody who
 * probes for it as we do (RFC 5227, 2.1.1) was offered it too: which of the two gets it is for the server to say.
 */
export function arpClaimant(frame: Uint8Array, address: string): string | undefined {
  if (frame.length < ETHERNET_HEADER + 28) return undefined
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length)
  if (view.getUint16(12) !== ETH_P_ARP || view.getUint32(14) !== 0x00010800) return undefined
  const sender = addressText(frame.subarray(28, 32)) // inside the 28 bytes checked above
  return sender === address ? hardwareAddressText(frame.subarray(22, 28)) : undefined
}
