import { expect, test } from 'bun:test'
import { createDecoder, GobError, nextMessage } from '../../../../ipam/dhcp/rpc/gob.ts'
import {
  CONNECT,
  CONNECTED,
  createClientSide,
  createServerSide,
  encodeCall,
} from '../../../../ipam/dhcp/rpc/wire.ts'
import { allocateAnswer, allocateCall, releaseAnswer, releaseCall } from '../captured.ts'

const call = {
  containerId: 'c1',
  netns: '/run/netns/ctr',
  ifname: 'eth0',
  args: '',
  path: '/opt/cni/bin',
  stdin:
    '{"cniVersion":"1.0.0","name":"net","type":"macvlan","ipam":{"type":"dhcp","daemonSocketPath":"/run/dhcp.sock","request":[{"option":"121"}]}}\n',
}
const result = {
  interfaces: [],
  ips: [{ address: '10.9.0.91/24', gateway: '10.9.0.1' }],
  routes: [
    { dst: '192.168.7.0/24', gw: '10.9.0.9' },
    { dst: '0.0.0.0/0', gw: '10.9.0.1' },
  ],
  dns: {},
}

test.each([
  { name: 'Allocate', bytes: allocateCall, method: 'DHCP.Allocate' },
  { name: 'Release', bytes: releaseCall, method: 'DHCP.Release' },
])('the call for $name of the Go plugin, however it is cut', ({ bytes, method }) => {
  const whole = Buffer.concat([Buffer.from(CONNECT), bytes])
  for (const size of [1, 7, 64, whole.length]) {
    const side = createServerSide()
    let reply = ''
    const asked: unknown[] = []
    for (let at = 0; at < whole.length; at += size) {
      const received = side.receive(whole.subarray(at, Math.min(at + size, whole.length)))
      reply += Buffer.from(received.reply).toString()
      asked.push(...received.asked)
    }
    expect({ reply, asked }).toEqual({ reply: CONNECTED, asked: [{ method, sequence: 0, call }] })
  }
})

test('the call that we make is the bytes that the Go plugin makes', () => {
  expect(Buffer.from(encodeCall('DHCP.Allocate', call)).toString('hex')).toBe(
    Buffer.from(allocateCall).toString('hex'),
  )
  expect(Buffer.from(encodeCall('DHCP.Release', call)).toString('hex')).toBe(
    Buffer.from(releaseCall).toString('hex'),
  )
})

test('the answers of the Go daemon', () => {
  const answered = (bytes: Uint8Array) =>
    createClientSide().receive(Buffer.concat([Buffer.from(CONNECTED), bytes])).answer
  expect(answered(allocateAnswer)).toEqual({ result })
  expect(answered(releaseAnswer)).toEqual({ result: { interfaces: [], ips: [], routes: [], dns: {} } })
})

const full = {
  interfaces: [],
  ips: [{ address: '10.9.0.91/32' }, { address: 'fd00::1/64', gateway: 'fd00::ff' }],
  routes: [{ dst: '10.0.0.0/8', mtu: 1400, priority: 70_000, scope: 253 }],
  dns: { nameservers: ['1.1.1.1'], domain: 'example.org', search: ['a', 'b'] },
}

test('what a daemon of ours answers, a plugin of ours reads, call after call', () => {
  const server = createServerSide()
  const asked = { method: 'DHCP.Allocate', sequence: 3, call }
  const first = server.answer(asked, full)
  const client = createClientSide()
  expect(client.receive(Buffer.concat([Buffer.from(CONNECTED), first])).answer).toEqual({ result: full })
  const refused = createClientSide()
  const error = createServerSide().answer(asked, new Error('no address'))
  expect(refused.receive(Buffer.concat([Buffer.from(CONNECTED), error])).answer).toEqual({
    error: 'no address',
  })
})

test('a client that does not greet, or talks another protocol, is refused', () => {
  expect(() => createServerSide().receive(Buffer.from('GET / HTTP/1.1\r\n\r\n'))).toThrow(GobError)
  expect(() => createServerSide().receive(Buffer.alloc(10_000, 65))).toThrow(GobError)
  expect(() => createClientSide().receive(Buffer.from('HTTP/1.0 404 Not Found\n\n'))).toThrow(GobError)
})

test.each([
  { name: 'a message of a gigabyte', hex: 'fc40000000' },
  { name: 'a length of nine bytes', hex: 'f7010203040506070809' },
  { name: 'a value of a type that was not announced', hex: '03ff8200' },
  { name: 'a message that ends too early', hex: '02ff81' },
])('$name is refused', ({ hex }) => {
  const decode = createDecoder()
  expect(() => {
    const next = nextMessage(Buffer.from(hex, 'hex'))
    if (next) decode(next.message)
    else throw new Error('it waits for more')
  }).toThrow(GobError)
})

test('a stream spoilt in any place ends, in values or in GobError', () => {
  for (const stream of [allocateCall, allocateAnswer]) {
    for (let at = 0; at < stream.length; at++) {
      for (const value of [0, 1, 0x7f, 0xff, (stream[at] ?? 0) ^ 0x10]) {
        const spoilt = Uint8Array.from(stream)
        spoilt[at] = value
        try {
          createServerSide().receive(Buffer.concat([Buffer.from(CONNECT), spoilt]))
          createClientSide().receive(Buffer.concat([Buffer.from(CONNECTED), spoilt]))
        } catch (thrown) {
          if (!(thrown instanceof GobError)) throw thrown
        }
      }
    }
  }
})
