/** Announcements over packet sockets: gratuitous ARP (RFC 5227, 3) and unsolicited neighbour advertisements (RFC 4861, 7.2.6). */
import { addressBytes, hardwareAddressBytes } from './inet.ts'
import { close, SOCK_RAW, sendTo, socket } from './libc.ts'

const AF_PACKET = 17
const ETH_P_ARP = 0x0806
const ETH_P_IPV6 = 0x86dd
const BROADCAST = new Uint8Array(6).fill(0xff)
/** ff02::1, all nodes, and its Ethernet address (RFC 2464, 7). */
const ALL_NODES = addressBytes('ff02::1')
const ALL_NODES_ETHERNET = new Uint8Array([0x33, 0x33, 0, 0, 0, 1])

/** A gratuitous ARP request: sender and target are the announced address. */
export function gratuitousArp(hardware: string, address: string): Uint8Array {
  const mac = hardwareAddressBytes(hardware)
  const ip = addressBytes(address)
  return Buffer.concat([
    BROADCAST,
    mac,
    bigEndian(ETH_P_ARP),
    new Uint8Array([0, 1, 8, 0, 6, 4, 0, 1]), // Ethernet, IPv4, lengths 6 and 4, request
    mac,
    ip,
    new Uint8Array(6),
    ip,
  ])
}

/** An unsolicited neighbour advertisement to all nodes, with the override flag. */
export function neighbourAdvertisement(hardware: string, address: string): Uint8Array {
  const mac = hardwareAddressBytes(hardware)
  const ip = addressBytes(address)
  const message = Buffer.concat([
    new Uint8Array([136, 0, 0, 0, 0x20, 0, 0, 0]), // type 136, code 0, checksum below, flag O
    ip,
    new Uint8Array([2, 1]), // option: target link-layer address, 8 bytes
    mac,
  ])
  message.writeUInt16BE(icmp6Checksum(ip, ALL_NODES, message), 2)
  const header = Buffer.alloc(8)
  header[0] = 0x60
  header.writeUInt16BE(message.length, 4)
  header[6] = 58 // ICMPv6
  header[7] = 255 // hop limit: a lower one is ignored
  return Buffer.concat([ALL_NODES_ETHERNET, mac, bigEndian(ETH_P_IPV6), header, ip, ALL_NODES, message])
}

function bigEndian(value: number): Uint8Array {
  return new Uint8Array([value >> 8, value & 0xff])
}

function icmp6Checksum(source: Uint8Array, destination: Uint8Array, message: Uint8Array): number {
  const pseudo = Buffer.concat([
    source,
    destination,
    new Uint8Array([0, 0, 0, message.length, 0, 0, 0, 58]),
    message,
  ])
  let sum = 0
  for (let at = 0; at < pseudo.length; at += 2) sum += ((pseudo[at] ?? 0) << 8) | (pseudo[at + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

/** A packet socket in the namespace that the thread is in; it can be used from outside. */
export function openPacketSocket(): number {
  return socket(AF_PACKET, SOCK_RAW, 0)
}

/** Sends a whole Ethernet frame out of a link (by index). */
export function sendFrame(descriptor: number, link: number, frame: Uint8Array): void {
  const address = new DataView(new ArrayBuffer(20)) // struct sockaddr_ll
  address.setUint16(0, AF_PACKET, true)
  address.setInt32(4, link, true)
  address.setUint8(11, 6)
  new Uint8Array(address.buffer).set(frame.subarray(0, 6), 12)
  sendTo(descriptor, frame, new Uint8Array(address.buffer))
}

/** Tells the neighbours of a link who has its addresses now; closes the socket. */
export function announce(
  descriptor: number,
  link: { index: number; address: string },
  addresses: readonly string[],
): void {
  try {
    for (const address of addresses) {
      const frame = address.includes(':')
        ? neighbourAdvertisement(link.address, address)
        : gratuitousArp(link.address, address)
      sendFrame(descriptor, link.index, frame)
    }
  } finally {
    close(descriptor)
  }
}
