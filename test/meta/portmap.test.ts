import { afterAll, expect, test } from 'bun:test'
import { AF_INET } from '../../chain/ip/family.ts'
import { listConnections, openConntrack } from '../../chain/linux/netlink/conntrack.ts'
import { bridge } from '../../main/bridge.ts'
import { portmap } from '../../meta/portmap.ts'
import type { Chain } from '../fixtures/chain.ts'
import { getHttp, serveHttp, serveUdp } from '../fixtures/http.ts'
import { reachesLocalhost } from '../fixtures/localnet.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { call, mustCall, mustExecute, peerExecutable, peers } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'
import {
  bridgeConfig,
  elements,
  http,
  network,
  outsideHost,
  published,
  removeBridges,
} from './portmap/place.ts'

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

test('a host port that a live container holds is refused, naming the holder, and nothing is left of the attempt', async () => {
  using one = freshNamespace()
  using other = freshNamespace()
  const holder = published(one, { mappings: [http(8080)], containerId: 'holder' })
  const late = published(other, { mappings: [http(8081), http(8080)], containerId: 'late' })
  await holder.add()
  const before = elements()
  await expect(late.add()).rejects.toThrow(/host port 8080\/tcp is taken by another container .*holder/)
  expect(elements().filter(element => element.includes('port_'))).toEqual(
    before.filter(element => element.includes('port_')),
  )
  await late.del()
  expect(elements()).toEqual(before)
  await holder.del()
})

test('a host port whose holder is dead is taken over', async () => {
  using other = freshNamespace()
  const dead = freshNamespace()
  const holder = published(dead, { mappings: [http(8080), http(8443)], containerId: 'holder' })
  await holder.add()
  dead[Symbol.dispose]()
  const next = published(other, { mappings: [http(8080)], containerId: 'next' })
  await next.add()
  using _server = serveHttp(other, { port: 80 })
  expect(await getHttp(hostNamespace(), { address: '127.0.0.1', port: 8080 })).toBe('10.1.0.1')
  expect(elements()).not.toContain('ip port_address tcp 8443')
  await holder.del()
  expect(elements()).toContain('ip port_address tcp 8080')
  await next.del()
})

/** The same container on another network, with the same port. */
const onNetwork = (number: number, container: Namespace) =>
  published(container, { mappings: [http(8080)], ...network(number) })

test('the same ports on a second network of one container stay with the first', async () => {
  using container = freshNamespace()
  const first = published(container, { mappings: [http(8080)] })
  const second = onNetwork(9, container)
  await first.add()
  await second.add()
  using _server = serveHttp(container, { port: 80 })
  expect(await getHttp(hostNamespace(), { address: '127.0.0.1', port: 8080 })).toBe('10.1.0.1')
  expect(await second.check()).toMatchObject({ status: 0 })
  await second.del()
  await first.del()
  expect(elements()).toEqual([])
})

test('ports go over to the next network of a container when the first one is taken from it, and are unpublished at the end', async () => {
  using host = hostNamespace()
  using container = freshNamespace()
  const before = snapshot()
  const [first, second, third] = [8, 9, 7].map(number => onNetwork(number, container)) as [
    Chain,
    Chain,
    Chain,
  ]
  for (const chain of [first, second, third]) await chain.add()
  using _server = serveHttp(container, { port: 80 })
  const answersFrom = async () => await getHttp(host, { address: '127.0.0.1', port: 8080 })
  expect(await answersFrom()).toBe('10.8.0.1')
  await first.del()
  expect(await answersFrom()).toBe('10.9.0.1')
  expect(await second.check()).toMatchObject({ status: 0 })
  expect(await third.check()).toMatchObject({ status: 0 })
  await first.add()
  expect(await answersFrom()).toBe('10.9.0.1')
  await mustCall(portmap, 'GC', {
    config: { type: 'portmap', name: 'network-9', 'cni.dev/valid-attachments': [] },
  })
  expect(['10.7.0.1', '10.8.0.1']).toContain(await answersFrom())
  await second.del()
  await first.del()
  expect(await answersFrom()).toBe('10.7.0.1')
  await third.del()
  expect(elements()).toEqual([])
  expect(difference(before, snapshot()).added.filter(line => line.includes('/run/'))).toEqual([])
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

test.each([
  {
    name: 'a port above 65535',
    mapping: http(70000),
    says: 'runtimeConfig.portMappings[0].hostPort: Invalid host port number: 70000, must be between 1 and 65535: got 70000',
  },
  {
    name: 'a port of 0',
    mapping: http(0),
    says: 'runtimeConfig.portMappings[0].hostPort: Invalid host port number: 0, must be between 1 and 65535: got 0',
  },
  {
    name: 'an unknown protocol',
    mapping: http(80, { protocol: 'icmp' }),
    says: 'runtimeConfig.portMappings[0].protocol: must be tcp, udp or sctp: got "icmp"',
  },
  {
    name: 'a host address that is none',
    mapping: http(80, { hostIP: 'here' }),
    says: 'runtimeConfig.portMappings[0].hostIP: must be an address: got "here"',
  },
])('$name is refused with the path of its key', async ({ mapping, says }) => {
  const { status, json } = await call(portmap, 'ADD', {
    netns: '/run/netns/none',
    config: {
      type: 'portmap',
      runtimeConfig: { portMappings: [mapping] },
      prevResult: { ips: [{ address: '10.1.0.2/16' }] },
    },
  })
  expect({ status, code: json.code, msg: json.msg }).toEqual({ status: 1, code: 7, msg: says })
})

test.each([
  { name: 'a port that ADD refuses', changes: { runtimeConfig: { portMappings: [http(0)] } } },
  {
    name: 'one port twice',
    changes: { runtimeConfig: { portMappings: [http(80), http(80, { containerPort: 81 })] } },
  },
  { name: "conditions in iptables' language", changes: { conditionsV4: ['-s', '10.0.0.0/8'] } },
  { name: 'an unknown backend', changes: { backend: 'ipfw' } },
  { name: 'a torn prevResult', changes: { prevResult: { ips: [{ address: 'bogus' }] } } },
  { name: 'a prevResult of another version', changes: { prevResult: { cniVersion: '0.2.0' } } },
])('DEL takes everything away although its configuration holds $name', async ({ changes }) => {
  using container = freshNamespace()
  const before = elements()
  const chain = published(container, { mappings: [http(8080)], bridge: { ipMasq: false } })
  await chain.add()
  await mustCall(portmap, 'DEL', { netns: container, config: { type: 'portmap', ...changes } })
  expect(elements()).toEqual(before)
  await chain.del()
})

test.each([
  { name: 'as it is', twice: [http(8080), http(8080)] },
  { name: 'for all addresses, and for those of IPv6', twice: [http(8080, { hostIP: '::' }), http(8080)] },
  {
    name: 'for each family',
    twice: [http(8080), http(8080, { hostIP: '0.0.0.0' }), http(8080, { hostIP: '::' })],
  },
  { name: 'in capitals', twice: [http(8080, { protocol: 'TCP' }), http(8080)] },
  {
    name: 'for one address in two spellings',
    twice: [http(8080), http(8080, { hostIP: '2001:db8::1' }), http(8080, { hostIP: '2001:DB8:0::1' })],
  },
])('a port said twice, $name, is one, of either backend', async ({ twice }) => {
  using outside = outsideHost()
  using container = freshNamespace()
  using _server = serveHttp(container, { port: 80, answer: 'here' })
  for (const backend of ['nftables', 'iptables']) {
    const chain = published(container, { mappings: [...twice], config: { backend } })
    await chain.add()
    for (const address of ['192.0.2.1', '2001:db8::1'])
      expect(await getHttp(outside, { address, port: 8080 })).toBe('here')
    expect(await chain.check()).toMatchObject({ status: 0 })
    await chain.del()
  }
})

test.each([
  { name: 'as it is', twice: [http(8080), http(8080, { containerPort: 81 })] },
  {
    name: 'for all addresses, and for those of IPv6',
    twice: [http(8080, { hostIP: '::' }), http(8080, { containerPort: 81 })],
  },
])('a port said twice, $name, for two ports of the container is refused', async ({ twice }) => {
  const { json } = await call(portmap, 'ADD', {
    netns: '/run/netns/none',
    config: {
      type: 'portmap',
      runtimeConfig: { portMappings: twice },
      prevResult: { ips: [{ address: '10.1.0.2/16' }] },
    },
  })
  expect(json).toMatchObject({
    code: 7,
    msg: expect.stringMatching(/^runtimeConfig\.portMappings: must not send one host port to two/),
  })
})

test('conditions that nft does not take are refused with its own words', async () => {
  const { json } = await call(portmap, 'ADD', {
    netns: '/run/netns/none',
    config: {
      type: 'portmap',
      conditionsV4: ['ip', 'sadr', '10.0.0.0/8'],
      runtimeConfig: { portMappings: [http(8080)] },
      prevResult: { ips: [{ address: '10.1.0.2/16' }] },
    },
  })
  expect(json).toMatchObject({
    code: 7,
    msg: expect.stringContaining('conditionsV4'),
    details: expect.stringContaining('sadr'),
  })
})
