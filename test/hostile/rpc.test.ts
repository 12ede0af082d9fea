/** Whoever talks to the DHCP daemon, and whoever is in its place: what they say has an end, in bytes and in time. */
import { afterAll, expect, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { emptyResult } from '../../chain/protocol/result.ts'
import type { Registry } from '../../ipam/dhcp/daemon/registry.ts'
import { serve } from '../../ipam/dhcp/daemon/server.ts'
import { callDaemon } from '../../ipam/dhcp/rpc/dial.ts'
import { createDecoder, createEncoder, type Value } from '../../ipam/dhcp/rpc/gob.ts'
import {
  CONNECT,
  CONNECTED,
  createClientSide,
  createServerSide,
  encodeCall,
} from '../../ipam/dhcp/rpc/wire.ts'
import { dhcp } from '../../ipam/dhcp.ts'
import { call as callPlugin, mustCall } from '../fixtures/plugin.ts'
import { daemonAt, dnsmasq, lan } from '../ipam/dhcp/network.ts'

const folder = mkdtempSync('/run/hostile-rpc-')
afterAll(() => rmSync(folder, { recursive: true }))

const call = { containerId: 'c1', netns: '', ifname: 'eth0', args: '', path: '', stdin: '{}' }

/** The messages of a value: definitions of its types, and a list of so many empty structures, a byte each. */
function longList(count: number): Uint8Array {
  const list = { kind: 'list', of: { kind: 'structure', name: 'E', fields: { A: 'int' } } } as const
  const encode = createEncoder()
  return encode(
    { kind: 'structure', name: 'L', fields: { Of: list } },
    { Of: Array.from({ length: count }, (): Value => ({})) },
  )
}

test('a list of millions in a message is refused before there are millions of values', () => {
  const decode = createDecoder()
  const whole = Buffer.from(longList(400_000))
  const before = process.memoryUsage().rss
  expect(() => readAll(whole, decode)).toThrow('more than 200000 values')
  expect((process.memoryUsage().rss - before) / 1024 ** 2).toBeLessThan(128)
  expect(readAll(Buffer.from(longList(100_000)), createDecoder())).toHaveLength(1)
})

function readAll(bytes: Buffer, decode: ReturnType<typeof createDecoder>): Value[] {
  const values: Value[] = []
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at] ?? 0
    const size = first < 128 ? 0 : 256 - first
    const length = size === 0 ? first : bytes.readUIntBE(at + 1, size)
    const value = decode(bytes.subarray(at + 1 + size, at + 1 + size + length))
    if (value !== undefined) values.push(value)
    at += 1 + size + length
  }
  return values
}

test.each([
  { side: 'daemon', create: createServerSide, greeting: CONNECT },
  { side: 'plugin', create: createClientSide, greeting: CONNECTED },
])('a $side that is told the same type for ever stops listening at once', ({ create, greeting }) => {
  const end = create()
  end.receive(Buffer.from(greeting))
  const encoded = createEncoder()({ kind: 'structure', name: 'E'.repeat(90), fields: { A: 'int' } }, { A: 1 })
  const definition = encoded.subarray(0, 1 + (encoded[0] ?? 0)) // a message of its own, which has no value
  end.receive(definition)
  expect(() => end.receive(definition)).toThrow('is defined already')
})

test.each([
  { side: 'daemon', create: createServerSide, greeting: CONNECT },
  { side: 'plugin', create: createClientSide, greeting: CONNECTED },
])('a $side that is told one type after the other stops listening', ({ create, greeting }) => {
  const end = create()
  end.receive(Buffer.from(greeting))
  const encode = createEncoder()
  expect(() => {
    for (let each = 0; each < 1000; each++) {
      const encoded = encode({ kind: 'structure', name: `Type${each}`, fields: { A: 'int' } }, { A: 1 })
      end.receive(encoded.subarray(0, 1 + (encoded[0] ?? 0))) // the definition: a message of its own, which has no value
    }
  }).toThrow('more than 256 types')
})

const registry: Registry = {
  allocate: () => new Promise(() => {}),
  check: async () => emptyResult(),
  release: () => undefined,
  resume: () => undefined,
  close: () => undefined,
}

/** Connects, says something at once, and something else every now and then; answers after how many seconds it was hung up on. */
async function hungUpAfter(unix: string, first: string | Uint8Array, then = ''): Promise<number> {
  const started = performance.now()
  const closed = Promise.withResolvers<void>()
  const socket = await Bun.connect({ unix, socket: { data() {}, close: () => closed.resolve(), error() {} } })
  socket.write(first)
  const drip = setInterval(() => void socket.write(then), 500)
  await closed.promise
  clearInterval(drip)
  return (performance.now() - started) / 1000
}

test('the daemon hangs up on those who do not come to a call, and not on those who wait for an answer', async () => {
  const unix = `${folder}/daemon`
  const server = serve({ unix }, registry, () => {})
  const waiting = callDaemon(unix, 'DHCP.Allocate', call).then(
    () => 'answered',
    () => 'hung up',
  )
  const seconds = await Promise.all([
    hungUpAfter(unix, ''),
    hungUpAfter(unix, CONNECT),
    hungUpAfter(unix, 'CONNECT ', 'x'),
    hungUpAfter(unix, CONNECT, '\0'),
  ])
  for (const each of seconds) expect(each).toBeLessThan(9)
  const allocations = Buffer.concat(Array.from({ length: 17 }, () => encodeCall('DHCP.Allocate', call)))
  expect(await hungUpAfter(unix, Buffer.concat([Buffer.from(CONNECT), allocations]))).toBeLessThan(4)
  expect(await Promise.race([waiting, 'waiting'])).toBe('waiting')
  expect(await callDaemon(unix, 'DHCP.Check', call)).toEqual(emptyResult())
  server.stop()
  expect(await waiting).toBe('hung up')
})

test('a daemon that sends without an end is hung up on', async () => {
  const unix = `${folder}/endless`
  const bytes = Buffer.alloc(1024 * 1024, 1)
  const send = (socket: Bun.Socket) => {
    while (socket.write(bytes) === bytes.length);
  }
  using _server = Bun.listen({
    unix,
    socket: {
      data(socket) {
        socket.write(CONNECTED)
        send(socket)
      },
      drain: send,
    },
  })
  await expect(callDaemon(unix, 'DHCP.Check', call)).rejects.toThrow('cannot be understood')
})

test('DEL at a daemon that is there and says nothing fails; when it talks again, the lease is given back', async () => {
  using network = lan()
  await using server = await dnsmasq(network.namespace, {})
  const container = network.attach('container')
  const socket = `${folder}/stuck`
  const config = { type: 'bridge', ipam: { type: 'dhcp', daemonSocketPath: socket } }
  const first = await daemonAt(socket)
  await mustCall(dhcp, 'ADD', { config, netns: container })
  await first.end()
  const silent = Bun.listen({ unix: socket, socket: { data() {} } })
  const { json } = await callPlugin(dhcp, 'DEL', { config, netns: container })
  expect(json).toMatchObject({ code: 11, msg: expect.stringContaining('has not greeted') })
  silent.stop(true)
  await using _second = await daemonAt(socket)
  await mustCall(dhcp, 'DEL', { config, netns: container })
  expect(await server.says(/DHCPRELEASE\(br0\) \S+/)).toContain('10.9.0.')
})
