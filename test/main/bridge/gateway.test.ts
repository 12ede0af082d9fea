/** The bridge as gateway: addresses, default routes, forwarding, and what is in the way of them. */
import { expect, test } from 'bun:test'
import { staticAddresses } from '../../../ipam/static.ts'
import { bridge } from '../../../main/bridge.ts'
import { freshNetwork, reaches } from '../../fixtures/bridge.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { call } from '../../fixtures/plugin.ts'

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
