/** What a packet costs does not grow with the ports that are published: counted in rules, since a clock depends on the machine. */
import { expect, test } from 'bun:test'
import { hostLocal } from '../../../ipam/host-local.ts'
import { bridge } from '../../../main/bridge.ts'
import { portmap } from '../../../meta/portmap.ts'
import { outsideHost } from '../../fixtures/bridge.ts'
import { type Chain, chainOf } from '../../fixtures/chain.ts'
import { getHttp, serveHttp } from '../../fixtures/http.ts'
import { freshNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { snapshot } from '../../fixtures/snapshot.ts'

const FIRST = 20_000

// subnets of its own: bridges of other tests stay
const ranges = [[{ subnet: '10.61.0.0/16' }], [{ subnet: 'fd00:61::/64' }]]
const ipam = { type: 'host-local', ranges }

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

/**
 * What a packet may have to walk through, one after the other: rules, and elements of sets with intervals, in which every
 * element that begins as the packet does is looked at. Sets and maps without intervals are tables of hashes.
 */
function walked(lines: readonly string[]) {
  const elements = lines.flatMap(line => {
    const { set, map } = line.startsWith('nft ') ? JSON.parse(line.slice('nft '.length)) : {}
    const { name, family, flags = [], elem = [] } = set ?? map ?? {}
    return flags.includes('interval') ? [`${family} ${name}: ${elem.length}`] : []
  })
  return { rules: lines.filter(line => line.startsWith('nft {"rule":')).length, elements: elements.sort() }
}

test('with 2,000 published ports there is no more to walk through than with one, and the last port answers', async () => {
  using outside = outsideHost()
  const before = snapshot()
  const counts: object[] = []
  for (const count of [1, 2000]) {
    using container = freshNamespace()
    const chain = publishing(container, count)
    await chain.add()
    counts.push(walked(snapshot().filter(line => !before.includes(line))))
    using _server = serveHttp(container, { port: 80, answer: 'here' })
    for (const address of ['192.0.2.1', '2001:db8::1']) {
      expect(await getHttp(outside, { address, port: FIRST + count - 1 })).toBe('here')
    }
    expect(await chain.check()).toMatchObject({ status: 0 })
    await chain.del()
  }
  expect(counts[1]).toEqual(counts[0] ?? {})
})
