import { expect, test } from 'bun:test'
import { messageType } from '../../../../ipam/dhcp/v4/packet.ts'
import { dhcp } from '../../../../ipam/dhcp.ts'
import { call, mustCall } from '../../../fixtures/plugin.ts'
import { daemon, dnsmasq, lan, listenOn, udhcpd } from '../network.ts'

function configFor(socket: string, more: object = {}) {
  return { type: 'bridge', ipam: { type: 'dhcp', daemonSocketPath: socket, ...more } }
}

const addressOf = (result: { ips: { address: string }[] }) => result.ips[0]?.address.replace(/\/.*/, '') ?? ''

test.concurrent.each([
  { name: 'dnsmasq', start: dnsmasq, address: /^10\.9\.0\.[5-9]\d\/24$/ },
  { name: 'udhcpd', start: udhcpd, address: /^10\.9\.0\.1[5-9]\d\/24$/ },
])(
  'a container gets an address from $name, keeps it for CHECK, and gives it back',
  async ({ start, address }) => {
    using network = lan()
    using listener = listenOn(network.namespace, 'br0')
    await using server = await start(network.namespace, {})
    await using dhcpDaemon = await daemon()
    const container = network.attach('container')
    const config = configFor(dhcpDaemon.socket)
    const result = await mustCall(dhcp, 'ADD', { config, netns: container })
    expect(result).toEqual({
      cniVersion: '1.1.0',
      ips: [{ address: expect.stringMatching(address), gateway: '10.9.0.1' }],
      routes: [{ dst: '0.0.0.0/0', gw: '10.9.0.1' }],
    })
    expect(await mustCall(dhcp, 'ADD', { config, netns: container })).toEqual(result)
    await mustCall(dhcp, 'CHECK', { config: { ...config, prevResult: result }, netns: container })
    await mustCall(dhcp, 'DEL', { config, netns: container })
    await mustCall(dhcp, 'DEL', { config, netns: container })
    const { source, destination, message } = await listener.next(messageType.release)
    expect({ from: source.address, to: destination }).toEqual({
      from: addressOf(result),
      to: { address: '10.9.0.1', hardware: network.namespace.link('br0').address, port: 67 },
    })
    expect(message.clientAddress).toBe(addressOf(result))
    const types = listener.heard.map(each => each.message.options.get(53)?.[0])
    expect([...new Set(types)]).toEqual([messageType.discover, messageType.request, messageType.release])
    expect(server.log()).not.toContain('error')
  },
)

test.concurrent('routes, name servers, domains and MTU of the server are in the result, with the metric of the configuration', async () => {
  using network = lan()
  await using _server = await dnsmasq(
    network.namespace,
    {},
    ...['--dhcp-option=121,192.168.7.0/24,10.9.0.9,10.0.0.0/8,0.0.0.0', '--dhcp-option=6,10.9.0.53,1.1.1.1'],
    ...[
      '--dhcp-option=15,example.org',
      '--dhcp-option=119,a.example.org,example.org',
      '--dhcp-option=26,1400',
    ],
  )
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const request = ['121', '6', '15', '119', 'interface-mtu'].map(option => ({ option }))
  const config = configFor(dhcpDaemon.socket, { request, priority: 77 })
  expect(await mustCall(dhcp, 'ADD', { config, netns: container })).toEqual({
    cniVersion: '1.1.0',
    dns: {
      domain: 'example.org',
      nameservers: ['10.9.0.53', '1.1.1.1'],
      search: ['a.example.org', 'example.org'],
    },
    ips: [{ address: expect.any(String), gateway: '10.9.0.1' }],
    routes: [
      { dst: '192.168.7.0/24', gw: '10.9.0.9', mtu: 1400, priority: 77 },
      { dst: '10.0.0.0/8', mtu: 1400, priority: 77, scope: 253 },
    ],
  })
})

test.concurrent('options of the configuration and of CNI_ARGS reach the server', async () => {
  using network = lan()
  using listener = listenOn(network.namespace, 'br0')
  await using _server = await dnsmasq(network.namespace, {})
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const provide = [
    { option: 'host-name', value: 'literal', fromArg: 'K8S_POD_NAME' },
    { option: '60', value: 'vendor' },
  ]
  const config = configFor(dhcpDaemon.socket, { provide, request: [{ option: '121' }] })
  await mustCall(dhcp, 'ADD', { config, netns: container, args: 'IgnoreUnknown=1;K8S_POD_NAME=web=1' })
  const { message } = await listener.next(messageType.request)
  const text = (code: number) => Buffer.from(message.options.get(code) ?? []).toString()
  expect([text(12), text(60), text(61), [...(message.options.get(55) ?? [])]]).toEqual([
    'web=1',
    'vendor',
    '\0container-1/test-net/eth0',
    [121, 3, 1],
  ])
})

test.concurrent('a lease is renewed at half its time, by unicast to its server', async () => {
  using network = lan()
  using listener = listenOn(network.namespace, 'br0')
  await using _server = await udhcpd(network.namespace, {}, 'option lease 4')
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const result = await mustCall(dhcp, 'ADD', { config: configFor(dhcpDaemon.socket), netns: container })
  await listener.next(messageType.request)
  const renewal = await listener.next(messageType.request)
  await dhcpDaemon.event('renewed')
  expect(renewal.message.clientAddress).toBe(addressOf(result))
  expect(renewal.message.options.has(50) || renewal.message.options.has(54)).toBe(false)
  expect(renewal.destination).toEqual({
    address: '10.9.0.1',
    hardware: network.namespace.link('br0').address,
    port: 67,
  })
  await dhcpDaemon.event('renewed')
})

test.concurrent('a server that was gone and comes back finds its clients as they were', async () => {
  using network = lan()
  using listener = listenOn(network.namespace, 'br0')
  const first = await udhcpd(network.namespace, {}, 'option lease 8')
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const config = configFor(dhcpDaemon.socket)
  const result = await mustCall(dhcp, 'ADD', { config, netns: container })
  container.addAddress('eth0', result.ips[0].address)
  await first[Symbol.asyncDispose]()
  await dhcpDaemon.event('rebinding')
  const pool = { first: '10.9.0.150', last: '10.9.0.199' }
  await using _second = await dnsmasq(network.namespace, pool, '--dhcp-authoritative')
  expect(await dhcpDaemon.event('renewed')).toMatchObject({ address: result.ips[0].address })
  const broadcast = listener.heard.filter(each => each.destination.address === '255.255.255.255')
  expect(broadcast.at(-1)?.message.clientAddress).toBe(addressOf(result))
  await mustCall(dhcp, 'CHECK', { config: { ...config, prevResult: result }, netns: container })
})

test.concurrent('of a lease that is not renewed, the interface goes down when it ends, and CHECK says why', async () => {
  using network = lan()
  const server = await udhcpd(network.namespace, {}, 'option lease 2')
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const config = configFor(dhcpDaemon.socket)
  const result = await mustCall(dhcp, 'ADD', { config, netns: container })
  await server[Symbol.asyncDispose]()
  await dhcpDaemon.event('lost')
  expect(container.link('eth0').up).toBe(false)
  const { json } = await call(dhcp, 'CHECK', { config: { ...config, prevResult: result }, netns: container })
  expect(json).toMatchObject({ code: 999, msg: expect.stringContaining('the lease has expired') })
  await mustCall(dhcp, 'DEL', { config, netns: container })
})

test.concurrent('an address that somebody has already is declined, and another one asked for', async () => {
  using network = lan()
  using listener = listenOn(network.namespace, 'br0')
  network.attach('squatter', '10.9.0.50/24')
  await using server = await dnsmasq(network.namespace, {}, '--dhcp-sequential-ip')
  await using dhcpDaemon = await daemon('-probe', '200ms')
  const container = network.attach('container')
  const result = await mustCall(dhcp, 'ADD', { config: configFor(dhcpDaemon.socket), netns: container })
  expect((await dhcpDaemon.event('declined')).why).toMatch(/^10\.9\.0\.50 is in use by [0-9a-f:]{17}$/)
  expect(addressOf(result)).not.toBe('10.9.0.50')
  const { message } = await listener.next(messageType.decline)
  expect([...(message.options.get(50) ?? [])]).toEqual([10, 9, 0, 50])
  await server.says(/DHCPDECLINE/)
})

test.concurrent('of two servers one is taken, and the other told so', async () => {
  using network = lan()
  const other = network.attach('server', '10.9.0.2/24')
  await using one = await dnsmasq(network.namespace, {})
  await using two = await dnsmasq(other, { first: '10.9.0.200', last: '10.9.0.220', interface: 'eth0' })
  await using dhcpDaemon = await daemon()
  const containers = Array.from({ length: 4 }, (_, index) => network.attach(`container-${index}`))
  const results = await Promise.all(
    containers.map((netns, index) =>
      mustCall(dhcp, 'ADD', { config: configFor(dhcpDaemon.socket), netns, containerId: `c${index}` }),
    ),
  )
  const granted = [one, two].flatMap(server =>
    [...server.log().matchAll(/DHCPACK\(\w+\) (\S+)/g)].map(([, address]) => address),
  )
  expect(granted.sort()).toEqual(results.map(addressOf).sort())
  expect(new Set(granted).size).toBe(4)
})

test.concurrent('an address that its server refuses after a change of its pool is given up', async () => {
  using network = lan()
  const old = await udhcpd(network.namespace, {}, 'option lease 4')
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const result = await mustCall(dhcp, 'ADD', { config: configFor(dhcpDaemon.socket), netns: container })
  container.addAddress('eth0', result.ips[0].address)
  await old[Symbol.asyncDispose]()
  await using _new = await dnsmasq(
    network.namespace,
    { first: '10.9.0.230', last: '10.9.0.240' },
    '--dhcp-authoritative',
  )
  await dhcpDaemon.event('refused')
  expect(await dhcpDaemon.event('lost')).toMatchObject({
    address: addressOf(result),
    why: expect.stringContaining('offered instead'),
  })
  expect(container.link('eth0').up).toBe(false)
})

test.concurrent('a container that no server answers waits without keeping others from their addresses', async () => {
  using network = lan()
  using silent = lan()
  await using _server = await dnsmasq(network.namespace, {})
  await using dhcpDaemon = await daemon('-resendtimeout', '2s', '-timeout', '300ms')
  const [lucky, unlucky] = [network.attach('lucky'), silent.attach('unlucky')]
  const config = configFor(dhcpDaemon.socket)
  const waiting = call(dhcp, 'ADD', { config, netns: unlucky, containerId: 'unlucky' })
  const order: string[] = []
  const failed = waiting.then(outcome => {
    order.push('unlucky')
    return outcome
  })
  await mustCall(dhcp, 'ADD', { config, netns: lucky, containerId: 'lucky' })
  order.push('lucky')
  expect((await failed).json).toMatchObject({
    code: 999,
    msg: 'error calling DHCP.Allocate: no more tries: no server offered an address',
  })
  expect(order).toEqual(['lucky', 'unlucky'])
})
