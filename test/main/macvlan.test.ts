import { expect, test } from 'bun:test'
import { removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { macvlanModes } from '../../chain/linux/netlink/link-kind.ts'
import { addRoute } from '../../chain/linux/netlink/route.ts'
import { macvlan } from '../../main/macvlan.ts'
import { getHttp, serveHttp } from '../fixtures/http.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, call, mustCall, mustExecute, peerExecutable, peers } from '../fixtures/plugin.ts'
import { attach, callsOf, dualStack, ipamWith, nothing, watch, wiredHost } from './support.ts'

const callFor = callsOf({ type: 'macvlan' })

test.each(['', 'bridge', 'private', 'vepa', 'passthru'])(
  'a container reaches a neighbour of the master in mode "%s", over both families, at once',
  async mode => {
    using wired = wiredHost()
    using container = freshNamespace('container')
    const pool = ipamWith(dualStack)
    const before = watch(container)
    {
      await using attachment = await attach(macvlan, callFor(container, pool, { master: wired.master, mode }))
      using _server = serveHttp(wired.neighbour, { port: 80 })
      expect(await getHttp(container, { address: '10.1.0.1', port: 80 })).toBe('10.1.0.2')
      expect(await getHttp(container, { address: 'fd00:1::1', port: 80 })).toBe('fd00:1::2')
      expect(attachment.result).toEqual({
        cniVersion: '1.1.0',
        interfaces: [{ name: 'eth0', mac: container.link('eth0').address, sandbox: container.path }],
        ips: dualStack.ips.map(ip => ({ ...ip, interface: 0 })),
        routes: dualStack.routes,
      })
      expect(container.link('eth0')).toMatchObject({
        up: true,
        group: 0,
        data: { mode: macvlanModes[(mode || 'bridge') as 'bridge'] },
      })
    }
    expect({ ...before.left(), held: pool.held.size }).toEqual({ ...nothing, held: 0 })
  },
)

test('a neighbour who knew the address by another hardware address learns the new one', async () => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  wired.neighbour.setSysctl('net/ipv4/conf/all/arp_accept', '1')
  for (const [address, family] of [
    ['10.1.0.2', '-4'],
    ['fd00:1::2', '-6'],
  ] as const) {
    wired.neighbour.run(
      'ip',
      family,
      'neigh',
      'replace',
      address,
      'lladdr',
      '02:00:00:00:00:01',
      'dev',
      'eth0',
      'nud',
      'stale',
    )
  }
  await using _attachment = await attach(
    macvlan,
    callFor(container, pool, { master: wired.master, mac: '02:00:00:00:00:42' }),
  )
  const known = wired.neighbour.run('ip', 'neigh', 'show', 'dev', 'eth0')
  expect(known).toMatch(/^10\.1\.0\.2 lladdr 02:00:00:00:00:42/m)
  expect(known).toMatch(/^fd00:1::2 lladdr 02:00:00:00:00:42/m)
})

test('a host with a link of the same name is no obstacle', async () => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  wired.host.createLink({ name: 'eth0', kind: { type: 'bridge' } })
  try {
    await using _attachment = await attach(
      macvlan,
      callFor(container, ipamWith(dualStack), { master: wired.master }),
    )
    expect(container.link('eth0').kind).toBe('macvlan')
    expect(wired.host.link('eth0').kind).toBe('bridge')
  } finally {
    removeLink(wired.host.route, 'eth0')
  }
})

test('linkInContainer: the master is the container’s own', async () => {
  using container = freshNamespace('container')
  container.createLink({ name: 'inner0', kind: { type: 'veth', peer: { name: 'inner1' } }, mtu: 1400 })
  setLink(container.route, 'inner1', { up: true })
  const pool = ipamWith({ ips: [{ address: '10.1.0.2/24' }] })
  const config = { master: 'inner0', linkInContainer: true }
  await using attachment = await attach(macvlan, callFor(container, pool, config))
  expect(container.link('eth0')).toMatchObject({ parent: container.link('inner0').index, mtu: 1400 })
  await mustCall(macvlan, 'CHECK', callFor(container, pool, { ...config, prevResult: attachment.result }))
})

test('without ipam there is a link, up and without addresses', async () => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  await using attachment = await attach(macvlan, callFor(container, undefined, { master: wired.master }))
  expect(container.link('eth0').up).toBe(true)
  expect(attachment.result).toEqual({
    cniVersion: '1.1.0',
    interfaces: [{ name: 'eth0', mac: container.link('eth0').address, sandbox: container.path }],
  })
})

test.each([
  { family: 'IPv4', destination: '0.0.0.0' },
  { family: 'IPv6', destination: '::' },
])('without a master, it is the device of the default route ($family)', async ({ destination }) => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  addRoute(wired.host.route, { destination, prefixLength: 0, link: wired.host.link(wired.master).index })
  await using _attachment = await attach(macvlan, callFor(container, undefined, {}))
  expect(container.link('eth0').parent).toBe(wired.host.link(wired.master).index)
})

test('a master that is down is no obstacle: the container is reached once it comes up', async () => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  setLink(wired.host.route, wired.master, { up: false })
  await using _attachment = await attach(
    macvlan,
    callFor(container, ipamWith(dualStack), { master: wired.master }),
  )
  setLink(wired.host.route, wired.master, { up: true })
  using _server = serveHttp(wired.neighbour, { port: 80 })
  expect(await getHttp(container, { address: '10.1.0.1', port: 80 })).toBe('10.1.0.2')
})

test('a second ADD for a live attachment is refused however often, and hurts nothing', async () => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  const request = callFor(container, pool, { master: wired.master })
  await using _attachment = await attach(macvlan, request)
  const before = watch(container)
  for (const _ of [1, 2, 3]) {
    const { json } = await call(macvlan, 'ADD', request)
    expect(json).toMatchObject({ code: 999, msg: `interface eth0 already exists in ${container.path}` })
  }
  expect({ ...before.left(), calls: pool.calls }).toEqual({ ...nothing, calls: ['ADD'] })
})

test('what a killed ADD left is cleared away by the next one, with its addresses', async () => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  const request = callFor(container, pool, { master: wired.master })
  await mustCall(macvlan, 'ADD', request)
  setLink(container.route, 'eth0', { group: 0x43544e41 }) // as it is until ADD has come to its end
  await using _attachment = await attach(macvlan, request)
  expect({ calls: pool.calls, group: container.link('eth0').group }).toEqual({
    calls: ['ADD', 'DEL', 'ADD'],
    group: 0,
  })
})

test.each<{
  name: string
  change: (container: Namespace) => Partial<Call>
  config?: object
  harm?: (wired: ReturnType<typeof wiredHost>) => void
}>([
  { name: 'the namespace is not named', change: () => ({ netns: undefined }) },
  { name: 'its path is gone', change: () => ({ netns: '/run/netns/gone' }) },
  {
    name: 'the master is gone',
    change: () => ({}),
    harm: ({ host, master }) => removeLink(host.route, master),
  },
  { name: 'the configuration names another master', change: () => ({}), config: { master: 'none0' } },
  {
    name: 'the configuration is one that ADD refuses',
    change: () => ({}),
    config: { mode: 'l2', mac: 'none', mtu: 70000 },
  },
  { name: 'CNI_ARGS cannot be read', change: () => ({ args: 'MAC=none;;' }) },
])('DEL releases the addresses when $name, twice', async ({ change, config = {}, harm }) => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  await mustCall(macvlan, 'ADD', callFor(container, pool, { master: wired.master }))
  harm?.(wired)
  const request = { ...callFor(container, pool, { master: wired.master, ...config }), ...change(container) }
  await mustCall(macvlan, 'DEL', request)
  await mustCall(macvlan, 'DEL', request)
  expect(pool.held.size).toBe(0)
  await mustCall(macvlan, 'DEL', callFor(container, pool, {}))
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
})

test('DEL deletes the interface also when the addresses cannot be released, and says so', async () => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack, ['DEL'])
  await mustCall(macvlan, 'ADD', callFor(container, pool, { master: wired.master }))
  const { json } = await call(macvlan, 'DEL', callFor(container, pool, {}))
  expect(json).toMatchObject({ code: 50, msg: 'release the addresses: DEL refused' })
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
})

test.each([
  {
    name: 'a master that is not there',
    config: { master: 'none0' },
    json: { code: 50, msg: 'master: failed to lookup master "none0": Link not found' },
  },
  {
    name: 'no default route',
    config: {},
    json: { code: 50, msg: 'master: no default route interface found' },
  },
  {
    name: 'a master in a container, of which it is not told',
    config: { master: 'none0', linkInContainer: true },
    json: undefined,
  },
])('STATUS with $name', async ({ config, json }) => {
  const outcome = await call(macvlan, 'STATUS', callFor(undefined, ipamWith(dualStack), config))
  if (json) expect(outcome.json).toMatchObject(json)
  else expect(outcome.stdout).toBe('')
})

test('STATUS and GC go on to the IPAM plugin', async () => {
  using wired = wiredHost()
  const pool = ipamWith(dualStack)
  const config = { master: wired.master, 'cni.dev/valid-attachments': [] }
  await mustCall(macvlan, 'STATUS', callFor(undefined, pool, config))
  await mustCall(macvlan, 'GC', callFor(undefined, pool, config))
  expect(pool.calls).toEqual(['STATUS', 'GC'])
})

test('the Go plugin checks and takes away what we made, and we what it made', async () => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const goIpam = {
    type: 'static',
    addresses: [{ address: '10.1.0.2/24', gateway: '10.1.0.1' }],
    routes: [{ dst: '0.0.0.0/0' }],
  }
  const config = { type: 'macvlan', master: wired.master, ipam: goIpam }
  const request = { netns: container, config, path: peers }
  const go = peerExecutable('macvlan')
  const ourResult = await mustCall(macvlan, 'ADD', request)
  mustExecute(go, 'CHECK', { ...request, config: { ...config, prevResult: ourResult } })
  mustExecute(go, 'DEL', request)
  const theirResult = mustExecute(go, 'ADD', request)
  const {
    interfaces: [ours],
    ...rest
  } = ourResult
  expect(theirResult).toEqual({ ...rest, interfaces: [{ ...ours, mac: container.link('eth0').address }] })
  await mustCall(macvlan, 'CHECK', { ...request, config: { ...config, prevResult: theirResult } })
  await mustCall(macvlan, 'DEL', request)
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
})
