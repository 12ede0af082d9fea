import { expect, test } from 'bun:test'
import { messageType, option, optionValue } from '../../../../ipam/dhcp/v6/packet.ts'
import { dhcp } from '../../../../ipam/dhcp.ts'
import { call, mustCall } from '../../../fixtures/plugin.ts'
import { daemon } from '../network.ts'
import { dnsmasq6, kea, lan6, listenOn6, makeUsable, ROUTER, radvd } from './network.ts'

type Ipam = { ipv4?: boolean; ipv6?: string; priority?: number }

function configFor(socket: string, more: Ipam) {
  return { type: 'bridge', ipam: { type: 'dhcp', daemonSocketPath: socket, ipv4: false, ...more } }
}

const LEASED = /^fd00:9::1[0-9a-f]{2}\/64$/
/** EUI-64 of a random hardware address, whose bytes may be zero. */
const MADE = /^fd00:9:[0-9a-f:]*ff:fe[0-9a-f]{2}:[0-9a-f]+\/64$/

test.concurrent.each([
  { ipv6: 'auto', addresses: [LEASED, MADE] },
  { ipv6: 'dhcp', addresses: [LEASED] },
  { ipv6: 'slaac', addresses: [MADE] },
])(
  '$ipv6: addresses from dnsmasq, which stay for a second ADD and CHECK, and go with DEL',
  async ({ ipv6, addresses }) => {
    using network = lan6()
    await using server = await dnsmasq6(network.namespace)
    await using dhcpDaemon = await daemon()
    const container = network.attach('container')
    const config = configFor(dhcpDaemon.socket, { ipv6, priority: 7 })
    const result = await mustCall(dhcp, 'ADD', { config, netns: container })
    expect(result).toEqual({
      cniVersion: '1.1.0',
      ips: addresses.map(address => ({ address: expect.stringMatching(address), gateway: ROUTER })),
      routes: [{ dst: '::/0', gw: ROUTER, mtu: 1500, priority: 7 }],
      dns: { nameservers: ['fd00:9::53'] },
    })
    expect(container.addresses('eth0')).toEqual([]) // of the kernel's own making there are none
    expect(await mustCall(dhcp, 'ADD', { config, netns: container })).toEqual(result)
    await mustCall(dhcp, 'CHECK', { config: { ...config, prevResult: result }, netns: container })
    await mustCall(dhcp, 'DEL', { config, netns: container })
    await mustCall(dhcp, 'DEL', { config, netns: undefined })
    if (ipv6 !== 'slaac') await server.says(/DHCPRELEASE/)
    else expect(server.log()).not.toContain('DHCPSOLICIT')
  },
)

test.concurrent('both families in one result, each given back', async () => {
  using network = lan6()
  await using server = await dnsmasq6(network.namespace, 'slaac', '--dhcp-range=10.9.0.50,10.9.0.99,120')
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const config = { ipam: { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket, ipv6: 'dhcp' } }
  const result = await mustCall(dhcp, 'ADD', { config, netns: container })
  expect(result.ips.map(({ address }: { address: string }) => address)).toEqual([
    expect.stringMatching(/^10\.9\.0\.\d+\/24$/),
    expect.stringMatching(LEASED),
  ])
  expect(result.routes.map(({ dst }: { dst: string }) => dst)).toEqual(['0.0.0.0/0', '::/0'])
  await mustCall(dhcp, 'CHECK', { config: { ...config, prevResult: result }, netns: container })
  await mustCall(dhcp, 'DEL', { config, netns: container })
  await server.says(/DHCPRELEASE\(br0\) 10\.9/)
  await server.says(/DHCPRELEASE\(br0\) 00:04/)
})

test.concurrent('where one family cannot be had, the other is given back', async () => {
  using network = lan6()
  await using server = await dnsmasq6(network.namespace)
  await using dhcpDaemon = await daemon('-resendtimeout', '1500ms', '-timeout', '300ms')
  const container = network.attach('container')
  const config = { ipam: { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket, ipv6: 'dhcp' } }
  const { json } = await call(dhcp, 'ADD', { config, netns: container })
  expect(json.msg).toContain('no more tries: no server offered an address')
  await server.says(/DHCPRELEASE/)
})

test.concurrent('a router that advertises DHCPv6 for other things: the address is made, name servers come from the server', async () => {
  using network = lan6()
  await using _router = await radvd(network.namespace, [], 'AdvOtherConfigFlag on;')
  const options = [
    { name: 'dns-servers', data: 'fd00:9::54' },
    { name: 'domain-search', data: 'a.example.org, example.org' },
  ]
  await using _server = await kea(network.namespace, { options })
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const result = await mustCall(dhcp, 'ADD', {
    config: configFor(dhcpDaemon.socket, { ipv6: 'auto' }),
    netns: container,
  })
  expect(result.ips).toEqual([{ address: expect.stringMatching(MADE), gateway: ROUTER }])
  expect(result.dns).toEqual({ nameservers: ['fd00:9::54'], search: ['a.example.org', 'example.org'] })
})

test.concurrent('routes, name servers, domains and MTU that a router advertises are in the result', async () => {
  using network = lan6()
  await using _router = await radvd(
    network.namespace,
    [],
    ...[
      'AdvLinkMTU 1400;',
      'AdvDefaultPreference high;',
      'RDNSS fd00:9::53 fd00:9::54 { };',
      'DNSSL example.org { };',
    ],
    'route fd00:77::/48 { AdvRoutePreference low; };',
  )
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const result = await mustCall(dhcp, 'ADD', {
    config: configFor(dhcpDaemon.socket, { ipv6: 'slaac' }),
    netns: container,
  })
  expect(result).toMatchObject({
    dns: { nameservers: ['fd00:9::53', 'fd00:9::54'], search: ['example.org'] },
    routes: [
      { dst: '::/0', gw: ROUTER, mtu: 1400 },
      { dst: 'fd00:77::/48', gw: ROUTER, mtu: 1400 },
    ],
  })
})

test.concurrent('an MTU that is larger than the link’s is passed over', async () => {
  using network = lan6()
  await using _router = await radvd(network.namespace, [], 'AdvLinkMTU 1400;')
  const container = network.attach('container')
  container.run('ip', 'link', 'set', 'eth0', 'mtu', '1300')
  await using dhcpDaemon = await daemon()
  const config = configFor(dhcpDaemon.socket, { ipv6: 'slaac' })
  const { routes } = await mustCall(dhcp, 'ADD', { config, netns: container })
  expect(routes).toEqual([{ dst: '::/0', gw: ROUTER }])
})

test.concurrent('a server without a router gives an address on no network, and no route', async () => {
  using network = lan6()
  await using _server = await kea(network.namespace)
  await using dhcpDaemon = await daemon('-timeout', '200ms')
  const container = network.attach('container')
  const result = await mustCall(dhcp, 'ADD', {
    config: configFor(dhcpDaemon.socket, { ipv6: 'dhcp' }),
    netns: container,
  })
  expect(result).toEqual({
    cniVersion: '1.1.0',
    ips: [{ address: expect.stringMatching(/^fd00:9::2[0-9a-f]{2}\/128$/) }],
  })
})

test.concurrent.each(['auto', 'slaac'])(
  '%s: a link without a router costs three solicitations, and an error',
  async ipv6 => {
    using network = lan6()
    using listener = listenOn6(network.namespace)
    await using dhcpDaemon = await daemon('-timeout', '100ms')
    const container = network.attach('container')
    const { json } = await call(dhcp, 'ADD', {
      config: configFor(dhcpDaemon.socket, { ipv6 }),
      netns: container,
    })
    expect(json).toMatchObject({
      code: 999,
      msg: 'error calling DHCP.Allocate: no IPv6 address: no router has answered a solicitation',
    })
    expect(listener.heard).toEqual([])
  },
)

test.concurrent('a router without prefix and server is named', async () => {
  using network = lan6()
  await using _router = await radvd(network.namespace, ['AdvAutonomous off;'])
  await using dhcpDaemon = await daemon('-timeout', '300ms')
  const container = network.attach('container')
  const { json } = await call(dhcp, 'ADD', {
    config: configFor(dhcpDaemon.socket, { ipv6: 'auto' }),
    netns: container,
  })
  expect(json.msg).toContain(`router ${ROUTER} advertises neither an autonomous prefix nor DHCPv6`)
})

test.concurrent('of two servers one is asked and the other is not, for each container on its own; the preferred one, if it answers in time', async () => {
  using network = lan6()
  const other = network.attach('server')
  makeUsable(other, 'eth0', 'fd00:9::2/64')
  await using one = await dnsmasq6(network.namespace)
  await using _two = await kea(other, { interface: 'eth0', options: [{ name: 'preference', data: '9' }] })
  await using dhcpDaemon = await daemon()
  const config = configFor(dhcpDaemon.socket, { ipv6: 'dhcp' })
  const addresses: string[] = []
  for (const containerId of ['c1', 'c2', 'c3', 'c4', 'c5']) {
    const result = await mustCall(dhcp, 'ADD', { config, netns: network.attach(containerId), containerId })
    addresses.push(result.ips[0].address)
  }
  const preferred = addresses.filter(address => /^fd00:9::2[0-9a-f]{2}\/64$/.test(address))
  expect(preferred.length).toBeGreaterThanOrEqual(2) // dnsmasq is the faster one, and would have them all
  const granted = [...one.log().matchAll(/DHCPREPLY\(br0\) (fd00\S+)/g)].map(([, address]) => `${address}/64`)
  expect([...preferred, ...granted].sort()).toEqual(addresses.sort())
})

test.concurrent('an address that somebody has already is declined, and another one asked for', async () => {
  using network = lan6()
  using listener = listenOn6(network.namespace)
  network.attach('squatter', 'fd00:9::200/64')
  await using _server = await kea(network.namespace, { pool: 'fd00:9::200-fd00:9::201' })
  await using dhcpDaemon = await daemon('-probe', '200ms', '-timeout', '500ms')
  const container = network.attach('container')
  const result = await mustCall(dhcp, 'ADD', {
    config: configFor(dhcpDaemon.socket, { ipv6: 'dhcp' }),
    netns: container,
  })
  expect((await dhcpDaemon.event('declined')).why).toMatch(/^fd00:9::200 is in use by [0-9a-f:]{17}$/)
  expect(result.ips[0].address).toBe('fd00:9::201/128')
  const { message } = await listener.next(messageType.decline)
  expect(optionValue(message.options, option.server)).toBeDefined()
})

test.concurrent('an address of a prefix that somebody has already is an error that names both', async () => {
  using network = lan6()
  await using _router = await dnsmasq6(network.namespace, 'ra-only')
  const container = network.attach('container')
  const { address } = container.link('eth0')
  const [a = '', b = '', c = '', d = '', e = '', f = ''] = address.split(':')
  const identifier = `${(Number.parseInt(a, 16) ^ 2).toString(16)}${b}:${c}ff:fe${d}:${e}${f}`
  network.attach('squatter', `fd00:9::${identifier}/64`)
  await using dhcpDaemon = await daemon('-probe', '200ms')
  const { json } = await call(dhcp, 'ADD', {
    config: configFor(dhcpDaemon.socket, { ipv6: 'slaac' }),
    netns: container,
  })
  expect(json.msg).toMatch(/no IPv6 address: fd00:9::\S+ is in use by [0-9a-f:]{17}$/)
})
