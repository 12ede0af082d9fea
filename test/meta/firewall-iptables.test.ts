import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { mayDropIn, readSaved } from '../../chain/linux/iptables/found.ts'
import { firewall } from '../../meta/firewall.ts'
import { choose, clearRules, saved, variants } from '../fixtures/iptables.ts'
import { freshNamespace } from '../fixtures/namespace.ts'
import { call, mustCall, mustExecute, peerExecutable } from '../fixtures/plugin.ts'
import { filters, iptables, run } from './firewall/iptables.ts'
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

beforeAll(() => detectDuplicates('0'))
afterAll(() => detectDuplicates('1'))

afterEach(() => {
  clearRules()
  for (const family of ['ip', 'ip6'] as const)
    for (const variant of variants) run(variant, family, '-P', 'FORWARD', 'ACCEPT')
  nft('flush', 'ruleset')
  removeBridges()
})

const blockingChains: { name: string; rules: string[] }[] = [
  { name: 'its policy', rules: ['-P FORWARD DROP'] },
  { name: 'a last rule that rejects', rules: ['-A FORWARD -i docker0 -j ACCEPT', '-A FORWARD -j REJECT'] },
  {
    name: 'chains like those of Docker',
    rules: [
      '-P FORWARD DROP',
      '-N DOCKER-USER',
      '-N DOCKER-FORWARD',
      '-N DOCKER',
      '-A FORWARD -j DOCKER-USER',
      '-A FORWARD -j DOCKER-FORWARD',
      '-A DOCKER-FORWARD -o docker0 -j DOCKER',
      '-A DOCKER-FORWARD -i docker0 -j ACCEPT',
      '-A DOCKER ! -i docker0 -o docker0 -j DROP',
    ],
  },
  { name: 'a chain that it leads to', rules: ['-N BLOCK', '-A FORWARD -j BLOCK', '-A BLOCK -j DROP'] },
]

describe.each(variants)('with the %s variant of iptables', variant => {
  describe('a silent configuration', () => {
    test.each(blockingChains)(
      'lets packets through a FORWARD that drops them by $name',
      async ({ rules }) => {
        using _choice = choose(variant)
        using outside = outsideHost()
        using container = freshNamespace()
        for (const family of ['ip', 'ip6'] as const)
          for (const rule of rules) run(variant, family, ...rule.split(' '))
        const before = filters(variant)
        const chain = firewalled(container)
        await chain.add()
        using _servers = serveAll(outside)
        await expectReached(container, OUTSIDE, 'both')
        expect(await chain.check()).toMatchObject({ status: 0 })
        await mustCall(firewall, 'DEL', { containerId: container.name, config: { name: 'net-1' } })
        await expectReached(container, OUTSIDE, 'none')
        const left = filters(variant).filter(
          line => !before.includes(line) && !/CNI-(FORWARD|ADMIN)$|^:CNI/.test(line),
        )
        expect(left).toEqual([])
        expect((await chain.check()).json).toMatchObject({ msg: expect.stringContaining('is missing') })
        await chain.del()
      },
    )

    test('is iptables where somebody has rules there, though these drop nothing', async () => {
      using _choice = choose(variant)
      using container = freshNamespace()
      for (const family of ['ip', 'ip6'] as const) {
        run(variant, family, '-A', 'FORWARD', '-j', 'LOG')
        run(variant, family, '-A', 'FORWARD', '-i', 'docker0', '-j', 'ACCEPT')
      }
      const chain = firewalled(container)
      await chain.add()
      for (const address of addressesIn(chain))
        expect(filters(variant).join('\n')).toContain(`-A CNI-FORWARD -s ${address}/`)
      expect(elements()).toEqual([])
      expect(await chain.check()).toMatchObject({ status: 0 })
      await chain.del()
    })

    test('CHECK notices an obstacle that came later', async () => {
      using _choice = choose(variant)
      using container = freshNamespace()
      const chain = firewalled(container)
      await chain.add()
      expect(await chain.check()).toMatchObject({ status: 0 })
      run(variant, 'ip6', '-P', 'FORWARD', 'DROP')
      expect((await chain.check()).json).toMatchObject({
        msg: expect.stringMatching(/^ip6tables rule CNI-FORWARD -d fd00:1::\S+ .* is missing$/),
      })
      await chain.del()
    })
  })

  test('CHECK notices each rule that is gone, and makes nothing', async () => {
    using _choice = choose(variant)
    using container = freshNamespace()
    const chain = firewalled(container, { config: { ...iptables, ingressPolicy: 'isolated' } })
    await chain.add()
    expect(await chain.check()).toMatchObject({ status: 0 })
    const rules = saved(variant, 'ip', 'filter').filter(line => line.startsWith('-A'))
    expect(rules).toHaveLength(10)
    const tool = variant === 'legacy' ? 'iptables-legacy' : 'iptables-nft'
    const restore = (text: string) =>
      Bun.spawnSync([`${tool}-restore`, '--noflush'], { stdin: Buffer.from(text) })
    for (const rule of rules) {
      const { stdout: whole } = Bun.spawnSync([`${tool}-save`, '-t', 'filter'])
      restore(`*filter\n${rule.replace(/^-A/, '-D')}\nCOMMIT\n`)
      const broken = filters(variant)
      expect((await chain.check()).json).toMatchObject({
        msg: expect.stringMatching(/^iptables rule .* is missing/),
      })
      expect(filters(variant)).toEqual(broken)
      Bun.spawnSync([`${tool}-restore`], { stdin: whole })
    }
    expect(await chain.check()).toMatchObject({ status: 0 })
    await chain.del()
  })
})

describe('beside the Go plugin', () => {
  const configurations = [
    { name: 'an open policy', config: iptables },
    { name: 'another chain for overrides', config: { ...iptables, iptablesAdminChainName: 'MY-RULES' } },
    { name: 'same-bridge', config: { ...iptables, ingressPolicy: 'same-bridge' } },
    { name: 'isolated', config: { ...iptables, ingressPolicy: 'isolated' } },
  ]

  test.each(configurations)(
    'with $name, the rules of two containers are the same to the letter, and either deletes those of the other',
    async ({ name, config }) => {
      using one = freshNamespace()
      using two = freshNamespace()
      const chains = [firewalled(one, { config }), firewalled(two, { config })]
      for (const chain of chains) await chain.add()
      const own = filters('nf_tables')
      const callFor = (at: number) => ({
        netns: at === 0 ? one : two,
        containerId: (at === 0 ? one : two).name,
        config: { type: 'firewall', ...config, name: 'net-1', prevResult: chains[at]?.result },
      })
      const go = peerExecutable('firewall')
      mustExecute(go, 'CHECK', callFor(0))
      mustExecute(go, 'DEL', callFor(0))
      mustExecute(go, 'DEL', callFor(1))
      const rest = filters('nf_tables')
      expect(rest.filter(line => /10\.1\.|fd00:1:/.test(line))).toEqual([])
      for (const at of [0, 1]) await mustCall(firewall, 'DEL', callFor(at))
      clearRules()
      for (const at of [0, 1]) mustExecute(go, 'ADD', callFor(at))
      expect(sorted(filters('nf_tables'))).toEqual(sorted(own))
      const { status, stdout } = await call(firewall, 'CHECK', callFor(0))
      // frames between ports, only ours keeps apart
      expect(status === 0 ? '' : JSON.parse(stdout).msg).toMatch(name === 'isolated' ? 'isolated_port' : /^$/)
      for (const at of [0, 1]) await mustCall(firewall, 'DEL', callFor(at))
      // the bridge's policy, which the Go plugin leaves there for ever, goes with the last container on it
      expect(sorted(filters('nf_tables'))).toEqual(sorted(rest.filter(line => !/ cni1 /.test(line))))
      for (const chain of chains) await chain.del()
    },
  )

  /** Chains are listed as they were made, in an order that the Go plugin draws by lot; rules within one stay in theirs. */
  function sorted(lines: readonly string[]): string[] {
    const chain = (line: string) => line.split(' ')[1] ?? ''
    const rules = lines.filter(line => line.startsWith('-A'))
    return [
      ...lines.filter(line => line.startsWith(':')).toSorted(),
      ...rules.toSorted((one, other) => chain(one).localeCompare(chain(other))),
    ]
  }
})

test.each([
  { ingressPolicy: 'same-bridge', fromSibling: 'both', bridged: '1', without: [] },
  { ingressPolicy: 'isolated', fromSibling: 'none', bridged: '0', without: [] },
  {
    ingressPolicy: 'isolated',
    fromSibling: 'none',
    bridged: '1',
    without: ['delete', 'table', 'bridge', 'catena'],
  },
] as const)(
  'ingressPolicy $ingressPolicy (bridge-nf-call-iptables $bridged) keeps other bridges away, by the chains of the Go plugin; from a sibling: $fromSibling',
  async ({ ingressPolicy, fromSibling, bridged, without }) => {
    using _bridged = seeBridged(bridged)
    using outside = outsideHost()
    using one = freshNamespace()
    using sibling = freshNamespace()
    using other = freshNamespace()
    const config = { ...iptables, ingressPolicy }
    const first = firewalled(one, { config })
    const chains = [first, firewalled(sibling, { config }), firewalled(other, { config, number: 2 })]
    for (const chain of chains) await chain.add()
    if (without.length > 0) nft(...without)
    using _servers = serveAll(one)
    await expectReached(sibling, addressesIn(first), fromSibling)
    await expectReached(other, addressesIn(first), 'none')
    await expectReached(outside, addressesIn(first), 'both')
    expect(elements().filter(element => !element.includes('isolated_port'))).toEqual([])
    for (const chain of chains) await chain.del()
    expect(elements()).toEqual([])
  },
)

test("an administrator's chain of iptables comes before what is accepted", async () => {
  using outside = outsideHost()
  using container = freshNamespace()
  using _servers = serveAll(outside)
  for (const family of ['ip', 'ip6'] as const) run('nf_tables', family, '-P', 'FORWARD', 'DROP')
  const chain = firewalled(container)
  await chain.add()
  await expectReached(container, OUTSIDE, 'both')
  run('nf_tables', 'ip6', '-A', 'CNI-ADMIN', '-j', 'DROP')
  await expectReached(container, OUTSIDE, 'IPv4')
  await chain.del()
  expect(saved('nf_tables', 'ip6', 'filter')).toContain('-A CNI-ADMIN -j DROP')
})

test('STATUS with iptables is fine where it is installed', async () => {
  expect(await call(firewall, 'STATUS', { config: iptables })).toMatchObject({ status: 0 })
})

test('where nftables is all that the configuration wants, a FORWARD in the way is named in a warning', async () => {
  using container = freshNamespace()
  run('nf_tables', 'ip', '-P', 'FORWARD', 'DROP')
  const chain = firewalled(container, { config: { backend: 'nftables' } })
  await chain.add()
  const { stderr } = await call(firewall, 'ADD', {
    netns: container,
    containerId: container.name,
    config: { name: 'net-1', backend: 'nftables', prevResult: chain.result },
  })
  expect(stderr).toStartWith('firewall: FORWARD of iptables (nf_tables) may drop packets of 10.1.')
  await chain.del()
})

test.each([
  { name: 'a policy', text: ':FORWARD DROP [0:0]', drops: true },
  { name: 'nothing but accepts', text: ':FORWARD ACCEPT [0:0]\n-A FORWARD -j ACCEPT', drops: false },
  {
    name: 'a rule',
    text: ':FORWARD ACCEPT [0:0]\n-A FORWARD -p tcp -j REJECT --reject-with tcp-reset',
    drops: true,
  },
  { name: 'a queue', text: '-A FORWARD -j NFQUEUE --queue-num 1', drops: true },
  {
    name: 'a chain of a chain',
    text: ':A - [0:0]\n:B - [0:0]\n-A FORWARD -j A\n-A A -g B\n-A B -j DROP',
    drops: true,
  },
  { name: 'a chain that nothing leads to', text: ':A - [0:0]\n-A A -j DROP', drops: false },
  { name: 'a circle', text: ':A - [0:0]\n:B - [0:0]\n-A FORWARD -j A\n-A A -j B\n-A B -j A', drops: false },
  { name: 'a chain left out', text: ':OURS - [0:0]\n-A FORWARD -j OURS\n-A OURS -j DROP', drops: false },
  { name: 'marks and logs', text: '-A FORWARD -j MARK --set-xmark 0x1/0x1\n-A FORWARD -j LOG', drops: false },
])('whether FORWARD may drop is read from $name', ({ text, drops }) => {
  expect(mayDropIn(readSaved(text), 'FORWARD', ['OURS'])).toBe(drops)
})
