import { expect, test } from 'bun:test'
import { removeAddress } from '../../chain/linux/netlink/address.ts'
import { createLink, removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { addRoute, removeRoute } from '../../chain/linux/netlink/route.ts'
import { ptp } from '../../main/ptp.ts'
import { getHttp, serveHttp } from '../fixtures/http.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, call, mustCall, mustExecute, peerExecutable, peers } from '../fixtures/plugin.ts'
import {
  attach,
  callsOf,
  commonDamages,
  type Damage,
  dualStack,
  type Ipam,
  ipamWith,
  nothing,
  watch,
  wiredHost,
} from './support.ts'

const outside = ['192.0.2.1/24', '2001:db8::1/64']

const callFor = callsOf({ type: 'ptp' })

/** The host has the address .2 in the neighbour's networks; the neighbour knows no way to the containers. */
function besideNeighbour() {
  const wired = wiredHost(outside)
  wired.host.addAddress(wired.master, '192.0.2.2/24')
  wired.host.addAddress(wired.master, '2001:db8::2/64')
  return wired
}

test('container and host reach each other over both families, at once', async () => {
  using host = hostNamespace()
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  const before = watch(container)
  const result = await mustCall(ptp, 'ADD', callFor(container, pool))
  for (const [address, client] of [
    ['10.1.0.2', '10.1.0.1'],
    ['fd00:1::2', 'fd00:1::1'],
  ] as const) {
    using _server = serveHttp(container, { port: 80 })
    expect(await getHttp(host, { address, port: 80 })).toBe(client)
    using _hosts = serveHttp(host, { port: 81 })
    expect(await getHttp(container, { address: client, port: 81 })).toBe(address)
  }
  const hostEnd = result.interfaces[0].name
  expect(result).toEqual({
    cniVersion: '1.1.0',
    interfaces: [
      { name: expect.stringMatching(/^veth[0-9a-f]{8}$/), mac: host.link(hostEnd).address },
      { name: 'eth0', mac: container.link('eth0').address, sandbox: container.path },
    ],
    ips: dualStack.ips.map(ip => ({ ...ip, interface: 1 })),
    routes: dualStack.routes,
  })
  await mustCall(ptp, 'DEL', callFor(container, pool))
  expect({ ...before.left(), held: pool.held.size }).toEqual({ ...nothing, held: 0 })
})

test('everything but the gateway is reached by the gateway, neighbours of the same network too', async () => {
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  await mustCall(ptp, 'ADD', callFor(container, pool))
  const link = container.link('eth0').index
  const routes = container.routes().map(({ destination, prefixLength, gateway, source, link }) => ({
    to: `${destination}/${prefixLength}`,
    gateway,
    source,
    link,
  }))
  expect(routes).toEqual(
    expect.arrayContaining([
      { to: '0.0.0.0/0', gateway: '10.1.0.1', source: undefined, link },
      { to: '10.1.0.0/24', gateway: '10.1.0.1', source: '10.1.0.2', link },
      { to: '10.1.0.1/32', gateway: undefined, source: '10.1.0.2', link },
      { to: '::/0', gateway: 'fd00:1::1', source: undefined, link },
      { to: 'fd00:1::/64', gateway: 'fd00:1::1', source: 'fd00:1::2', link },
      { to: 'fd00:1::1/128', gateway: undefined, source: 'fd00:1::2', link },
    ]),
  )
  expect(routes).toHaveLength(6)
  await mustCall(ptp, 'DEL', callFor(container, pool))
})

test('two containers reach each other through the host', async () => {
  using one = freshNamespace('one')
  using other = freshNamespace('other')
  const first = ipamWith(dualStack)
  const second = ipamWith({
    ...dualStack,
    ips: [{ address: '10.1.0.3/24', gateway: '10.1.0.1' }],
    routes: [],
  })
  await mustCall(ptp, 'ADD', callFor(one, first))
  await mustCall(ptp, 'ADD', callFor(other, second, {}, { containerId: 'container-2' }))
  using _server = serveHttp(one, { port: 80 })
  expect(await getHttp(other, { address: '10.1.0.2', port: 80 })).toBe('10.1.0.3')
  await mustCall(ptp, 'DEL', callFor(one, first))
  await mustCall(ptp, 'DEL', callFor(other, second, {}, { containerId: 'container-2' }))
})

test('what the host forwards over IPv6 reaches a container at once, before any link-local address is proved unique', async () => {
  using one = freshNamespace('one')
  using other = freshNamespace('other')
  const sixOnly = (address: string): Ipam =>
    ipamWith({
      ips: [{ address, gateway: 'fd00:1::1' }],
      routes: [{ dst: '::/0' }],
    })
  const first = callFor(one, sixOnly('fd00:1::2/64'))
  const second = callFor(other, sixOnly('fd00:1::3/64'), {}, { containerId: 'container-2' })
  await mustCall(ptp, 'ADD', first)
  using _server = serveHttp(one, { port: 80 })
  await mustCall(ptp, 'ADD', second)
  expect(await getHttp(other, { address: 'fd00:1::2', port: 80 }, 700)).toBe('fd00:1::3')
  await mustCall(ptp, 'DEL', first)
  await mustCall(ptp, 'DEL', second)
})

test('when ADD is done, no packet to the container is lost, even where the kernel has had no time to come to it', async () => {
  // in real time, on one processor: what the kernel puts off until later does not come before the first packet
  const script = `${import.meta.dir}/first-packet.ts`
  const { stdout, stderr } = Bun.spawnSync([
    'chrt',
    '-f',
    '10',
    'taskset',
    '-c',
    '0',
    process.execPath,
    script,
  ])
  expect(`${stderr}`).toBe('')
  const milliseconds: number[] = JSON.parse(`${stdout}`)
  expect(milliseconds).toHaveLength(10)
  expect(Math.max(...milliseconds)).toBeLessThan(700) // a lost one is sent again after a second
})

test.each([
  { family: 'IPv4', server: '192.0.2.1', masqueraded: '192.0.2.2' },
  { family: 'IPv6', server: '2001:db8::1', masqueraded: '2001:db8::2' },
])('ipMasq: a neighbour of the host sees the host over $family, and nothing is left after DEL', async row => {
  using wired = besideNeighbour()
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  const before = watch(container)
  const request = callFor(container, pool, { ipMasq: true })
  await mustCall(ptp, 'ADD', request)
  using _server = serveHttp(wired.neighbour, { port: 80 })
  expect(await getHttp(container, { address: row.server, port: 80 })).toBe(row.masqueraded)
  await mustCall(ptp, 'DEL', request)
  expect(before.left()).toEqual(nothing)
})

test.each<{ name: string; config: object; call: (container: Namespace) => Partial<Call> }>([
  { name: 'the namespace is not named', config: { ipMasq: true }, call: () => ({ netns: undefined }) },
  { name: 'its path is gone', config: { ipMasq: true }, call: () => ({ netns: '/run/netns/gone' }) },
  { name: 'ipMasq was switched off meanwhile', config: {}, call: () => ({}) },
])('DEL takes the rules, the pair and the addresses when $name', async ({ config, call: change }) => {
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  const before = watch(container)
  await mustCall(ptp, 'ADD', callFor(container, pool, { ipMasq: true }))
  await mustCall(ptp, 'DEL', { ...callFor(container, pool, config), ...change(container) })
  expect({ ...before.left(), held: pool.held.size }).toEqual({ ...nothing, held: 0 })
})

test('DEL without an ADD, and DEL twice, are successes', async () => {
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  await mustCall(ptp, 'DEL', callFor(container, pool))
  await mustCall(ptp, 'ADD', callFor(container, pool))
  await mustCall(ptp, 'DEL', callFor(container, pool))
  await mustCall(ptp, 'DEL', callFor(container, pool))
  await mustCall(ptp, 'DEL', callFor(undefined, pool))
})

test('GC takes the rules of the dead and leaves those of the living', async () => {
  using wired = besideNeighbour()
  using living = freshNamespace('living')
  using dead = freshNamespace('dead')
  const pool = ipamWith(dualStack)
  const second = ipamWith({ ips: [{ address: '10.1.0.3/24', gateway: '10.1.0.1' }] })
  const config = { ipMasq: true }
  const before = watch()
  await mustCall(ptp, 'ADD', callFor(living, pool, config))
  const alive = watch()
  await mustCall(ptp, 'ADD', callFor(dead, second, config, { containerId: 'container-2' }))
  removeLink(dead.route, 'eth0')
  const valid = { 'cni.dev/valid-attachments': [{ containerID: 'container-1', ifname: 'eth0' }] }
  await mustCall(ptp, 'GC', callFor(undefined, pool, { ...config, ...valid }))
  expect({ ...alive.left(), calls: pool.calls }).toEqual({ ...nothing, calls: ['ADD', 'GC'] })
  using _server = serveHttp(wired.neighbour, { port: 80 })
  expect(await getHttp(living, { address: '192.0.2.1', port: 80 })).toBe('192.0.2.2')
  await mustCall(ptp, 'DEL', callFor(living, pool, config))
  expect(before.left()).toEqual(nothing)
})

test.each([
  {
    name: 'the IPAM plugin fails',
    pool: () => ipamWith(dualStack, ['ADD']),
    code: 50,
    msg: 'ADD refused',
  },
  {
    name: 'the IPAM plugin gives no address',
    pool: () => ipamWith({}),
    code: 999,
    msg: 'IPAM plugin returned missing IP config',
  },
  {
    name: 'an address has no gateway',
    pool: () => ipamWith({ ips: [{ address: '10.1.0.2/24' }] }),
    code: 999,
    msg: 'ips[0].gateway: 10.1.0.2/24 needs a gateway',
  },
  {
    name: 'an address is its own gateway',
    pool: () => ipamWith({ ips: [{ address: '10.1.0.2/24', gateway: '10.1.0.2' }] }),
    code: 999,
    msg: '10.1.0.2/24 is its own gateway',
  },
  {
    name: 'a route of the IPAM plugin leads nowhere',
    pool: () => ipamWith({ ...dualStack, routes: [{ dst: '10.9.0.0/16', gw: '10.8.0.1' }] }),
    code: 999,
    msg: 'add route 10.9.0.0/16 via 10.8.0.1',
  },
])('$name: ADD fails and leaves nothing', async ({ pool: make, code, msg }) => {
  using container = freshNamespace('container')
  const pool = make()
  const before = watch(container)
  const { json, status } = await call(ptp, 'ADD', callFor(container, pool, { ipMasq: true }))
  expect({ status, code: json.code, msg: json.msg }).toEqual({
    status: 1,
    code,
    msg: expect.stringContaining(msg),
  })
  expect({ ...before.left(), held: pool.held.size }).toEqual({ ...nothing, held: 0 })
})

test('an address that the host routes elsewhere already is refused, and the other container keeps it', async () => {
  using one = freshNamespace('one')
  using other = freshNamespace('other')
  using host = hostNamespace()
  const pool = ipamWith(dualStack)
  await mustCall(ptp, 'ADD', callFor(one, pool))
  const before = watch(one, other)
  const { json } = await call(ptp, 'ADD', callFor(other, pool, {}, { containerId: 'container-2' }))
  expect(json.msg).toMatch(/^address 10\.1\.0\.2 is in use: the host routes it to veth[0-9a-f]{8}$/)
  expect(before.left()).toEqual(nothing)
  using _server = serveHttp(one, { port: 80 })
  expect(await getHttp(host, { address: '10.1.0.2', port: 80 })).toBe('10.1.0.1')
  await mustCall(ptp, 'DEL', callFor(one, pool))
})

test('a ruleset that cannot be applied: ADD fails and leaves nothing', async () => {
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  const before = watch(container)
  const engine = () => Promise.reject(new Error('no rules today'))
  const { json } = await call(ptp, 'ADD', callFor(container, pool, { ipMasq: true }, { engine }))
  expect(json).toMatchObject({ code: 999, msg: 'no rules today' })
  expect({ ...before.left(), held: pool.held.size }).toEqual({ ...nothing, held: 0 })
})

test('a second ADD for a live attachment is refused however often, and hurts nothing', async () => {
  using host = hostNamespace()
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  await mustCall(ptp, 'ADD', callFor(container, pool))
  const before = watch(container)
  for (const _ of [1, 2, 3]) {
    const { json } = await call(ptp, 'ADD', callFor(container, pool))
    expect(json).toMatchObject({ code: 999, msg: `interface eth0 already exists in ${container.path}` })
  }
  expect({ ...before.left(), calls: pool.calls }).toEqual({ ...nothing, calls: ['ADD'] })
  using _server = serveHttp(container, { port: 80 })
  expect(await getHttp(host, { address: '10.1.0.2', port: 80 })).toBe('10.1.0.1')
  await mustCall(ptp, 'DEL', callFor(container, pool))
})

test('what a killed ADD left is cleared away by the next one', async () => {
  using host = hostNamespace()
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  const result = await mustCall(ptp, 'ADD', callFor(container, pool))
  setLink(host.route, result.interfaces[0].name, { group: 0x43544e41 }) // as it is until ADD has come to its end
  await mustCall(ptp, 'ADD', callFor(container, pool))
  expect(pool.calls).toEqual(['ADD', 'DEL', 'ADD'])
  await mustCall(ptp, 'CHECK', callFor(container, pool, { prevResult: result }))
    .then(() => Promise.reject(new Error('another pair has other hardware addresses')))
    .catch(error => expect(String(error)).toContain("doesn't match container Mac"))
  await mustCall(ptp, 'DEL', callFor(container, pool))
})

const damages: Damage[] = [
  ...commonDamages,
  {
    name: 'a gateway route that is gone',
    harm: container => removeRoute(container.route, { destination: '10.1.0.1', prefixLength: 32 }),
    message: 'Expected Route 10.1.0.1/32 not found in routing table',
  },
  {
    name: 'a neighbours’ route that is gone',
    harm: container => removeRoute(container.route, { destination: '10.1.0.0', prefixLength: 24 }),
    message: 'Expected Route 10.1.0.0/24 via 10.1.0.1 not found in routing table',
  },
  {
    name: 'another MTU',
    harm: container => setLink(container.route, 'eth0', { mtu: 1300 }),
    message: 'mtu: interface eth0 has MTU 1300, not 1400',
  },
  {
    name: 'a host end that is down',
    harm: (_, host) => setLink(host.route, hostEndOf(host), { up: false }),
    message: 'is down',
  },
  {
    name: 'a gateway address that is gone from the host',
    harm: (_, host) =>
      removeAddress(host.route, {
        link: host.link(hostEndOf(host)).index,
        address: '10.1.0.1',
        prefixLength: 32,
      }),
    message: 'gateway address 10.1.0.1 is not on veth',
  },
  {
    name: 'a host route that is gone',
    harm: (_, host) => removeRoute(host.route, { destination: '10.1.0.2', prefixLength: 32 }),
    message: "the host's route to 10.1.0.2 is missing",
  },
  {
    name: 'a ruleset that was flushed',
    harm: (_, host) => host.run('nft', 'flush', 'ruleset'),
    message: 'table ip catena is missing',
  },
  {
    name: 'another interface in its place',
    harm: container => {
      removeLink(container.route, 'eth0')
      createLink(container.route, { name: 'eth0', kind: { type: 'bridge' } })
    },
    message: 'Error: Container interface eth0 not of type veth: it is a bridge',
  },
]

function hostEndOf(host: Namespace): string {
  return host.links().find(({ kind, name }) => kind === 'veth' && name.startsWith('veth'))?.name ?? ''
}

test.each(damages)('CHECK finds nothing wrong after ADD, and $name', async ({ harm, message }) => {
  using host = hostNamespace()
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  const config = { ipMasq: true, mtu: 1400 }
  await using attachment = await attach(ptp, callFor(container, pool, config))
  const request = callFor(container, pool, { ...config, prevResult: attachment.result })
  await mustCall(ptp, 'CHECK', request)
  harm(container, host)
  const { json } = await call(ptp, 'CHECK', request)
  expect(json).toMatchObject({ code: 999, msg: expect.stringContaining(message) })
})

test.each([
  {
    name: 'no IPAM plugin',
    config: { ipam: {} },
    msg: 'ipam.type: no plugin name provided: ptp interface requires an IPAM configuration',
  },
  { name: 'an MTU beyond all', config: { mtu: 2 ** 31 }, msg: 'mtu: must be at most 2147483647' },
  { name: 'an MTU in text', config: { mtu: '1500' }, msg: 'mtu: must be a number: got "1500"' },
  {
    name: 'an unknown backend',
    config: { ipMasq: true, ipMasqBackend: 'ebtables' },
    msg: 'ipMasqBackend: unknown ipmasq backend "ebtables"',
  },
])('$name is refused by its key', async ({ config, msg }) => {
  using container = freshNamespace('container')
  const before = watch(container)
  const { json } = await call(ptp, 'ADD', callFor(container, ipamWith(dualStack), config))
  expect(json).toMatchObject({ code: 7, msg: expect.stringContaining(msg) })
  expect(before.left()).toEqual(nothing)
})

test('an MTU that the kernel refuses leaves nothing', async () => {
  using container = freshNamespace('container')
  const before = watch(container)
  const { json } = await call(ptp, 'ADD', callFor(container, ipamWith(dualStack), { mtu: 70000 }))
  expect(json).toMatchObject({ code: 999, msg: expect.stringContaining('create veth') })
  expect(before.left()).toEqual(nothing)
})

test('names of the configuration count more than those of the IPAM plugin, if there are any', async () => {
  using container = freshNamespace('container')
  const pool = ipamWith({ ...dualStack, dns: { domain: 'ipam' } })
  const result = await mustCall(ptp, 'ADD', callFor(container, pool))
  await mustCall(ptp, 'DEL', callFor(container, pool))
  const named = await mustCall(ptp, 'ADD', callFor(container, pool, { dns: { domain: 'configured' } }))
  await mustCall(ptp, 'DEL', callFor(container, pool))
  expect([result.dns, named.dns]).toEqual([{ domain: 'ipam' }, { domain: 'configured' }])
})

test('STATUS asks the IPAM plugin', async () => {
  const full = ipamWith(dualStack, ['STATUS'])
  expect((await call(ptp, 'STATUS', callFor(undefined, full))).json).toMatchObject({
    code: 50,
    msg: 'STATUS refused',
  })
  expect((await call(ptp, 'STATUS', callFor(undefined, ipamWith(dualStack)))).status).toBe(0)
})

test.each(['iptables', 'nftables'])('DEL takes away what the Go plugin left with %s', async backend => {
  using container = freshNamespace('container')
  const goIpam = { type: 'static', addresses: [{ address: '10.1.0.2/24', gateway: '10.1.0.1' }] }
  const config = { type: 'ptp', ipMasq: true, ipMasqBackend: backend, ipam: goIpam }
  const request = { netns: container, config, path: peers }
  mustExecute(peerExecutable('ptp'), 'ADD', request)
  using host = hostNamespace()
  expect(host.run('nft', 'list', 'ruleset')).toContain('10.1.0.2')
  await mustCall(ptp, 'DEL', { ...request, netns: undefined })
  expect(host.run('nft', 'list', 'ruleset')).not.toContain('10.1.0.2')
  await mustCall(ptp, 'DEL', request)
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
})

test('the Go plugin takes away the interface that we made, and finds it in order before', async () => {
  using host = hostNamespace()
  using container = freshNamespace('container')
  addRoute(host.route, { destination: '198.51.100.0', prefixLength: 24, link: host.link('lo').index })
  const goIpam = {
    type: 'static',
    addresses: [{ address: '10.1.0.2/24', gateway: '10.1.0.1' }],
    routes: [{ dst: '0.0.0.0/0' }],
  }
  const request = { netns: container, config: { type: 'ptp', ipam: goIpam }, path: peers }
  const prevResult = await mustCall(ptp, 'ADD', request)
  const theirs = { ...request, config: { ...request.config, prevResult } }
  mustExecute(peerExecutable('ptp'), 'CHECK', theirs)
  mustExecute(peerExecutable('ptp'), 'DEL', theirs)
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
  removeRoute(host.route, { destination: '198.51.100.0', prefixLength: 24 })
})
