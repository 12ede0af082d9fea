import { describe, expect, test } from 'bun:test'
import {
  type ConnectionFilter,
  flushConnections,
  listConnections,
  openConntrack,
  removeConnection,
} from '../../../chain/linux/netlink/conntrack.ts'
import type { Transport } from '../../../chain/linux/netlink/socket.ts'
import { manyConnections, track } from '../../fixtures/connections.ts'
import { askUdp, serveUdp } from '../../fixtures/http.ts'
import { connect, freshNamespace } from '../../fixtures/namespace.ts'

const UDP = 17

/** A server that tracks what reaches it, and translates port 5300 of its own to 53. */
async function tracked(family: 4 | 6) {
  const [server, client, length] = family === 4 ? ['10.1.0.1', '10.1.0.2', 24] : ['fd00::1', 'fd00::2', 64]
  const one = freshNamespace()
  const other = freshNamespace()
  connect(
    { namespace: one, name: 'eth0', addresses: [`${server}/${length}`] },
    { namespace: other, name: 'eth0', addresses: [`${client}/${length}`] },
  )
  const name = family === 4 ? 'ip' : 'ip6'
  const ruleset = `table ${name} t { chain c { type nat hook prerouting priority dstnat; udp dport 5300 redirect to :53; }; }`
  one.run('nft', ruleset)
  const serving = await serveUdp(one, { port: 53, address: family === 4 ? '0.0.0.0' : '::' })
  await askUdp(other, { address: server, port: 5300 })
  return {
    one,
    server,
    client,
    conntrack: one.inside(openConntrack),
    [Symbol.dispose]() {
      serving[Symbol.dispose]()
      one[Symbol.dispose]()
      other[Symbol.dispose]()
    },
  }
}

test.each([
  { family: 4, number: 2 },
  { family: 6, number: 10 },
] as const)(
  'a translated connection of IPv$family is listed with both its directions',
  async ({ family, number }) => {
    using here = await tracked(family)
    const found = listConnections(here.conntrack, number).filter(({ original }) => original.protocol === UDP)
    expect(found).toHaveLength(1)
    const { original, reply } = found[0] ?? { original: undefined, reply: undefined }
    const { server, client } = here
    expect(original).toEqual({
      source: client,
      destination: server,
      protocol: UDP,
      sourcePort: expect.any(Number),
      destinationPort: 5300,
    })
    expect(reply).toEqual({
      source: server,
      destination: client,
      protocol: UDP,
      sourcePort: 53,
      destinationPort: original?.sourcePort ?? 0,
    })
    here.conntrack.close()
  },
)

test('a connection is forgotten once, and alone', async () => {
  using here = await tracked(4)
  const udp = () => listConnections(here.conntrack, 2).filter(({ original }) => original.protocol === UDP)
  const [found] = udp()
  if (!found) throw new Error('no connection')
  expect([removeConnection(here.conntrack, found), removeConnection(here.conntrack, found)]).toEqual([
    'removed',
    'absent',
  ])
  expect(udp()).toEqual([])
  here.conntrack.close()
})

test('only those are forgotten that are picked', async () => {
  using here = await tracked(4)
  const flush = (port: number) =>
    here.one.inside(() =>
      flushConnections({ protocol: UDP }, ({ original }) => original.destinationPort === port),
    )
  expect([flush(5301), flush(5300), flush(5300)]).toEqual([0, 1, 0])
})

describe('of ten thousand connections', () => {
  const clients = { source: '10.9.0.1', destination: '192.0.2.53' }
  const wantedOnes = [
    { ...clients, sourcePort: 1, destinationPort: 5353, answers: { address: '10.1.0.2', port: 53 } },
    { ...clients, sourcePort: 2, destinationPort: 5354, answers: { address: '10.1.0.2', port: 54 } },
    { ...clients, sourcePort: 3, destinationPort: 5353, answers: { address: '10.1.0.3', port: 53 } },
  ]
  const ports = (...numbers: number[]) => ({ protocol: UDP, ports: new Set(numbers) })
  const filters: { name: string; wanted: ConnectionFilter; found: number[]; limit: number }[] = [
    { name: 'those to a port', wanted: ports(5353), found: [1, 3], limit: 2000 },
    { name: 'those to several ports', wanted: ports(5353, 5354, 5355), found: [1, 2, 3], limit: 4000 },
    {
      name: 'those to a hundred ports',
      wanted: ports(...Array.from({ length: 100 }, (_, index) => 5353 + index)),
      found: [1, 2, 3],
      limit: Number.POSITIVE_INFINITY, // asked for all together
    },
    {
      name: 'those that an address answers',
      wanted: { protocol: UDP, replySource: '10.1.0.2' },
      found: [1, 2],
      limit: 2000,
    },
    {
      name: 'those of another protocol',
      wanted: { protocol: 6, ports: new Set([5353]) },
      found: [],
      limit: 2000,
    },
  ]

  /** A kernel before 5.8: CTA_FILTER is nothing that it knows. */
  function withoutFilters(conntrack: Transport): Transport {
    return { ...conntrack, send: datagram => conntrack.send(withUnknownFilter(datagram)) }
  }

  function withUnknownFilter(datagram: Uint8Array): Uint8Array {
    const bytes = Uint8Array.from(datagram)
    for (let at = 20; at < bytes.length; at += ((bytes[at] ?? 0) + 3) & ~3)
      if (bytes[at + 2] === 25) bytes[at + 2] = 99
    return bytes
  }

  test('the kernel sends only what is wanted, and where it sends all, only that is kept', () => {
    using namespace = freshNamespace()
    namespace.run('nft', 'table ip t { chain c { type nat hook prerouting priority dstnat; }; }')
    track(namespace, [...manyConnections(10_000, 53), ...wantedOnes])
    using conntrack = namespace.inside(openConntrack)
    let bytes = 0
    const counting: Transport = {
      ...conntrack,
      receive() {
        const datagram = conntrack.receive()
        bytes += datagram.length
        return datagram
      },
    }
    for (const { name, wanted, found, limit } of filters) {
      bytes = 0
      const sources = (of: Transport) =>
        listConnections(of, 2, wanted)
          .map(({ original }) => original.sourcePort)
          .sort()
      expect({ name, sources: sources(counting) }).toEqual({ name, sources: found })
      expect(bytes).toBeLessThan(limit)
      expect({ name, sources: sources(withoutFilters(conntrack)) }).toEqual({ name, sources: found })
    }
  })
})

test('where nothing is tracked the list is empty', () => {
  using lonely = freshNamespace()
  using conntrack = lonely.inside(openConntrack)
  expect([listConnections(conntrack, 2), listConnections(conntrack, 10)]).toEqual([[], []])
})
