import { expect, test } from 'bun:test'
import { createLink, removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { ipvlanModes } from '../../chain/linux/netlink/link-kind.ts'
import { addRoute } from '../../chain/linux/netlink/route.ts'
import { ipvlan } from '../../main/ipvlan.ts'
import { getHttp, serveHttp } from '../fixtures/http.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, call, mustCall, mustExecute, peerExecutable, peers } from '../fixtures/plugin.ts'
import { testOn } from '../kernel/features.ts'
import {
  attach,
  callsOf,
  commonDamages,
  type Damage,
  dualStack,
  ipamWith,
  nothing,
  type Wired,
  watch,
  wiredHost,
} from './support.ts'

const callFor = callsOf({ type: 'ipvlan' })

for (const mode of ['', 'l2', 'l3', 'l3s']) {
  testOn(['ipvlan'], `a container reaches a neighbour of the master in mode "${mode}"`, async () => {
    using wired = wiredHost()
    // in layer 3 the host asks for the neighbour: with an address of its own, lest it take one that another test has left
    if (mode.startsWith('l3')) wired.host.addAddress(wired.master, '10.1.0.9/24')
    using container = freshNamespace('container')
    const pool = ipamWith(dualStack)
    const before = watch(container)
    {
      await using attachment = await attach(ipvlan, callFor(container, pool, { master: wired.master, mode }))
      if (mode.startsWith('l3')) {
        // in layer 3 the container's address is not asked for: the neighbour is told the way
        const { address } = wired.host.link(wired.master)
        wired.neighbour.run('ip', 'neigh', 'replace', '10.1.0.2', 'lladdr', address, 'dev', 'eth0')
      }
      using _server = serveHttp(wired.neighbour, { port: 80 })
      expect(await getHttp(container, { address: '10.1.0.1', port: 80 })).toBe('10.1.0.2')
      expect(attachment.result).toEqual({
        cniVersion: '1.1.0',
        interfaces: [{ name: 'eth0', mac: wired.host.link(wired.master).address, sandbox: container.path }],
        ips: dualStack.ips.map(ip => ({ ...ip, interface: 0 })),
        routes: dualStack.routes,
      })
      expect(container.link('eth0')).toMatchObject({
        group: 0,
        data: { mode: ipvlanModes[(mode || 'l2') as 'l2'] },
      })
    }
    expect({ ...before.left(), held: pool.held.size }).toEqual({ ...nothing, held: 0 })
  })
}

testOn(['ipvlan'], 'a container reaches a neighbour over IPv6, at once', async () => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  await using _attachment = await attach(
    ipvlan,
    callFor(container, ipamWith(dualStack), { master: wired.master }),
  )
  using _server = serveHttp(wired.neighbour, { port: 80 })
  expect(await getHttp(container, { address: 'fd00:1::1', port: 80 })).toBe('fd00:1::2')
})

testOn(
  ['ipvlan'],
  'a neighbour who knew the address by another hardware address learns the new one',
  async () => {
    using wired = wiredHost()
    using container = freshNamespace('container')
    wired.neighbour.run(
      'ip',
      'neigh',
      'replace',
      '10.1.0.2',
      'lladdr',
      '02:00:00:00:00:01',
      'dev',
      'eth0',
      'nud',
      'stale',
    )
    await using _attachment = await attach(
      ipvlan,
      callFor(container, ipamWith(dualStack), { master: wired.master }),
    )
    const { address } = wired.host.link(wired.master)
    expect(wired.neighbour.run('ip', 'neigh', 'show', 'dev', 'eth0')).toContain(`10.1.0.2 lladdr ${address}`)
  },
)

testOn(['ipvlan'], 'a host with a link of the same name is no obstacle', async () => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  createLink(wired.host.route, { name: 'eth0', kind: { type: 'bridge' } })
  try {
    await using _attachment = await attach(
      ipvlan,
      callFor(container, ipamWith(dualStack), { master: wired.master }),
    )
    expect(container.links().map(({ name, kind }) => `${name} ${kind ?? ''}`)).toEqual(['lo ', 'eth0 ipvlan'])
  } finally {
    removeLink(wired.host.route, 'eth0')
  }
})

testOn(['ipvlan'], 'linkInContainer: the master is the container’s own', async () => {
  using container = freshNamespace('container')
  container.createLink({ name: 'inner0', kind: { type: 'veth', peer: { name: 'inner1' } }, mtu: 1400 })
  const pool = ipamWith({ ips: [{ address: '10.1.0.2/24' }] })
  const config = { master: 'inner0', linkInContainer: true }
  await using attachment = await attach(ipvlan, callFor(container, pool, config))
  expect(container.link('eth0')).toMatchObject({ parent: container.link('inner0').index, mtu: 1400 })
  await mustCall(ipvlan, 'CHECK', callFor(container, pool, { ...config, prevResult: attachment.result }))
})

testOn(['ipvlan'], 'without a master, it is the device of the default route', async () => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const link = wired.host.link(wired.master).index
  addRoute(wired.host.route, { destination: '0.0.0.0', prefixLength: 0, link })
  await using _attachment = await attach(ipvlan, callFor(container, ipamWith(dualStack), {}))
  expect(container.link('eth0').parent).toBe(link)
})

testOn(
  ['ipvlan'],
  'behind another plugin, its interface is the master and its addresses are taken',
  async () => {
    using wired = wiredHost()
    using container = freshNamespace('container')
    const prevResult = { interfaces: [{ name: wired.master }], ...dualStack, dns: { domain: 'previous' } }
    await using attachment = await attach(ipvlan, callFor(container, undefined, { prevResult }))
    expect(attachment.result).toEqual({
      cniVersion: '1.1.0',
      interfaces: [{ name: 'eth0', mac: wired.host.link(wired.master).address, sandbox: container.path }],
      ips: dualStack.ips.map(ip => ({ ...ip, interface: 0 })),
      routes: dualStack.routes,
    })
    expect(container.addresses('eth0')).toEqual(dualStack.ips.map(({ address }) => address))
    await mustCall(ipvlan, 'CHECK', callFor(container, undefined, { prevResult: attachment.result }))
  },
)

testOn(['ipvlan'], 'a failing IPAM plugin, and a route that leads nowhere, leave nothing', async () => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const before = watch(container)
  for (const pool of [
    ipamWith(dualStack, ['ADD']),
    ipamWith({}),
    ipamWith({ ...dualStack, routes: [{ dst: '10.9.0.0/16', gw: '10.8.0.1' }] }),
  ]) {
    const { status } = await call(ipvlan, 'ADD', callFor(container, pool, { master: wired.master }))
    expect({ ...before.left(), held: pool.held.size, status }).toEqual({ ...nothing, held: 0, status: 1 })
  }
})

testOn(
  ['ipvlan'],
  'a second ADD for a live attachment is refused, and what a killed one left is cleared away',
  async () => {
    using wired = wiredHost()
    using container = freshNamespace('container')
    const pool = ipamWith(dualStack)
    const request = callFor(container, pool, { master: wired.master })
    await mustCall(ipvlan, 'ADD', request)
    const { json } = await call(ipvlan, 'ADD', request)
    expect(json.msg).toBe(`interface eth0 already exists in ${container.path}`)
    expect(pool.calls).toEqual(['ADD'])
    setLink(container.route, 'eth0', { group: 0x43544e41 }) // as it is until ADD has come to its end
    await using _attachment = await attach(ipvlan, request)
    expect(pool.calls).toEqual(['ADD', 'DEL', 'ADD'])
  },
)

testOn(['ipvlan'], 'DEL is done whatever became of namespace, master and configuration, twice', async () => {
  const changes: ((container: Namespace, wired: Wired) => Call)[] = [
    () => ({ netns: undefined }),
    () => ({ netns: '/run/netns/gone' }),
    (_, { host, master }) => {
      removeLink(host.route, master)
      return {}
    },
  ]
  for (const change of changes) {
    using wired = wiredHost()
    using container = freshNamespace('container')
    const pool = ipamWith(dualStack)
    await mustCall(ipvlan, 'ADD', callFor(container, pool, { master: wired.master }))
    const request = { ...callFor(container, pool, { mode: 'l9' }), ...change(container, wired) }
    await mustCall(ipvlan, 'DEL', request)
    await mustCall(ipvlan, 'DEL', request)
    expect(pool.held.size).toBe(0)
  }
})

const damages: Damage[] = [
  ...commonDamages.filter(({ name }) => name !== 'another hardware address'), // it is the master's
  {
    name: 'another MTU',
    harm: container => setLink(container.route, 'eth0', { mtu: 1300 }),
    message: 'mtu: interface eth0 has MTU 1300, not 1400',
  },
  {
    name: 'another mode',
    harm: container => container.run('ip', 'link', 'set', 'eth0', 'type', 'ipvlan', 'mode', 'l3'),
    message: 'mode: Container IPVlan mode l3 does not match expected value: l2',
  },
  {
    name: 'another hardware address of the master',
    harm: (_, host) => {
      const master = host.links().find(({ name }) => name.startsWith('phys'))?.name ?? ''
      setLink(host.route, master, { address: '02:00:00:00:00:99' })
    },
    message: "doesn't match container Mac: 02:00:00:00:00:99",
  },
]

for (const { name, harm, message } of damages) {
  testOn(['ipvlan'], `CHECK finds nothing wrong after ADD, and ${name}`, async () => {
    using wired = wiredHost()
    using container = freshNamespace('container')
    const pool = ipamWith(dualStack)
    const config = { master: wired.master, mtu: 1400 }
    await using attachment = await attach(ipvlan, callFor(container, pool, config))
    const request = callFor(container, pool, { ...config, prevResult: attachment.result })
    await mustCall(ipvlan, 'CHECK', request)
    harm(container, wired.host)
    const { json } = await call(ipvlan, 'CHECK', request)
    expect(json).toMatchObject({ code: 999, msg: expect.stringContaining(message) })
  })
}

testOn(['ipvlan'], "an mtu below 0 is none: the interface has the master's", async () => {
  using wired = wiredHost()
  for (const mtu of [-1, -100]) {
    using container = freshNamespace('container')
    const pool = ipamWith(dualStack)
    const config = { master: wired.master, mtu }
    await using attachment = await attach(ipvlan, callFor(container, pool, config))
    expect(container.link('eth0').mtu).toBe(wired.host.link(wired.master).mtu)
    await mustCall(ipvlan, 'CHECK', callFor(container, pool, { ...config, prevResult: attachment.result }))
  }
})

testOn(['ipvlan'], 'CHECK notices another master', async () => {
  using wired = wiredHost()
  using other = wiredHost([])
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  await using attachment = await attach(ipvlan, callFor(container, pool, { master: wired.master }))
  const request = callFor(container, pool, { prevResult: attachment.result, master: other.master })
  expect((await call(ipvlan, 'CHECK', request)).json.msg).toMatch(
    /^master: eth0 stands on link \d+, not on phys/,
  )
})

test.each([
  {
    name: 'an unknown mode',
    config: { mode: 'bridge' },
    msg: 'mode: unknown ipvlan mode: "bridge"',
  },
  {
    name: 'a master that is not there',
    config: { master: 'none0' },
    msg: 'master: failed to lookup master "none0": Link not found',
  },
  {
    name: 'an MTU above the master’s',
    config: { mtu: 1501 },
    msg: 'mtu: invalid MTU 1501, must be [0, master MTU(1500)]',
  },
  {
    name: 'no IPAM plugin, and no plugin before',
    config: { ipam: {} },
    msg: 'ipam.type: no plugin name provided',
  },
  {
    name: 'two interfaces of the plugin before',
    config: { master: undefined, prevResult: { interfaces: [{ name: 'one' }, { name: 'two' }] } },
    msg: 'master: chained master failure. PrevResult lacks a single named interface',
  },
])('$name is refused by its key, and nothing is left', async ({ config, msg }) => {
  using wired = wiredHost([])
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  const before = watch(container)
  const { json } = await call(ipvlan, 'ADD', callFor(container, pool, { master: wired.master, ...config }))
  expect(json).toMatchObject({ code: 7, msg })
  expect({ ...before.left(), calls: pool.calls }).toEqual({ ...nothing, calls: [] })
})

testOn(['ipvlan'], 'STATUS tells of a missing master, and goes on to the IPAM plugin', async () => {
  using wired = wiredHost([])
  const pool = ipamWith(dualStack)
  const { json } = await call(ipvlan, 'STATUS', callFor(undefined, pool, { master: 'none0' }))
  expect(json).toMatchObject({ code: 50, msg: 'master: failed to lookup master "none0": Link not found' })
  await mustCall(ipvlan, 'STATUS', callFor(undefined, pool, { master: wired.master }))
  expect(pool.calls).toEqual(['STATUS'])
})

testOn(['ipvlan'], 'the Go plugin checks and takes away what we made, and we what it made', async () => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const goIpam = {
    type: 'static',
    addresses: [{ address: '10.1.0.2/24', gateway: '10.1.0.1' }],
    routes: [{ dst: '0.0.0.0/0' }],
  }
  const config = { type: 'ipvlan', master: wired.master, ipam: goIpam }
  const request = { netns: container, config, path: peers }
  const go = peerExecutable('ipvlan')
  const ourResult = await mustCall(ipvlan, 'ADD', request)
  mustExecute(go, 'CHECK', { ...request, config: { ...config, prevResult: ourResult } })
  mustExecute(go, 'DEL', request)
  const theirResult = mustExecute(go, 'ADD', request)
  expect(theirResult).toEqual(ourResult)
  await mustCall(ipvlan, 'CHECK', { ...request, config: { ...config, prevResult: theirResult } })
  await mustCall(ipvlan, 'DEL', request)
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
})
