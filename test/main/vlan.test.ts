import { expect, test } from 'bun:test'
import { createLink, removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { vlan } from '../../main/vlan.ts'
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

const callFor = callsOf({ type: 'vlan', vlanId: 7 })

/** A neighbour that takes part in VLAN 7 only. */
function taggedNeighbour(): Wired {
  const wired = wiredHost([])
  const { neighbour } = wired
  neighbour.createLink(
    { name: 'tagged', kind: { type: 'vlan', id: 7 }, parent: neighbour.link('eth0').index },
    '10.1.0.1/24',
    'fd00:1::1/64',
  )
  return wired
}

testOn(
  ['vlan'],
  'a container reaches a neighbour of its VLAN over both families, and DEL leaves nothing',
  async () => {
    using wired = taggedNeighbour()
    using container = freshNamespace('container')
    const pool = ipamWith(dualStack)
    const before = watch(container)
    {
      await using attachment = await attach(vlan, callFor(container, pool, { master: wired.master }))
      using _server = serveHttp(wired.neighbour, { port: 80 })
      expect(await getHttp(container, { address: '10.1.0.1', port: 80 })).toBe('10.1.0.2')
      expect(await getHttp(container, { address: 'fd00:1::1', port: 80 })).toBe('fd00:1::2')
      expect(attachment.result).toEqual({
        cniVersion: '1.1.0',
        interfaces: [{ name: 'eth0', mac: container.link('eth0').address, sandbox: container.path }],
        ips: dualStack.ips.map(ip => ({ ...ip, interface: 0 })),
        routes: dualStack.routes,
      })
      expect(container.link('eth0')).toMatchObject({ group: 0, data: { vlan: 7, vlanProtocol: 0x8100 } })
    }
    expect({ ...before.left(), held: pool.held.size }).toEqual({ ...nothing, held: 0 })
  },
)

testOn(['vlan'], 'a container of another VLAN reaches no other', async () => {
  using wired = taggedNeighbour()
  using container = freshNamespace('container')
  const config = { master: wired.master, vlanId: 8 }
  await using _attachment = await attach(vlan, callFor(container, ipamWith(dualStack), config))
  using _server = serveHttp(wired.neighbour, { port: 80 })
  await expect(getHttp(container, { address: '10.1.0.1', port: 80 }, 1000)).rejects.toThrow()
})

testOn(['vlan'], 'a host with a link of the same name is no obstacle, and keeps it', async () => {
  using wired = taggedNeighbour()
  using container = freshNamespace('container')
  createLink(wired.host.route, { name: 'eth0', kind: { type: 'bridge' } })
  try {
    const before = watch()
    const request = callFor(container, ipamWith(dualStack), { master: wired.master })
    const result = await mustCall(vlan, 'ADD', request)
    expect(container.links().map(({ name, group }) => `${name} ${group}`)).toEqual(['lo 0', 'eth0 0'])
    await mustCall(vlan, 'CHECK', {
      ...request,
      config: { ...(request.config as object), prevResult: result },
    })
    const { json } = await call(vlan, 'ADD', request)
    expect(json.msg).toBe(`interface eth0 already exists in ${container.path}`)
    await mustCall(vlan, 'DEL', request)
    expect(before.left()).toEqual(nothing)
  } finally {
    removeLink(wired.host.route, 'eth0')
  }
})

testOn(['vlan'], 'linkInContainer: the master is the container’s own', async () => {
  using container = freshNamespace('container')
  container.createLink({ name: 'inner0', kind: { type: 'veth', peer: { name: 'inner1' } }, mtu: 1400 })
  const pool = ipamWith({ ips: [{ address: '10.1.0.2/24' }] })
  const config = { master: 'inner0', linkInContainer: true }
  await using attachment = await attach(vlan, callFor(container, pool, config))
  expect(container.link('eth0')).toMatchObject({ parent: container.link('inner0').index, mtu: 1400 })
  await mustCall(vlan, 'CHECK', callFor(container, pool, { ...config, prevResult: attachment.result }))
})

testOn(['vlan'], 'without ipam there is a link, up and without addresses', async () => {
  using wired = taggedNeighbour()
  using container = freshNamespace('container')
  await using attachment = await attach(vlan, callFor(container, undefined, { master: wired.master }))
  expect(container.link('eth0').up).toBe(true)
  expect(attachment.result.ips).toBeUndefined()
})

testOn(
  ['vlan'],
  'a VLAN that is used on the master already is refused by its key, on the host or in a container',
  async () => {
    using wired = taggedNeighbour()
    using one = freshNamespace('one')
    using other = freshNamespace('other')
    const pool = ipamWith(dualStack)
    await using _attachment = await attach(vlan, callFor(one, undefined, { master: wired.master }))
    const parent = wired.host.link(wired.master).index
    createLink(wired.host.route, { name: 'tagged8', kind: { type: 'vlan', id: 8 }, parent })
    const before = watch(one, other)
    for (const vlanId of [7, 8]) {
      const request = callFor(other, pool, { master: wired.master, vlanId }, { containerId: 'container-2' })
      const { json } = await call(vlan, 'ADD', request)
      expect(json).toMatchObject({
        code: 7,
        msg: `vlanId: VLAN ${vlanId} is already used on ${wired.master}`,
      })
    }
    expect({ ...before.left(), calls: pool.calls }).toEqual({ ...nothing, calls: [] })
  },
)

testOn(['vlan'], 'a master that is down is named as the reason, and nothing is left', async () => {
  using wired = taggedNeighbour()
  using container = freshNamespace('container')
  setLink(wired.host.route, wired.master, { up: false })
  const pool = ipamWith(dualStack)
  const before = watch(container)
  const { json } = await call(vlan, 'ADD', callFor(container, pool, { master: wired.master }))
  const msg = `master: ${wired.master} is down, so nothing that stands on it can come up`
  expect(json).toMatchObject({ code: 999, msg })
  expect({ ...before.left(), held: pool.held.size }).toEqual({ ...nothing, held: 0 })
})

testOn(['vlan'], 'a failing IPAM plugin, and a route that leads nowhere, leave nothing', async () => {
  using wired = taggedNeighbour()
  using container = freshNamespace('container')
  const before = watch(container)
  for (const pool of [
    ipamWith(dualStack, ['ADD']),
    ipamWith({}),
    ipamWith({ ...dualStack, routes: [{ dst: '10.9.0.0/16', gw: '10.8.0.1' }] }),
  ]) {
    const { status } = await call(vlan, 'ADD', callFor(container, pool, { master: wired.master }))
    expect({ ...before.left(), held: pool.held.size, status }).toEqual({ ...nothing, held: 0, status: 1 })
  }
})

testOn(['vlan'], 'what a killed ADD left is cleared away by the next one, with its addresses', async () => {
  using wired = taggedNeighbour()
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  const request = callFor(container, pool, { master: wired.master })
  await mustCall(vlan, 'ADD', request)
  setLink(container.route, 'eth0', { group: 0x43544e41 }) // as it is until ADD has come to its end
  await using _attachment = await attach(vlan, request)
  expect(pool.calls).toEqual(['ADD', 'DEL', 'ADD'])
})

testOn(['vlan'], 'DEL is done whatever became of namespace, master and configuration, twice', async () => {
  const changes: ((container: Namespace, wired: Wired) => Call)[] = [
    () => ({ netns: undefined }),
    () => ({ netns: '/run/netns/gone' }),
    (_, { host, master }) => {
      removeLink(host.route, master)
      return {}
    },
  ]
  for (const change of changes) {
    using wired = taggedNeighbour()
    using container = freshNamespace('container')
    const pool = ipamWith(dualStack)
    await mustCall(vlan, 'ADD', callFor(container, pool, { master: wired.master }))
    const request = {
      ...callFor(container, pool, { master: 'none0', vlanId: 9999 }),
      ...change(container, wired),
    }
    await mustCall(vlan, 'DEL', request)
    await mustCall(vlan, 'DEL', request)
    expect(pool.held.size).toBe(0)
  }
})

const damages: Damage[] = [
  ...commonDamages,
  {
    name: 'another MTU',
    harm: container => setLink(container.route, 'eth0', { mtu: 1300 }),
    message: 'mtu: interface eth0 has MTU 1300, not 1400',
  },
  {
    name: 'another VLAN',
    harm: (container, host) => replaceBy(container, host, 9),
    message: 'vlanId: eth0 belongs to VLAN 9, not 7',
  },
  {
    name: 'a bridge in its place',
    harm: container => {
      removeLink(container.route, 'eth0')
      createLink(container.route, { name: 'eth0', kind: { type: 'bridge' } })
    },
    message: 'Error: Container interface eth0 not of type vlan: it is a bridge',
  },
]

/** Puts another VLAN of the same master in the place of eth0, alike in everything else. */
function replaceBy(container: Namespace, host: Namespace, id: number): void {
  const { address } = container.link('eth0')
  removeLink(container.route, 'eth0')
  const master = host.links().find(({ name }) => name.startsWith('phys'))?.name ?? ''
  host.run('ip', 'link', 'add', 'link', master, 'name', 'moved', 'type', 'vlan', 'id', String(id))
  host.run('ip', 'link', 'set', 'moved', 'netns', container.name)
  setLink(container.route, container.link('moved').index, { name: 'eth0', address, mtu: 1400 })
  setLink(container.route, 'eth0', { up: true })
  for (const { address } of dualStack.ips) container.addAddress('eth0', address)
  container.run('ip', 'route', 'add', 'default', 'via', '10.1.0.1')
  container.run('ip', 'route', 'add', 'default', 'via', 'fd00:1::1')
}

for (const { name, harm, message } of damages) {
  testOn(['vlan'], `CHECK finds nothing wrong after ADD, and ${name}`, async () => {
    using wired = taggedNeighbour()
    using container = freshNamespace('container')
    const pool = ipamWith(dualStack)
    const config = { master: wired.master, mtu: 1400 }
    await using attachment = await attach(vlan, callFor(container, pool, config))
    const request = callFor(container, pool, { ...config, prevResult: attachment.result })
    await mustCall(vlan, 'CHECK', request)
    harm(container, wired.host)
    const { json } = await call(vlan, 'CHECK', request)
    expect(json).toMatchObject({ code: 999, msg: expect.stringContaining(message) })
  })
}

testOn(['vlan'], 'CHECK notices another master, and one in another place', async () => {
  using wired = taggedNeighbour()
  using other = wiredHost([])
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  await using attachment = await attach(vlan, callFor(container, pool, { master: wired.master }))
  const check = async (config: object) => {
    const request = callFor(container, pool, { prevResult: attachment.result, ...config })
    return (await call(vlan, 'CHECK', request)).json?.msg
  }
  expect(await check({ master: wired.master })).toBeUndefined()
  expect(await check({ master: other.master })).toMatch(/^master: eth0 stands on link \d+, not on phys/)
  expect(await check({ master: 'eth0', linkInContainer: true })).toMatch(
    /^master: eth0 does not stand on a link/,
  )
})

test.each([
  {
    name: 'no master',
    config: { master: undefined },
    msg: 'master: "master" field is required. It specifies the host interface name to create the VLAN for',
  },
  {
    name: 'a master that is not there',
    config: { master: 'none0' },
    msg: 'master: failed to lookup master "none0": Link not found',
  },
  {
    name: 'a VLAN ID below 0',
    config: { vlanId: -1 },
    msg: 'vlanId: invalid VLAN ID -1 (must be between 0 and 4095 inclusive), of which 4095 is reserved',
  },
  {
    name: 'a VLAN ID above 4094',
    config: { vlanId: 4095 },
    msg: 'vlanId: invalid VLAN ID 4095 (must be between 0 and 4095 inclusive), of which 4095 is reserved',
  },
  {
    name: 'an MTU above the master’s',
    config: { mtu: 1501 },
    msg: 'mtu: invalid MTU 1501, must be [0, master MTU(1500)]',
  },
])('$name is refused by its key, and nothing is left', async ({ config, msg }) => {
  using wired = wiredHost([])
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  const before = watch(container)
  const { json } = await call(vlan, 'ADD', callFor(container, pool, { master: wired.master, ...config }))
  expect(json).toMatchObject({ code: 7, msg })
  expect({ ...before.left(), calls: pool.calls }).toEqual({ ...nothing, calls: [] })
})

testOn(['vlan'], 'STATUS tells of a missing master, and goes on to the IPAM plugin', async () => {
  using wired = wiredHost([])
  const pool = ipamWith(dualStack)
  const { json } = await call(vlan, 'STATUS', callFor(undefined, pool, { master: 'none0' }))
  expect(json).toMatchObject({ code: 50, msg: 'master: failed to lookup master "none0": Link not found' })
  await mustCall(vlan, 'STATUS', callFor(undefined, pool, { master: wired.master }))
  expect(pool.calls).toEqual(['STATUS'])
})

testOn(['vlan'], 'the Go plugin checks and takes away what we made, and we what it made', async () => {
  using wired = taggedNeighbour()
  using container = freshNamespace('container')
  const goIpam = {
    type: 'static',
    addresses: [{ address: '10.1.0.2/24', gateway: '10.1.0.1' }],
    routes: [{ dst: '0.0.0.0/0' }],
  }
  const config = { type: 'vlan', master: wired.master, vlanId: 7, ipam: goIpam }
  const request = { netns: container, config, path: peers }
  const go = peerExecutable('vlan')
  const ourResult = await mustCall(vlan, 'ADD', request)
  mustExecute(go, 'CHECK', { ...request, config: { ...config, prevResult: ourResult } })
  mustExecute(go, 'DEL', request)
  const theirResult = mustExecute(go, 'ADD', request)
  expect(theirResult).toEqual(ourResult)
  await mustCall(vlan, 'CHECK', { ...request, config: { ...config, prevResult: theirResult } })
  await mustCall(vlan, 'DEL', request)
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
})
