import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { applyRuleset } from '../../chain/linux/nftables/engine.ts'
import { type Engine, NftError } from '../../chain/linux/nftables/nft.ts'
import { firewall } from '../../meta/firewall.ts'
import { askUdp, serveUdp } from '../fixtures/http.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { call, mustCall, peers } from '../fixtures/plugin.ts'
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
  seeBridged,
  serveAll,
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

interface Trio {
  one: Namespace
  sibling: Namespace
  other: Namespace
}

function threeContainers(): Trio & Disposable {
  const stack = new DisposableStack()
  const [one, sibling, other] = ['one', 'sibling', 'other'].map(name => stack.use(freshNamespace(name)))
  if (!one || !sibling || !other) throw new Error('unreachable')
  return { one, sibling, other, [Symbol.dispose]: () => stack.dispose() }
}

describe('ingressPolicy', () => {
  test.each([
    { ingressPolicy: 'open', fromSibling: 'both', fromOther: 'both', bridged: '1' },
    { ingressPolicy: 'same-bridge', fromSibling: 'both', fromOther: 'none', bridged: '1' },
    { ingressPolicy: 'isolated', fromSibling: 'none', fromOther: 'none', bridged: '1' },
    { ingressPolicy: 'isolated', fromSibling: 'none', fromOther: 'none', bridged: '0' },
  ] as const)(
    '$ingressPolicy (bridge-nf-call-iptables $bridged): a container is reached by its sibling ($fromSibling), from another bridge ($fromOther), from outside and by the host',
    async ({ ingressPolicy, fromSibling, fromOther, bridged }) => {
      using _bridged = seeBridged(bridged)
      using outside = outsideHost()
      using host = hostNamespace()
      using place = threeContainers()
      const { one, sibling, other } = place
      const config = { ...nftables, ingressPolicy }
      const first = firewalled(one, { config })
      const chains = [first, firewalled(sibling, { config }), firewalled(other, { config, number: 2 })]
      for (const chain of chains) await chain.add()
      using _servers = serveAll(one, outside)
      const addresses = addressesIn(first)
      await expectReached(sibling, addresses, fromSibling)
      await expectReached(other, addresses, fromOther)
      await expectReached(outside, addresses, 'both')
      await expectReached(host, addresses, 'both')
      await expectReached(one, OUTSIDE, 'both')
      for (const chain of chains) expect(await chain.check()).toMatchObject({ status: 0 })
      for (const chain of chains) await chain.del()
      expect(nft('list', 'ruleset')).toBe('')
    },
  )

  test.each([
    { what: 'frame between ports', bridged: '0' as const, without: [] },
    {
      what: 'packet within the bridge',
      bridged: '1' as const,
      without: ['delete', 'table', 'bridge', 'catena'],
    },
  ])('isolated: not even a single $what gets through, in either direction', async ({ bridged, without }) => {
    using _bridged = seeBridged(bridged)
    using place = threeContainers()
    const first = firewalled(place.one, { config: { ...nftables, ingressPolicy: 'isolated' } })
    const neighbour = firewalled(place.sibling, { config: nftables })
    await first.add()
    await neighbour.add()
    if (without.length > 0) nft(...without)
    const ends = [
      { from: place.sibling, to: place.one, address: addressesIn(first)[0] },
      { from: place.one, to: place.sibling, address: addressesIn(neighbour)[0] },
    ]
    for (const { from, to, address } of ends) {
      // known already, so that no question about it has to be answered first
      const mac = to.link('eth0').address
      from.run('ip', 'neigh', 'replace', address, 'lladdr', mac, 'dev', 'eth0', 'nud', 'permanent')
      using server = await serveUdp(to, { port: 5000 })
      await expect(askUdp(from, { address, port: 5000 }, { timeout: 300 })).rejects.toThrow('no answer')
      expect(server.clients).toEqual([])
    }
    await first.del()
    await neighbour.del()
  })

  test('behind ptp, each container is a network of its own', async () => {
    using place = threeContainers()
    const config = { ...nftables, ingressPolicy: 'same-bridge' }
    const first = firewalled(place.one, { config, through: 'ptp' })
    const second = firewalled(place.other, { config, through: 'ptp', number: 2 })
    await first.add()
    await second.add()
    using _servers = serveAll(place.one)
    await expectReached(place.other, addressesIn(first), 'none')
    expect(await second.check()).toMatchObject({ status: 0 })
    await second.del()
    await first.del()
    expect(nft('list', 'ruleset')).toBe('')
  })

  test('a bridge is fenced until its last container has gone', async () => {
    using place = threeContainers()
    const { one, sibling, other } = place
    const config = { ...nftables, ingressPolicy: 'same-bridge' }
    const first = firewalled(one, { config })
    const second = firewalled(sibling, { config })
    const far = firewalled(other, { config, number: 2 })
    for (const chain of [first, second, far]) await chain.add()
    using _servers = serveAll(other)
    const to = addressesIn(far)
    await second.del()
    await expectReached(one, to, 'none')
    await first.del()
    const policies = elements().filter(element => element.includes('policy_'))
    expect(policies.filter(element => element.includes('cni1'))).toEqual([])
    expect(policies.filter(element => element.includes('cni2'))).toHaveLength(6)
    const open = firewalled(one, { config: nftables })
    await open.add()
    await expectReached(one, to, 'both')
    await open.del()
    await far.del()
    expect(nft('list', 'ruleset')).toBe('')
  })

  test('another policy replaces the one that a container had', async () => {
    using place = threeContainers()
    const { one, sibling } = place
    const first = firewalled(one, { config: { ...nftables, ingressPolicy: 'isolated' } })
    await first.add()
    const neighbour = firewalled(sibling, { config: nftables })
    await neighbour.add()
    using _servers = serveAll(one)
    const addresses = addressesIn(first)
    await expectReached(sibling, addresses, 'none')
    const change = (ingressPolicy: string) =>
      mustCall(firewall, 'ADD', {
        netns: one,
        containerId: one.name,
        config: { ...nftables, name: 'net-1', ingressPolicy, prevResult: first.result },
      })
    await change('same-bridge')
    sibling.run('ip', 'neigh', 'flush', 'all') // who did not answer is asked again at once
    await expectReached(sibling, addresses, 'both')
    expect(elements()).toContain('ip policy_bridge cni1')
    await change('open')
    await mustCall(firewall, 'DEL', { containerId: sibling.name, config: { name: 'net-1' } })
    expect(elements().filter(element => !element.includes('forwarded'))).toEqual([])
    await first.del()
  })

  test('the bridge is the one that the host end is on, whatever prevResult lists first', async () => {
    using container = freshNamespace()
    const config = { ...nftables, ingressPolicy: 'isolated' }
    const chain = firewalled(container, { config })
    await chain.add()
    const [bridge, hostEnd, inside] = chain.result.interfaces
    const again = (interfaces: object[]) =>
      call(firewall, 'ADD', {
        netns: container,
        containerId: container.name,
        config: {
          ...config,
          name: 'net-1',
          prevResult: {
            ...chain.result,
            interfaces,
            ips: chain.result.ips.map(({ address }: { address: string }) => ({ address })),
          },
        },
      })
    for (const interfaces of [[inside, hostEnd], [hostEnd], [inside, hostEnd, bridge]]) {
      expect(await again(interfaces)).toMatchObject({ status: 0 })
      expect(elements()).toContain('ip6 policy_bridge cni1')
      expect(elements()).toContain(`bridge isolated_port ${hostEnd.name}`)
    }
    expect((await again([inside])).json).toMatchObject({
      code: 7,
      msg: expect.stringMatching(/^ingressPolicy: /),
    })
    await chain.del()
  })
})

test('containers that come and go at once leave nothing, and no policy is lost', async () => {
  using places = new DisposableStack()
  const config = { ...nftables, ingressPolicy: 'isolated' }
  const chains = Array.from({ length: 6 }, () => firewalled(places.use(freshNamespace()), { config }))
  for (const chain of chains) await chain.add()
  const plugin = async (verb: 'ADD' | 'DEL', at: number) => {
    const child = Bun.spawn([process.execPath, 'meta/firewall.ts'], {
      cwd: `${import.meta.dir}/../..`,
      stdin: Buffer.from(
        JSON.stringify({ cniVersion: '1.1.0', name: 'net-1', ...config, prevResult: chains[at]?.result }),
      ),
      env: {
        PATH: process.env.PATH,
        CNI_COMMAND: verb,
        CNI_CONTAINERID: `other-${at}`,
        CNI_IFNAME: 'eth0',
        CNI_NETNS: '/run/none',
        CNI_PATH: peers,
      },
    })
    expect(await child.exited, await child.stdout.text()).toBe(0)
  }
  // each takes over an address from the one before: additions and removals of one bridge's last members
  for (let round = 0; round < 3; round++) {
    await Promise.all(chains.map((_, at) => plugin('ADD', at)))
    const [, ...others] = chains.map((_, at) => at)
    await Promise.all(others.map(at => plugin('DEL', at)))
    expect(elements().filter(element => element.includes('policy_bridge'))).toEqual([
      'ip policy_bridge cni1',
      'ip6 policy_bridge cni1',
    ])
    await Promise.all([plugin('DEL', 0), plugin('ADD', 1)])
    expect(elements()).toContain('ip policy_bridge cni1')
    await Promise.all(chains.map((_, at) => plugin('DEL', at)))
    expect(nft('list', 'ruleset')).toBe('')
  }
  for (const chain of chains) await chain.del()
})

describe('CHECK notices', () => {
  const harms = (addresses: [string, string], port: string): [string, string][] => [
    ['delete table ip catena', 'table ip catena is missing'],
    ['delete table bridge catena', 'table bridge catena is missing'],
    [`delete element ip catena forwarded { ${addresses[0]} }`, 'ip catena forwarded'],
    [`delete element ip6 catena forwarded { ${addresses[1]} }`, 'ip6 catena forwarded'],
    [`delete element ip catena policy_member { cni1 . ${addresses[0]} }`, 'ip catena policy_member'],
    ['delete element ip6 catena policy_bridge { cni1 }', 'ip6 catena policy_bridge'],
    ['delete element ip catena policy_inside { cni1 . cni1 }', 'ip catena policy_inside'],
    [`delete element ip6 catena isolated { cni1 . ${addresses[1]} }`, 'ip6 catena isolated'],
    [`delete element bridge catena isolated_port { ${port} }`, 'bridge catena isolated_port'],
    ['flush chain ip catena forward', 'chain ip catena forward has 0 rules instead of 6'],
    ['insert rule ip6 catena forward accept', 'chain ip6 catena forward has 7 rules instead of 6'],
    ['flush chain bridge catena forward', 'chain bridge catena forward has 0 rules instead of 2'],
    ['flush chain ip6 catena overrides', 'chain ip6 catena overrides no longer jumps to CNI-ADMIN'],
  ]

  test.each(harms(['', ''], '').map((_, at) => at))('harm number %d', async at => {
    using container = freshNamespace()
    const chain = firewalled(container, { config: { ...nftables, ingressPolicy: 'isolated' } })
    await chain.add()
    expect(await chain.check()).toMatchObject({ status: 0 })
    const [command = '', words] = harms(addressesIn(chain), chain.result.interfaces[1].name)[at] ?? []
    nft(command)
    expect((await chain.check()).json).toMatchObject({ msg: expect.stringContaining(words ?? 'nothing') })
    await chain.del()
    expect(nft('list', 'ruleset')).toBe('')
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
