/** One address on two networks, which is legal: both have what they asked for, and each DEL leaves the other's. */
import { afterAll, afterEach, beforeEach, expect, test } from 'bun:test'
import { addOwned, removeOwned } from '../../chain/filter/nftables/apply.ts'
import { chainsOf } from '../../chain/filter/nftables/chains.ts'
import { additions, collectionOf, masquerade, type Owned } from '../../chain/filter/nftables/elements.ts'
import { missingOwned } from '../../chain/filter/nftables/missing.ts'
import { listOwned } from '../../chain/filter/nftables/read.ts'
import { applyRuleset } from '../../chain/linux/nftables/engine.ts'
import { openNetfilter } from '../../chain/linux/nftables/netfilter.ts'
import { applyWithNft } from '../../chain/linux/nftables/nft.ts'
import type { Plugin } from '../../chain/plugin/define.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import { hostLocal } from '../../ipam/host-local.ts'
import { bridge } from '../../main/bridge.ts'
import { forwarded, ingressPolicy } from '../../meta/firewall/rules.ts'
import { firewall } from '../../meta/firewall.ts'
import { elementsOf, hairpinSources } from '../../meta/portmap/elements.ts'
import { portmap } from '../../meta/portmap.ts'
import { outsideHost, reaches, removeBridges } from '../fixtures/bridge.ts'
import { chainOf } from '../fixtures/chain.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { call } from '../fixtures/plugin.ts'

const ruleset = () => hostNamespace().run('nft', 'list', 'ruleset')

beforeEach(() => void hostNamespace().run('nft', 'flush', 'ruleset'))
afterEach(() => void hostNamespace().run('nft', 'flush', 'ruleset'))
afterAll(removeBridges)

const everyRole = ['masquerade', 'ports', 'frames', 'firewall'] as const

function ownedOn(network: string, elements: Owned['elements'], more: Partial<Owned> = {}): Owned {
  return { owner: ownerOf({ network, containerId: `of-${network}`, ifname: 'eth0' }), elements, ...more }
}

const sweep = ({ owner }: Owned) =>
  removeOwned(applyRuleset, { roles: everyRole, isOwner: id => id === owner.id })

/** What packets are looked up in, without whose it is. */
function lookedUp(): string[] {
  using netfilter = openNetfilter()
  return listOwned(netfilter)
    .filter(({ kind }) => kind !== 'waiting')
    .map(element => `${element.family} ${collectionOf(element).name} ${element.key.map(textOf).join(' ')}`)
    .sort()
}

function textOf(field: unknown): string {
  const { prefix } = field as { prefix?: { addr: string; len: number } }
  return prefix ? `${prefix.addr}/${prefix.len}` : String(field)
}

const addresses = ['10.1.0.5', 'fd00:1::5']
const networks = { '10.1.0.5': '10.1.0.0/16', 'fd00:1::5': 'fd00:1::/64' } as const

/** Every kind of element that has nothing but the address to tell owners by. */
function everything(network: string): Owned {
  const { elements, shared } = ingressPolicy({ bridge: 'cni0', addresses, isolated: true })
  return ownedOn(
    network,
    [
      ...masquerade(Object.entries(networks).map(([address, network]) => ({ address, network }))),
      ...addresses.flatMap((address, index) =>
        elementsOf({
          protocol: 'tcp',
          hostPort: 8000 + index + (network === 'one' ? 0 : 10),
          containerPort: 80,
          address,
          hairpin: true,
        }),
      ),
      ...hairpinSources('10.1.0.5', ['10.1.0.0/16', '127.0.0.0/8']),
      ...hairpinSources('fd00:1::5', ['fd00:1::/64']),
      ...forwarded(addresses),
      ...elements,
    ],
    { shared: shared ?? [] },
  )
}

test.each([
  ['the first goes first', [0, 1, 2]],
  ['the last goes first', [2, 1, 0]],
  ['the middle one goes first', [1, 0, 2]],
])('three networks with one address: %s, and the others have all they had', async (_, order) => {
  const all = ['one', 'two', 'three'].map(network =>
    network === 'three'
      ? { ...everything('three'), elements: everything('two').elements }
      : everything(network),
  )
  const [one, two, three] = all as [Owned, Owned, Owned]
  three.elements = three.elements.filter(({ kind }) => !kind.startsWith('published-'))
  for (const owned of all) await addOwned(applyRuleset, owned)
  const left = new Set(all)
  for (const owned of left) expect(missingOwned(owned)).toEqual([])
  for (const at of order) {
    const gone = all[at] as Owned
    expect(await sweep(gone)).toBe('removed')
    left.delete(gone)
    for (const owned of left) expect(missingOwned(owned)).toEqual([])
    if (left.size > 0) expect(lookedUp()).toContain('ip masquerade_source 10.1.0.5')
  }
  expect([one, two].map(owned => owned.elements.length)).toEqual([
    everything('one').elements.length,
    two.elements.length,
  ])
  expect(ruleset()).toBe('')
})

const local = (network: string, prefix: string) =>
  ownedOn(network, masquerade([{ address: '10.1.0.5', network: prefix }]))

test.each([
  [['10.1.0.0/24', '10.1.0.0/16', '10.1.0.0/20']],
  [['10.1.0.0/16', '10.1.0.0/20', '10.1.0.0/24']],
  [['10.1.0.5/32', '10.0.0.0/8', '10.1.0.0/24']],
  [['0.0.0.0/0', '10.1.0.5/32', '10.1.0.4/30']],
])(
  'of networks that contain one another (%p) the widest that is there is reached without masquerade',
  async prefixes => {
    const owners = prefixes.map((prefix, index) => ({ prefix, owned: local(`net-${index}`, prefix) }))
    const length = (prefix: string) => Number(prefix.split('/')[1])
    const expected = (there: typeof owners) => {
      const [widest] = there.map(({ prefix }) => prefix).sort((one, other) => length(one) - length(other))
      return [
        `ip masquerade_local 10.1.0.5 ${widest?.replace('10.1.0.5/32', '10.1.0.5')}`,
        'ip masquerade_source 10.1.0.5',
      ]
    }
    for (const [index, { owned }] of owners.entries()) {
      await addOwned(applyRuleset, owned)
      expect(lookedUp()).toEqual(expected(owners.slice(0, index + 1)))
    }
    for (const { owned } of owners) expect(missingOwned(owned)).toEqual([])
    for (const index of owners.keys()) {
      await sweep(owners[index]?.owned as Owned)
      const rest = owners.slice(index + 1)
      if (rest.length > 0) expect(lookedUp()).toEqual(expected(rest))
      for (const { owned } of rest) expect(missingOwned(owned)).toEqual([])
    }
    expect(ruleset()).toBe('')
  },
)

test('a retry of either replaces its own, and CHECK misses what somebody has taken away', async () => {
  const [one, two] = [local('one', '10.1.0.0/16'), local('two', '10.1.0.0/16')]
  for (const owned of [one, two, one, two, two, one]) {
    await addOwned(applyRuleset, owned)
    if (missingOwned(two).length === 0) expect(missingOwned(one)).toEqual([])
  }
  expect([...missingOwned(one), ...missingOwned(two)]).toEqual([])
  hostNamespace().run('nft', 'flush', 'set', 'ip', 'catena', 'masquerade_source')
  expect([missingOwned(one).length, missingOwned(two).length]).toEqual([1, 1])
  for (const owned of [one, two]) await addOwned(applyRuleset, owned)
  expect([...missingOwned(one), ...missingOwned(two)]).toEqual([])
  await sweep(one)
  expect(missingOwned(two)).toEqual([])
})

test('a set that somebody has deleted by hand is made again by whoever needs it next', async () => {
  const [one, two] = [everything('one'), everything('two')]
  await addOwned(applyRuleset, one)
  const { nftables } = JSON.parse(hostNamespace().run('nft', '-j', 'list', 'ruleset'))
  const kinds = ['set', 'map'] as const
  const sets = kinds.flatMap(kind =>
    (nftables as Record<string, { family: string; name: string } | undefined>[]).flatMap(each =>
      each[kind] ? [{ kind, ...each[kind] }] : [],
    ),
  )
  const deleted = sets.filter(
    ({ kind, family, name }) => Bun.spawnSync(['nft', 'delete', kind, family, 'catena', name]).success,
  )
  expect(deleted.length).toBeGreaterThan(0)
  await addOwned(applyRuleset, two)
  expect(missingOwned(two)).toEqual([])
  await addOwned(applyRuleset, one)
  expect(missingOwned(one)).toEqual([])
  for (const owned of [one, two]) await sweep(owned)
  expect(ruleset()).toBe('')
})

test('what an earlier version has made, without places to wait in, is shared as well, and goes as ever', async () => {
  const [one, two] = [everything('one'), everything('two')]
  const parts = (['ip', 'ip6'] as const).flatMap(family => [
    ...chainsOf(family, 'base'),
    ...chainsOf(family, 'forward'),
  ])
  await applyWithNft([...parts, ...additions(one)])
  expect(ruleset()).not.toContain('waiting')
  await addOwned(applyRuleset, two)
  expect([...missingOwned(one), ...missingOwned(two)]).toEqual([])
  await sweep(one)
  expect(missingOwned(two)).toEqual([])
  await sweep(two)
  expect(ruleset()).toBe('')
})

test('of one network the later one has the address: the earlier container is dead', async () => {
  const first = local('one', '10.1.0.0/16')
  const second = { ...first, owner: ownerOf({ network: 'one', containerId: 'later', ifname: 'eth0' }) }
  await addOwned(applyRuleset, first)
  await addOwned(applyRuleset, second)
  expect(missingOwned(second)).toEqual([])
  expect(missingOwned(first)).not.toEqual([])
  expect(ruleset()).not.toContain(first.owner.id)
})

test('many networks at the same moment: each has its own, and keeps it until it goes', async () => {
  const all = Array.from({ length: 8 }, (_, index) => {
    const prefix = `10.1.0.0/${16 + (index % 3) * 4}`
    return ownedOn(`net-${index}`, [
      ...masquerade([{ address: '10.1.0.5', network: prefix }]),
      ...forwarded(['10.1.0.5']),
    ])
  })
  await Promise.all(all.map(owned => addOwned(applyRuleset, owned)))
  for (const owned of all) expect(missingOwned(owned)).toEqual([])
  const [stays, ...rest] = all as [Owned, ...Owned[]]
  for (const owned of rest) await sweep(owned)
  expect(missingOwned(stays)).toEqual([])
  await sweep(stays)
  expect(ruleset()).toBe('')
})

/** A network with the addresses of the other one, on a bridge of its own. */
function tenant(name: string, container: Namespace, more: { backend?: 'iptables' } = {}) {
  const backend = more.backend ? { ipMasqBackend: more.backend } : {}
  const ipam = { type: 'host-local', ranges: [[{ subnet: '10.66.0.0/16' }]], routes: [{ dst: '0.0.0.0/0' }] }
  const steps: { plugin: Plugin; config: object }[] = [
    {
      plugin: bridge,
      config: { type: 'bridge', bridge: `${name}0`, isGateway: true, ipMasq: true, ipam, ...backend },
    },
    {
      plugin: portmap,
      config: {
        type: 'portmap',
        ...more,
        runtimeConfig: {
          portMappings: [{ hostPort: name === 'one' ? 8081 : 8082, containerPort: 80, protocol: 'tcp' }],
        },
      },
    },
    { plugin: firewall, config: { type: 'firewall', ...more } },
  ]
  return chainOf(steps, { name, netns: container, containerId: container.name, delegates: [hostLocal] })
}

test.each([
  ['nftables', {}],
  ['iptables', { backend: 'iptables' as const }],
])(
  'bridge, portmap and firewall over %s: each network’s DEL leaves the other what it had',
  async (_, more) => {
    for (const firstGoes of [true, false]) {
      using outside = outsideHost()
      using one = freshNamespace('one')
      using two = freshNamespace('two')
      const chains = [tenant('one', one, more), tenant('two', two, more)] as const
      const results = [await chains[0].add(), await chains[1].add()]
      expect(results[0].ips[0].address).toBe(results[1].ips[0].address)
      for (const chain of chains) expect(await chain.check()).toMatchObject({ status: 0 })
      const [goes, stays] = firstGoes ? [chains[0], chains[1]] : [chains[1], chains[0]]
      await goes.del()
      await goes.del()
      expect(await stays.check()).toMatchObject({ status: 0 })
      const living = firstGoes ? two : one
      hostNamespace().run('ip', 'link', 'delete', firstGoes ? 'one0' : 'two0') // its route to the same network
      expect(await reaches(living, outside, '192.0.2.2')).toBe(true)
      await stays.del()
      hostNamespace().run('ip', 'link', 'delete', firstGoes ? 'two0' : 'one0')
    }
  },
)

test('GC of one network, a failed ADD and a second DEL leave the other’s', async () => {
  using one = freshNamespace('one')
  using two = freshNamespace('two')
  const [mine, other] = [tenant('one', one), tenant('two', two)]
  await mine.add()
  await other.add()
  const request = { netns: two, containerId: two.name, delegates: [hostLocal] }
  const config = {
    name: 'two',
    type: 'bridge',
    bridge: 'two0',
    ipMasq: true,
    ipam: { type: 'host-local', ranges: [[{ subnet: '10.66.0.0/16' }]] },
  }
  const { status } = await call(bridge, 'ADD', {
    ...request,
    interface: 'eth1',
    config: { ...config, ipam: { ...config.ipam, routes: [{ dst: '10.9.0.0/16', gw: '10.77.0.1' }] } },
  })
  expect(status).toBe(1)
  expect(await mine.check()).toMatchObject({ status: 0 })
  for (const plugin of [bridge, portmap, firewall]) {
    const gc = { ...config, type: plugin.name, 'cni.dev/valid-attachments': [] }
    expect(await call(plugin, 'GC', { ...request, config: gc })).toMatchObject({ status: 0 })
  }
  expect(await mine.check()).toMatchObject({ status: 0 })
  await other.del()
  expect(await mine.check()).toMatchObject({ status: 0 })
  await mine.del()
})
