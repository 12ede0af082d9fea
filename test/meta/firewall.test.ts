import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { applyRuleset } from '../../chain/linux/nftables/engine.ts'
import { type Engine, NftError } from '../../chain/linux/nftables/nft.ts'
import { firewall } from '../../meta/firewall.ts'
import { freshNamespace, hostNamespace } from '../fixtures/namespace.ts'
import { call, mustCall } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'
import {
  addressesIn,
  detectDuplicates,
  elements,
  expectReached,
  firewalled,
  nft,
  OUTSIDE,
  outsideHost,
  removeBridges,
  serveAll,
  threeContainers,
} from './firewall/place.ts'

const nftables = { backend: 'nftables' }
const families = ['ip', 'ip6'] as const

beforeAll(() => detectDuplicates('0'))
afterAll(() => detectDuplicates('1'))

afterEach(() => {
  nft('flush', 'ruleset')
  removeBridges()
})

test.each([
  { name: 'bridge', through: undefined },
  { name: 'ptp', through: 'ptp' as const },
])(
  'behind $name, packets of a container and answers to them are accepted although an administrator drops all others',
  async ({ through }) => {
    using outside = outsideHost()
    using container = freshNamespace()
    const chain = firewalled(container, { config: nftables, ...(through ? { through } : {}) })
    await chain.add()
    using _servers = serveAll(outside, container)
    await expectReached(outside, addressesIn(chain), 'both')
    for (const family of families) nft(`chain ${family} catena forward { policy drop; }`)
    await expectReached(container, OUTSIDE, 'both')
    await expectReached(outside, addressesIn(chain), 'none')
    for (const family of families) nft('flush', 'set', family, 'catena', 'forwarded')
    await expectReached(container, OUTSIDE, 'none')
    await chain.del()
  },
)

describe('overrides', () => {
  test('what an administrator drops is dropped, and is there still when the last container has gone', async () => {
    using outside = outsideHost()
    using container = freshNamespace()
    using _servers = serveAll(outside)
    const chain = firewalled(container, { config: nftables })
    await chain.add()
    await expectReached(container, OUTSIDE, 'both')
    for (const family of families) nft(`add rule ${family} catena CNI-ADMIN oifname ${outside.uplink} drop`)
    await expectReached(container, OUTSIDE, 'none')
    expect(await chain.check()).toMatchObject({ status: 0 })
    await chain.del()
    expect(elements()).toEqual([])
    for (const family of families)
      expect(nft('list', 'chain', family, 'catena', 'CNI-ADMIN')).toContain('drop')
    await chain.add()
    await expectReached(container, OUTSIDE, 'none')
    for (const family of families) nft('flush', 'chain', family, 'catena', 'CNI-ADMIN')
    await expectReached(container, OUTSIDE, 'both')
    await chain.del()
    expect(nft('list', 'ruleset')).toBe('')
  })

  test('they may have been written before the first container, in a chain of another name', async () => {
    using outside = outsideHost()
    using container = freshNamespace()
    using _servers = serveAll(outside)
    for (const family of families) {
      nft(`add table ${family} catena`)
      nft(`add chain ${family} catena my-rules`)
      nft(`add rule ${family} catena my-rules oifname ${outside.uplink} drop`)
    }
    const chain = firewalled(container, { config: { ...nftables, iptablesAdminChainName: 'my-rules' } })
    await chain.add()
    await expectReached(container, OUTSIDE, 'none')
    await chain.del()
    for (const family of families)
      expect(nft('list', 'chain', family, 'catena', 'my-rules')).toContain('drop')
  })
})

describe('DEL', () => {
  test('ADD and DEL, and DEL again, leave the host as it was', async () => {
    using container = freshNamespace()
    const chain = firewalled(container, { config: { ingressPolicy: 'isolated' } })
    await chain.add() // the bridge outlives it
    await chain.del()
    const before = snapshot()
    await chain.add()
    await chain.del()
    await chain.del()
    const { added, gone } = difference(before, snapshot())
    const isMemory = (line: string) => line.includes('/last_reserved_ip.')
    expect([...added, ...gone].filter(line => !isMemory(line))).toEqual([])
  })

  test.each([
    { name: 'a namespace', changes: { netns: undefined } },
    { name: 'prevResult', changes: { config: { name: 'net-1' } } },
    {
      name: 'a configuration that ADD would take',
      changes: { config: { name: 'net-1', backend: 'nft', ingressPolicy: 7 } },
    },
  ])('needs no $name', async ({ changes }) => {
    using container = freshNamespace()
    const chain = firewalled(container, { config: { ...nftables, ingressPolicy: 'isolated' } })
    await chain.add()
    await mustCall(firewall, 'DEL', {
      netns: container,
      containerId: container.name,
      config: { ...nftables, name: 'net-1', prevResult: chain.result },
      ...changes,
    })
    expect(nft('list', 'ruleset')).toBe('')
    await chain.del()
  })

  test('succeeds when somebody has flushed everything', async () => {
    using container = freshNamespace()
    const chain = firewalled(container, { config: { ...nftables, ingressPolicy: 'isolated' } })
    await chain.add()
    nft('flush', 'ruleset')
    await chain.del()
  })
})

test('GC takes what no valid attachment has, with the policy that it kept', async () => {
  using place = threeContainers()
  const config = { ...nftables, ingressPolicy: 'isolated' }
  const stale = firewalled(place.one, { config })
  const valid = firewalled(place.sibling, { config })
  const foreign = firewalled(place.other, { config, number: 2 })
  for (const chain of [stale, valid, foreign]) await chain.add()
  const collect = (attachments: object[]) =>
    mustCall(firewall, 'GC', {
      config: { ...config, name: 'net-1', 'cni.dev/valid-attachments': attachments },
    })
  await collect([{ containerID: place.sibling.name, ifname: 'eth0' }])
  expect(elements()).not.toContain(`ip forwarded ${addressesIn(stale)[0]}`)
  expect(await valid.check()).toMatchObject({ status: 0 })
  await collect([])
  expect(elements().filter(element => element.includes('cni1'))).toEqual([])
  expect(await foreign.check()).toMatchObject({ status: 0 })
  for (const chain of [stale, valid, foreign]) await chain.del()
})

test('STATUS is fine where the kernel has nf_tables', async () => {
  expect(await call(firewall, 'STATUS', { config: {} })).toMatchObject({ status: 0, stdout: '' })
})

test('an ADD that fails leaves nothing', async () => {
  using container = freshNamespace()
  const chain = firewalled(container, { config: nftables })
  await chain.add()
  await mustCall(firewall, 'DEL', { containerId: container.name, config: { name: 'net-1' } })
  const before = snapshot()
  const engine: Engine = async commands => {
    await applyRuleset(commands)
    if (commands.some(({ verb }) => verb === 'create')) throw new NftError('out of luck', 'no more', {})
  }
  const outcome = await call(firewall, 'ADD', {
    netns: container,
    containerId: container.name,
    config: { ...nftables, name: 'net-1', ingressPolicy: 'isolated', prevResult: chain.result },
    engine,
  })
  expect(outcome.json).toMatchObject({ msg: 'out of luck' })
  expect(difference(before, snapshot())).toEqual({ added: [], gone: [] })
  await chain.del()
})

test.each([
  { table: 'inet filter', chain: 'block' },
  { table: 'ip policies', chain: 'block' },
  { table: 'ip6 filter', chain: 'forward' },
])(
  'a base chain of somebody else ($table $chain) that drops what it does not accept is named in a warning',
  async ({ table, chain: name }) => {
    using container = freshNamespace()
    nft(`table ${table} { chain ${name} { type filter hook forward priority 0; policy drop; }; }`)
    const chain = firewalled(container, { config: nftables })
    await chain.add()
    const outcome = await call(firewall, 'ADD', {
      netns: container,
      containerId: container.name,
      config: { name: 'net-1', prevResult: chain.result },
    })
    expect(outcome.status).toBe(0)
    expect(outcome.stderr).toContain(
      `chain ${name} of table ${table} drops what it does not accept, and no other table can undo that: ${addressesIn(chain).join(' and ')}`,
    )
    nft(`delete table ${table}`)
    const quiet = await call(firewall, 'ADD', {
      netns: container,
      containerId: container.name,
      config: { name: 'net-1', prevResult: chain.result },
    })
    expect(quiet.stderr).toBe('')
    await chain.del()
  },
)

describe('input', () => {
  test.each([
    { config: { backend: 7 }, key: 'backend' },
    { config: { iptablesAdminChainName: '!a' }, key: 'iptablesAdminChainName' },
    { config: { ingressPolicy: 'closed' }, key: 'ingressPolicy' },
    { config: { iptablesAdminChainName: 'FORWARD' }, key: 'iptablesAdminChainName' },
    { config: { iptablesAdminChainName: 'CNI-FORWARD' }, key: 'iptablesAdminChainName' },
    { config: { iptablesAdminChainName: 'a chain' }, key: 'iptablesAdminChainName' },
    { config: { iptablesAdminChainName: '-F' }, key: 'iptablesAdminChainName' },
    { config: { iptablesAdminChainName: 'a'.repeat(29) }, key: 'iptablesAdminChainName' },
    { config: { firewalldZone: 7 }, key: 'firewalldZone' },
  ])('$config is refused by its key, and nothing is touched', async ({ config, key }) => {
    using container = freshNamespace()
    const before = snapshot()
    const prevResult = { cniVersion: '1.1.0', ips: [{ address: '10.1.0.2/16' }] }
    const outcome = await call(firewall, 'ADD', { netns: container, config: { ...config, prevResult } })
    expect(outcome.json).toMatchObject({ code: 7, msg: expect.stringMatching(new RegExp(`^${key}: `)) })
    expect(difference(before, snapshot())).toEqual({ added: [], gone: [] })
  })

  test.each(['nft', 'Iptables', 'ebtables'])('backend %s, which is not known, is none', async backend => {
    using container = freshNamespace()
    const chain = firewalled(container, { config: { backend } })
    await chain.add()
    expect(elements()).toContain(`ip forwarded ${addressesIn(chain)[0]}`)
    expect(await chain.check()).toMatchObject({ status: 0 })
    await chain.del()
  })

  test.each(['_OPERATOR', '4-us', 'OPS+NET', 'ops:net', '+', `_${'a'.repeat(27)}`])(
    'an administrator fills chain %s, of either backend',
    async iptablesAdminChainName => {
      using container = freshNamespace()
      for (const backend of ['nftables', 'iptables']) {
        const chain = firewalled(container, { config: { backend, iptablesAdminChainName } })
        await chain.add()
        expect(await chain.check()).toMatchObject({ status: 0 })
        const where =
          backend === 'iptables'
            ? ['iptables', '-S', iptablesAdminChainName]
            : ['nft', '-j', 'list', 'chains', 'ip']
        expect(hostNamespace().run(...where)).toContain(iptablesAdminChainName)
        await chain.del()
      }
      expect(hostNamespace().run('iptables', '-A', iptablesAdminChainName, '-j', 'DROP')).toBe('')
      nft('flush', 'ruleset')
    },
  )

  test.each(['ADD', 'CHECK'] as const)('%s without prevResult is refused', async verb => {
    using container = freshNamespace()
    const outcome = await call(firewall, verb, { netns: container, config: nftables })
    expect(outcome.json).toMatchObject({ code: 7, msg: expect.stringContaining('missing prevResult') })
  })

  test('versions before 0.4.0 are refused', async () => {
    using container = freshNamespace()
    const outcome = await call(firewall, 'ADD', { netns: container, config: { cniVersion: '0.3.1' } })
    expect(outcome.json).toMatchObject({ code: 1 })
  })

  test('a result without addresses is handed on', async () => {
    using container = freshNamespace()
    const prevResult = { cniVersion: '1.1.0', interfaces: [{ name: 'eth0', sandbox: container.path }] }
    const result = await mustCall(firewall, 'ADD', { netns: container, config: { ...nftables, prevResult } })
    expect(result.interfaces).toEqual(prevResult.interfaces)
    expect(nft('list', 'ruleset')).toBe('')
  })
})
