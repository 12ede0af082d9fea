/**
 * Whose a link is, and which device a container was lent, is what the host knows: nothing that a container writes in its
 * namespace, and no DEL of another network, decides about a neighbour's.
 */
import { afterAll, expect, test } from 'bun:test'
import { removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { listRules } from '../../chain/linux/netlink/rule.ts'
import { createTap } from '../../chain/linux/tun.ts'
import type { Plugin } from '../../chain/plugin/define.ts'
import { hostEndName, ownerOf } from '../../chain/plugin/owner.ts'
import { hostLocal } from '../../ipam/host-local.ts'
import { bridge } from '../../main/bridge.ts'
import { dummy } from '../../main/dummy.ts'
import { hostDevice } from '../../main/host-device.ts'
import { ipvlan } from '../../main/ipvlan.ts'
import { macvlan } from '../../main/macvlan.ts'
import { ptp } from '../../main/ptp.ts'
import { tap } from '../../main/tap.ts'
import { vlan } from '../../main/vlan.ts'
import { bandwidth } from '../../meta/bandwidth.ts'
import { sbr } from '../../meta/sbr.ts'
import { tuning } from '../../meta/tuning.ts'
import { vrf } from '../../meta/vrf.ts'
import { freshNetwork, removeBridges, withoutMemory } from '../fixtures/bridge.ts'
import { chainOf } from '../fixtures/chain.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, call, mustCall, mustExecute, peerExecutable } from '../fixtures/plugin.ts'
import { difference, type Snapshot, snapshot } from '../fixtures/snapshot.ts'
import { type Feature, testOn } from '../kernel/features.ts'

afterAll(removeBridges)

const ipam = { type: 'host-local', ranges: [[{ subnet: '10.60.0.0/16' }]] }
const limits = { ingressRate: 8e6, ingressBurst: 8e6, egressRate: 8e6, egressBurst: 8e6 }

function limited(container: Namespace, name: string) {
  return chainOf(
    [
      { plugin: bridge, config: { type: 'bridge', bridge: 'owned0', ipam } },
      { plugin: bandwidth, config: { type: 'bandwidth', ...limits } },
    ],
    { name, netns: container, containerId: container.name, delegates: [hostLocal] },
  )
}

const disciplinesOf = (host: Namespace, link: string) => host.run('tc', 'qdisc', 'show', 'dev', link)

testOn(
  ['tbf', 'ingress', 'ifb'],
  'a veth whose indexes are those of a neighbour’s pair does not lead DEL to the neighbour’s limit',
  async () => {
    for (const elsewhere of [false, true]) {
      using host = hostNamespace()
      using victim = freshNamespace('victim')
      using evil = freshNamespace('evil')
      using accomplice = freshNamespace('accomplice')
      const mine = limited(victim, 'limited')
      const { interfaces } = await mine.add()
      const other = limited(evil, 'limited')
      await other.add()
      const end = interfaces[1].name
      const before = disciplinesOf(host, end)
      expect(before).toContain('tbf')
      removeLink(evil.route, 'eth0')
      const peer = elsewhere ? ['netns', accomplice.name] : []
      const indexes = [victim.link('eth0').index, host.link(end).index].map(String) as [string, string]
      const pair = ['type', 'veth', 'peer', 'name', 'x', 'index', indexes[1], ...peer]
      evil.run('ip', 'link', 'add', 'name', 'eth0', 'index', indexes[0], ...pair)
      await other.del()
      expect(disciplinesOf(host, end)).toBe(before)
      expect(await mine.check()).toMatchObject({ status: 0 })
      await mine.del()
    }
  },
)

test('CHECK does not take a neighbour’s port for that of a container which chose its indexes', async () => {
  using host = hostNamespace()
  using victim = freshNamespace('victim')
  using evil = freshNamespace('evil')
  for (const plugin of [bridge, ptp]) {
    const own = { type: plugin.name, ...(plugin === bridge ? { bridge: 'owned0' } : {}), ipam }
    const attachment = (netns: Namespace) => ({
      name: 'checked',
      netns,
      containerId: netns.name,
      delegates: [hostLocal],
    })
    const mine = chainOf([{ plugin, config: own }], attachment(victim))
    const other = chainOf([{ plugin, config: own }], attachment(evil))
    const { interfaces } = await mine.add()
    const { interfaces: forged, ...rest } = await other.add()
    const end = interfaces.find(({ name }: { name: string }) => name.startsWith('veth'))
    const mac = evil.link('eth0').address
    removeLink(evil.route, 'eth0')
    const [inside, outside] = [victim.link('eth0').index, host.link(end.name).index].map(String)
    const pair = ['type', 'veth', 'peer', 'name', 'x', 'index', String(outside)]
    evil.run('ip', 'link', 'add', 'name', 'eth0', 'address', mac, 'index', String(inside), ...pair)
    evil.run('ip', 'link', 'set', 'eth0', 'up')
    evil.run('ip', 'address', 'add', rest.ips[0].address, 'dev', 'eth0')
    // even where prevResult named the neighbour's end
    other.result = {
      ...rest,
      interfaces: forged.map((one: { name: string }) => (one.name.startsWith('veth') ? end : one)),
    }
    const { status, json } = await other.check()
    expect({ status, msg: json.msg }).toMatchObject({ status: 1, msg: expect.stringContaining('host end') })
    await other.del()
    expect(host.link(end.name).up).toBe(true)
    await mine.del()
  }
})

test('macspoofchk lets through the address that the host chose, whatever the container makes of it during ADD', async () => {
  using host = hostNamespace()
  using container = freshNamespace('container')
  const swap: Plugin = {
    ...hostLocal,
    add(request) {
      container.run('ip', 'link', 'set', 'eth0', 'address', '02:00:00:00:00:99')
      return hostLocal.add(request)
    },
  }
  await using network = freshNetwork({ macspoofchk: true, ipam })
  await network.attach(container, { delegates: [swap] })
  expect(host.run('nft', 'list', 'table', 'bridge', 'catena')).not.toContain('02:00:00:00:00:99')
  expect(host.run('nft', 'list', 'table', 'bridge', 'catena')).toMatch(
    /allowed_source[^}]*elements = \{ "veth/,
  )
})

let devices = 0

/** A device that is lent to a container, under the Go plugin or ours. */
function lending(more: object = {}) {
  const host = hostNamespace()
  const container = freshNamespace('container')
  const device = `lent${++devices}`
  host.createLink({ name: device, kind: { type: 'veth', peer: { name: `${device}p` } } })
  const request = (config: object = {}): Call => ({
    netns: container,
    containerId: container.name,
    config: { name: 'lending', type: 'host-device', device, ...more, ...config },
  })
  return {
    host,
    container,
    device,
    request,
    names: () => host.links().map(({ name }) => name),
    [Symbol.dispose]() {
      container[Symbol.dispose]()
      for (const { name } of host.links())
        if (name.startsWith(device) || /^(taken|ens)\d$/.test(name)) removeLink(host.route, name)
    },
  }
}

/** In place of the interface: a TAP that names a device of its own choice. */
function forgeTap({ run, inside, route }: Namespace, alias: string): void {
  inside(() =>
    createTap({ name: 'eth0', multiQueue: false, virtioHeader: false }, () =>
      setLink(route, 'eth0', { alias }),
    ),
  )
  run('ip', 'link', 'set', 'eth0', 'up')
}

testOn(
  ['tun'],
  'DEL of host-device sends home the device that was lent, and nothing that the container made',
  async () => {
    for (const harm of ['renamed', 'deleted', 'never there'] as const) {
      using net = lending()
      const { container, device, host, names, request } = net
      const index = host.link(device).index
      if (harm !== 'never there') await mustCall(hostDevice, 'ADD', request())
      if (harm === 'renamed') {
        setLink(container.route, 'eth0', { up: false, alias: 'ens7' })
        setLink(container.route, container.link('eth0').index, { name: 'hidden0' })
      } else if (harm === 'deleted') removeLink(container.route, 'eth0')
      forgeTap(container, 'ens1')
      const before = names()
      const { status, stderr } = await call(hostDevice, 'DEL', request())
      expect({ harm, status }).toEqual({ harm, status: 0 })
      expect(names()).not.toContain('ens1')
      if (harm === 'renamed') {
        expect(host.link(device)).toMatchObject({ index, kind: 'veth' })
        expect(host.link(device).alias).toBeUndefined()
      } else expect(names()).toEqual(before)
      if (harm === 'never there') expect(stderr).toContain('eth0')
      expect(container.link('eth0').kind).toBe('tun')
    }
  },
)

testOn(
  ['tun'],
  'an alias that names a link of the host does not keep a device from coming home',
  async () => {
    using net = lending()
    const { container, device, host, request } = net
    host.createLink({ name: 'taken1', kind: { type: 'bridge' } })
    await mustCall(hostDevice, 'ADD', request())
    setLink(container.route, 'eth0', { alias: 'taken1' })
    await mustCall(hostDevice, 'DEL', request())
    expect(host.link(device).kind).toBe('veth')
    expect(host.link('taken1').kind).toBe('bridge')
  },
)

test('a device comes home without the names and the settings that the container has given it', async () => {
  using net = lending()
  const { container, device, host, request } = net
  const { address, index, mtu, group } = host.link(device)
  host.run('ip', 'link', 'property', 'add', 'dev', device, 'altname', `${device}-known`)
  host.createLink({ name: 'taken2', kind: { type: 'bridge' } })
  await mustCall(hostDevice, 'ADD', request())
  for (const name of ['taken2', 'taken3'])
    container.run('ip', 'link', 'property', 'add', 'dev', 'eth0', 'altname', name)
  container.run('ip', 'link', 'set', 'eth0', 'address', '02:00:00:00:00:99', 'mtu', '68', 'group', '7')
  await mustCall(hostDevice, 'DEL', request())
  expect(host.link(device)).toMatchObject({
    address,
    index,
    mtu,
    group,
    alternativeNames: [`${device}-known`],
  })
  expect(host.link('taken2').kind).toBe('bridge')
  expect(() => host.link('taken3')).toThrow()
})

test('CHECK of host-device notices another device under the interface’s name and alias', async () => {
  using net = lending()
  const { container, device, request } = net
  const prevResult = await mustCall(hostDevice, 'ADD', request())
  const { address } = container.link('eth0')
  removeLink(container.route, 'eth0')
  container.run('ip', 'link', 'add', 'eth0', 'address', address, 'type', 'veth', 'peer', 'name', 'x')
  setLink(container.route, 'eth0', { alias: device, up: true })
  const { json } = await call(hostDevice, 'CHECK', request({ prevResult }))
  expect(json.msg).toContain(`eth0 is not ${device}, which the host lent`)
})

interface Main {
  plugin: Plugin
  needs: readonly Feature[]
  config: object
}

const mains: readonly Main[] = [
  { plugin: bridge, needs: ['bridge'], config: { bridge: 'owned0', isGateway: true, ipMasq: true } },
  { plugin: ptp, needs: ['bridge'], config: { ipMasq: true } },
  { plugin: macvlan, needs: ['macvlan'], config: { master: 'base0' } },
  { plugin: ipvlan, needs: ['ipvlan'], config: { master: 'base0' } },
  { plugin: vlan, needs: ['vlan'], config: { master: 'base0', vlanId: 9 } },
  { plugin: tap, needs: ['tun'], config: {} },
  { plugin: dummy, needs: ['dummy'], config: {} },
  { plugin: hostDevice, needs: ['bridge'], config: { device: 'base1' } },
]

/** What a network's attachments stand on. */
function bases() {
  const host = hostNamespace()
  host.createLink({ name: 'base0', kind: { type: 'veth', peer: { name: 'base1' } } })
  return { host, [Symbol.dispose]: () => void removeLink(host.route, 'base0') }
}

const all = (container: Namespace): Snapshot => [...withoutMemory(snapshot()), ...snapshot(container)]

const metas = [
  { plugin: sbr, needs: [], config: { type: 'sbr' } },
  { plugin: tuning, needs: [], config: { type: 'tuning', mtu: 1400 } },
  { plugin: bandwidth, needs: ['tbf', 'ifb'], config: { type: 'bandwidth', ...limits } },
  { plugin: vrf, needs: ['vrf'], config: { type: 'vrf', vrfname: 'blue' } },
] as const

for (const { plugin, needs, config } of mains) {
  testOn(
    needs,
    `DEL on a network that never was leaves ${plugin.name}'s interface to its network`,
    async () => {
      using net = bases()
      using container = freshNamespace('container')
      const attachment = { netns: container, containerId: container.name, delegates: [hostLocal] }
      const own = chainOf([{ plugin, config: { type: plugin.name, ipam, ...config } }], {
        name: 'one',
        ...attachment,
      })
      const [before, beforeInside] = [withoutMemory(snapshot()), snapshot(container)]
      await own.add()
      const living = all(container)
      for (const { plugin: another, needs: others, config: its } of mains) {
        if (others.some(need => !needs.includes(need) && need !== 'bridge')) continue
        const { status, stderr } = await call(another, 'DEL', {
          ...attachment,
          config: { name: 'two', type: another.name, ipam, ...its },
        })
        expect({ plugin: another.name, status }).toEqual({ plugin: another.name, status: 0 })
        expect(stderr).toContain('net: one')
        expect(difference(living, all(container))).toEqual({ added: [], gone: [] })
      }
      expect(await own.check()).toMatchObject({ status: 0 })
      await own.del()
      const lasting = (line: string) =>
        !line.startsWith('link owned0') &&
        !line.startsWith('link base1') &&
        !line.startsWith('address') &&
        !line.startsWith('qdisc') &&
        !line.startsWith('route')
      expect(difference(before.filter(lasting), withoutMemory(snapshot()).filter(lasting))).toEqual({
        added: [],
        gone: [],
      })
      expect(difference(beforeInside, snapshot(container)).added).toEqual([])
      expect(net.host.links().length).toBeGreaterThan(0)
    },
  )
}

for (const { plugin, needs, config } of metas) {
  testOn(
    needs,
    `DEL of ${plugin.name} on a network that never was leaves what another network's has made`,
    async () => {
      using _net = bases()
      using container = freshNamespace('container')
      const attachment = { netns: container, containerId: container.name, delegates: [hostLocal] }
      const first = { plugin: bridge, config: { type: 'bridge', bridge: 'owned0', isGateway: true, ipam } }
      const own = chainOf([first, { plugin, config }], { name: 'one', ...attachment })
      const prevResult = await own.add()
      const living = all(container)
      for (const told of [{}, { prevResult }]) {
        await mustCall(plugin, 'DEL', { ...attachment, config: { name: 'two', ...config, ...told } })
        expect(difference(living, all(container))).toEqual({ added: [], gone: [] })
      }
      await own.del()
    },
  )
}

test.each(['bridge', 'ptp'])('interfaces of the Go plugin %s go, whatever the network', async name => {
  using container = freshNamespace('container')
  const plugin = { bridge, ptp }[name] as Plugin
  const own: Call = {
    netns: container,
    containerId: container.name,
    config: { name: 'one', type: name, bridge: 'owned0', ipam },
  }
  mustExecute(peerExecutable(name), 'ADD', own)
  expect(container.links().length).toBe(2)
  await mustCall(plugin, 'DEL', { ...own, delegates: [hostLocal] })
  expect(container.links().map(link => link.name)).toEqual(['lo'])
  mustExecute(peerExecutable(name), 'DEL', own)
})

test('a forged alias in the container keeps no interface from its own DEL', async () => {
  using _net = bases()
  for (const plugin of [macvlan, tap, bridge]) {
    using container = freshNamespace('container')
    const config = mains.find(main => main.plugin === plugin)?.config
    const own = chainOf([{ plugin, config: { type: plugin.name, ipam, ...config } }], {
      name: 'one',
      netns: container,
      containerId: container.name,
      delegates: [hostLocal],
    })
    await own.add()
    const { comment } = ownerOf({ network: 'two', containerId: container.name, ifname: 'eth0' })
    setLink(container.route, 'eth0', { alias: comment })
    await own.del()
    expect(container.links().map(({ name }) => name)).toEqual(['lo'])
  }
})

/** Two containers whose host ends would have one name: the hashes' last 32 bits are the same. */
function colliding(): [string, string] {
  const seen = new Map<string, string>()
  for (let number = 0; ; number++) {
    const containerId = `collision-${number}`
    const name = hostEndName({ network: 'colliding', containerId, ifname: 'eth0' })
    const other = seen.get(name)
    if (other !== undefined) return [other, containerId]
    seen.set(name, containerId)
  }
}

test.each([
  ['bridge', bridge],
  ['ptp', ptp],
])(
  '%s: of two attachments whose host ends would have one name, neither takes the other’s',
  async (type, plugin) => {
    using host = hostNamespace()
    using one = freshNamespace('one')
    using two = freshNamespace('two')
    const [first, second] = colliding()
    const config = { type, name: 'colliding', bridge: 'owned0', isGateway: true, ipam }
    const requestOf = (netns: Namespace, containerId: string): Call => ({
      netns,
      containerId,
      delegates: [hostLocal],
      config,
    })
    const prevResult = await mustCall(plugin, 'ADD', requestOf(one, first))
    const before = withoutMemory(snapshot())
    const same = () => expect(difference(before, withoutMemory(snapshot()))).toEqual({ added: [], gone: [] })
    const { status, json } = await call(plugin, 'ADD', requestOf(two, second))
    expect({ status, msg: json.msg }).toMatchObject({
      status: 1,
      msg: expect.stringContaining('already exists'),
    })
    same()
    await mustCall(plugin, 'DEL', requestOf(two, second))
    same()
    const valid = { 'cni.dev/valid-attachments': [{ containerID: first, ifname: 'eth0' }] }
    await mustCall(plugin, 'GC', { ...requestOf(two, second), config: { ...config, ...valid } })
    same()
    await mustCall(plugin, 'CHECK', { ...requestOf(one, first), config: { ...config, prevResult } })
    await mustCall(plugin, 'DEL', requestOf(one, first))
    expect(host.links().some(({ name }) => name.startsWith('veth'))).toBe(false)
  },
)

test('DEL of sbr leaves none of several equal rules', async () => {
  using container = freshNamespace('container')
  const own = chainOf(
    [
      { plugin: bridge, config: { type: 'bridge', bridge: 'owned0', isGateway: true, ipam } },
      { plugin: sbr, config: { type: 'sbr' } },
    ],
    { name: 'ruled', netns: container, containerId: container.name, delegates: [hostLocal] },
  )
  const { ips } = await own.add()
  const source = ips[0].address.split('/')[0]
  for (const priority of ['100', '200']) {
    container.run('ip', 'rule', 'add', 'from', source, 'lookup', '100', 'priority', priority)
  }
  const rules = () => listRules(container.route).filter(rule => rule.source?.address === source)
  expect(rules()).toHaveLength(3)
  await own.del()
  expect(rules()).toEqual([])
})
