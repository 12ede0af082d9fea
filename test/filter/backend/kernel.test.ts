/**
 * Kernels that lack what our nftables tables are made of: before Linux 5.6 sets of concatenations with intervals, or nf_tables
 * as a whole. They refuse as these engines do.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import type { Variant } from '../../../chain/linux/iptables/tools.ts'
import { errno } from '../../../chain/linux/libc/errno.ts'
import { applyRuleset } from '../../../chain/linux/nftables/engine.ts'
import { type Command, describeCommand, type Engine, NftError } from '../../../chain/linux/nftables/nft.ts'
import type { Plugin } from '../../../chain/plugin/define.ts'
import { bridge } from '../../../main/bridge.ts'
import { ptp } from '../../../main/ptp.ts'
import { portmap } from '../../../meta/portmap.ts'
import { outsideHost } from '../../fixtures/bridge.ts'
import { chainOf } from '../../fixtures/chain.ts'
import { getHttp, serveHttp } from '../../fixtures/http.ts'
import { choose, hideTools } from '../../fixtures/iptables.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { call, peers } from '../../fixtures/plugin.ts'
import { difference, snapshot } from '../../fixtures/snapshot.ts'
import { http } from '../../meta/portmap/place.ts'
import { backendsOf, clearHost, nodeWide } from './place.ts'

beforeAll(clearHost)
afterEach(clearHost)
afterAll(clearHost)

function refuse(number: number, command?: Command): never {
  const words = 'nf_tables: Operation not supported'
  const what = command ? `: ${describeCommand(command)}` : ''
  throw new NftError(`apply nftables rules${what}: ${words}`, words, { errno: number, command })
}

function hasConcatenatedIntervals(command: Command): boolean {
  const set = command.verb === 'add' && command.kind === 'set' ? command : undefined
  return Array.isArray(set?.type) && Boolean(set.flags?.includes('interval'))
}

const kernels: { name: string; engine: Engine; variant: Variant; says: RegExp }[] = [
  ...([errno.EOPNOTSUPP, errno.EINVAL] as const).map(number => ({
    name: `before 5.6 (errno ${number})`,
    engine: (async (commands, generation) => {
      const refused = commands.find(hasConcatenatedIntervals)
      if (refused) refuse(number, refused)
      await applyRuleset(commands, generation)
    }) satisfies Engine,
    variant: 'nf_tables' as const,
    says: /^nf_tables of this kernel holds no networks beside addresses in one set, which takes Linux 5\.6$/,
  })),
  {
    name: 'without nf_tables',
    engine: async commands => {
      if (commands.length > 0) refuse(errno.EOPNOTSUPP)
    },
    variant: 'legacy',
    says: /^the kernel has no nf_tables$/,
  },
]

const ipam = {
  type: 'host-local',
  ranges: [[{ subnet: '10.61.0.0/24' }], [{ subnet: 'fd00:61::/64' }]],
  routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
}
const main = (plugin: Plugin, ipMasqBackend: string) => ({
  plugin,
  config: { type: plugin.name, bridge: 'cni61', isGateway: true, ipMasq: true, ipMasqBackend, ipam },
})

function attached(
  container: Namespace,
  { engine, plugin = bridge, backend = '' }: { engine: Engine; plugin?: Plugin; backend?: string },
) {
  const runtimeConfig = { portMappings: [http(8080)] }
  const links = [
    main(plugin, backend),
    { plugin: portmap, config: { type: 'portmap', backend, runtimeConfig } },
  ]
  return chainOf(links, { netns: container, containerId: container.name, path: peers, engine })
}

describe.each(kernels)('on a kernel $name', ({ engine, variant, says }) => {
  test.each([bridge, ptp])('iptables stands in for a silent $name and portmap', async plugin => {
    using _choice = choose(variant)
    using outside = outsideHost()
    using container = freshNamespace()
    using _published = serveHttp(container, { port: 80, answer: 'container' })
    using _outside = serveHttp(outside, { port: 81 })
    const chain = attached(container, { engine, plugin })
    await chain.add()
    expect(backendsOf()).toEqual([variant])
    expect(await getHttp(outside, { address: '192.0.2.1', port: 8080 })).toBe('container')
    expect(await getHttp(container, { address: '192.0.2.2', port: 81 })).toBe('192.0.2.1')
    expect(await chain.check()).toMatchObject({ status: 0 })
    await chain.del()
    expect(backendsOf()).toEqual([])
  })

  test.each([main(bridge, ''), main(ptp, ''), { plugin: portmap, config: { type: 'portmap' } }])(
    'STATUS of a silent $plugin.name says so',
    async ({ plugin, config }) => {
      using _choice = choose(variant)
      const { status, stderr } = await call(plugin, 'STATUS', { config, engine, path: peers })
      expect(status).toBe(0)
      expect(stderr).toMatch(
        / by iptables \((nf_tables|legacy)\), because (nf_tables of this kernel|the kernel has no)/,
      )
    },
  )

  const insisting = [
    { name: 'where the configuration insists on nftables', backend: 'nftables', withoutTools: false },
    { name: 'where there are no tools of iptables', backend: '', withoutTools: true },
  ]

  test.each(insisting)('ADD and STATUS refuse in a sentence $name', async ({ backend, withoutTools }) => {
    using _tools = withoutTools ? hideTools() : undefined
    using container = freshNamespace()
    const before = snapshot().filter(line => !line.includes('last_reserved_ip'))
    for (const { plugin, config } of [
      main(bridge, backend),
      main(ptp, backend),
      {
        plugin: portmap,
        config: { type: 'portmap', backend, runtimeConfig: { portMappings: [http(8080)] } },
      },
    ]) {
      const prevResult = { cniVersion: '1.1.0', ips: [{ address: '10.61.0.2/24' }] }
      const options = { netns: container, path: peers, engine }
      const added = await call(plugin, 'ADD', {
        ...options,
        config: plugin === portmap ? { ...config, prevResult } : config,
      })
      expect(added.json).toMatchObject({
        msg: expect.stringMatching(says),
        details: expect.stringMatching(/iptables/),
      })
      const { json } = await call(plugin, 'STATUS', { ...options, config })
      expect(json).toMatchObject({ code: 50, msg: expect.stringMatching(says) })
    }
    const after = snapshot().filter(line => !line.includes('last_reserved_ip'))
    expect(difference(before, after).added).toEqual([])
  })

  test('what /etc/cni/catena.json says gives way', async () => {
    using _choice = choose(variant)
    using _node = nodeWide({ backend: 'nftables' })
    using container = freshNamespace()
    const chain = attached(container, { engine })
    await chain.add()
    expect(backendsOf()).toEqual([variant])
    await chain.del()
  })
})

test('STATUS tries the sets without leaving a trace', async () => {
  const before = hostNamespace().run('nft', 'list', 'ruleset')
  const { status } = await call(portmap, 'STATUS', { config: { type: 'portmap' } })
  expect(status).toBe(0)
  expect(hostNamespace().run('nft', 'list', 'ruleset')).toBe(before)
})
