/** Packet sockets that hear one link only, and of it only what they are for. */
import { describe, expect, test } from 'bun:test'
import { readdirSync } from 'node:fs'
import { openEventSocket } from '../../chain/linux/event-socket.ts'
import { close } from '../../chain/linux/libc/file.ts'
import {
  attachFilter,
  bind,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  sendTo,
  socket,
} from '../../chain/linux/libc/socket.ts'
import {
  datagramFilter,
  ETH_P_ARP,
  ETH_P_IP,
  ETH_P_IPV6,
  icmpv6Filter,
  openLinkSocket,
  udpPortFilter,
} from '../../chain/linux/packet-socket.ts'
import { connect, freshNamespace, type Namespace } from '../fixtures/namespace.ts'

/** A frame to everybody, from no one in particular. */
function frame(protocol: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(14 + payload.length)
  bytes.set([255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9, protocol >> 8, protocol & 255])
  bytes.set(payload, 14)
  return bytes
}

interface Datagram {
  port: number
  mark: number
  protocol?: number
  /** Flags and offset of fragments. */
  fragment?: number
  /** Words of four bytes. */
  options?: number
}

/** UDP over IPv4 without checksums; its last byte is the mark. */
function datagram({ port, mark, protocol = 17, fragment = 0, options = 0 }: Datagram): Uint8Array {
  const head = 20 + options * 4
  const view = new DataView(new ArrayBuffer(head + 9))
  view.setUint8(0, 0x40 | (head / 4))
  view.setUint16(2, head + 9)
  view.setUint16(6, fragment)
  view.setUint8(8, 64)
  view.setUint8(9, protocol)
  view.setUint32(16, 0xffffffff)
  view.setUint16(head + 2, port)
  view.setUint16(head + 4, 9)
  view.setUint8(head + 8, mark)
  return frame(ETH_P_IP, new Uint8Array(view.buffer))
}

/** An IPv6 header and one of ICMPv6, whose code is the mark. */
function icmpv6(type: number, mark: number, next = 58): Uint8Array {
  const view = new DataView(new ArrayBuffer(44))
  view.setUint8(0, 0x60)
  view.setUint16(4, 4)
  view.setUint8(6, next)
  view.setUint8(40, type)
  view.setUint8(41, mark)
  return frame(ETH_P_IPV6, new Uint8Array(view.buffer))
}

function send(from: Namespace, frames: readonly Uint8Array[]): void {
  const descriptor = from.inside(() => socket(17, SOCK_RAW, 0)) // AF_PACKET
  const address = new DataView(new ArrayBuffer(20)) // struct sockaddr_ll
  address.setUint16(0, 17, true)
  address.setInt32(4, from.link('eth0').index, true)
  for (const each of frames) sendTo(descriptor, each, new Uint8Array(address.buffer))
  close(descriptor)
}

/** What a socket on the link hears of some frames, up to the last, which it must hear. */
async function heard(
  protocol: number,
  filter: Uint8Array | undefined,
  frames: readonly Uint8Array[],
): Promise<Uint8Array[]> {
  using one = freshNamespace('one')
  using other = freshNamespace('other')
  connect({ namespace: one, name: 'eth0' }, { namespace: other, name: 'eth0' })
  const received: Uint8Array[] = []
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const last = frames.at(-1) ?? new Uint8Array(0)
  const hearing = openEventSocket(
    one.inside(() => openLinkSocket(one.link('eth0').index, protocol, filter)),
    {
      received(bytes) {
        if (bytes[6] !== 2 || bytes[11] !== 9) return // the kernel’s own
        received.push(Uint8Array.from(bytes))
        if (Buffer.from(bytes).equals(last)) resolve()
      },
      failed: reject,
    },
  )
  send(other, frames)
  await promise
  hearing.close()
  return received
}

const marks = (frames: readonly Uint8Array[]) => frames.map(each => each.at(-1))

test('UDP over IPv4 to the one port is heard, whatever options it has, and no fragment', async () => {
  const frames = [
    datagram({ port: 68, mark: 1 }),
    datagram({ port: 67, mark: 2 }),
    datagram({ port: 68, mark: 3, protocol: 6 }),
    datagram({ port: 68, mark: 4, fragment: 0x2000 }), // more fragments
    datagram({ port: 68, mark: 5, fragment: 0x0001 }), // a later one
    datagram({ port: 68, mark: 6, fragment: 0x4000 }), // don't fragment
    datagram({ port: 68, mark: 7, options: 10 }),
    frame(ETH_P_IP, new Uint8Array(3)), // too short for all of it
    datagram({ port: 68, mark: 9 }),
  ]
  expect(marks(await heard(ETH_P_IP, udpPortFilter(68), frames))).toEqual([1, 6, 7, 9])
})

test('ICMPv6 of the one type is heard', async () => {
  const frames = [icmpv6(134, 1), icmpv6(133, 2), icmpv6(134, 3, 17), icmpv6(134, 4)]
  const seen = await heard(ETH_P_IPV6, icmpv6Filter(134), frames)
  expect(seen.map(each => each[14 + 41])).toEqual([1, 4])
})

test('without a filter all of a protocol is heard, and nothing of another', async () => {
  const arp = (mark: number) => frame(ETH_P_ARP, Uint8Array.from([...new Uint8Array(27), mark]))
  expect(marks(await heard(ETH_P_ARP, undefined, [datagram({ port: 68, mark: 1 }), arp(2), arp(3)]))).toEqual(
    [2, 3],
  )
})

describe('datagrams', () => {
  test('that are too short for anything are not heard: an empty one reads as the end', async () => {
    using host = freshNamespace()
    const address = new Uint8Array(16) // struct sockaddr_in, 127.0.0.1:4711
    address.set([2, 0, 4711 >> 8, 4711 & 255, 127, 0, 0, 1])
    const [hearing, sending] = host.inside(() => [
      socket(2, SOCK_DGRAM | SOCK_NONBLOCK, 0),
      socket(2, SOCK_DGRAM | SOCK_NONBLOCK, 0),
    ]) as [number, number]
    bind(hearing, address)
    attachFilter(hearing, datagramFilter(4))
    const received: string[] = []
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const events = openEventSocket(hearing, {
      received(bytes) {
        received.push(Buffer.from(bytes).toString())
        if (received.at(-1) === 'the end') resolve()
      },
      failed: reject,
    })
    for (const text of ['', 'x', 'xyz', 'four', 'the end']) sendTo(sending, Buffer.from(text), address)
    await promise
    events.close()
    close(sending)
    expect(received).toEqual(['four', 'the end'])
  })
})

test('of a link that is not there no socket is left', () => {
  using host = freshNamespace()
  const before = readdirSync('/proc/self/fd').length
  expect(() => host.inside(() => openLinkSocket(4711, ETH_P_ARP))).toThrow('a packet socket to link 4711')
  expect(readdirSync('/proc/self/fd')).toHaveLength(before)
})
