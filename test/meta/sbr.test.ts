import { describe, expect, test } from 'bun:test'
import { existsSync, writeFileSync } from 'node:fs'
import { removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { addRoute, describeRoute, listRoutes, type Route } from '../../chain/linux/netlink/route.ts'
import { addRule, describeRule, listRules, removeRule, sourceRule } from '../../chain/linux/netlink/rule.ts'
import { sbr } from '../../meta/sbr.ts'
import { askUdp, serveUdp } from '../fixtures/http.ts'
import { connect, freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, call, mustCall, mustExecute, peerExecutable } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'

/** A container with two networks, each with a router: eth0 has the default routes, net1 is what sbr is asked for. */
function twoNetworks() {
  const container = freshNamespace('container')
  const first = freshNamespace('first')
  const second = freshNamespace('second')
  connect(
    { namespace: container, name: 'eth0', addresses: ['10.0.0.2/24', 'fd00:0::2/64'] },
    { namespace: first, name: 'eth0', addresses: ['10.0.0.1/24', 'fd00:0::1/64'] },
  )
  connect(
    { namespace: container, name: 'net1', addresses: ['10.1.0.2/24', 'fd00:1::2/64'] },
    { namespace: second, name: 'eth0', addresses: ['10.1.0.1/24', 'fd00:1::1/64'] },
  )
  const link = (name: string) => container.link(name).index
  addRoute(container.route, {
    destination: '0.0.0.0',
    prefixLength: 0,
    gateway: '10.0.0.1',
    link: link('eth0'),
  })
  addRoute(container.route, { destination: '::', prefixLength: 0, gateway: 'fd00::1', link: link('eth0') })
  return {
    container,
    first,
    second,
    net1: link('net1'),
    [Symbol.dispose]() {
      for (const namespace of [container, first, second]) namespace[Symbol.dispose]()
    },
  }
}

const gateways = { 4: '10.1.0.1', 6: 'fd00:1::1' }

function callFor(
  container: Namespace,
  config: object = {},
  gateway: Partial<typeof gateways> = gateways,
): Call {
  const prevResult = {
    cniVersion: '1.1.0',
    interfaces: [
      { name: 'eth0', sandbox: container.path },
      { name: 'net1', sandbox: container.path },
    ],
    ips: [
      { address: '10.0.0.2/24', interface: 0 },
      { address: '10.1.0.2/24', interface: 1, ...(gateway[4] ? { gateway: gateway[4] } : {}) },
      { address: 'fd00:1::2/64', interface: 1, ...(gateway[6] ? { gateway: gateway[6] } : {}) },
    ],
  }
  return { netns: container, interface: 'net1', config: { prevResult, ...config } }
}

/** Rules that are not the kernel's own. */
const rulesOf = ({ route }: Namespace) =>
  listRules(route)
    .filter(({ source }) => source)
    .map(describeRule)

/** Routes of a table over net1: "default via 10.1.0.1". */
const tableOf = (container: Namespace, table: number, link: number) =>
  listRoutes(container.route, { table, link })
    .filter(({ destination }) => !destination.startsWith('ff'))
    .map(describeRoute)
    .sort()

const views = (container: Namespace, link: number) => ({
  rules: rulesOf(container),
  100: tableOf(container, 100, link),
  101: tableOf(container, 101, link),
  main: container
    .routes()
    .filter(route => route.link === link)
    .map(describeRoute)
    .sort(),
})

const separated = {
  rules: ['from 10.1.0.2/32 lookup 100', 'from fd00:1::2/128 lookup 101'],
  100: ['10.1.0.0/24', 'default via 10.1.0.1'],
  101: ['default via fd00:1::1', 'fd00:1::/64', 'fe80::/64'],
  main: [],
}

test('each address has a table of its own, with its routes, and the main table has none of the interface', async () => {
  using net = twoNetworks()
  const others = net.container.routes().filter(({ link }) => link !== net.net1)
  await mustCall(sbr, 'ADD', callFor(net.container))
  expect(views(net.container, net.net1)).toEqual(separated)
  expect(net.container.routes().filter(({ link }) => link !== net.net1)).toEqual(others)
  await mustCall(sbr, 'CHECK', callFor(net.container))
})

test.each([
  { family: 'IPv4', inside: '10.1.0.2', from: '192.0.2.9', length: 32, near: '10.1.0.0', nearLength: 24 },
  { family: 'IPv6', inside: 'fd00:1::2', from: '2001:db8::9', length: 128, near: 'fd00:1::', nearLength: 64 },
])(
  '$family answers leave by the interface where the question came in',
  async ({ inside, from, length, near, nearLength }) => {
    using net = twoNetworks()
    const { container, second } = net
    const link = second.link('eth0').index
    const route = { destination: near, prefixLength: nearLength, link, source: from }
    using _server = await serveUdp(container, { port: 7, address: inside })
    const ask = (timeout: number) => askUdp(second, { address: inside, port: 7 }, { timeout })
    await ask(5000) // as a neighbour; now from farther away
    second.addAddress('lo', `${from}/${length}`)
    addRoute(second.route, { ...route, ...(length === 128 ? { priority: 256 } : {}) }, 'replace')
    await expect(ask(300)).rejects.toThrow('no answer') // the default route is the other network's
    await mustCall(sbr, 'ADD', callFor(container))
    expect(await ask(5000)).toBe(`${from} hello`)
  },
)

test('prevResult passes through', async () => {
  using net = twoNetworks()
  const { ips } = await mustCall(sbr, 'ADD', callFor(net.container))
  expect(ips).toHaveLength(3)
})

test('with a table, only rules are added: it is filled already', async () => {
  using net = twoNetworks()
  const before = net.container.routes()
  const request = callFor(net.container, { table: 4242 })
  await mustCall(sbr, 'ADD', request)
  expect(rulesOf(net.container)).toEqual(['from 10.1.0.2/32 lookup 4242', 'from fd00:1::2/128 lookup 4242'])
  expect(net.container.routes()).toEqual(before)
  await mustCall(sbr, 'CHECK', request)
  addRule(net.container.route, sourceRule('10.1.0.2', 77))
  await mustCall(sbr, 'DEL', request)
  expect(rulesOf(net.container)).toEqual(['from 10.1.0.2/32 lookup 77']) // not of that table
})

test('tables that a rule or a route of any table uses are passed over', async () => {
  using net = twoNetworks()
  addRule(net.container.route, sourceRule('10.9.9.9', 100))
  addRoute(net.container.route, { destination: '10.8.0.0', prefixLength: 16, link: net.net1, table: 101 })
  await mustCall(sbr, 'ADD', callFor(net.container))
  expect(rulesOf(net.container)).toContain('from 10.1.0.2/32 lookup 102')
  expect(rulesOf(net.container)).toContain('from fd00:1::2/128 lookup 103')
})

test("the kernel's own tables are passed over", async () => {
  using net = twoNetworks()
  for (let table = 100; table < 253; table++) addRule(net.container.route, sourceRule('10.9.9.9', table))
  await mustCall(sbr, 'ADD', callFor(net.container))
  expect(rulesOf(net.container)).toContain('from 10.1.0.2/32 lookup 256')
})

test('several interfaces at once choose different tables', async () => {
  using net = twoNetworks()
  const { container } = net
  await Promise.all([
    mustCall(sbr, 'ADD', callFor(container)),
    mustCall(sbr, 'ADD', { ...callFor(container), interface: 'eth0' }),
  ])
  const tables = listRules(container.route)
    .filter(({ source }) => source)
    .map(({ table }) => table)
  expect(new Set(tables).size).toBe(3)
})

const far: Route = { destination: '198.51.100.0', prefixLength: 24, gateway: '10.1.0.7' }

test.each([
  { what: 'over a gateway of its network', route: far, expected: { 100: true, 101: false } },
  {
    what: 'over a gateway that a host route leads to',
    route: { ...far, gateway: '169.254.1.1' },
    expected: { 100: true, 101: false },
  },
  {
    what: 'over no gateway',
    route: { destination: '198.51.100.0', prefixLength: 24 },
    expected: { 100: true, 101: false },
  },
  {
    what: 'of the other family',
    route: { destination: '2001:db8:5::', prefixLength: 48, gateway: 'fd00:1::7' },
    expected: { 100: false, 101: true },
  },
  {
    what: 'that is the default one, and the address has no gateway',
    route: { ...far, destination: '0.0.0.0', prefixLength: 0, priority: 9 },
    expected: { 100: true, 101: false },
  },
])('a route $what moves to the table of the address it belongs to', async ({ route, expected }) => {
  using net = twoNetworks()
  const { container, net1 } = net
  if (route.gateway === '169.254.1.1')
    addRoute(container.route, { destination: '169.254.1.1', prefixLength: 32, link: net1 })
  addRoute(container.route, { ...route, link: net1 })
  await mustCall(sbr, 'ADD', callFor(container, {}, { 6: 'fd00:1::1' }))
  const line = describeRoute(route)
  expect({
    100: tableOf(container, 100, net1).includes(line),
    101: tableOf(container, 101, net1).includes(line),
    main: container
      .routes()
      .filter(({ link }) => link === net1)
      .map(describeRoute),
  }).toEqual({ ...expected, main: [] })
})

test('default routes over several gateways move together, those of IPv6 too, which the kernel has merged', async () => {
  using net = twoNetworks()
  const { container, net1 } = net
  addRoute(
    container.route,
    { destination: '::', prefixLength: 0, gateway: 'fd00:1::1', link: net1 },
    'beside',
  )
  addRoute(
    container.route,
    { destination: '::', prefixLength: 0, gateway: 'fd00:1::7', link: net1 },
    'beside',
  )
  await mustCall(sbr, 'ADD', callFor(container))
  expect(tableOf(container, 101, net1)).toEqual([
    'default via fd00:1::1',
    'default via fd00:1::7',
    'fd00:1::/64',
    'fe80::/64',
  ])
  const left = container.routes().map(describeRoute)
  expect(left.filter(line => line.startsWith('default'))).toEqual([
    'default via 10.0.0.1',
    'default via fd00::1',
  ])
  await mustCall(sbr, 'CHECK', callFor(container))
})

test.each([
  { what: 'without gateway', address: '10.1.0.2/32', gateway: {} },
  { what: 'whose gateway is 0.0.0.0', address: '10.1.0.2/32', gateway: { gateway: '0.0.0.0' } },
  { what: 'of IPv6 without gateway', address: 'fd00:1::2/128', gateway: {} },
])(
  'CHECK finds nothing wrong after ADD with an address of its own network $what',
  async ({ address, gateway }) => {
    using container = freshNamespace('container')
    container.createLink({ name: 'net1', kind: { type: 'veth', peer: { name: 'other' } } }, address)
    setLink(container.route, 'other', { up: true })
    const prevResult = { interfaces: [{ name: 'net1' }], ips: [{ address, interface: 0, ...gateway }] }
    const request: Call = { netns: container, interface: 'net1', config: { prevResult } }
    await mustCall(sbr, 'ADD', request)
    await mustCall(sbr, 'CHECK', request)
  },
)

describe('gateways', () => {
  test('take the place of those in prevResult, each in its family', async () => {
    using net = twoNetworks()
    const request = callFor(net.container, { gateways: ['fd00:1::9', '10.1.0.9'] })
    await mustCall(sbr, 'ADD', request)
    const defaults = (table: number) =>
      tableOf(net.container, table, net.net1).filter(line => line.startsWith('default'))
    expect([defaults(100), defaults(101)]).toEqual([['default via 10.1.0.9'], ['default via fd00:1::9']])
    await mustCall(sbr, 'CHECK', request)
  })

  test('of one family leave the other’s as it is', async () => {
    using net = twoNetworks()
    await mustCall(sbr, 'ADD', callFor(net.container, { gateways: ['10.1.0.9'] }))
    expect(tableOf(net.container, 100, net.net1)).toContain('default via 10.1.0.9')
    expect(tableOf(net.container, 101, net.net1)).toContain('default via fd00:1::1')
  })
})

describe('addSourceHints', () => {
  test('what has no source of its own reaches the interface’s network, with its address, over the main table', async () => {
    using net = twoNetworks()
    const { container, net1, second } = net
    const far = { destination: '198.51.100.0', prefixLength: 24, gateway: '10.1.0.7', link: net1 }
    addRoute(container.route, far)
    const request = callFor(container, { addSourceHints: true })
    await mustCall(sbr, 'ADD', request)
    const main = container.routes().filter(({ link }) => link === net1)
    expect(main.map(route => ({ to: describeRoute(route), source: route.source }))).toEqual([
      { to: '10.1.0.0/24', source: '10.1.0.2' },
      { to: 'fd00:1::/64', source: 'fd00:1::2' },
    ])
    expect(views(container, net1)[100]).toEqual([
      '10.1.0.0/24',
      '198.51.100.0/24 via 10.1.0.7',
      'default via 10.1.0.1',
    ])
    for (const address of ['10.1.0.1', 'fd00:1::1']) {
      using _server = await serveUdp(second, { port: 7, address })
      const answer = await askUdp(container, { address, port: 7 }, { timeout: 5000 })
      expect(answer).toBe(`${address === '10.1.0.1' ? '10.1.0.2' : 'fd00:1::2'} hello`)
    }
    await mustCall(sbr, 'CHECK', request)
  })

  test('a failed ADD leaves the routes as they were', async () => {
    using net = twoNetworks()
    const before = snapshot(net.container)
    const config = { addSourceHints: true, gateways: ['fd00:77::1'] }
    expect((await call(sbr, 'ADD', callFor(net.container, config))).status).toBe(1)
    expect(difference(before, snapshot(net.container))).toEqual({ added: [], gone: [] })
  })
})

test('routes of a family in which the interface has no address stay where they are', async () => {
  using net = twoNetworks()
  const { container, net1 } = net
  const request = callFor(container)
  const prevResult = { interfaces: [{ name: 'net1' }], ips: [{ address: '10.1.0.2/24', interface: 0 }] }
  await mustCall(sbr, 'ADD', { ...request, config: { prevResult } })
  expect(views(container, net1)).toMatchObject({ 101: [], main: ['fd00:1::/64'] })
})

test('a failed ADD leaves rules and routes as they were', async () => {
  using net = twoNetworks()
  const before = snapshot(net.container)
  const { json } = await call(sbr, 'ADD', callFor(net.container, {}, { 4: '10.1.0.1', 6: 'fd00:77::1' }))
  expect(json).toMatchObject({ code: 999, msg: expect.stringContaining('add route default via fd00:77::1') })
  expect(difference(before, snapshot(net.container))).toEqual({ added: [], gone: [] })
})

describe('beside the Go plugin', () => {
  const peer = () => peerExecutable('sbr')
  const withoutPriority = (container: Namespace, link: number) => {
    const { rules, ...rest } = views(container, link)
    // the Go plugin copies IPv6 routes without a gateway into IPv4's tables too
    return { rules: rules.sort(), ...rest, 100: rest[100].filter(line => !line.startsWith('f')) }
  }

  test('the kernel has the same afterwards', async () => {
    using one = twoNetworks()
    using other = twoNetworks()
    await mustCall(sbr, 'ADD', callFor(one.container))
    mustExecute(peer(), 'ADD', callFor(other.container))
    expect(withoutPriority(one.container, one.net1)).toEqual(withoutPriority(other.container, other.net1))
    await mustCall(sbr, 'CHECK', callFor(other.container))
  })

  test('either removes what the other added', async () => {
    using net = twoNetworks()
    await mustCall(sbr, 'ADD', callFor(net.container))
    mustExecute(peer(), 'DEL', callFor(net.container))
    expect(rulesOf(net.container)).toEqual([])
    using another = twoNetworks()
    mustExecute(peer(), 'ADD', callFor(another.container))
    await mustCall(sbr, 'DEL', callFor(another.container))
    expect(rulesOf(another.container)).toEqual([])
  })
})

describe('CHECK notices', () => {
  test('that a rule is gone', async () => {
    using net = twoNetworks()
    await mustCall(sbr, 'ADD', callFor(net.container))
    removeRule(net.container.route, sourceRule('fd00:1::2', 101))
    const { json } = await call(sbr, 'CHECK', callFor(net.container))
    expect(json).toMatchObject({ code: 999, msg: 'there is no rule for packets from fd00:1::2' })
  })

  test('that a table is empty', async () => {
    using net = twoNetworks()
    await mustCall(sbr, 'ADD', callFor(net.container))
    setLink(net.container.route, 'net1', { up: false })
    const { json } = await call(sbr, 'CHECK', callFor(net.container))
    expect(json.msg).toStartWith('table 100 for packets from 10.1.0.2 has no route over net1')
  })

  test('that a rule leads to another table than the configured one', async () => {
    using net = twoNetworks()
    await mustCall(sbr, 'ADD', callFor(net.container, { table: 4242 }))
    expect((await call(sbr, 'CHECK', callFor(net.container, { table: 4243 }))).status).toBe(1)
  })
})

describe('DEL', () => {
  test.each([
    { state: 'is gone', netns: '/run/netns/gone' },
    { state: 'was never named', netns: undefined },
    { state: 'is a file that somebody left', netns: '/run/left-over' },
  ])('succeeds where the namespace $state, twice, and creates no file', async ({ netns }) => {
    writeFileSync('/run/left-over', '')
    await mustCall(sbr, 'DEL', { netns, config: {} })
    await mustCall(sbr, 'DEL', { netns, config: {} })
    expect(existsSync('/run/netns/gone')).toBe(false)
  })

  test.each([
    { what: 'without prevResult', change: { config: {} }, before: () => undefined },
    {
      what: 'when the interface is gone',
      change: {},
      before: ({ container }: { container: Namespace }) => removeLink(container.route, 'net1'),
    },
    {
      what: 'when half of the rules are gone',
      change: {},
      before: ({ container }: { container: Namespace }) =>
        removeRule(container.route, sourceRule('10.1.0.2', 100)),
    },
    { what: 'with another configuration', change: { config: { name: 'other' } }, before: () => undefined },
  ])('removes the rules $what, twice, and no others', async ({ change, before }) => {
    using net = twoNetworks()
    addRule(net.container.route, sourceRule('10.9.9.9', 7))
    await mustCall(sbr, 'ADD', callFor(net.container))
    before(net)
    await mustCall(sbr, 'DEL', { ...callFor(net.container), ...change })
    await mustCall(sbr, 'DEL', { ...callFor(net.container), ...change })
    expect(rulesOf(net.container)).toEqual(['from 10.9.9.9/32 lookup 7'])
  })
})

test('ADD to a namespace that is gone creates no file', async () => {
  const prevResult = { ips: [{ address: '10.0.0.2/24' }] }
  const { json } = await call(sbr, 'ADD', { netns: '/run/netns/gone', config: { prevResult } })
  expect(json).toMatchObject({
    code: 8,
    msg: expect.stringContaining(
      'failed to open netns "/run/netns/gone": failed to Statfs "/run/netns/gone": no such file or directory',
    ),
  })
  expect(existsSync('/run/netns/gone')).toBe(false)
})

test('STATUS is content with this kernel', async () => {
  await mustCall(sbr, 'STATUS')
})

describe('refused before anything is touched', () => {
  test.each([
    [{ table: 0 }, { code: 7, msg: 'table: must be at least 1: got 0' }],
    [{ table: -3 }, { code: 7, msg: 'table: must be at least 1: got -3' }],
    [{ table: 2 ** 32 }, { code: 7, msg: 'table: must be at most 4294967295: got 4294967296' }],
    [{ table: 1.5 }, { code: 7, msg: 'table: must be an integer: got 1.5' }],
    ...[253, 254, 255].map(
      table =>
        [
          { table },
          {
            code: 7,
            msg: `table: must not be 253, 254 or 255, because these are the default, main and local table: got ${table}`,
          },
        ] as const,
    ),
    [
      { prevResult: null },
      {
        code: 7,
        msg: 'prevResult: sbr: Required prevResult missing: This plugin must be called as chained plugin, missing prevResult from earlier plugin',
      },
    ],
    [
      { gateways: ['10.1.0.1', '10.1.0.2'] },
      {
        code: 7,
        msg: 'gateways: gateways list contains multiple IPv4 addresses: got ["10.1.0.1","10.1.0.2"]',
      },
    ],
    [
      { gateways: ['10.1.0.1', 'fd00::1', 'fd00::2'] },
      {
        code: 7,
        msg: 'gateways: gateways list cannot contain more than 2 entries: got ["10.1.0.1","fd00::1","fd00::2"]',
      },
    ],
    [
      { gateways: ['router'] },
      { code: 7, msg: 'gateways: invalid static gateway IP address: got ["router"]' },
    ],
    [{ gateways: 'fd00::1' }, { code: 7, msg: 'gateways: must be a list: got "fd00::1"' }],
    [
      { prevResult: { ips: [] } },
      { code: 999, msg: 'prevResult: No IP addresses supplied on interface: net1' },
    ],
  ])('%j', async (config, expected) => {
    using net = twoNetworks()
    const before = snapshot(net.container)
    const { json } = await call(sbr, 'ADD', callFor(net.container, config))
    expect(json).toMatchObject(expected)
    expect(difference(before, snapshot(net.container))).toEqual({ added: [], gone: [] })
  })
})
