import { expect, test } from 'bun:test'
import { listAddresses } from '../../chain/linux/netlink/address.ts'
import { removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { awaitEvent, openEvents } from '../../chain/linux/netlink/socket.ts'
import { bridge } from '../../main/bridge.ts'
import { freshNetwork, outsideHost, reaches } from '../fixtures/bridge.ts'
import { capture } from '../fixtures/capture.ts'
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
