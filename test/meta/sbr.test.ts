import { describe, expect, test } from 'bun:test'
import { existsSync, writeFileSync } from 'node:fs'
import { removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { addRoute } from '../../chain/linux/netlink/route.ts'
import { addRule, listRules, removeRule, sourceRule } from '../../chain/linux/netlink/rule.ts'
import { sbr } from '../../meta/sbr.ts'
import { askUdp, serveUdp } from '../fixtures/http.ts'
import type { Namespace } from '../fixtures/namespace.ts'
import { call, mustCall, mustExecute, peerExecutable } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'
import { callFor, rulesOf, separated, twoNetworks, views } from './sbr/networks.ts'

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
