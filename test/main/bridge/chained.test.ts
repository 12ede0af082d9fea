import { expect, test } from 'bun:test'
import { removeLink, setLink } from '../../../chain/linux/netlink/link.ts'
import { bridge } from '../../../main/bridge.ts'
import { freshNetwork, type Network, reaches } from '../../fixtures/bridge.ts'
import { capture, sendFrame } from '../../fixtures/capture.ts'
import { connect, freshNamespace, hostNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { call, mustCall } from '../../fixtures/plugin.ts'
import { difference, snapshot } from '../../fixtures/snapshot.ts'

const nothing = { added: [], gone: [] }
const plain = { ipam: undefined, isDefaultGateway: false }
let count = 0

/** A container with an interface that another plugin made: a veth pair whose host end is on no bridge. */
function prepared(container: Namespace, address: string) {
  using host = hostNamespace()
  const name = `made${++count}`
  connect({ namespace: host, name }, { namespace: container, name: 'eth0', addresses: [address] })
  const result = {
    cniVersion: '1.1.0',
    interfaces: [
      { name, mac: host.link(name).address },
      { name: 'eth0', mac: container.link('eth0').address, sandbox: container.path },
    ],
    ips: [{ address, gateway: '10.1.0.1', interface: 1 }],
  }
  const dispose = () => {
    using host = hostNamespace()
    removeLink(host.route, name)
  }
  return { name, result, [Symbol.dispose]: dispose }
}

const callOf = (network: Network, container: Namespace, prevResult: object, more: object = {}) =>
  network.call(container, { config: { ...more, prevResult } })

test('in a chain, the interface of the plugin before becomes the port, and the bridge its gateway', async () => {
  using host = hostNamespace()
  await using network = freshNetwork({ ...plain, isGateway: true, hairpinMode: true, ipMasq: true })
  using one = freshNamespace()
  using sibling = freshNamespace()
  using made = prepared(one, '10.1.0.2/16')
  using other = prepared(sibling, '10.1.0.3/16')
  const result = await mustCall(bridge, 'ADD', callOf(network, one, made.result))
  await mustCall(bridge, 'ADD', callOf(network, sibling, other.result))
  expect(result.interfaces).toEqual([
    ...made.result.interfaces,
    { name: network.bridge, mac: host.link(network.bridge).address },
  ])
  expect(result.ips).toEqual(made.result.ips)
  expect(host.link(made.name)).toMatchObject({
    master: host.link(network.bridge).index,
    port: { hairpin: true, isolated: false },
  })
  expect(await reaches(one, host, '10.1.0.1')).toBe(true)
  expect(await reaches(one, sibling, '10.1.0.3')).toBe(true)
  expect(await call(bridge, 'CHECK', callOf(network, one, result))).toMatchObject({ status: 0 })
  for (const [container, prevResult] of [
    [one, result],
    [sibling, other.result],
  ] as const) {
    await mustCall(bridge, 'DEL', callOf(network, container, prevResult))
    await mustCall(bridge, 'DEL', callOf(network, container, prevResult))
  }
  expect(host.link(made.name).master).toBeUndefined()
  expect(one.link('eth0').up).toBe(true)
})

test('a tap on the host becomes a port as well, and CHECK notices when it has left', async () => {
  using host = hostNamespace()
  await using network = freshNetwork(plain)
  using container = freshNamespace()
  const name = `tap${++count}`
  host.run('ip', 'tuntap', 'add', name, 'mode', 'tap')
  const prevResult = { cniVersion: '1.1.0', interfaces: [{ name }] }
  const result = await mustCall(bridge, 'ADD', callOf(network, container, prevResult))
  expect(host.link(name)).toMatchObject({ master: host.link(network.bridge).index, up: true })
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
  const check = () => call(bridge, 'CHECK', callOf(network, container, result))
  expect(await check()).toMatchObject({ status: 0 })
  setLink(host.route, name, { master: 0 })
  expect((await check()).json.msg).toBe(`${name} is not on bridge ${network.bridge}`)
  host.run('ip', 'link', 'del', name)
  expect((await check()).json.msg).toBe(`${name} of prevResult is gone`)
  await mustCall(bridge, 'DEL', callOf(network, container, result))
})

test('macspoofchk guards an attached interface with the address behind it, and is refused where that is not known', async () => {
  await using network = freshNetwork({ ...plain, macspoofchk: true })
  using one = freshNamespace()
  using sibling = freshNamespace()
  using made = prepared(one, '10.1.0.2/16')
  using other = prepared(sibling, '10.1.0.3/16')
  const result = await mustCall(bridge, 'ADD', callOf(network, one, made.result))
  await mustCall(bridge, 'ADD', callOf(network, sibling, other.result))
  using arrived = await capture(sibling, 'ether proto 0x88b5')
  const mac = one.link('eth0').address
  sendFrame(one, { source: '02:0f:0f:0f:0f:0f', destination: 'ff:ff:ff:ff:ff:ff' })
  sendFrame(one, { source: mac, destination: 'ff:ff:ff:ff:ff:ff' })
  await arrived.line(new RegExp(mac))
  expect(arrived.lines().some(line => line.includes('02:0f:0f:0f:0f:0f'))).toBe(false)
  await mustCall(bridge, 'DEL', callOf(network, one, result))
  await mustCall(bridge, 'DEL', callOf(network, sibling, other.result))
  const unknown = { cniVersion: '1.1.0', interfaces: [{ name: made.name }] }
  const { json } = await call(bridge, 'ADD', callOf(network, one, unknown))
  expect(json).toMatchObject({ code: 7, msg: expect.stringMatching(/^macspoofchk: /) })
})

test('an ADD that fails takes the interface off the bridge again and leaves the rest as it was', async () => {
  await using network = freshNetwork({ ...plain, isGateway: true, ipMasq: true })
  using container = freshNamespace()
  using made = prepared(container, '10.1.0.2/16')
  const before = [snapshot(), snapshot(container)] as const
  const { json } = await call(bridge, 'ADD', {
    ...callOf(network, container, made.result),
    engine: async () => {
      throw new Error('the ruleset is refused')
    },
  })
  expect(json).toMatchObject({ msg: 'the ruleset is refused' })
  expect(difference(before[0], snapshot())).toEqual(nothing)
  expect(difference(before[1], snapshot(container))).toEqual(nothing)
})

test('an interface that is on another bridge is refused and stays there', async () => {
  using host = hostNamespace()
  await using network = freshNetwork(plain)
  await using other = freshNetwork(plain)
  using container = freshNamespace()
  using made = prepared(container, '10.1.0.2/16')
  host.createLink({ name: other.bridge, kind: { type: 'bridge' } })
  setLink(host.route, made.name, { master: host.link(other.bridge).index })
  const before = snapshot()
  const { json } = await call(bridge, 'ADD', callOf(network, container, made.result))
  expect(json.msg).toBe(`${made.name} of prevResult is a port of another bridge already`)
  expect(difference(before, snapshot())).toEqual(nothing)
})

test('with an IPAM plugin of its own, the bridge makes its own port whatever prevResult lists', async () => {
  using host = hostNamespace()
  await using network = freshNetwork()
  using container = freshNamespace()
  const name = `tap${++count}`
  host.run('ip', 'tuntap', 'add', name, 'mode', 'tap')
  const result = await mustCall(
    bridge,
    'ADD',
    callOf(network, container, { cniVersion: '1.1.0', interfaces: [{ name }] }),
  )
  expect(result.interfaces.map((each: { name: string }) => each.name)).toEqual([
    network.bridge,
    expect.stringMatching(/^veth/),
    'eth0',
  ])
  expect(host.link(name).master).toBeUndefined()
  await mustCall(bridge, 'DEL', callOf(network, container, result))
  host.run('ip', 'link', 'del', name)
})

test('DEL without IPAM deletes the pair that the bridge made itself, though prevResult lists its host end', async () => {
  await using network = freshNetwork(plain)
  using container = freshNamespace()
  const result = await network.attach(container)
  await mustCall(bridge, 'DEL', callOf(network, container, result))
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
})
