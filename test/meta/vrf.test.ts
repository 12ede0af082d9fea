import { describe, expect, test } from 'bun:test'
import { createLink, findLink, removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { addRoute, describeRoute, listRoutes, removeRoute } from '../../chain/linux/netlink/route.ts'
import { addRule, sourceRule } from '../../chain/linux/netlink/rule.ts'
import { vrf } from '../../meta/vrf.ts'
import { getHttp, serveHttp } from '../fixtures/http.ts'
import { connect, freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, call, execute, mustCall, mustExecute, peerExecutable } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'
import { testOn } from '../kernel/features.ts'

/** A container with one interface, whose routes lead over a neighbour. */
function wired() {
  const container = freshNamespace('container')
  const neighbour = freshNamespace('neighbour')
  connect(
    { namespace: container, name: 'eth0', addresses: ['10.1.0.2/24', 'fd00:1::2/64'] },
    {
      namespace: neighbour,
      name: 'eth0',
      addresses: ['10.1.0.1/24', 'fd00:1::1/64', '192.0.2.9/32', '2001:db8::9/128'],
    },
  )
  const link = container.link('eth0').index
  addRoute(container.route, { destination: '0.0.0.0', prefixLength: 0, gateway: '10.1.0.1', link })
  addRoute(container.route, { destination: '2001:db8::', prefixLength: 32, gateway: 'fd00:1::1', link })
  return {
    container,
    neighbour,
    [Symbol.dispose]() {
      container[Symbol.dispose]()
      neighbour[Symbol.dispose]()
    },
  }
}

function callFor(container: Namespace, config: object = {}, more: Call = {}): Call {
  const { interface: name = 'eth0' } = more
  const prevResult = {
    cniVersion: '1.1.0',
    interfaces: [{ name, sandbox: container.path }],
    ips: [{ address: '10.1.0.2/24', interface: 0 }],
  }
  return { netns: container, ...more, config: { vrfname: 'blue', prevResult, ...config } }
}

const tableOf = (container: Namespace, table: number, name = 'eth0') =>
  listRoutes(container.route, { table, link: container.link(name).index })
    .filter(({ destination, type }) => type === 1 && !/^f[ef]/.test(destination)) // RTN_UNICAST
    .map(describeRoute)
    .sort()

const allRoutes = ['10.1.0.0/24', '2001:db8::/32 via fd00:1::1', 'default via 10.1.0.1', 'fd00:1::/64']

testOn(['vrf'], 'ADD makes the VRF, and addresses and routes come along', async () => {
  using net = wired()
  const { container } = net
  const { interfaces } = await mustCall(vrf, 'ADD', callFor(container))
  expect(interfaces).toEqual([{ name: 'eth0', sandbox: container.path }])
  const { data, index, kind, up } = container.link('blue')
  expect({ data, kind, up }).toEqual({ data: { table: 1 }, kind: 'vrf', up: true })
  expect(container.link('eth0').master).toBe(index)
  expect(container.addresses('eth0').sort()).toEqual(['10.1.0.2/24', 'fd00:1::2/64'])
  expect(tableOf(container, 1)).toEqual(allRoutes)
  expect(container.routes()).toEqual([])
  await mustCall(vrf, 'CHECK', callFor(container))
})

testOn(
  ['vrf'],
  'packets of both families get through in the VRF, and from the VRF over its routes',
  async () => {
    using net = wired()
    await mustCall(vrf, 'ADD', callFor(net.container))
    for (const key of ['net/ipv4/udp_l3mdev_accept', 'net/ipv4/tcp_l3mdev_accept'])
      net.container.setSysctl(key, '1')
    for (const [inside, from, near, length] of [
      ['10.1.0.2', '192.0.2.9', '10.1.0.0', 24],
      ['fd00:1::2', '2001:db8::9', 'fd00:1::', 64],
    ] as const) {
      const link = net.neighbour.link('eth0').index
      const priority = length === 64 ? { priority: 256 } : {}
      addRoute(
        net.neighbour.route,
        { destination: near, prefixLength: length, link, source: from, ...priority },
        'replace',
      )
      using _server = serveHttp(net.container, { port: 80 })
      expect(await getHttp(net.neighbour, { address: inside, port: 80 })).toBe(from)
    }
  },
)

testOn(['vrf'], 'IPv6 addresses that the kernel drops when the master changes are put back', async () => {
  using net = wired()
  net.container.setSysctl('net/ipv6/conf/eth0/keep_addr_on_down', '0')
  await mustCall(vrf, 'ADD', callFor(net.container))
  expect(net.container.addresses('eth0')).toContain('fd00:1::2/64')
  expect(tableOf(net.container, 1)).toEqual(allRoutes)
})

testOn(['vrf'], 'a second interface joins; the VRF goes with the last one', async () => {
  using net = wired()
  const { container, neighbour } = net
  connect(
    { namespace: container, name: 'net1', addresses: ['10.2.0.2/24'] },
    { namespace: neighbour, name: 'net1' },
  )
  const second = callFor(container, {}, { interface: 'net1' })
  await mustCall(vrf, 'ADD', callFor(container))
  await mustCall(vrf, 'ADD', second)
  expect(tableOf(container, 1, 'net1')).toEqual(['10.2.0.0/24'])
  await mustCall(vrf, 'DEL', callFor(container))
  expect(container.link('eth0').master).toBeUndefined()
  await mustCall(vrf, 'CHECK', second)
  await mustCall(vrf, 'DEL', second)
  expect(findLink(container.route, 'blue')).toBeUndefined()
})

testOn(['vrf'], 'the table is the first that no VRF, rule or route uses, nor the kernel', async () => {
  using net = wired()
  const { route } = net.container
  createLink(route, { name: 'red', kind: { type: 'vrf', table: 1 } })
  addRule(route, sourceRule('10.9.9.9', 2))
  addRoute(route, {
    destination: '10.8.0.0',
    prefixLength: 16,
    link: net.container.link('eth0').index,
    table: 3,
  })
  for (let table = 4; table < 253; table++) addRule(route, sourceRule('10.9.9.9', table))
  await mustCall(vrf, 'ADD', callFor(net.container, { table: 0 }))
  expect(net.container.link('blue').data.table).toBe(256)
})

testOn(['vrf'], 'a table that is named is taken, and must be the VRF’s when that is there', async () => {
  using net = wired()
  await mustCall(vrf, 'ADD', callFor(net.container, { table: 4242 }))
  expect(tableOf(net.container, 4242)).toEqual(allRoutes)
  await mustCall(vrf, 'ADD', callFor(net.container, { table: 4242 })) // a retry
  const before = snapshot(net.container)
  for (const verb of ['ADD', 'CHECK'] as const) {
    const { json } = await call(vrf, verb, callFor(net.container, { table: 4243 }))
    expect(json).toMatchObject({
      code: 999,
      msg: 'VRF blue already exist with different routing table 4242, not 4243',
    })
  }
  expect(difference(before, snapshot(net.container))).toEqual({ added: [], gone: [] })
})

testOn(['vrf'], 'two interfaces at once share the VRF', async () => {
  using net = wired()
  connect({ namespace: net.container, name: 'net1' }, { namespace: net.neighbour, name: 'net1' })
  await Promise.all(
    ['eth0', 'net1'].map(name => mustCall(vrf, 'ADD', callFor(net.container, {}, { interface: name }))),
  )
  const { index } = net.container.link('blue')
  expect(['eth0', 'net1'].map(name => net.container.link(name).master)).toEqual([index, index])
})

testOn(['vrf'], 'ADD refuses an interface that has a master, and a name that is no VRF’s', async () => {
  using net = wired()
  const { container } = net
  createLink(container.route, { name: 'red', up: true, kind: { type: 'vrf', table: 9 } })
  setLink(container.route, 'eth0', { master: container.link('red').index })
  const before = snapshot(container)
  expect((await call(vrf, 'ADD', callFor(container))).json).toMatchObject({
    code: 999,
    msg: 'interface eth0 has already a master set: red',
  })
  expect((await call(vrf, 'ADD', callFor(container, { vrfname: 'lo' }))).json).toMatchObject({
    code: 999,
    msg: 'Netlink lo is not a VRF: it is a device',
  })
  expect(difference(before, snapshot(container))).toEqual({ added: [], gone: [] })
})

testOn(['vrf'], 'a failed ADD takes the interface out of the VRF again, with its routes', async () => {
  using net = wired()
  const { container } = net
  const link = container.link('eth0').index
  const bridgehead = { destination: '10.7.7.7', prefixLength: 32, link }
  const stranded = { destination: '10.98.0.0', prefixLength: 16, gateway: '10.7.7.7', link }
  const before = {
    routes: container.routes().map(describeRoute).sort(),
    addresses: container.addresses('eth0').sort(),
  }
  addRoute(container.route, bridgehead)
  addRoute(container.route, stranded)
  removeRoute(container.route, bridgehead) // it is impossible to add `stranded` any more
  const { json } = await call(vrf, 'ADD', callFor(container))
  expect(json).toMatchObject({
    code: 999,
    msg: expect.stringContaining('add route 10.98.0.0/16 via 10.7.7.7'),
  })
  expect(json.details).toContain('could not take eth0 out of blue: add route 10.98.0.0/16')
  expect(findLink(container.route, 'blue')).toBeUndefined()
  expect(container.link('eth0').master).toBeUndefined()
  expect({
    routes: container.routes().map(describeRoute).sort(),
    addresses: container.addresses('eth0').sort(),
  }).toEqual(before)
})

testOn(['vrf'], 'routes on the link, and those over gateways that they lead to, come along', async () => {
  using net = wired()
  const { container } = net
  const link = container.link('eth0').index
  addRoute(container.route, { destination: '169.254.1.1', prefixLength: 32, link })
  addRoute(container.route, { destination: '10.98.0.0', prefixLength: 16, gateway: '169.254.1.1', link })
  await mustCall(vrf, 'ADD', callFor(container))
  expect(tableOf(container, 1)).toEqual(
    [...allRoutes, '10.98.0.0/16 via 169.254.1.1', '169.254.1.1/32'].sort(),
  )
})

testOn(['vrf'], 'CHECK notices what has changed', async () => {
  using net = wired()
  const { container } = net
  const check = async (change: object = {}) => (await call(vrf, 'CHECK', callFor(container, change))).json.msg
  await mustCall(vrf, 'ADD', callFor(container))
  setLink(container.route, 'blue', { up: false })
  expect(await check()).toBe('VRF blue is down')
  setLink(container.route, 'eth0', { master: 0 })
  expect(await check()).toBe('failed to find eth0 associated to vrf blue')
  expect(await check({ vrfname: 'lo' })).toBe('Netlink lo is not a VRF: it is a device')
  removeLink(container.route, 'blue')
  expect(await check()).toBe('Link not found: VRF blue is gone')
})

testOn(['vrf'], 'DEL finds half of it gone', async () => {
  using net = wired()
  const { container } = net
  const request = callFor(container)
  await mustCall(vrf, 'ADD', request)
  setLink(container.route, 'eth0', { master: 0 })
  await mustCall(vrf, 'DEL', request)
  expect(findLink(container.route, 'blue')).toBeUndefined()
  await mustCall(vrf, 'ADD', request)
  removeLink(container.route, 'eth0') // where the Go plugin fails
  await mustCall(vrf, 'DEL', request)
  expect(findLink(container.route, 'blue')).toBeUndefined()
  await mustCall(vrf, 'DEL', request)
})

testOn(
  ['vrf'],
  'the Go plugin leaves the kernel in the same state; either checks and removes what the other added',
  async () => {
    const peer = peerExecutable('vrf')
    using one = wired()
    using other = wired()
    await mustCall(vrf, 'ADD', callFor(one.container))
    mustExecute(peer, 'ADD', callFor(other.container))
    const view = ({ container }: typeof one) => [
      tableOf(container, 1),
      container.link('blue').data,
      container.addresses('eth0').sort(),
    ]
    expect(view(one)).toEqual(view(other))
    await mustCall(vrf, 'CHECK', callFor(other.container))
    mustExecute(peer, 'CHECK', callFor(one.container))
    await mustCall(vrf, 'DEL', callFor(other.container))
    mustExecute(peer, 'DEL', callFor(one.container))
    expect([one, other].map(({ container }) => findLink(container.route, 'blue'))).toEqual([
      undefined,
      undefined,
    ])
  },
)

testOn(['vrf'], 'STATUS is content with a kernel that has VRF devices', async () => {
  await mustCall(vrf, 'STATUS')
})

test('where the kernel has no VRF devices, ADD and STATUS say the same, and nothing is left', async () => {
  using net = wired()
  const before = snapshot(net.container)
  const add = await call(vrf, 'ADD', callFor(net.container))
  const status = await call(vrf, 'STATUS')
  expect(status.status).toBe(add.status)
  if (add.status === 0) return void (await mustCall(vrf, 'DEL', callFor(net.container)))
  expect(status.json).toMatchObject({
    code: 50,
    msg: "this node's kernel does not provide VRF devices (CONFIG_NET_VRF)",
  })
  expect(add.json.code).toBe(50)
  expect(add.json.msg).toContain('the kernel has no vrf links')
  expect(difference(before, snapshot(net.container))).toEqual({ added: [], gone: [] })
})

test.each([{ netns: '/run/netns/gone' }, { netns: undefined }])(
  'DEL succeeds with $netns, twice',
  async call => {
    await mustCall(vrf, 'DEL', { ...call, config: { vrfname: 'blue' } })
    await mustCall(vrf, 'DEL', { ...call, config: {} })
  },
)

test('DEL leaves a link of that name that is no VRF', async () => {
  using net = wired()
  const { status } = execute(peerExecutable('vrf'), 'DEL', callFor(net.container))
  await mustCall(vrf, 'DEL', callFor(net.container))
  await mustCall(vrf, 'DEL', callFor(net.container, { vrfname: 'eth0' }))
  expect([status, net.container.link('eth0').up]).toEqual([0, true])
})

describe('refused before anything is touched', () => {
  const valid = 'vrfname: configuration is expected to have a valid vrf name, because'
  test.each([
    [{ vrfname: '' }, { code: 7, msg: `${valid} the VRF is a link: got ""` }],
    [{ vrfname: null }, { code: 7, msg: `${valid} the VRF is a link: got ""` }],
    [{ vrfname: 7 }, { code: 7, msg: 'vrfname: must be a string: got 7' }],
    [
      { vrfname: 'a/b' },
      { code: 7, msg: `${valid} interface name contains / or : or whitespace characters: got "a/b"` },
    ],
    [
      { vrfname: 'sixteen-letters-' },
      { code: 7, msg: `${valid} interface name is too long: got "sixteen-letters-"` },
    ],
    [
      { vrfname: 'eth0' },
      { code: 7, msg: `${valid} it is the name of the interface that goes into the VRF: got "eth0"` },
    ],
    [{ table: -1 }, { code: 7, msg: 'table: must be at least 0: got -1' }],
    [{ table: 2 ** 32 }, { code: 7, msg: 'table: must be at most 4294967295: got 4294967296' }],
    [
      { table: 254 },
      {
        code: 7,
        msg: 'table: must not be 253, 254 or 255, because these are the default, main and local table: got 254',
      },
    ],
    [
      { prevResult: null },
      {
        code: 7,
        msg: 'prevResult: vrf: Required prevResult missing: This plugin must be called as chained plugin, missing prevResult from earlier plugin',
      },
    ],
    [{ cniVersion: '0.3.0' }, { code: 1, msg: 'incompatible CNI versions' }],
  ])('%j', async (config, expected) => {
    using net = wired()
    const before = snapshot(net.container)
    const { json } = await call(vrf, 'ADD', callFor(net.container, config))
    expect(json).toMatchObject(expected)
    expect(difference(before, snapshot(net.container))).toEqual({ added: [], gone: [] })
  })
})
