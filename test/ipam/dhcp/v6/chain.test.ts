import { expect, test } from 'bun:test'
import { readdirSync } from 'node:fs'
import { stateFolder } from '../../../../ipam/dhcp/daemon/state.ts'
import { dhcp } from '../../../../ipam/dhcp.ts'
import { bridge } from '../../../../main/bridge.ts'
import { ipvlan } from '../../../../main/ipvlan.ts'
import { macvlan } from '../../../../main/macvlan.ts'
import { getHttp, serveHttp } from '../../../fixtures/http.ts'
import { connect, freshNamespace, hostNamespace, type Namespace } from '../../../fixtures/namespace.ts'
import { call, mustCall, peerExecutable } from '../../../fixtures/plugin.ts'
import { testOn } from '../../../kernel/features.ts'
import { type Daemon, daemon, start } from '../network.ts'
import { dnsmasq6, lan6, ROUTER } from './network.ts'

const filesOf = ({ socket }: Pick<Daemon, 'socket'>) =>
  readdirSync(stateFolder(socket)).filter(name => name !== 'lock')
const bare = (address: string) => address.replace(/\/.*/, '')

/** A host on the LAN, by a link lan0 that is a bridge's port or a macvlan's master. */
function hostOn(network: ReturnType<typeof lan6>) {
  const host = hostNamespace()
  connect({ namespace: host, name: 'lan0' }, { namespace: network.namespace, name: 'host0' })
  network.namespace.run('ip', 'link', 'set', 'host0', 'master', 'br0')
  return { host, [Symbol.dispose]: () => void host.run('ip', 'link', 'delete', 'lan0') }
}

test.each([
  { main: bridge, config: { type: 'bridge', bridge: 'plug0' } },
  { main: macvlan, config: { type: 'macvlan', master: 'lan0' } },
])(
  '$config.type with both families: traffic to the router and beyond, CHECK, DEL, and nothing is left',
  async ({ main, config }) => {
    using network = lan6()
    using place = hostOn(network)
    const { host } = place
    if (main === bridge) {
      host.createLink({ name: 'plug0', kind: { type: 'bridge' } })
      host.run('ip', 'link', 'set', 'lan0', 'master', 'plug0')
    }
    try {
      await using server = await dnsmasq6(network.namespace, 'slaac', '--dhcp-range=10.9.0.50,10.9.0.99,120')
      await using dhcpDaemon = await daemon()
      using container = freshNamespace('container')
      const ipam = { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket, ipv6: 'auto' }
      const attachment = { config: { ...config, ipam }, netns: container, delegates: [dhcp] }
      const result = await mustCall(main, 'ADD', attachment)
      expect(result.ips).toHaveLength(3)
      const addresses: string[] = result.ips.map(({ address }: { address: string }) => address)
      expect(container.addresses('eth0').sort()).toEqual([...addresses].sort())
      expect(container.sysctl('net/ipv6/conf/eth0/accept_ra')).toBe('0')
      using _router = serveHttp(network.namespace, { port: 8080 })
      using _container = serveHttp(container, { port: 8080 })
      for (const address of ['fd00:9::1', 'fd00:beef::1', '10.9.0.1'])
        expect(addresses.map(bare)).toContain(await getHttp(container, { address, port: 8080 }))
      for (const address of addresses.map(bare)) await getHttp(network.namespace, { address, port: 8080 })
      await mustCall(main, 'CHECK', { ...attachment, config: { ...attachment.config, prevResult: result } })
      await mustCall(main, 'DEL', { ...attachment, config: { ...attachment.config, prevResult: result } })
      await server.says(/DHCPRELEASE/)
      await server.says(/DHCPRELEASE/)
      expect(container.links().map(({ name }) => name)).toEqual(['lo'])
      expect(filesOf(dhcpDaemon)).toEqual([])
    } finally {
      if (main === bridge) host.run('ip', 'link', 'delete', 'plug0')
    }
  },
)

test('macvlans of one host have addresses of their own', async () => {
  using network = lan6()
  using _place = hostOn(network)
  await using _router = await dnsmasq6(network.namespace, 'ra-only')
  await using dhcpDaemon = await daemon()
  using one = freshNamespace('one')
  using two = freshNamespace('two')
  const ipam = { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket, ipv4: false, ipv6: 'slaac' }
  const config = { type: 'macvlan', master: 'lan0', ipam }
  const [first, second] = await Promise.all(
    [one, two].map((netns, index) =>
      mustCall(macvlan, 'ADD', { config, netns, containerId: `c${index}`, delegates: [dhcp] }),
    ),
  )
  using _server = serveHttp(two, { port: 8080 })
  const answer = getHttp(one, { address: bare(second.ips[0].address), port: 8080 })
  expect(await answer).toBe(bare(first.ips[0].address))
})

testOn(
  ['ipvlan'],
  'ipvlans share their master’s hardware address, and have addresses of their own',
  async () => {
    using network = lan6()
    using _place = hostOn(network)
    await using _router = await dnsmasq6(network.namespace, 'ra-only')
    await using dhcpDaemon = await daemon('-timeout', '4s')
    using one = freshNamespace('one')
    using two = freshNamespace('two')
    const ipam = { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket, ipv4: false, ipv6: 'slaac' }
    const config = { type: 'ipvlan', master: 'lan0', ipam }
    const call = (netns: Namespace, containerId: string) =>
      mustCall(ipvlan, 'ADD', { config, netns, containerId, delegates: [dhcp] })
    const [first, second] = [await call(one, 'c1'), await call(two, 'c2')]
    expect(one.link('eth0').address).toBe(two.link('eth0').address)
    using _server = serveHttp(two, { port: 8080 })
    const answer = getHttp(one, { address: bare(second.ips[0].address), port: 8080 })
    expect(await answer).toBe(bare(first.ips[0].address))
  },
)

test('what the kernel had configured by itself before ADD is taken away', async () => {
  using network = lan6()
  await using _server = await dnsmasq6(network.namespace, 'ra-only')
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  // as the kernel would: an address and a route from an advertisement
  container.addAddress('eth0', 'fd00:9::dead/64')
  container.run(
    'ip',
    '-6',
    'route',
    'add',
    'default',
    'via',
    ROUTER,
    'dev',
    'eth0',
    'proto',
    'ra',
    'metric',
    '1024',
  )
  const config = { ipam: { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket, ipv4: false, ipv6: 'slaac' } }
  await mustCall(dhcp, 'ADD', { config, netns: container })
  expect(container.addresses('eth0')).toEqual([])
  expect(container.routes().filter(({ gateway }) => gateway === ROUTER)).toEqual([])
})

test('a daemon that knows no IPv6 is noticed, and what it gave is given back', async () => {
  using network = lan6()
  using host = hostNamespace()
  await using server = await dnsmasq6(network.namespace, 'slaac', '--dhcp-range=10.9.0.50,10.9.0.99,120')
  const socket = '/run/cni/go6.sock'
  await using goDaemon = start(host, [peerExecutable('dhcp'), 'daemon', '-socketpath', socket])
  const container = network.attach('container')
  for (const [families, words] of [
    [{ ipv6: 'auto' }, 'ipam.ipv6: the DHCP daemon gave no IPv6 address'],
    [{ ipv4: false, ipv6: 'slaac' }, 'ipam.ipv6: the DHCP daemon gave no IPv6 address'],
  ] as const) {
    const config = { ipam: { type: 'dhcp', daemonSocketPath: socket, ...families } }
    let added = await call(dhcp, 'ADD', { config, netns: container })
    while (added.json.code === 11) added = await call(dhcp, 'ADD', { config, netns: container })
    expect(added.json).toMatchObject({
      code: 999,
      msg: words,
      details: expect.stringContaining('another implementation'),
    })
    await goDaemon.says(/releasing lease/)
  }
  expect(server.log()).toContain('DHCPACK')
})

test('the Go plugin gets both families from our daemon', async () => {
  using network = lan6()
  await using _server = await dnsmasq6(network.namespace, 'slaac', '--dhcp-range=10.9.0.50,10.9.0.99,120')
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const ipam = { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket, ipv6: 'dhcp' }
  const child = Bun.spawn([peerExecutable('dhcp')], {
    stdin: Buffer.from(JSON.stringify({ cniVersion: '1.0.0', name: 'test-net', type: 'bridge', ipam })),
    env: {
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: 'container-1',
      CNI_NETNS: container.path,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/',
    },
    stdout: 'pipe',
  })
  expect(JSON.parse(await new Response(child.stdout).text())).toMatchObject({
    ips: [
      { address: expect.stringMatching(/^10\.9\.0\.\d+\/24$/), gateway: '10.9.0.1' },
      { address: expect.stringMatching(/^fd00:9::1[0-9a-f]{2}\/64$/), gateway: ROUTER },
    ],
    routes: [
      { dst: '0.0.0.0/0', gw: '10.9.0.1' },
      { dst: '::/0', gw: ROUTER },
    ],
  })
})

test.each([
  [{ ipv6: 'sometimes' }, 'ipam.ipv6: must be one of false, "auto", "dhcp", "slaac": got "sometimes"'],
  [{ ipv6: true }, 'ipam.ipv6: must be one of false, "auto", "dhcp", "slaac": got true'],
  [{ ipv4: 'no' }, 'ipam.ipv4: must be true or false: got "no"'],
  [{ ipv4: false }, 'ipam.ipv4: is false, and ipam.ipv6 asks for no address either'],
  [{ ipv4: false, ipv6: false }, 'ipam.ipv4: is false, and ipam.ipv6 asks for no address either'],
])('%j is refused before anybody is asked', async (families, msg) => {
  using network = lan6()
  const container = network.attach('container')
  const config = { ipam: { type: 'dhcp', daemonSocketPath: '/run/cni/absent.sock', ...families } }
  expect((await call(dhcp, 'ADD', { config, netns: container })).json).toMatchObject({ code: 7, msg })
  await mustCall(dhcp, 'DEL', { config, netns: container })
})
