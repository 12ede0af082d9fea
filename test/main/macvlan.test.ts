import { expect, test } from 'bun:test'
import { createLink, removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { macvlanModes } from '../../chain/linux/netlink/link-kind.ts'
import { addRoute } from '../../chain/linux/netlink/route.ts'
import { macvlan } from '../../main/macvlan.ts'
import { getHttp, serveHttp } from '../fixtures/http.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, call, mustCall, mustExecute, peerExecutable, peers } from '../fixtures/plugin.ts'
import {
  attach,
  callsOf,
  commonDamages,
  type Damage,
  dualStack,
  ipamWith,
  nothing,
  watch,
  wiredHost,
} from './support.ts'

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

const [inConfiguration, inArguments, inRuntime] = [
  '02:00:00:00:00:01',
  '02:00:00:00:00:02',
  '02:00:00:00:00:03',
]

test.each([
  { name: 'the configuration', config: { mac: inConfiguration }, args: undefined, mac: inConfiguration },
  {
    name: 'CNI_ARGS before it',
    config: { mac: inConfiguration },
    args: `MAC=${inArguments}`,
    mac: inArguments,
  },
  {
    name: 'the runtime before both',
    config: { mac: inConfiguration, runtimeConfig: { mac: inRuntime } },
    args: `IgnoreUnknown=1;K8S_POD_NAME=one;MAC=${inArguments}`,
    mac: inRuntime,
  },
])('the hardware address comes from $name', async ({ config, args, mac }) => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const request = callFor(container, undefined, { master: wired.master, ...config }, args ? { args } : {})
  await using attachment = await attach(macvlan, request)
  expect([container.link('eth0').address, attachment.result.interfaces[0].mac]).toEqual([mac, mac])
})

test.each([
  { name: 'inherited from the master', mtu: 0, seen: 1400 },
  { name: 'below the master’s', mtu: 1300, seen: 1300 },
  { name: 'the master’s own', mtu: 1400, seen: 1400 },
])('an MTU $name', async ({ mtu, seen }) => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  setLink(wired.host.route, wired.master, { mtu: 1400 })
  await using _attachment = await attach(
    macvlan,
    callFor(container, undefined, { master: wired.master, mtu }),
  )
  expect(container.link('eth0').mtu).toBe(seen)
})

test.each([
  {
    name: 'a master that is not there',
    config: { master: 'none0' },
    code: 7,
    msg: 'master: failed to lookup master "none0": Link not found',
  },
  {
    name: 'no master and no default route',
    config: { master: undefined },
    code: 7,
    msg: 'master: no default route interface found',
  },
  {
    name: 'a master that is not in the container',
    config: { linkInContainer: true },
    code: 7,
    msg: 'master: failed to lookup master',
  },
  {
    name: 'an MTU above the master’s',
    config: { mtu: 1501 },
    code: 7,
    msg: 'mtu: invalid MTU 1501, must be [0, master MTU(1500)]',
  },
  {
    name: 'a negative MTU',
    config: { mtu: -1 },
    code: 7,
    msg: 'mtu: invalid MTU -1, must be [0, master MTU(1500)]',
  },
  { name: 'an unknown mode', config: { mode: 'l2' }, code: 7, msg: 'mode: unknown macvlan mode: "l2"' },
  {
    name: 'a mode that is a method of objects',
    config: { mode: 'toString' },
    code: 7,
    msg: 'mode: unknown macvlan mode: "toString"',
  },
  {
    name: 'a hardware address that is none',
    config: { mac: '02:00' },
    code: 7,
    msg: 'mac: invalid args 02:00 for MAC addr: address 02:00: invalid MAC address: must be a hardware address of six bytes',
  },
  {
    name: 'one that is none from the runtime',
    config: { runtimeConfig: { mac: 'x' } },
    code: 7,
    msg: 'runtimeConfig.mac: invalid args x for MAC addr',
  },
  {
    name: 'a hardware address that the kernel refuses',
    config: { mac: '01:00:00:00:00:01' },
    code: 999,
    msg: 'create macvlan eth0',
  },
  {
    name: 'a queue below 0',
    config: { bcqueuelen: -1 },
    code: 7,
    msg: 'bcqueuelen: must be at least 0: got -1',
  },
])('$name is refused by its key, and nothing is left', async ({ config, code, msg }) => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  const before = watch(container)
  const { json } = await call(macvlan, 'ADD', callFor(container, pool, { master: wired.master, ...config }))
  expect(json).toMatchObject({ code, msg: expect.stringContaining(msg) })
  expect({ ...before.left(), calls: pool.calls }).toEqual({ ...nothing, calls: [] })
})

test.each([
  { name: 'the IPAM plugin fails', pool: () => ipamWith(dualStack, ['ADD']), code: 50, msg: 'ADD refused' },
  {
    name: 'it gives no address',
    pool: () => ipamWith({}),
    code: 999,
    msg: 'IPAM plugin returned missing IP config',
  },
  {
    name: 'its route leads nowhere',
    pool: () => ipamWith({ ...dualStack, routes: [{ dst: '10.9.0.0/16', gw: '10.8.0.1' }] }),
    code: 999,
    msg: 'add route 10.9.0.0/16 via 10.8.0.1',
  },
])('$name: ADD fails and leaves nothing', async ({ pool: make, code, msg }) => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const pool = make()
  const before = watch(container)
  const { json } = await call(macvlan, 'ADD', callFor(container, pool, { master: wired.master }))
  expect(json).toMatchObject({ code, msg: expect.stringContaining(msg) })
  expect({ ...before.left(), held: pool.held.size }).toEqual({ ...nothing, held: 0 })
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

const damages: Damage[] = [
  ...commonDamages,
  {
    name: 'another MTU',
    harm: container => setLink(container.route, 'eth0', { mtu: 1300 }),
    message: 'mtu: interface eth0 has MTU 1300, not 1400',
  },
  {
    name: 'another mode',
    harm: container => container.run('ip', 'link', 'set', 'eth0', 'type', 'macvlan', 'mode', 'vepa'),
    message: 'mode: container macvlan mode vepa does not match expected value: bridge',
  },
  {
    name: 'a bridge in its place',
    harm: container =>
      replace(container, () => createLink(container.route, { name: 'eth0', kind: { type: 'bridge' } })),
    message: 'Error: Container interface eth0 not of type macvlan: it is a bridge',
  },
]

function replace(container: Namespace, create: () => void): void {
  removeLink(container.route, 'eth0')
  create()
}

test.each(damages)('CHECK finds nothing wrong after ADD, and $name', async ({ harm, message }) => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  const config = { master: wired.master, mtu: 1400 }
  await using attachment = await attach(macvlan, callFor(container, pool, config))
  const request = callFor(container, pool, { ...config, prevResult: attachment.result })
  await mustCall(macvlan, 'CHECK', request)
  harm(container, wired.host)
  const { json } = await call(macvlan, 'CHECK', request)
  expect(json).toMatchObject({ code: 999, msg: expect.stringContaining(message) })
})

test('CHECK notices another master, one that is gone, and one in another place', async () => {
  using wired = wiredHost()
  using other = wiredHost([])
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  await using attachment = await attach(macvlan, callFor(container, pool, { master: wired.master }))
  const check = async (config: object) => {
    const { json } = await call(
      macvlan,
      'CHECK',
      callFor(container, pool, { prevResult: attachment.result, ...config }),
    )
    return json?.msg
  }
  expect(await check({ master: wired.master })).toBeUndefined()
  expect(await check({})).toBeUndefined() // the default route may have changed since
  expect(await check({ master: other.master })).toMatch(/^master: eth0 stands on link \d+, not on phys/)
  expect(await check({ master: 'none0' })).toBe('master: failed to lookup master "none0": Link not found')
  expect(await check({ linkInContainer: true })).toMatch(/^master: eth0 does not stand on a link of/)
})

test('CHECK takes the MTU of prevResult, where a later plugin has changed it', async () => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  const config = { master: wired.master, mtu: 1400 }
  await using attachment = await attach(macvlan, callFor(container, pool, config))
  setLink(container.route, 'eth0', { mtu: 1300 })
  const { interfaces } = attachment.result
  const prevResult = { ...attachment.result, interfaces: [{ ...interfaces[0], mtu: 1300 }] }
  await mustCall(macvlan, 'CHECK', callFor(container, pool, { ...config, prevResult }))
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
