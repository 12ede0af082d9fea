/** What a packet costs does not grow with the ports that are published: counted in rules, since a clock depends on the machine. */
import { expect, test } from 'bun:test'
import { hostLocal } from '../../../ipam/host-local.ts'
import { bridge } from '../../../main/bridge.ts'
import { portmap } from '../../../meta/portmap.ts'
import { ipam, outsideHost } from '../../fixtures/bridge.ts'
import { type Chain, chainOf } from '../../fixtures/chain.ts'
import { getHttp, serveHttp } from '../../fixtures/http.ts'
import { freshNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { snapshot } from '../../fixtures/snapshot.ts'

const FIRST = 20_000

/** The last of the ports leads to the container's port 80. */
function publishing(container: Namespace, count: number): Chain {
  const portMappings = Array.from({ length: count }, (_, index) => ({
    hostPort: FIRST + index,
    containerPort: index === count - 1 ? 80 : 1000 + index,
    protocol: 'tcp',
  }))
  const links = [
    { plugin: bridge, config: { bridge: 'effort0', isDefaultGateway: true, ipam } },
    { plugin: portmap, config: { runtimeConfig: { portMappings } } },
  ]
  return chainOf(links, {
    name: 'effort',
    netns: container,
    containerId: container.name,
    delegates: [hostLocal],
  })
}

test('with 2,000 published ports there are the rules that there are with one, and the last port answers', async () => {
  using outside = outsideHost()
  const before = snapshot()
  const counts: number[] = []
  for (const count of [1, 2000]) {
    using container = freshNamespace()
    const chain = publishing(container, count)
    await chain.add()
    const added = snapshot().filter(line => !before.includes(line))
    counts.push(added.filter(line => line.startsWith('nft {"rule":')).length)
    using _server = serveHttp(container, { port: 80, answer: 'here' })
    for (const address of ['192.0.2.1', '2001:db8::1']) {
      expect(await getHttp(outside, { address, port: FIRST + count - 1 })).toBe('here')
    }
    expect(await chain.check()).toMatchObject({ status: 0 })
    await chain.del()
  }
  expect(counts[0]).toBeGreaterThan(0)
  expect(counts[1]).toBe(counts[0])
})

test('no set of published ports is one of intervals, whose look-up grows with what is in it', async () => {
  using container = freshNamespace()
  const chain = publishing(container, 1)
  await chain.add()
  const ports = snapshot().filter(line => /^nft {"map":.*"name":"(port|hostip)_/.test(line))
  await chain.del()
  expect(ports.length).toBe(12) // three for either key, in both families
  expect(ports.filter(line => line.includes('interval'))).toEqual([])
})
