/** Which routes move to the table of an address, gateways of the configuration, and what stays in the main table. */
import { describe, expect, test } from 'bun:test'
import { setLink } from '../../../chain/linux/netlink/link.ts'
import { addRoute, describeRoute, type Route } from '../../../chain/linux/netlink/route.ts'
import { sbr } from '../../../meta/sbr.ts'
import { askUdp, serveUdp } from '../../fixtures/http.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'
import { type Call, call, mustCall } from '../../fixtures/plugin.ts'
import { difference, snapshot } from '../../fixtures/snapshot.ts'
import { callFor, tableOf, twoNetworks, views } from './networks.ts'

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
