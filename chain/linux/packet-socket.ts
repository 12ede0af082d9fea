/** Packet sockets that hear one link only, and of it only what they are for. Knows Ethernet frames by their numbers, not what is in them. */
import { close } from './libc/file.ts'
import { attachFilter, bind, SOCK_NONBLOCK, SOCK_RAW, socket } from './libc/socket.ts'

const AF_PACKET = 17
export const ETH_P_IP = 0x0800
export const ETH_P_ARP = 0x0806
export const ETH_P_IPV6 = 0x86dd

// linux/filter.h
const LOAD_BYTE = 0x30 // BPF_LD | BPF_B | BPF_ABS
const LOAD_HALF = 0x28 // BPF_LD | BPF_H | BPF_ABS
const LOAD_HALF_AFTER_HEADER = 0x48 // BPF_LD | BPF_H | BPF_IND
const LOAD_HEADER_LENGTH = 0xb1 // BPF_LDX | BPF_B | BPF_MSH
const JUMP_EQUAL = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_ANY_BIT = 0x45 // BPF_JMP | BPF_JSET | BPF_K
const RETURN = 0x06 // BPF_RET | BPF_K
const LOAD_LENGTH = 0x80 // BPF_LD | BPF_W | BPF_LEN
const JUMP_AT_LEAST = 0x35 // BPF_JMP | BPF_JGE | BPF_K

type Instruction = [code: number, ifTrue: number, ifFalse: number, value: number]

/** Accepts unfragmented UDP over IPv4 to a port; without it a socket would be woken for all that a container receives. */
export function udpPortFilter(port: number): Uint8Array {
  return program([
    [LOAD_HALF, 0, 0, 12],
    [JUMP_EQUAL, 0, 8, ETH_P_IP],
    [LOAD_BYTE, 0, 0, 23],
    [JUMP_EQUAL, 0, 6, 17], // UDP
    [LOAD_HALF, 0, 0, 20],
    [JUMP_ANY_BIT, 4, 0, 0x3fff], // "more fragments", offset
    [LOAD_HEADER_LENGTH, 0, 0, 14],
    [LOAD_HALF_AFTER_HEADER, 0, 0, 16],
    [JUMP_EQUAL, 0, 1, port],
    [RETURN, 0, 0, 0xffff],
    [RETURN, 0, 0, 0],
  ])
}

/** Accepts ICMPv6 of one type (linux/icmpv6.h), right behind the IPv6 header, where neighbour discovery has it. */
export function icmpv6Filter(type: number): Uint8Array {
  return program([
    [LOAD_HALF, 0, 0, 12],
    [JUMP_EQUAL, 0, 5, ETH_P_IPV6],
    [LOAD_BYTE, 0, 0, 20],
    [JUMP_EQUAL, 0, 3, 58], // ICMPv6
    [LOAD_BYTE, 0, 0, 54],
    [JUMP_EQUAL, 0, 1, type],
    [RETURN, 0, 0, 0xffff],
    [RETURN, 0, 0, 0],
  ])
}

/** For a UDP socket: datagrams of so many bytes at least. An empty one would read as the socket's end. */
export function datagramFilter(length: number): Uint8Array {
  const UDP_HEADER = 8
  return program([
    [LOAD_LENGTH, 0, 0, 0],
    [JUMP_AT_LEAST, 0, 1, UDP_HEADER + length],
    [RETURN, 0, 0, 0xffff],
    [RETURN, 0, 0, 0],
  ])
}

/** A classic BPF program as bytes: an array of struct sock_filter. */
function program(instructions: readonly Instruction[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(instructions.length * 8))
  for (const [index, [code, ifTrue, ifFalse, value]] of instructions.entries()) {
    view.setUint16(index * 8, code, true)
    view.setUint8(index * 8 + 2, ifTrue)
    view.setUint8(index * 8 + 3, ifFalse)
    view.setUint32(index * 8 + 4, value, true)
  }
  return new Uint8Array(view.buffer)
}

/**
 * A non-blocking packet socket for whole frames of a protocol on a link, in the namespace that the thread is in. Nothing else
 * slips in before the filter: until it is bound, it hears nothing.
 */
export function openLinkSocket(link: number, protocol: number, filter?: Uint8Array): number {
  const descriptor = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0)
  try {
    if (filter) attachFilter(descriptor, filter)
    const address = new DataView(new ArrayBuffer(20)) // struct sockaddr_ll
    address.setUint16(0, AF_PACKET, true)
    address.setUint16(2, protocol)
    address.setInt32(4, link, true)
    bind(descriptor, new Uint8Array(address.buffer), `a packet socket to link ${link}`)
    return descriptor
  } catch (thrown) {
    close(descriptor)
    throw thrown
  }
}
