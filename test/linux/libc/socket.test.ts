/** Sockets, between two of them in a namespace of their own. */
import { expect, test } from 'bun:test'
import { errno, isErrno } from '../../../chain/linux/libc/errno.ts'
import { close } from '../../../chain/linux/libc/file.ts'
import {
  attachFilter,
  bind,
  connect,
  enlargeBuffer,
  getSocketOption,
  limitReceiving,
  MSG_DONTWAIT,
  MSG_PEEK,
  MSG_TRUNC,
  receive,
  SOCK_DGRAM,
  send,
  sendTo,
  socket,
} from '../../../chain/linux/libc/socket.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'

/** struct sockaddr_in: family, port, address */
const at = (port: number) => Uint8Array.of(2, 0, port >> 8, port & 255, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)

/** Two sockets of UDP in a namespace, the first at port 1000, the second at 2000 and connected with it. */
function twoSockets() {
  const namespace = freshNamespace()
  const [one, other] = namespace.inside(() => [socket(2, SOCK_DGRAM, 0), socket(2, SOCK_DGRAM, 0)] as const)
  bind(one, at(1000), 'port 1000')
  bind(other, at(2000), 'port 2000')
  connect(other, at(1000), 'port 1000')
  return {
    one,
    other,
    [Symbol.dispose]() {
      close(one)
      close(other)
      namespace[Symbol.dispose]()
    },
  }
}

function refusalOf(body: () => unknown): number | undefined {
  try {
    body()
    return undefined
  } catch (thrown) {
    return isErrno(thrown, ...Object.values(errno)) ? thrown.errno : Number.NaN
  }
}

test('a datagram arrives with its sender, and its true length where the buffer is short', () => {
  using pair = twoSockets()
  expect(send(pair.other, Uint8Array.of(1, 2, 3, 4))).toBe(4)
  const [buffer, sender] = [new Uint8Array(2), new Uint8Array(16)]
  expect(receive(pair.one, buffer, { flags: MSG_PEEK | MSG_TRUNC, sender })).toBe(4)
  expect([[...buffer], [...sender]]).toEqual([[1, 2], [...at(2000)]])
  expect(receive(pair.one, new Uint8Array(8))).toBe(4)
  expect(refusalOf(() => receive(pair.one, buffer, { flags: MSG_DONTWAIT }))).toBe(errno.EAGAIN)
})

test('a datagram of nothing is one', () => {
  using pair = twoSockets()
  expect(sendTo(pair.one, new Uint8Array(0), at(2000))).toBe(0)
  expect(receive(pair.other, new Uint8Array(1), { flags: MSG_DONTWAIT })).toBe(0)
})

test('reading gives up after its time', () => {
  using pair = twoSockets()
  limitReceiving(pair.one, 1)
  const started = performance.now()
  expect(refusalOf(() => receive(pair.one, new Uint8Array(1)))).toBe(errno.EAGAIN)
  expect(performance.now() - started).toBeGreaterThan(900)
})

test('a filter lets through what it accepts', () => {
  using pair = twoSockets()
  // BPF: load the first byte after the header of UDP; 7 is accepted whole, anything else not at all
  const program = new Uint8Array(
    Uint16Array.of(
      ...[0x30, 0, 8, 0], // ldb [8]
      ...[0x15, 0x0100, 7, 0], // jeq 7: on, else one further
      ...[0x06, 0, 0xffff, 0], // accept
      ...[0x06, 0, 0, 0], // drop
    ).buffer,
  )
  attachFilter(pair.one, program)
  send(pair.other, Uint8Array.of(6))
  send(pair.other, Uint8Array.of(7, 1))
  const buffer = new Uint8Array(8)
  expect(receive(pair.one, buffer, { flags: MSG_DONTWAIT })).toBe(2)
  expect(refusalOf(() => receive(pair.one, buffer, { flags: MSG_DONTWAIT }))).toBe(errno.EAGAIN)
})

test('a buffer is enlarged beyond the usual limit', () => {
  using pair = twoSockets()
  const size = () => {
    const value = new Uint8Array(4)
    getSocketOption(pair.one, { level: 1, option: 8 }, value) // SOL_SOCKET, SO_RCVBUF
    return new DataView(value.buffer).getUint32(0, true)
  }
  enlargeBuffer(pair.one, 'receiving', 8_000_000)
  expect(size()).toBe(16_000_000) // the kernel doubles it
})

test('an address that is taken is refused, and named', () => {
  using pair = twoSockets()
  expect(() => bind(pair.one, at(2000), 'port 2000')).toThrow('bind port 2000')
  expect(() => socket(2, 99, 0)).toThrow('socket(2, 99, 0)')
})
