import { expect, test } from 'bun:test'
import { createLink, setLink } from '../../../chain/linux/netlink/link.ts'
import { portVlans } from '../../../main/bridge/vlan.ts'
import { bridge } from '../../../main/bridge.ts'
import { freshNetwork, ipam, reaches, withoutMemory } from '../../fixtures/bridge.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { call } from '../../fixtures/plugin.ts'
import { difference, snapshot } from '../../fixtures/snapshot.ts'
import { hasFeature, testOn } from '../../kernel/features.ts'

const seen = () => withoutMemory(snapshot())
const nothing = { added: [], gone: [] }

test.each<{ name: string; keys: { vlan?: number; vlanTrunk?: object[] }; carries: string[] }>([
  { name: 'without VLANs, nothing', keys: {}, carries: [] },
  { name: 'an empty trunk, nothing', keys: { vlanTrunk: [] }, carries: [] },
  { name: 'an access VLAN, that one untagged', keys: { vlan: 7 }, carries: ['7 untagged'] },
  {
    name: 'a trunk, VLAN 1 untagged and its own tagged, sorted, each once',
    keys: { vlanTrunk: [{ id: 42 }, { minID: 9, maxID: 11 }, { minID: 10, maxID: 12, id: 42 }] },
    carries: ['1 untagged', '9', '10', '11', '12', '42'],
  },
  {
    name: 'a trunk beside an access VLAN, the latter untagged also where the trunk has it',
    keys: { vlan: 10, vlanTrunk: [{ minID: 9, maxID: 11 }] },
    carries: ['9', '10 untagged', '11'],
  },
])('a port carries: $name', ({ keys, carries }) => {
  const vlans = portVlans({ vlan: 0, vlanTrunk: undefined, preserveDefaultVlan: false, ...keys })
  expect(vlans.map(({ id, native, untagged }) => `${id}${native && untagged ? ' untagged' : ''}`)).toEqual(
    carries,
  )
})

test('a kernel that cannot filter VLANs is refused in words and nothing is left; one that can does', async () => {
  using host = hostNamespace()
  using container = freshNamespace()
  await using network = freshNetwork({ vlan: 5 })
  const before = seen()
  const { json } = await call(bridge, 'ADD', network.call(container))
  if (hasFeature('bridge-vlan')) expect(host.link(network.bridge).data.vlanFiltering).toBe(true)
  else {
    expect(json.msg).toBe(`vlan: bridge ${network.bridge} cannot filter VLANs`)
    expect(difference(before, seen())).toEqual(nothing)
  }
})

test('a bridge that exists without VLAN filtering is refused in words, and stays as it is', async () => {
  using host = hostNamespace()
  using container = freshNamespace()
  await using network = freshNetwork({ vlan: 5 })
  host.createLink({ name: network.bridge, kind: { type: 'bridge' } })
  const before = seen()
  const { json } = await call(bridge, 'ADD', network.call(container))
  expect(json).toMatchObject({
    msg: `vlan: bridge ${network.bridge} exists without VLAN filtering`,
    details: expect.stringContaining('vlan_filtering 1'),
  })
  expect(difference(before, seen())).toEqual(nothing)
})

test.each([{ vlanTrunk: [] }, { vlanTrunk: [{}] }])(
  '%j names no VLAN, and needs no bridge that filters: also one that exists without is taken',
  async config => {
    using host = hostNamespace()
    using container = freshNamespace()
    await using network = freshNetwork(config)
    host.createLink({ name: network.bridge, kind: { type: 'bridge' } })
    await network.attach(container)
    expect(host.link(network.bridge).data.vlanFiltering ?? false).toBe(false)
  },
)

/** What iproute2 says of a port: "5 PVID Egress Untagged". */
function shown(host: Namespace, port: string): string[] {
  const [found] = JSON.parse(host.run('bridge', '-j', 'vlan', 'show', 'dev', port)) as {
    vlans: { vlan: number; flags?: string[] }[]
  }[]
  return (found?.vlans ?? []).map(({ vlan, flags = [] }) => [vlan, ...flags].join(' '))
}

const secondLayer = { isDefaultGateway: false, ipam: {} }

testOn(
  ['bridge-vlan'],
  'the port carries what the configuration says, and the default VLAN only where it is preserved',
  async () => {
    using host = hostNamespace()
    const rows: { config: object; vlans: string[] }[] = [
      { config: { vlan: 5 }, vlans: ['5 PVID Egress Untagged'] },
      {
        config: { vlan: 5, preserveDefaultVlan: true },
        vlans: ['1 Egress Untagged', '5 PVID Egress Untagged'],
      },
      {
        config: { vlanTrunk: [{ minID: 10, maxID: 12 }, { id: 20 }, { id: 11 }] },
        vlans: ['1 PVID Egress Untagged', '10', '11', '12', '20'],
      },
      {
        config: { vlan: 5, vlanTrunk: [{ id: 20 }] },
        vlans: ['5 PVID Egress Untagged', '20'],
      },
      { config: { vlanTrunk: [] }, vlans: ['1 PVID Egress Untagged'] },
    ]
    for (const { config, vlans } of rows) {
      using container = freshNamespace()
      await using network = freshNetwork({ ...secondLayer, ...config })
      const chain = network.chain(container)
      const { interfaces } = await chain.add()
      expect(shown(host, interfaces[1].name)).toEqual(vlans)
      expect(await chain.check()).toMatchObject({ status: 0 })
    }
  },
)

testOn(['bridge-vlan'], 'containers of one VLAN reach each other, and those of another do not', async () => {
  await using network = freshNetwork(secondLayer)
  using one = freshNamespace()
  using same = freshNamespace()
  using other = freshNamespace()
  const members: [Namespace, number, string][] = [
    [one, 5, '10.5.0.1/24'],
    [same, 5, '10.5.0.2/24'],
    [other, 6, '10.5.0.3/24'],
  ]
  for (const [container, vlan, address] of members) {
    await network.attach(container, { config: { vlan } })
    container.addAddress('eth0', address)
  }
  expect(await reaches(one, same, '10.5.0.2')).toBe(true)
  expect(await reaches(one, other, '10.5.0.3', 700)).toBe(false)
})

testOn(
  ['bridge-vlan', 'vlan'],
  'behind a trunk, tagged frames reach the VLANs of the trunk and no others',
  async () => {
    await using network = freshNetwork(secondLayer)
    using trunk = freshNamespace()
    using five = freshNamespace()
    using nine = freshNamespace()
    await network.attach(trunk, { config: { vlanTrunk: [{ minID: 4, maxID: 6 }] } })
    await network.attach(five, { config: { vlan: 5 } })
    await network.attach(nine, { config: { vlan: 9 } })
    five.addAddress('eth0', '10.5.0.5/24')
    nine.addAddress('eth0', '10.9.0.9/24')
    for (const id of [5, 9]) {
      createLink(trunk.route, {
        name: `vlan${id}`,
        kind: { type: 'vlan', id },
        parent: trunk.link('eth0').index,
        up: true,
      })
      trunk.addAddress(`vlan${id}`, `10.${id}.0.1/24`)
    }
    expect(await reaches(trunk, five, '10.5.0.5')).toBe(true)
    expect(await reaches(trunk, nine, '10.9.0.9', 700)).toBe(false)
  },
)

testOn(
  ['bridge-vlan'],
  "each VLAN's gateway is an interface of its own on the host, for IPv4 and IPv6",
  async () => {
    using host = hostNamespace()
    await using network = freshNetwork()
    await using second = freshNetwork({
      bridge: network.bridge,
      ipam: { type: 'host-local', subnet: '10.6.0.0/16' },
      vlan: 6,
    })
    using five = freshNamespace()
    using six = freshNamespace()
    const chain = network.chain(five, { config: { vlan: 5 } })
    const result = await chain.add()
    const other = second.chain(six)
    await other.add()
    const name = `${network.bridge}.5`
    expect(result.interfaces).toHaveLength(4)
    expect(result.interfaces[3]).toEqual({ name, mac: host.link(name).address })
    expect(host.addresses(name).sort()).toEqual(['10.1.0.1/16', 'fd00:1::1/64'])
    expect(host.addresses(`${network.bridge}.6`)).toEqual(['10.6.0.1/16'])
    expect(host.addresses(network.bridge)).toEqual([])
    expect(await reaches(five, host, '10.1.0.1')).toBe(true)
    expect(await reaches(five, host, 'fd00:1::1')).toBe(true)
    expect(await reaches(six, host, '10.6.0.1')).toBe(true)
    expect(await chain.check()).toMatchObject({ status: 0 })
    expect(await other.check()).toMatchObject({ status: 0 })
    await chain.del()
    expect(host.addresses(name)).toHaveLength(2) // for the next container
    await chain.add()
    expect(await chain.check()).toMatchObject({ status: 0 })
  },
)

testOn(['bridge-vlan'], 'CHECK notices what of the VLANs is no longer as ADD left it', async () => {
  using host = hostNamespace()
  const rows: {
    breakIt: (names: { bridge: string; port: string; peer: string }) => unknown
    says: RegExp
  }[] = [
    {
      breakIt: ({ port }) => host.run('bridge', 'vlan', 'del', 'dev', port, 'vid', '21'),
      says: /^VLAN 21 is missing on veth/,
    },
    {
      breakIt: ({ port }) => host.run('bridge', 'vlan', 'add', 'dev', port, 'vid', '5'),
      says: /^VLAN 5 on veth\w+ is tagged, not native and untagged$/,
    },
    {
      breakIt: ({ peer }) => host.run('bridge', 'vlan', 'del', 'dev', peer, 'vid', '5'),
      says: /^VLAN 5 is missing on veth/,
    },
    {
      breakIt: ({ bridge }) => host.run('ip', 'link', 'del', `${bridge}.5`),
      says: /^br\w+\.5, the gateway's interface, is gone$/,
    },
    {
      breakIt: ({ bridge }) => setLink(host.route, `${bridge}.5`, { up: false }),
      says: /^br\w+\.5, the gateway's interface, is down$/,
    },
    {
      breakIt: ({ bridge }) => host.run('ip', 'addr', 'flush', 'dev', `${bridge}.5`),
      says: /^gateway address 10\.1\.0\.1\/16 is not on /,
    },
    {
      breakIt: ({ bridge }) => host.run('ip', 'link', 'set', bridge, 'type', 'bridge', 'vlan_filtering', '0'),
      says: /^bridge br\w+ does not filter VLANs$/,
    },
  ]
  for (const { breakIt, says } of rows) {
    using container = freshNamespace()
    await using network = freshNetwork({ vlan: 5, vlanTrunk: [{ minID: 20, maxID: 22 }] })
    const chain = network.chain(container)
    const { interfaces } = await chain.add()
    expect(await chain.check()).toMatchObject({ status: 0 })
    const gatewayLink = host.link(`${network.bridge}.5`)
    const peer = host.links().find(({ index }) => index === gatewayLink.parent)?.name ?? ''
    breakIt({ bridge: network.bridge, port: interfaces[1].name, peer })
    expect((await chain.check()).json.msg).toMatch(says)
  }
})

const failing = { ipam: { ...ipam, routes: [{ dst: '10.9.0.0/16', gw: '172.16.0.1' }] } }

testOn(
  ['bridge-vlan'],
  "ADD that fails takes its VLAN's gateway with it, unless others are in the VLAN",
  async () => {
    await using network = freshNetwork()
    using alone = freshNamespace()
    using member = freshNamespace()
    using late = freshNamespace()
    const before = seen()
    const failed = await call(bridge, 'ADD', network.call(alone, { config: { vlan: 5, ...failing } }))
    expect(failed.json.details ?? '').not.toContain('could not')
    expect(difference(before, seen())).toEqual(nothing)
    const chain = network.chain(member, { config: { vlan: 5 } })
    await chain.add()
    const standing = seen()
    for (const vlan of [5, 6]) {
      const { status } = await call(bridge, 'ADD', network.call(late, { config: { vlan, ...failing } }))
      expect(status).toBe(1)
      expect(difference(standing, seen())).toEqual(nothing)
    }
    expect(await chain.check()).toMatchObject({ status: 0 })
  },
)

testOn(
  ['bridge-vlan'],
  'a name that the gateway of a VLAN would need is refused if it is too long or another link has it',
  async () => {
    using host = hostNamespace()
    using container = freshNamespace()
    await using long = freshNetwork({ bridge: 'bridge-of-names', vlan: 5 })
    const before = seen()
    const refused = await call(bridge, 'ADD', long.call(container))
    expect(refused.json).toMatchObject({ code: 7, msg: 'bridge: bridge-of-names is too long for VLAN 5' })
    expect(difference(before, seen())).toEqual(nothing)
    await using network = freshNetwork({ vlan: 5 })
    host.createLink({ name: `${network.bridge}.5`, kind: { type: 'dummy' } })
    const { json } = await call(bridge, 'ADD', network.call(container))
    expect(json.msg).toBe(`${network.bridge}.5 exists and does not lead to bridge ${network.bridge}`)
  },
)
