import { expect, test } from 'bun:test'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { parseFlags } from '../../../../ipam/dhcp/daemon/flags.ts'
import { createRegistry } from '../../../../ipam/dhcp/daemon/registry.ts'
import { stateFolder } from '../../../../ipam/dhcp/daemon/state.ts'
import { messageType } from '../../../../ipam/dhcp/v6/packet.ts'
import { dhcp } from '../../../../ipam/dhcp.ts'
import { connect, type Namespace } from '../../../fixtures/namespace.ts'
import { call, mustCall } from '../../../fixtures/plugin.ts'
import { type Daemon, daemon, daemonAt, udhcpd } from '../network.ts'
import { dnsmasq6, kea, lan6, listenOn6, ROUTER, radvd } from '../v6/network.ts'

function configFor(socket: string, ipv6: string) {
  return { type: 'bridge', ipam: { type: 'dhcp', daemonSocketPath: socket, ipv4: false, ipv6 } }
}

type Result = { ips: { address: string }[]; routes: { dst: string; gw?: string }[] }

/** What a main plugin does with a result. */
function putOn(container: Namespace, { ips, routes = [] }: Partial<Result>): void {
  for (const { address } of ips ?? []) container.addAddress('eth0', address)
  for (const { dst, gw } of routes)
    container.run('ip', '-6', 'route', 'add', dst, ...(gw ? ['via', gw] : []), 'dev', 'eth0')
}

const addressOf = ({ ips }: Result) => ips[0]?.address.replace(/\/.*/, '') ?? ''
const defaultRoutes = (container: Namespace) =>
  container
    .routes()
    .filter(({ destination }) => destination === '::')
    .map(({ gateway }) => gateway)
const filesOf = ({ socket }: Pick<Daemon, 'socket'>) =>
  readdirSync(stateFolder(socket)).filter(name => name !== 'lock')

test.concurrent('a lease of seconds is renewed, by the server that comes back rebound, and released', async () => {
  using network = lan6()
  using listener = listenOn6(network.namespace)
  const first = await kea(network.namespace, { valid: 8 })
  await using dhcpDaemon = await daemon('-timeout', '300ms')
  const container = network.attach('container')
  const config = configFor(dhcpDaemon.socket, 'dhcp')
  const result = await mustCall(dhcp, 'ADD', { config, netns: container })
  putOn(container, result)
  expect(await dhcpDaemon.event('renewed')).toMatchObject({ address: `${addressOf(result)}/128`, seconds: 8 })
  await first[Symbol.asyncDispose]()
  await dhcpDaemon.event('rebinding')
  await using second = await kea(network.namespace, { valid: 8 })
  await listener.next(messageType.rebind)
  await dhcpDaemon.event('renewed')
  await mustCall(dhcp, 'CHECK', { config: { ...config, prevResult: result }, netns: container })
  expect(container.addresses('eth0')).toEqual([result.ips[0].address])
  await mustCall(dhcp, 'DEL', { config, netns: container })
  await second.says(/RELEASE \(type 8\)/)
  expect(filesOf(dhcpDaemon)).toEqual([])
})

test.concurrent('of a lease that is not renewed, the address goes when it ends, the link stays up, and CHECK says why', async () => {
  using network = lan6()
  const server = await kea(network.namespace, { valid: 3 })
  await using dhcpDaemon = await daemon('-timeout', '300ms')
  const container = network.attach('container')
  const config = configFor(dhcpDaemon.socket, 'dhcp')
  const result = await mustCall(dhcp, 'ADD', { config, netns: container })
  putOn(container, result)
  await server[Symbol.asyncDispose]()
  expect(await dhcpDaemon.event('lost')).toMatchObject({
    address: addressOf(result),
    why: 'the lease has expired',
  })
  expect(container.addresses('eth0')).toEqual([])
  expect(container.link('eth0').up).toBe(true)
  const { json } = await call(dhcp, 'CHECK', { config: { ...config, prevResult: result }, netns: container })
  expect(json).toMatchObject({ code: 999, msg: expect.stringContaining('the lease has expired') })
  await mustCall(dhcp, 'DEL', { config, netns: container })
  expect(filesOf(dhcpDaemon)).toEqual([])
})

test.concurrent('a lost IPv4 lease takes its address and not the link, which has IPv6 addresses too', async () => {
  using network = lan6()
  const server = await udhcpd(network.namespace, {}, 'option lease 2')
  await using _router = await dnsmasq6(network.namespace, 'ra-only')
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const config = { ipam: { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket, ipv6: 'slaac' } }
  const { ips } = await mustCall(dhcp, 'ADD', { config, netns: container })
  putOn(container, { ips })
  await server[Symbol.asyncDispose]()
  await dhcpDaemon.event('lost')
  expect(container.addresses('eth0')).toEqual([ips[1].address])
  expect(container.link('eth0').up).toBe(true)
  const { json } = await call(dhcp, 'CHECK', { config: { ...config, prevResult: { ips } }, netns: container })
  expect(json.msg).toContain('the lease has expired')
})

test.concurrent('the Go plugin’s CHECK, an ALLOCATE, takes nothing from a container that the daemon does not know', async () => {
  using network = lan6()
  await using _router = await dnsmasq6(network.namespace, 'ra-only')
  const first = await daemon()
  const container = network.attach('container')
  const result = await mustCall(dhcp, 'ADD', { config: configFor(first.socket, 'slaac'), netns: container })
  putOn(container, result)
  await first.end()
  await using second = await daemon()
  const config = { ...configFor(second.socket, 'slaac'), prevResult: result }
  await mustCall(dhcp, 'ADD', { config, netns: container })
  expect(container.addresses('eth0')).toEqual([result.ips[0].address])
  expect(defaultRoutes(container)).toEqual([ROUTER])
})

test.concurrent('an address that its server does not grant any more after a change of its pool is kept to its end, and no longer', async () => {
  using network = lan6()
  const old = await kea(network.namespace, { valid: 4 })
  await using dhcpDaemon = await daemon('-timeout', '300ms')
  const container = network.attach('container')
  const config = configFor(dhcpDaemon.socket, 'dhcp')
  const result = await mustCall(dhcp, 'ADD', { config, netns: container })
  putOn(container, result)
  await old[Symbol.asyncDispose]()
  await using _new = await kea(network.namespace, { valid: 4, pool: 'fd00:9::300-fd00:9::3ff' })
  await dhcpDaemon.event('lost')
  expect(container.addresses('eth0')).toEqual([])
})

test.concurrent('a prefix that is not advertised any more: its address is deprecated, goes, and comes back with the router', async () => {
  using network = lan6()
  const lifetimes = ['AdvPreferredLifetime 4;', 'AdvValidLifetime 6;']
  const router = await radvd(network.namespace, lifetimes, 'AdvDefaultLifetime 5;')
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const config = configFor(dhcpDaemon.socket, 'slaac')
  const result = await mustCall(dhcp, 'ADD', { config, netns: container })
  putOn(container, result)
  const check = () => call(dhcp, 'CHECK', { config: { ...config, prevResult: result }, netns: container })
  expect((await check()).status).toBe(0)
  await router.stop('SIGKILL')
  await dhcpDaemon.event('deprecated')
  expect(container.run('ip', '-6', 'address', 'show', 'dev', 'eth0', 'deprecated')).toContain(
    addressOf(result),
  )
  expect((await dhcpDaemon.event('routed')).why).toBe(`not ::/0 via ${ROUTER}`)
  expect(defaultRoutes(container)).toEqual([])
  expect(await dhcpDaemon.event('lost')).toMatchObject({
    address: addressOf(result),
    why: 'its valid lifetime is over',
  })
  expect(container.addresses('eth0')).toEqual([])
  expect((await check()).json.msg).toContain(
    `${addressOf(result)}: no router advertises the prefix any longer`,
  )
  await router[Symbol.asyncDispose]()
  await using _again = await radvd(network.namespace, lifetimes)
  await dhcpDaemon.event('preferred')
  expect((await dhcpDaemon.event('routed')).why).toBe(`::/0 via ${ROUTER}`)
  expect(container.addresses('eth0')).toEqual([result.ips[0].address])
  expect(defaultRoutes(container)).toEqual([ROUTER])
  expect((await check()).status).toBe(0)
}, 30_000)

test.concurrent('a router that takes its leave takes the default route, and what it says again holds again', async () => {
  using network = lan6()
  const router = await radvd(network.namespace, [])
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const config = configFor(dhcpDaemon.socket, 'auto')
  const result = await mustCall(dhcp, 'ADD', { config, netns: container })
  putOn(container, result)
  connect({ namespace: container, name: 'eth1' }, { namespace: network.namespace, name: 'other' })
  container.run('ip', '-6', 'route', 'append', 'default', 'via', 'fe80::99', 'dev', 'eth1') // another network's
  await router.stop('SIGTERM')
  expect((await dhcpDaemon.event('routed')).why).toBe(`not ::/0 via ${ROUTER}`)
  expect(defaultRoutes(container)).toEqual(['fe80::99'])
  expect(container.addresses('eth0')).toEqual([result.ips[0].address])
  await router[Symbol.asyncDispose]()
  await using _again = await radvd(network.namespace, [])
  await dhcpDaemon.event('routed')
  expect(container.run('ip', '-6', 'route', 'show', 'default')).toContain(`via ${ROUTER} dev eth0`)
  expect(container.run('ip', '-6', 'route', 'show', 'default')).toContain('via fe80::99 dev eth1')
})

test.concurrent('a link that was down for a while hears its router again', async () => {
  using network = lan6()
  await using router = await radvd(network.namespace, [], 'AdvDefaultLifetime 9000;')
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const result = await mustCall(dhcp, 'ADD', {
    config: configFor(dhcpDaemon.socket, 'slaac'),
    netns: container,
  })
  container.run('ip', 'link', 'set', 'eth0', 'down')
  await router.says(/timer_handler called/)
  container.run('ip', 'link', 'set', 'eth0', 'up')
  putOn(container, result)
  await router.says(/timer_handler called/) // what it says as it goes is said once: the link hears again by then
  await router.stop('SIGTERM')
  await dhcpDaemon.event('routed')
  expect(defaultRoutes(container)).toEqual([])
})

test.concurrent('a daemon that was restarted goes on, and gives back what was deleted meanwhile', async () => {
  using network = lan6()
  await using router = await radvd(network.namespace, [])
  await using server = await kea(network.namespace, { valid: 8 })
  const first = await daemon()
  const [kept, deleted] = [network.attach('kept'), network.attach('deleted')]
  const config = configFor(first.socket, 'dhcp')
  const result = await mustCall(dhcp, 'ADD', { config, netns: kept, containerId: 'kept' })
  putOn(kept, result)
  await mustCall(dhcp, 'ADD', { config, netns: deleted, containerId: 'deleted' })
  expect(await first.end()).toBe(0)
  await mustCall(dhcp, 'DEL', { config, netns: deleted, containerId: 'deleted' })
  await using second = await daemonAt(first.socket)
  expect(await second.event('adopted')).toMatchObject({ address: addressOf(result) })
  await second.event('deleted meanwhile')
  await server.says(/RELEASE \(type 8\)/)
  await second.event('renewed', 'kept/test-net/eth0')
  const checked = { config: { ...config, prevResult: result }, netns: kept, containerId: 'kept' }
  await mustCall(dhcp, 'CHECK', checked)
  await router.stop('SIGTERM')
  expect((await second.event('routed')).why).toBe(`not ::/0 via ${ROUTER}`)
  await mustCall(dhcp, 'DEL', checked)
  expect(filesOf(second)).toEqual([])
})

test.concurrent('CHECK has what the daemon does not know confirmed, and takes no other', async () => {
  using network = lan6()
  using listener = listenOn6(network.namespace)
  await using _server = await dnsmasq6(network.namespace, 'slaac', '--dhcp-authoritative')
  const first = await daemon()
  const container = network.attach('container')
  const result = await mustCall(dhcp, 'ADD', { config: configFor(first.socket, 'auto'), netns: container })
  putOn(container, result)
  await first.end()
  await using second = await daemon()
  const config = configFor(second.socket, 'auto')
  await mustCall(dhcp, 'CHECK', { config: { ...config, prevResult: result }, netns: container })
  await second.event('confirmed')
  expect(container.addresses('eth0').sort()).toEqual(
    result.ips.map(({ address }: Result['ips'][0]) => address).sort(),
  )
  await using third = await daemon('-timeout', '200ms', '-resendtimeout', '500ms')
  const foreign = { ...result, ips: [{ address: 'fd00:8::5/64' }] }
  const refused = await call(dhcp, 'CHECK', {
    config: { ...configFor(third.socket, 'slaac'), prevResult: foreign },
    netns: container,
  })
  expect(refused.json.msg).toContain('fd00:8::5: no router advertises a prefix of it')
  const unnamed = await call(dhcp, 'CHECK', { config: configFor(third.socket, 'auto'), netns: container })
  expect(unnamed.json.msg).toContain('prevResult names no IPv6 address')
  const solicits = listener.heard.filter(({ message }) => message.type === messageType.solicit)
  expect(new Set(solicits.map(({ message }) => message.transaction)).size).toBe(1)
})

test.concurrent('a namespace that disappears: its address is given back when it would be renewed', async () => {
  using network = lan6()
  await using server = await kea(network.namespace, { valid: 4 })
  await using dhcpDaemon = await daemon('-timeout', '300ms')
  const container = network.attach('container')
  await mustCall(dhcp, 'ADD', { config: configFor(dhcpDaemon.socket, 'dhcp'), netns: container })
  container[Symbol.dispose]()
  expect(await dhcpDaemon.event('abandoned')).toMatchObject({ why: 'its namespace has gone' })
  await server.says(/RELEASE \(type 8\)/)
  expect(filesOf(dhcpDaemon)).toEqual([])
})

test.concurrent('what there was is given up where its namespace went while no daemon ran, and a torn file is told', async () => {
  using network = lan6()
  await using _router = await dnsmasq6(network.namespace)
  const first = await daemon()
  const container = network.attach('container')
  await mustCall(dhcp, 'ADD', { config: configFor(first.socket, 'auto'), netns: container })
  await first.end()
  container[Symbol.dispose]()
  const [name = ''] = filesOf(first)
  const text = readFileSync(`${stateFolder(first.socket)}/${name}`, 'utf8')
  writeFileSync(`${stateFolder(first.socket)}/0123.lease6`, text.slice(0, 200))
  await using second = await daemonAt(first.socket)
  await second.event('abandoned')
  await second.event('unreadable')
  expect(filesOf(second)).toEqual([])
})

test.concurrent('what is released before its interface is ready keeps its namespace only until then', async () => {
  using network = lan6()
  await using _router = await dnsmasq6(network.namespace)
  const container = network.attach('container')
  const held = () => readdirSync('/proc/self/fd').filter(each => isDescriptorOf(each, container)).length
  const before = held()
  const events: string[] = []
  const registry = createRegistry(parseFlags(['-socketpath', '/run/cni/early.sock']), event =>
    events.push(event),
  )
  const { ipam } = configFor('/run/cni/early.sock', 'auto')
  const call = {
    ...{ containerId: 'c1', netns: container.path, ifname: 'eth0', args: '', path: '/' },
    stdin: JSON.stringify({ cniVersion: '1.1.0', name: 'n', ipam }),
  }
  const early = registry.allocate(call)
  registry.release(call)
  expect(held()).toBe(before + 1) // its number must not become another one's while it is in use
  await expect(early).rejects.toThrow('it was given up while it was acquired')
  expect((await registry.allocate(call)).ips).toHaveLength(2)
  registry.release(call)
  expect(held()).toBe(before)
  expect(events).toEqual(['released', 'acquired', 'released'])
})

function isDescriptorOf(descriptor: string, { path }: Namespace): boolean {
  try {
    return statSync(`/proc/self/fd/${descriptor}`).ino === statSync(path).ino
  } catch {
    return false // that of the listing itself
  }
}

test.concurrent('GC gives back both families of what no valid attachment has', async () => {
  using network = lan6()
  await using server = await dnsmasq6(network.namespace, 'slaac', '--dhcp-range=10.9.0.50,10.9.0.99,120')
  await using dhcpDaemon = await daemon()
  const config = { ipam: { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket, ipv6: 'dhcp' } }
  for (const containerId of ['alive', 'dead'])
    await mustCall(dhcp, 'ADD', { config, netns: network.attach(containerId), containerId })
  const valid = [{ containerID: 'alive', ifname: 'eth0' }]
  await mustCall(dhcp, 'GC', { config: { ...config, 'cni.dev/valid-attachments': valid } })
  expect(await dhcpDaemon.event('released')).toMatchObject({ container: 'dead' })
  expect(await dhcpDaemon.event('released')).toMatchObject({ container: 'dead' })
  await server.says(/DHCPRELEASE/)
  expect(
    filesOf(dhcpDaemon)
      .map(name => name.slice(32))
      .sort(),
  ).toEqual(['.lease', '.lease6'])
})

test('a hundred containers get their addresses at once', async () => {
  using network = lan6()
  await using _server = await dnsmasq6(network.namespace, 'slaac', '--dhcp-lease-max=1000')
  await using dhcpDaemon = await daemon('-timeout', '2s')
  const config = configFor(dhcpDaemon.socket, 'auto')
  const containers = Array.from({ length: 100 }, (_, index) => network.attach(`many-${index}`))
  const started = performance.now()
  const results: Result[] = await Promise.all(
    containers.map((netns, index) => mustCall(dhcp, 'ADD', { config, netns, containerId: `c${index}` })),
  )
  expect(performance.now() - started).toBeLessThan(15_000)
  expect(new Set(results.flatMap(({ ips }) => ips.map(({ address }) => address))).size).toBe(200)
  await Promise.all(
    containers.map((netns, index) => mustCall(dhcp, 'DEL', { config, netns, containerId: `c${index}` })),
  )
  expect(filesOf(dhcpDaemon)).toEqual([])
}, 60_000)
