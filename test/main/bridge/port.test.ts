/** A container’s port of the bridge and its link: hairpin, isolation, promiscuous mode, hardware addresses. */
import { expect, test } from 'bun:test'
import { elements, freshNetwork, reaches } from '../../fixtures/bridge.ts'
import { capture, sendFrame } from '../../fixtures/capture.ts'
import { freshNamespace, hostNamespace } from '../../fixtures/namespace.ts'

test('hairpinMode and portIsolation are set on the port, promiscMode and mtu where the Go plugin sets them', async () => {
  using host = hostNamespace()
  await using network = freshNetwork({ hairpinMode: true, portIsolation: true, mtu: 1400 })
  using container = freshNamespace()
  const { interfaces } = await network.attach(container)
  expect(host.link(interfaces[1].name)).toMatchObject({ mtu: 1400, port: { hairpin: true, isolated: true } })
  expect(host.link(network.bridge)).toMatchObject({ mtu: 1400, promiscuous: false })
  expect(container.link('eth0').mtu).toBe(1400)
  await using promiscuous = freshNetwork({
    promiscMode: true,
    ipam: { type: 'host-local', subnet: '10.2.0.0/16' },
  })
  using other = freshNamespace()
  const result = await promiscuous.attach(other)
  expect(host.link(promiscuous.bridge)).toMatchObject({ mtu: 1500, promiscuous: true })
  expect(host.link(result.interfaces[1].name).port).toMatchObject({ hairpin: false, isolated: false })
})

test('promiscMode is switched on at a bridge that is there already', async () => {
  using host = hostNamespace()
  await using network = freshNetwork()
  using one = freshNamespace()
  using other = freshNamespace()
  await network.attach(one)
  await network.attach(other, { config: { promiscMode: true } })
  expect(host.link(network.bridge).promiscuous).toBe(true)
})

test('a hairpin port gives back to the container what it sends to itself by way of the bridge', async () => {
  await using network = freshNetwork({ hairpinMode: true })
  using container = freshNamespace()
  const { interfaces } = await network.attach(container)
  using arrived = await capture(container, 'inbound and ether proto 0x88b5')
  sendFrame(container, { source: interfaces[2].mac, destination: 'ff:ff:ff:ff:ff:ff' })
  expect(await arrived.line(/0x88b5/)).toContain(interfaces[2].mac)
})

test.each([
  {
    name: 'CNI_ARGS',
    args: 'IgnoreUnknown=1;MAC=02:00:00:00:00:01',
    config: {},
    mac: '02:00:00:00:00:01',
  },
  {
    name: 'args.cni.mac',
    args: 'IgnoreUnknown=1;MAC=02:00:00:00:00:01',
    config: { args: { cni: { mac: '02:00:00:00:00:02' } } },
    mac: '02:00:00:00:00:02',
  },
  {
    name: 'runtimeConfig.mac',
    args: 'IgnoreUnknown=1;MAC=02:00:00:00:00:01',
    config: {
      args: { cni: { mac: '02:00:00:00:00:02' } },
      runtimeConfig: { mac: '02:00:00:00:00:03' },
    },
    mac: '02:00:00:00:00:03',
  },
])('the hardware address of $name goes before those named so far', async ({ args, config, mac }) => {
  await using network = freshNetwork()
  using container = freshNamespace()
  const result = await network.attach(container, { args, config })
  expect([container.link('eth0').address, result.interfaces[2].mac]).toEqual([mac, mac])
})

test('isolated containers reach their gateway and not one another', async () => {
  using host = hostNamespace()
  await using network = freshNetwork({ portIsolation: true })
  using one = freshNamespace()
  using other = freshNamespace()
  using open = freshNamespace()
  await network.attach(one)
  await network.attach(other)
  await network.attach(open, { config: { portIsolation: false } })
  expect(await reaches(one, host, '10.1.0.1')).toBe(true)
  expect(await reaches(one, open, '10.1.0.4')).toBe(true)
  expect(await reaches(one, other, '10.1.0.3', 700)).toBe(false)
  expect(await reaches(one, other, 'fd00:1::3', 700)).toBe(false)
})

test.each([
  { name: 'under macspoofchk, frames with a forged source address are dropped', guarded: true },
  { name: 'without macspoofchk, they get through', guarded: false },
])('$name', async ({ guarded }) => {
  await using network = freshNetwork({ macspoofchk: guarded })
  using one = freshNamespace()
  using other = freshNamespace()
  const chain = network.chain(one)
  const { interfaces } = await chain.add()
  await network.attach(other, { config: { macspoofchk: false } })
  using arrived = await capture(other, 'ether proto 0x88b5')
  sendFrame(one, { source: '02:0f:0f:0f:0f:0f', destination: 'ff:ff:ff:ff:ff:ff' })
  sendFrame(one, { source: interfaces[2].mac, destination: 'ff:ff:ff:ff:ff:ff' })
  await arrived.line(new RegExp(interfaces[2].mac)) // frames keep their order
  expect(arrived.lines().some(line => line.includes('02:0f:0f:0f:0f:0f'))).toBe(!guarded)
  await chain.del()
  expect(elements()).toEqual([])
})
