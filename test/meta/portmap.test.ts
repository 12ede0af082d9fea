import { afterAll, expect, test } from 'bun:test'
import { AF_INET } from '../../chain/ip/family.ts'
import { listConnections, openConntrack } from '../../chain/linux/netlink/conntrack.ts'
import { bridge } from '../../main/bridge.ts'
import { portmap } from '../../meta/portmap.ts'
import { getHttp, serveHttp, serveUdp } from '../fixtures/http.ts'
import { reachesLocalhost } from '../fixtures/localnet.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { mustCall, mustExecute, peerExecutable, peers } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'
import { bridgeConfig, elements, http, outsideHost, published, removeBridges } from './portmap/place.ts'

afterAll(removeBridges)

test('a published port is reached from outside, from the host, from 127.0.0.1, from a sibling and from the container itself', async () => {
  using host = hostNamespace()
  using outside = outsideHost()
  using one = freshNamespace()
  using other = freshNamespace()
  const first = published(one, { mappings: [http(8080)] })
  const sibling = published(other, { mappings: [], containerId: 'container-2' })
  await first.add()
  await sibling.add()
  using server = serveHttp(one, { port: 80 })
  expect(await getHttp(outside, { address: '192.0.2.1', port: 8080 })).toBe('192.0.2.2')
  expect(await getHttp(outside, { address: '2001:db8::1', port: 8080 })).toBe('2001:db8::2')
  expect(await getHttp(host, { address: '192.0.2.1', port: 8080 })).toBe('192.0.2.1')
  expect(await getHttp(host, { address: '127.0.0.1', port: 8080 })).toBe('10.1.0.1')
  expect(await getHttp(other, { address: '192.0.2.1', port: 8080 })).toBe('10.1.0.1')
  expect(await getHttp(one, { address: '192.0.2.1', port: 8080 })).toBe('10.1.0.1')
  expect(await getHttp(one, { address: '2001:db8::1', port: 8080 })).toBe('fd00:1::1')
  expect(server.clients).toHaveLength(7)
  expect(await first.check()).toMatchObject({ status: 0 })
  await sibling.del()
  await first.del()
})

test('ADD and DEL leave rules, files and links as they were, but for the network that others may use', async () => {
  using container = freshNamespace()
  const warm = published(container, { mappings: [http(8080)] })
  await warm.add()
  await warm.del()
  const before = snapshot()
  const chain = published(container, { mappings: [http(8080), http(8443, { hostIP: '127.0.0.1' })] })
  await chain.add()
  await chain.del()
  await chain.del()
  const { added, gone } = difference(before, snapshot())
  const isMemory = (line: string) => line.startsWith('file /var/lib/cni/networks/test-net/last_reserved_ip.')
  expect({
    added: added.filter(line => !isMemory(line)),
    gone: gone.filter(line => !isMemory(line)),
  }).toEqual({ added: [], gone: [] })
})

test('DEL needs neither namespace nor addresses nor port mappings', async () => {
  using container = freshNamespace()
  const chain = published(container, { mappings: [http(8080)] })
  await chain.add()
  expect(elements()).toContain('ip port_address tcp 8080')
  await mustCall(portmap, 'DEL', { config: { type: 'portmap' }, interface: 'eth0' })
  expect(elements().filter(element => /port|hostip|hairpin/.test(element))).toEqual([])
  expect(elements()).toContain(`ip masquerade_source ${chain.result.ips[0].address.split('/')[0]}`)
  await chain.del()
  expect(elements()).toEqual([])
})

test('a UDP client that was there before the container reaches it, and after DEL nothing leads to it any more', async () => {
  using outside = outsideHost()
  using container = freshNamespace()
  const mapping = { hostPort: 5353, containerPort: 53, protocol: 'UDP' }
  const chain = published(container, { mappings: [mapping] })
  using client = await udpClient(outside)
  client.send('before') // from now on the kernel tracks a connection to the host itself
  await client.refused
  await chain.add()
  using _server = await serveUdp(container, { port: 53 })
  client.send('hello')
  expect(await client.answer).toBe('192.0.2.2 hello')
  expect(tracked()).toContain('192.0.2.1:5353 answered by 10.1.0.')
  await chain.del()
  expect(tracked()).not.toContain('192.0.2.1:5353')
})

/** A client whose every datagram comes from the same port, so that it is the same connection to the kernel. */
async function udpClient(from: Namespace) {
  const answer = Promise.withResolvers<string>()
  const refused = Promise.withResolvers<void>()
  const { opening } = from.inside(() => ({
    opening: Bun.udpSocket({
      connect: { hostname: '192.0.2.1', port: 5353 },
      socket: { data: (_, data) => answer.resolve(data.toString()), error: () => refused.resolve() },
    }),
  }))
  const socket = await opening
  return {
    send: (text: string) => void socket.send(text),
    answer: answer.promise,
    refused: refused.promise,
    [Symbol.dispose]: () => socket.close(),
  }
}

function tracked(): string {
  using conntrack = openConntrack()
  return listConnections(conntrack, AF_INET)
    .map(
      ({ original, reply }) =>
        `${original.destination}:${original.destinationPort} answered by ${reply.source}`,
    )
    .join('\n')
}

test.each([
  {
    name: 'only on the address named',
    hostIP: '192.0.2.1',
    reached: ['192.0.2.1'],
    refused: ['198.51.100.1'],
  },
  {
    name: 'on all addresses where it is unspecified',
    hostIP: '0.0.0.0',
    reached: ['192.0.2.1', '198.51.100.1'],
    refused: ['2001:db8::1'],
  },
  {
    name: 'on all addresses where it is empty',
    hostIP: '',
    reached: ['192.0.2.1', '2001:db8::1'],
    refused: [],
  },
  { name: 'on all of IPv6 where it is ::', hostIP: '::', reached: ['2001:db8::1'], refused: ['192.0.2.1'] },
])('hostIP: a port is published $name', async ({ hostIP, reached, refused }) => {
  using host = hostNamespace()
  using outside = outsideHost()
  host.addAddress(outside.uplink, '198.51.100.1/32')
  outside.run('ip', 'route', 'add', '198.51.100.1/32', 'via', '192.0.2.1')
  using container = freshNamespace()
  const chain = published(container, { mappings: [http(8080, { hostIP })] })
  await chain.add()
  using _server = serveHttp(container, { port: 80 })
  for (const address of reached) expect(await getHttp(outside, { address, port: 8080 })).toMatch(/:2$|\.2$/)
  for (const address of refused)
    await expect(getHttp(outside, { address, port: 8080 })).rejects.toThrow('8080')
  await chain.del()
})

test('a port of IPv6 alone needs no table of IPv4, and opens no way from 127.0.0.1', async () => {
  using host = hostNamespace()
  using outside = outsideHost()
  host.run('nft', 'flush', 'ruleset')
  using container = freshNamespace()
  const chain = published(container, {
    mappings: [http(8080, { hostIP: '::' })],
    bridge: { ipMasq: false },
  })
  await chain.add()
  using _server = serveHttp(container, { port: 80 })
  expect(await getHttp(outside, { address: '2001:db8::1', port: 8080 })).toMatch(/:2$/)
  expect(host.sysctl('net/ipv4/conf/cni0/route_localnet')).toBe('0')
  expect(await chain.check()).toMatchObject({ status: 0 })
  await chain.del()
})

test("one network's conditions never touch another's", async () => {
  using outside = outsideHost()
  using one = freshNamespace()
  using two = freshNamespace()
  using three = freshNamespace()
  const networkOf = (number: number, container: Namespace, config: object) =>
    published(container, {
      mappings: [http(8080 + number)],
      config,
      name: `net-${number}`,
      containerId: `container-${number}`,
      bridge: { bridge: `cni${number}`, ipam: { type: 'host-local', subnet: `10.${number}.0.0/16` } },
    })
  const fenced = networkOf(1, one, { conditionsV4: ['ip', 'saddr', '192.0.2.99'] })
  const open = networkOf(2, two, {})
  const admitted = networkOf(3, three, {
    conditionsV4: ['ip', 'saddr', '192.0.2.2', 'iifname', outside.uplink],
  })
  for (const network of [fenced, open, admitted]) await network.add()
  using _servers = new DisposableStack()
  for (const container of [one, two, three]) _servers.use(serveHttp(container, { port: 80 }))
  await expect(getHttp(outside, { address: '192.0.2.1', port: 8081 }, 500)).rejects.toThrow('8081')
  expect(await getHttp(outside, { address: '192.0.2.1', port: 8082 })).toBe('192.0.2.2')
  expect(await getHttp(outside, { address: '192.0.2.1', port: 8083 })).toBe('192.0.2.2')
  expect(await admitted.check()).toMatchObject({ status: 0 })
  for (const network of [open, admitted, fenced]) await network.del()
  expect(elements()).toEqual([])
})

test('two interfaces of one container are two owners: DEL of one leaves the other', async () => {
  using container = freshNamespace()
  const first = published(container, { mappings: [http(8080)] })
  const second = published(container, { mappings: [http(8081)], interface: 'eth1' })
  await first.add()
  await second.add()
  await second.del()
  expect(elements()).toContain('ip port_address tcp 8080')
  expect(elements()).not.toContain('ip port_address tcp 8081')
  await first.del()
})

test('packets for 127.0.0.0/8 that arrive from a container are dropped, though route_localnet is on', async () => {
  using host = hostNamespace()
  using container = freshNamespace()
  const chain = published(container, { mappings: [http(8080)] })
  await chain.add()
  expect(host.sysctl('net/ipv4/conf/cni0/route_localnet')).toBe('1')
  expect(await reachesLocalhost(container, '10.1.0.1')).toBe(false)
  host.run('nft', 'flush', 'chain', 'ip', 'catena', 'guard')
  expect(await reachesLocalhost(container, '10.1.0.1')).toBe(true)
  await chain.del()
  expect(host.sysctl('net/ipv4/conf/cni0/route_localnet')).toBe('0')
})

test.each([
  {
    name: 'an element of ours',
    command: 'nft delete element ip catena port_address { tcp . 8080 }',
    says: 'port_address',
  },
  { name: 'a rule of the table', command: 'nft flush chain ip catena translate', says: 'translate' },
  { name: 'all rules', command: 'nft flush ruleset', says: 'table ip catena is missing' },
])('CHECK notices that $name has gone', async ({ command, says }) => {
  using container = freshNamespace()
  const chain = published(container, { mappings: [http(8080)], bridge: { ipMasq: false } })
  await chain.add()
  hostNamespace().run(...command.split(' '))
  const { status, json } = await chain.check()
  expect({ status, msg: json.msg }).toEqual({ status: 1, msg: expect.stringContaining(says) })
  await chain.del()
})

test('GC deletes what no valid attachment owns, and leaves other networks alone', async () => {
  using one = freshNamespace()
  using other = freshNamespace()
  const stale = published(one, { mappings: [http(8080)], containerId: 'stale' })
  const valid = published(other, { mappings: [http(8081)], containerId: 'valid' })
  await stale.add()
  await valid.add()
  await mustCall(portmap, 'GC', { config: { name: 'unrelated', 'cni.dev/valid-attachments': [] } })
  expect(elements()).toContain('ip port_address tcp 8080')
  await mustCall(portmap, 'GC', {
    config: { 'cni.dev/valid-attachments': [{ containerID: 'valid', ifname: 'eth0' }] },
  })
  expect(elements()).not.toContain('ip port_address tcp 8080')
  expect(elements()).toContain('ip port_address tcp 8081')
  await stale.del()
  await valid.del()
})

test.each(['nftables', 'iptables'])(
  'DEL takes away what the Go plugins left with their %s backend',
  async backend => {
    using container = freshNamespace()
    const before = elements()
    const mappings = [http(8080), { hostPort: 53, containerPort: 53, protocol: 'udp' }]
    const options = { netns: container }
    const prevResult = mustExecute(peerExecutable('bridge'), 'ADD', {
      ...options,
      config: { ...bridgeConfig, ipMasqBackend: backend },
    })
    mustExecute(peerExecutable('portmap'), 'ADD', {
      ...options,
      config: { type: 'portmap', backend, runtimeConfig: { portMappings: mappings }, prevResult },
    })
    expect(ruleset()).toMatch(/8080/)
    expect(ruleset()).toMatch(/10\.1\.0\.\d+/)
    await mustCall(portmap, 'DEL', { config: { type: 'portmap' } })
    await mustCall(bridge, 'DEL', { ...options, config: bridgeConfig, path: peers })
    expect(ruleset()).not.toMatch(/8080|CNI-DN-|CNI-[0-9a-f]{24}|10\.1\.0\.\d+|fd00:1::\d/)
    expect(elements()).toEqual(before)
  },
)

function ruleset(): string {
  return hostNamespace().run('nft', 'list', 'ruleset')
}
