import { expect, test } from 'bun:test'
import {
  flushConnections,
  listConnections,
  openConntrack,
  removeConnection,
} from '../../../chain/linux/netlink/conntrack.ts'
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

test('where nothing is tracked the list is empty', () => {
  using lonely = freshNamespace()
  using conntrack = lonely.inside(openConntrack)
  expect([listConnections(conntrack, 2), listConnections(conntrack, 10)]).toEqual([[], []])
})
