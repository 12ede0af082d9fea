import { expect, test } from 'bun:test'
import { listAddresses } from '../../chain/linux/netlink/address.ts'
import { removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { awaitEvent, openEvents } from '../../chain/linux/netlink/socket.ts'
import { staticAddresses } from '../../ipam/static.ts'
import { bridge } from '../../main/bridge.ts'
import { elements, freshNetwork, outsideHost, reaches } from '../fixtures/bridge.ts'
import { capture, sendFrame } from '../fixtures/capture.ts'
import { getHttp, serveHttp } from '../fixtures/http.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { call } from '../fixtures/plugin.ts'

test('two containers reach each other and their gateway over IPv4 and IPv6', async () => {
  using host = hostNamespace()
  await using network = freshNetwork()
  using one = freshNamespace()
  using other = freshNamespace()
  await network.attach(one)
  const result = await network.attach(other)
  const addresses = ['10.1.0.3', 'fd00:1::3']
  expect(result.ips.map(({ address }: { address: string }) => address)).toEqual([
    '10.1.0.3/16',
    'fd00:1::3/64',
  ])
  for (const address of addresses) expect(await reaches(one, other, address)).toBe(true)
  for (const gateway of ['10.1.0.1', 'fd00:1::1']) expect(await reaches(one, host, gateway)).toBe(true)
  for (const address of addresses) expect(await reaches(host, other, address)).toBe(true)
})

test.each([
  { name: 'link-local', address: '2001:db8:7::5/64', gateway: 'fe80::1' },
  { name: 'outside of the subnet', address: '203.0.113.17/28', gateway: '198.51.100.254' },
])('a gateway that is $name: the host and the container reach each other', async ({ address, gateway }) => {
  using host = hostNamespace()
  const [plain = ''] = address.split('/')
  const ipam = { type: 'static', addresses: [{ address, gateway }] }
  const routes = gateway.includes('.') ? [{ dst: `${gateway}/32` }] : []
  for (const attempt of ['first', 'again']) {
    await using network = freshNetwork()
    using container = freshNamespace(attempt)
    const chain = network.chain(container, {
      config: { ipam: { ...ipam, routes } },
      delegates: [staticAddresses],
    })
    await chain.add()
    expect(await chain.check()).toMatchObject({ status: 0 })
    expect(await reaches(host, container, plain)).toBe(true)
    await chain.del()
  }
})

test('the result lists bridge, host end and container end with what the kernel says of them', async () => {
  using host = hostNamespace()
  await using network = freshNetwork()
  using container = freshNamespace()
  const result = await network.attach(container)
  const [, hostEnd] = result.interfaces
  expect(result).toEqual({
    cniVersion: '1.1.0',
    interfaces: [
      { name: network.bridge, mac: host.link(network.bridge).address },
      { name: hostEnd.name, mac: host.link(hostEnd.name).address },
      { name: 'eth0', mac: container.link('eth0').address, sandbox: container.path },
    ],
    ips: [
      { address: '10.1.0.2/16', gateway: '10.1.0.1', interface: 2 },
      { address: 'fd00:1::2/64', gateway: 'fd00:1::1', interface: 2 },
    ],
    routes: [
      { dst: '0.0.0.0/0', gw: '10.1.0.1' },
      { dst: '::/0', gw: 'fd00:1::1' },
    ],
  })
  expect(host.link(hostEnd.name)).toMatchObject({ master: host.link(network.bridge).index, up: true })
})

test('an outside server sees a masqueraded container as the host, and one without masquerade not at all', async () => {
  using outside = outsideHost()
  await using network = freshNetwork({ ipMasq: true })
  using container = freshNamespace()
  const chain = network.chain(container)
  await chain.add()
  using server = serveHttp(outside, { port: 80 })
  expect(await getHttp(container, { address: '192.0.2.2', port: 80 })).toBe('192.0.2.1')
  expect(await getHttp(container, { address: '2001:db8::2', port: 80 })).toBe('2001:db8::1')
  await chain.del()
  const plain = network.chain(container, { config: { ipMasq: false } })
  await plain.add()
  await expect(getHttp(container, { address: '192.0.2.2', port: 80 }, 300)).rejects.toThrow('no answer')
  expect(server.clients).toEqual(['192.0.2.1', '2001:db8::1'])
})

test('siblings see a masqueraded container under its own address', async () => {
  await using network = freshNetwork({ ipMasq: true })
  using one = freshNamespace()
  using other = freshNamespace()
  await network.attach(one)
  await network.attach(other)
  using _server = serveHttp(one, { port: 80 })
  expect(await getHttp(other, { address: '10.1.0.2', port: 80 })).toBe('10.1.0.3')
  expect(await getHttp(other, { address: 'fd00:1::2', port: 80 })).toBe('fd00:1::3')
})

const onlyIpv4 = { type: 'host-local', subnet: '10.1.0.0/16' }
const defaultsOf = (container: Namespace) =>
  container
    .routes()
    .filter(({ prefixLength }) => prefixLength === 0)
    .map(({ gateway }) => gateway)

test.each<{ name: string; config: object; addresses: string[]; defaults: string[] }>([
  {
    name: 'isGateway puts the gateway on the bridge and leaves the container without a default route',
    config: { isDefaultGateway: false, isGateway: true },
    addresses: ['10.1.0.1/16'],
    defaults: [],
  },
  {
    name: 'isDefaultGateway does both',
    config: { isDefaultGateway: true },
    addresses: ['10.1.0.1/16'],
    defaults: ['10.1.0.1'],
  },
  {
    name: 'without either, the bridge has no address',
    config: { isDefaultGateway: false },
    addresses: [],
    defaults: [],
  },
  {
    name: 'a default route of the IPAM plugin through a gateway is not doubled',
    config: { ipam: { ...onlyIpv4, routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.9' }] } },
    addresses: ['10.1.0.1/16'],
    defaults: ['10.1.0.9'],
  },
  {
    name: 'a default route of the IPAM plugin without a gateway is not doubled',
    config: { ipam: { ...onlyIpv4, routes: [{ dst: '0.0.0.0/0' }] } },
    addresses: ['10.1.0.1/16'],
    defaults: ['10.1.0.1'],
  },
  {
    name: 'a gateway that the IPAM plugin names is the one',
    config: { ipam: { ...onlyIpv4, gateway: '10.1.255.254' } },
    addresses: ['10.1.255.254/16'],
    defaults: ['10.1.255.254'],
  },
])('$name', async ({ config, addresses, defaults }) => {
  using host = hostNamespace()
  await using network = freshNetwork({ ipam: onlyIpv4, ...config })
  using container = freshNamespace()
  const chain = network.chain(container)
  await chain.add()
  expect({ addresses: host.addresses(network.bridge), defaults: defaultsOf(container) }).toEqual({
    addresses,
    defaults,
  })
  expect(await chain.check()).toMatchObject({ status: 0 })
})

test('a gateway switches forwarding on for the families of its containers', async () => {
  using host = hostNamespace()
  host.setSysctl('net/ipv4/ip_forward', '0')
  host.setSysctl('net/ipv6/conf/all/forwarding', '0')
  const forwarding = () => [host.sysctl('net/ipv4/ip_forward'), host.sysctl('net/ipv6/conf/all/forwarding')]
  await using plain = freshNetwork({ isDefaultGateway: false })
  using zero = freshNamespace()
  await plain.attach(zero)
  expect(forwarding()).toEqual(['0', '0'])
  await using four = freshNetwork({ ipam: { type: 'host-local', subnet: '10.4.0.0/16' } })
  using one = freshNamespace()
  await four.attach(one)
  expect(forwarding()).toEqual(['1', '0'])
  await using six = freshNetwork({ ipam: { type: 'host-local', subnet: 'fd00:6::/64' } })
  using two = freshNamespace()
  await six.attach(two)
  expect(forwarding()).toEqual(['1', '1'])
})

test.each([
  { family: 'IPv4', subnet: '10.1.0.0/16', other: '10.77.0.1/24', wanted: '10.1.0.1/16' },
  { family: 'IPv6', subnet: 'fd00:1::/64', other: 'fd00:1::77/64', wanted: 'fd00:1::1/64' },
])(
  'a bridge with another $family address is refused, and given the new one under forceAddress',
  async ({ subnet, other, wanted }) => {
    using host = hostNamespace()
    await using network = freshNetwork({ ipam: { type: 'host-local', subnet } })
    using container = freshNamespace()
    host.createLink({ name: network.bridge, kind: { type: 'bridge' } }, other)
    const { status, json } = await call(bridge, 'ADD', network.call(container))
    expect({ status, msg: json.msg, addresses: host.addresses(network.bridge) }).toEqual({
      status: 1,
      msg: `failed to set bridge addr: "${network.bridge}" already has an IP address different from ${wanted}`,
      addresses: [other],
    })
    await network.attach(container, { config: { forceAddress: true } })
    expect(host.addresses(network.bridge)).toEqual([wanted])
  },
)

test('IPv6 gateways of networks that do not overlap share a bridge', async () => {
  using host = hostNamespace()
  await using network = freshNetwork({ ipam: { type: 'host-local', subnet: 'fd00:1::/64' } })
  using container = freshNamespace()
  host.createLink({ name: network.bridge, kind: { type: 'bridge' } }, 'fd00:2::1/64')
  await network.attach(container)
  expect(host.addresses(network.bridge).sort()).toEqual(['fd00:1::1/64', 'fd00:2::1/64'])
})

test('a link of that name that is no bridge is refused and stays', async () => {
  using host = hostNamespace()
  await using network = freshNetwork()
  using container = freshNamespace()
  host.createLink({ name: network.bridge, kind: { type: 'veth', peer: { name: `${network.bridge}p` } } })
  const { json } = await call(bridge, 'ADD', network.call(container))
  expect(json).toMatchObject({
    code: 999,
    msg: `failed to create bridge "${network.bridge}": "${network.bridge}" already exists but is not a bridge`,
  })
  expect(host.link(network.bridge).kind).toBe('veth')
})

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

test('addresses are usable at once, without duplicate detection, and the link-local one before detection could be over', async () => {
  await using network = freshNetwork()
  using container = freshNamespace()
  using events = container.inside(() => openEvents(IPV6_ADDRESS_EVENTS))
  await network.attach(container)
  const tentative = () =>
    listAddresses(container.route, container.link('eth0').index, [10]) // AF_INET6
      .filter(address => address.tentative)
      .map(({ address }) => address)
  expect(tentative()).not.toContain('fd00:1::2')
  const isDone = () => tentative().length === 0
  expect(isDone() || awaitEvent(events, isDone, 500)).toBe(true) // detection takes a second at least (RFC 4862)
})

const IPV6_ADDRESS_EVENTS = 9 // RTNLGRP_IPV6_IFADDR

test('enabledad: an address that a neighbour has is refused, and one that is free is ready when ADD ends', async () => {
  using host = hostNamespace()
  await using network = freshNetwork({ enabledad: true, ipam: { type: 'host-local', subnet: 'fd00:1::/64' } })
  using first = freshNamespace()
  await network.attach(first)
  const ready = listAddresses(first.route, first.link('eth0').index, [10])
  expect(ready.find(({ address }) => address === 'fd00:1::2')?.tentative).toBe(false)
  first.addAddress('eth0', 'fd00:1::3/64')
  using second = freshNamespace()
  const { status, json } = await call(bridge, 'ADD', network.call(second))
  expect({ status, msg: json.msg }).toEqual({
    status: 1,
    msg: 'link eth0 has address fd00:1::3 in DADFAILED state: it is in use by another host on the link',
  })
  expect(json.details).not.toContain('could not')
  expect(second.links().map(({ name }) => name)).toEqual(['lo'])
  expect(host.links().filter(({ master }) => master === host.link(network.bridge).index)).toHaveLength(1)
})

test('disableContainerInterface leaves the container end down, and CHECK agrees', async () => {
  await using network = freshNetwork({
    isDefaultGateway: false,
    disableContainerInterface: true,
    ipam: undefined,
  })
  using container = freshNamespace()
  const chain = network.chain(container)
  const { interfaces } = await chain.add()
  expect(interfaces[2].mac).toBe(container.link('eth0').address)
  expect(container.link('eth0').up).toBe(false)
  expect(await chain.check()).toMatchObject({ status: 0 })
  await chain.del()
})

test('without ipam, containers are joined on the second layer alone, and CHECK, STATUS and DEL need no ipam either', async () => {
  using host = hostNamespace()
  await using network = freshNetwork({ isDefaultGateway: false, ipam: {} })
  using one = freshNamespace()
  using other = freshNamespace()
  const chain = network.chain(one)
  const result = await chain.add()
  await network.attach(other)
  expect(result.ips ?? []).toEqual([])
  one.addAddress('eth0', '10.5.0.1/24')
  other.addAddress('eth0', '10.5.0.2/24')
  expect(await reaches(one, other, '10.5.0.2')).toBe(true)
  expect(host.addresses(network.bridge)).toEqual([])
  expect(await chain.check()).toMatchObject({ status: 0 })
  expect(await call(bridge, 'STATUS', network.call(one))).toMatchObject({ status: 0 })
  await chain.del()
})

test("the configuration's dns goes before the IPAM plugin's", async () => {
  await using network = freshNetwork({ dns: { nameservers: ['10.1.0.53'], search: ['test'] } })
  using container = freshNamespace()
  expect((await network.attach(container)).dns).toEqual({ nameservers: ['10.1.0.53'], search: ['test'] })
})

test('the hardware address of a bridge without address stays while ports come and go, and across a new bridge of that name', async () => {
  using host = hostNamespace()
  await using network = freshNetwork({ isDefaultGateway: false, ipam: undefined })
  using one = freshNamespace()
  using other = freshNamespace()
  const chain = network.chain(one)
  const macOf = () => host.link(network.bridge).address
  await chain.add()
  const mac = macOf()
  await network.attach(other, { args: 'IgnoreUnknown=1;MAC=02:00:00:00:00:01' })
  setLink(host.route, (chain.result as { interfaces: [unknown, { name: string }] }).interfaces[1].name, {
    address: '02:00:00:00:00:00',
  })
  const withTwo = macOf()
  await chain.del()
  expect([withTwo, macOf()]).toEqual([mac, mac])
  removeLink(host.route, network.bridge)
  await chain.add()
  expect(macOf()).toBe(mac)
})

test('a sibling hears of a new container by gratuitous ARP and an unsolicited neighbour advertisement', async () => {
  await using network = freshNetwork()
  using sibling = freshNamespace()
  using container = freshNamespace()
  await network.attach(sibling)
  using arrived = await capture(sibling, 'arp or icmp6')
  const { interfaces } = await network.attach(container)
  expect(await arrived.line(/10\.1\.0\.3/)).toMatch(
    new RegExp(`${interfaces[2].mac} > ff:ff:ff:ff:ff:ff.*10\\.1\\.0\\.3`),
  )
  expect(await arrived.line(/neighbor advertisement.*fd00:1::3/)).toContain(interfaces[2].mac)
})

test('a sibling that knew the address by an older hardware address learns the new one', async () => {
  await using network = freshNetwork()
  using sibling = freshNamespace()
  using container = freshNamespace()
  await network.attach(sibling)
  const addresses = ['10.1.0.3', 'fd00:1::3']
  for (const address of addresses) {
    sibling.run('ip', 'neigh', 'add', address, 'lladdr', '02:aa:00:00:00:01', 'dev', 'eth0', 'nud', 'stale')
  }
  using events = sibling.inside(() => openEvents(NEIGHBOUR_EVENTS))
  const { interfaces } = await network.attach(container)
  const learned = () => addresses.every(address => neighbour(sibling, address).includes(interfaces[2].mac))
  expect(learned() || awaitEvent(events, learned, 5000)).toBe(true)
})

const NEIGHBOUR_EVENTS = 3 // RTNLGRP_NEIGH

const neighbour = (from: Namespace, address: string) =>
  from.run('ip', 'neigh', 'show', address, 'dev', 'eth0')

test('what a new bridge forwards over IPv6 reaches a container at once', async () => {
  using outside = outsideHost()
  using container = freshNamespace()
  await using network = freshNetwork()
  const { ips } = await network.attach(container)
  const address = ips.map(({ address }: { address: string }) => address.split('/')[0])[1]
  using _server = serveHttp(container, { port: 80 })
  outside.run('ip', 'route', 'add', 'default', 'via', '2001:db8::1')
  expect(await getHttp(outside, { address, port: 80 }, 700)).toBe('2001:db8::2')
})
