import { expect, test } from 'bun:test'
import { rmSync } from 'node:fs'
import { setLink } from '../../../chain/linux/netlink/link.ts'
import { bridge } from '../../../main/bridge.ts'
import { elements, freshNetwork, ipam, type Network, withoutMemory } from '../../fixtures/bridge.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { call, mustCall, mustExecute, peerExecutable, peers } from '../../fixtures/plugin.ts'
import { difference, snapshot } from '../../fixtures/snapshot.ts'

const everything = { ipMasq: true, macspoofchk: true }
const nothing = { added: [], gone: [] }
const seen = () => withoutMemory(snapshot())

test.each([
  { name: 'with the same configuration', config: {} },
  { name: 'with another one', config: { hairpinMode: true, macspoofchk: false, mtu: 1300 } },
])(
  'a second ADD of a live attachment $name is refused, again and again, and changes nothing',
  async ({ config }) => {
    await using network = freshNetwork(everything)
    using container = freshNamespace()
    const chain = network.chain(container)
    await chain.add()
    const before = [snapshot(), snapshot(container)] as const
    for (const _ of [1, 2, 3]) {
      const { status, json } = await call(bridge, 'ADD', network.call(container, { config }))
      expect({ status, msg: json.msg }).toEqual({
        status: 1,
        msg: expect.stringMatching(
          /^container veth name \("eth0"\) peer provided \("veth\w+"\) already exists$/,
        ),
      })
    }
    expect(difference(before[0], snapshot())).toEqual(nothing)
    expect(difference(before[1], snapshot(container))).toEqual(nothing)
    expect(await chain.check()).toMatchObject({ status: 0 })
  },
)

test('an interface name that another network has taken in the container is refused, and stays its own', async () => {
  await using network = freshNetwork()
  await using other = freshNetwork({ ipam: { type: 'host-local', subnet: '10.2.0.0/16' } })
  using container = freshNamespace()
  const chain = network.chain(container)
  await chain.add()
  const before = [seen(), snapshot(container)] as const
  const { json } = await call(bridge, 'ADD', other.call(container))
  expect(json.msg).toContain('already exists')
  expect(difference(before[0], seen())).toEqual(nothing)
  expect(difference(before[1], snapshot(container))).toEqual(nothing)
  expect(await chain.check()).toMatchObject({ status: 0 })
})

test('an ADD that was killed is replaced by its retry, and its address is given back', async () => {
  using host = hostNamespace()
  await using network = freshNetwork(everything)
  using neighbour = freshNamespace()
  using container = freshNamespace()
  await network.attach(neighbour)
  const before = seen()
  const chain = network.chain(container)
  const killed = await chain.add()
  setLink(host.route, killed.interfaces[1].name, { alias: '' }) // as it is until the last step
  const result = await chain.add()
  expect(result.ips[0].address).not.toBe(killed.ips[0].address)
  expect(await chain.check()).toMatchObject({ status: 0 })
  await chain.del()
  expect(difference(before, seen())).toEqual(nothing)
})

const refusing = async () => {
  throw new Error('the ruleset is refused')
}

test.each([
  {
    name: 'the IPAM plugin has no address left',
    config: {
      ipam: { type: 'host-local', subnet: '10.1.0.0/30', rangeStart: '10.1.0.1', rangeEnd: '10.1.0.1' },
    },
    call: {},
    says: 'no IP addresses available',
  },
  { name: 'there is no such IPAM plugin', config: { ipam: { type: 'absent' } }, call: {}, says: 'absent' },
  { name: 'the ruleset is refused', config: {}, call: { engine: refusing }, says: 'the ruleset is refused' },
  {
    name: 'a route of the IPAM plugin is refused',
    config: { ipam: { ...ipam, routes: [{ dst: '10.9.0.0/16', gw: '172.16.0.1' }] } },
    call: {},
    says: 'add route 10.9.0.0/16 via 172.16.0.1',
  },
])('ADD that fails because $name leaves nothing', async ({ config, call: more, says }) => {
  using container = freshNamespace()
  await using network = freshNetwork({ ...everything, ...config })
  const before = [seen(), snapshot(container)] as const
  const { status, json } = await call(bridge, 'ADD', network.call(container, more))
  expect({ status, msg: json.msg }).toEqual({ status: 1, msg: expect.stringContaining(says) })
  expect(json.details ?? '').not.toContain('could not')
  expect(difference(before[0], seen())).toEqual(nothing)
  expect(difference(before[1], snapshot(container)).added.filter(line => line.includes('eth0'))).toEqual([])
})

test('ADD that fails on a bridge of the administrator takes back its gateway address alone', async () => {
  using host = hostNamespace()
  await using network = freshNetwork(everything)
  using container = freshNamespace()
  host.createLink({ name: network.bridge, kind: { type: 'bridge' }, address: '02:00:00:00:00:10' })
  const before = seen()
  const { json } = await call(bridge, 'ADD', network.call(container, { engine: refusing }))
  expect(json).toMatchObject({ msg: 'the ruleset is refused' })
  expect(difference(before, seen())).toEqual(nothing)
})

test('ADD that fails after forceAddress gives the bridge its old address back', async () => {
  using host = hostNamespace()
  await using network = freshNetwork({ ...everything, forceAddress: true })
  using container = freshNamespace()
  host.createLink(
    { name: network.bridge, kind: { type: 'bridge' }, address: '02:00:00:00:00:10' },
    '10.77.0.1/24',
  )
  const before = seen()
  await call(bridge, 'ADD', network.call(container, { engine: refusing }))
  expect(difference(before, seen())).toEqual(nothing)
})

test('ADD whose second gateway is refused takes the first one back', async () => {
  using host = hostNamespace()
  await using network = freshNetwork()
  using container = freshNamespace()
  host.createLink(
    { name: network.bridge, kind: { type: 'bridge' }, address: '02:00:00:00:00:10' },
    'fd00:1::77/64',
  )
  const before = seen()
  const { json } = await call(bridge, 'ADD', network.call(container))
  expect(json.msg).toContain('different from fd00:1::1/64')
  expect(difference(before, seen())).toEqual(nothing)
})

test('ADD that fails beside a container that lives leaves this one as it was', async () => {
  await using network = freshNetwork(everything)
  using one = freshNamespace()
  using other = freshNamespace()
  const chain = network.chain(one)
  await chain.add()
  const before = seen()
  const { json } = await call(bridge, 'ADD', network.call(other, { engine: refusing }))
  expect(json).toMatchObject({ msg: 'the ruleset is refused' })
  expect(json.details ?? '').not.toContain('could not')
  expect(difference(before, seen())).toEqual(nothing)
  expect(await chain.check()).toMatchObject({ status: 0 })
})

test.each([
  { name: 'twice', netns: 'present' },
  { name: 'without CNI_NETNS', netns: 'unnamed' },
  { name: 'after the namespace has vanished', netns: 'gone' },
])('DEL $name sweeps everything', async ({ netns }) => {
  await using network = freshNetwork(everything)
  using neighbour = freshNamespace()
  await network.attach(neighbour)
  const before = seen()
  const container = freshNamespace()
  const chain = network.chain(container)
  await chain.add()
  if (netns === 'gone') container[Symbol.dispose]()
  const changes = netns === 'unnamed' ? { netns: undefined } : {}
  await chain.del(changes)
  await chain.del(changes)
  expect(difference(before, seen())).toEqual(nothing)
  if (netns === 'present') container[Symbol.dispose]()
})

test('DEL needs neither prevResult nor an ADD before it', async () => {
  await using network = freshNetwork(everything)
  using container = freshNamespace()
  const before = seen()
  await mustCall(bridge, 'DEL', network.call(container))
  expect(difference(before, seen())).toEqual(nothing)
})

test('DEL takes every step though one fails, and names the one that did', async () => {
  await using network = freshNetwork(everything)
  using container = freshNamespace()
  await network.attach(container)
  const { status, json } = await call(bridge, 'DEL', network.call(container, { engine: refusing }))
  expect({ status, msg: json.msg }).toEqual({ status: 1, msg: 'delete the rules: the ruleset is refused' })
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
  expect(seen().filter(line => line.includes(`/${network.name}/`))).toEqual([])
})

test('GC deletes the links, rules and addresses of what is not alive, and nothing else', async () => {
  await using network = freshNetwork(everything)
  await using unrelated = freshNetwork({ ...everything, ipam: { type: 'host-local', subnet: '10.2.0.0/16' } })
  using stale = freshNamespace()
  using valid = freshNamespace()
  await network.attach(valid)
  await unrelated.attach(valid, { interface: 'eth1', config: { isDefaultGateway: false } })
  const before = seen()
  await network.attach(stale)
  const attachments = [{ containerID: valid.name, ifname: 'eth0' }]
  await mustCall(bridge, 'GC', network.call(stale, { config: { 'cni.dev/valid-attachments': attachments } }))
  expect(difference(before, seen())).toEqual(nothing)
})

test('STATUS passes the verdict of the IPAM plugin on', async () => {
  await using network = freshNetwork()
  using container = freshNamespace()
  expect(await call(bridge, 'STATUS', network.call(container))).toMatchObject({ status: 0 })
  const { status, json } = await call(
    bridge,
    'STATUS',
    network.call(container, { config: { ipam: { type: 'absent' } } }),
  )
  expect({ status, msg: json.msg }).toEqual({ status: 1, msg: expect.stringContaining('"absent"') })
})

test('STATUS tells that another kind of link has the name of the bridge', async () => {
  using host = hostNamespace()
  await using network = freshNetwork()
  using container = freshNamespace()
  host.createLink({ name: network.bridge, kind: { type: 'veth', peer: { name: `${network.bridge}p` } } })
  const { status, json } = await call(bridge, 'STATUS', network.call(container))
  expect({ status, code: json.code, msg: json.msg }).toEqual({
    status: 1,
    code: 50,
    msg: `failed to create bridge "${network.bridge}": "${network.bridge}" already exists but is not a bridge`,
  })
})

test('ADDs at the same time make one bridge with one gateway, and each succeeds', async () => {
  using host = hostNamespace()
  await using network = freshNetwork(everything)
  using containers = new DisposableStack()
  const namespaces = [1, 2, 3, 4, 5].map(() => containers.use(freshNamespace()))
  const results = await Promise.all(namespaces.map(container => addInProcess(network, container)))
  expect(results.map(({ ips }) => ips[0].address).sort()).toEqual(
    [2, 3, 4, 5, 6].map(number => `10.1.0.${number}/16`),
  )
  expect(host.addresses(network.bridge).sort()).toEqual(['10.1.0.1/16', 'fd00:1::1/64'])
  for (const [index, container] of namespaces.entries()) {
    const config = { prevResult: results[index] }
    expect(await call(bridge, 'CHECK', network.call(container, { config }))).toMatchObject({ status: 0 })
    await mustCall(bridge, 'DEL', network.call(container))
  }
})

/** Runs the plugin's own file as a process, beside others. */
async function addInProcess(network: Network, container: Namespace) {
  const child = Bun.spawn([process.execPath, `${import.meta.dir}/../../../main/bridge.ts`], {
    env: {
      PATH: process.env.PATH ?? '',
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: container.name,
      CNI_NETNS: container.path,
      CNI_IFNAME: 'eth0',
      CNI_PATH: peers,
    },
    stdin: Buffer.from(JSON.stringify({ cniVersion: '1.1.0', name: network.name, ...network.config })),
    stdout: 'pipe',
  })
  const output = await new Response(child.stdout).text()
  expect({ status: await child.exited, output }).toMatchObject({ status: 0 })
  return JSON.parse(output)
}

test.each([
  { config: { bridge: '' }, says: 'bridge: must be an interface name of 1 to 15 characters: got ""' },
  { config: { bridge: 'a/b' }, says: 'bridge: must be an interface name of 1 to 15 characters: got "a/b"' },
  { config: { mtu: 2 ** 31 }, says: 'mtu: must be at most 2147483647: got 2147483648' },
  { config: { mtu: 'big' }, says: /^mtu: must be an? .*: got "big"$/ },
  { config: { isGateway: 'yes' }, says: /^isGateway: must be .*: got "yes"$/ },
  { config: { vlan: 4095 }, says: 'vlan: invalid VLAN ID 4095 (must be between 0 and 4094): got 4095' },
  { config: { vlan: -1 }, says: 'vlan: invalid VLAN ID -1 (must be between 0 and 4094): got -1' },
  {
    config: { vlanTrunk: [{ id: 1 }, { id: 4095 }] },
    says: 'vlanTrunk[1]: incorrect trunk id parameter, must be between 1 and 4094: got {"id":4095}',
  },
  {
    config: { vlanTrunk: [{ id: 0 }] },
    says: 'vlanTrunk[0]: incorrect trunk id parameter, must be between 1 and 4094: got {"id":0}',
  },
  {
    config: { vlanTrunk: [{ minID: 5 }] },
    says: /^vlanTrunk.0.: minID and maxID should be configured simultaneously, maxID is missing/,
  },
  {
    config: { vlanTrunk: [{ maxID: 5 }] },
    says: /^vlanTrunk.0.: minID and maxID should be configured simultaneously, minID is missing/,
  },
  {
    config: { vlanTrunk: [{ minID: 0, maxID: 5 }] },
    says: /^vlanTrunk.0.: incorrect trunk minID parameter/,
  },
  {
    config: { vlanTrunk: [{ minID: 5, maxID: 4095 }] },
    says: /^vlanTrunk.0.: incorrect trunk maxID parameter/,
  },
  {
    config: { vlanTrunk: [{ minID: 5, maxID: 4 }] },
    says: /^vlanTrunk.0.: minID is greater than maxID in trunk parameter/,
  },
  {
    config: { hairpinMode: true, promiscMode: true },
    says: /^promiscMode: cannot set hairpin mode and promiscuous mode at the same time/,
  },
  {
    config: { disableContainerInterface: true },
    says: /^disableContainerInterface: cannot use IPAM when DisableContainerInterface flag is set/,
  },
  {
    config: { ipMasq: true, ipMasqBackend: 'pf' },
    says: /^ipMasqBackend: unknown ipmasq backend "pf", must be .*: got "pf"$/,
  },
  {
    config: { runtimeConfig: { mac: 'zz:00' } },
    says: 'runtimeConfig.mac: invalid args zz:00 for MAC addr: address zz:00: invalid MAC address: must be a hardware address of six bytes',
  },
  {
    config: { args: { cni: { mac: '02:00' } } },
    says: 'args.cni.mac: invalid args 02:00 for MAC addr: address 02:00: invalid MAC address: must be a hardware address of six bytes',
  },
])('bad input is refused by its key, and nothing is made: $says', async ({ config, says }) => {
  await using network = freshNetwork()
  using container = freshNamespace()
  const before = seen()
  const { json } = await call(bridge, 'ADD', network.call(container, { config }))
  expect({ code: json.code, msg: json.msg }).toEqual({
    code: 7,
    msg: typeof says === 'string' ? says : expect.stringMatching(says),
  })
  expect(difference(before, seen())).toEqual(nothing)
})

test('a namespace path that is none is refused before anything is made', async () => {
  await using network = freshNetwork()
  using container = freshNamespace()
  const before = seen()
  const { json } = await call(bridge, 'ADD', network.call(container, { netns: '/run/netns/none' }))
  expect(json).toMatchObject({ code: 8, msg: expect.stringContaining('/run/netns/none') })
  expect(difference(before, seen())).toEqual(nothing)
})

const stays = (line: string) => /^nft .*("table"|"chain"|"rule").*(cni_plugins_masquerade|"nat")/.test(line)

test.each(['nftables', 'iptables'])(
  'ours deletes what the Go bridge added with its %s backend',
  async ipMasqBackend => {
    await using network = freshNetwork({ ...everything, ipMasqBackend })
    using neighbour = freshNamespace()
    await network.attach(neighbour)
    const before = seen()
    using container = freshNamespace()
    const { config, containerId } = network.call(container) as { config: object; containerId: string }
    mustExecute(peerExecutable('bridge'), 'ADD', { netns: container, containerId, config })
    expect(difference(before, seen()).added.length).toBeGreaterThan(3)
    await mustCall(bridge, 'DEL', network.call(container))
    const { added, gone } = difference(before, seen())
    expect({ added: added.filter(line => !stays(line)), gone }).toEqual(nothing)
    expect(added.filter(line => line.includes(containerId) || line.includes('10.1.0.3'))).toEqual([])
  },
)

test('the Go bridge deletes the interface and the addresses that ours added; what it does not know, our next DEL sweeps', async () => {
  await using network = freshNetwork({ macspoofchk: true })
  using container = freshNamespace()
  const { config, containerId } = network.call(container) as { config: object; containerId: string }
  await network.attach(container)
  mustExecute(peerExecutable('bridge'), 'DEL', { netns: container, containerId, config })
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
  expect(seen().filter(line => line.includes(`/${network.name}/`))).toEqual([])
  await mustCall(bridge, 'DEL', network.call(container))
  expect(elements()).toEqual([])
})

test('the Go bridge accepts in CHECK what ours added, and the other way round', async () => {
  await using network = freshNetwork()
  using one = freshNamespace()
  using other = freshNamespace()
  const callOf = (container: typeof one, prevResult: object) => {
    const { config, containerId } = network.call(container) as { config: object; containerId: string }
    return { netns: container, containerId, config: { ...config, prevResult } }
  }
  const ours = await network.attach(one)
  mustExecute(peerExecutable('bridge'), 'CHECK', callOf(one, ours))
  const { prevResult: _none, ...fresh } = callOf(other, {}).config as { prevResult: object }
  const theirs = mustExecute(peerExecutable('bridge'), 'ADD', { ...callOf(other, {}), config: fresh })
  await mustCall(bridge, 'CHECK', {
    ...network.call(other),
    config: { ...fresh, prevResult: theirs },
  })
  mustExecute(peerExecutable('bridge'), 'DEL', { ...callOf(other, theirs) })
  rmSync(`/var/lib/cni/networks/${network.name}`, { recursive: true, force: true })
})
