import { describe, expect, test } from 'bun:test'
import { errno } from '../../../chain/linux/libc/errno.ts'
import { messages } from '../../../chain/linux/netlink/codec.ts'
import { setLink } from '../../../chain/linux/netlink/link.ts'
import {
  addRoute,
  describeRoute,
  listRoutes,
  newRoute,
  type Route,
  readRoutes,
  removeRoute,
  replacingRoutes,
  routeTo,
} from '../../../chain/linux/netlink/route.ts'
import { isRefusal, request } from '../../../chain/linux/netlink/socket.ts'
import { freshNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { addRoute as captured } from './captured.ts'

function withLink(): Namespace & { index: number } {
  const host = freshNamespace()
  host.createLink({ name: 'two', kind: { type: 'veth', peer: { name: 'one' } } })
  setLink(host.route, 'one', { up: true })
  for (const address of ['10.1.0.1/24', 'fd00::1/64']) host.addAddress('one', address)
  return { ...host, index: host.link('one').index }
}

const captureds: Route = {
  destination: '10.9.0.0',
  prefixLength: 16,
  gateway: '10.22.0.9',
  link: 4,
  table: 1000,
  mtu: 1400,
}

test('what `ip route add` sends is read as the route that it says', () => {
  const [message] = messages(captured)
  if (!message) throw new Error('no message')
  expect(readRoutes(message)).toEqual([{ ...captureds, protocol: 3, scope: 0, type: 1 }])
})

test('what is written is read as it was', () => {
  const { payload, type } = newRoute(captureds)
  const message = { type, flags: 0, sequence: 0, payload }
  expect(readRoutes(message)).toEqual([{ ...captureds, protocol: 3, scope: 0, type: 1 }])
})

describe.each([
  { family: 'IPv4', destination: '10.9.0.0', prefixLength: 16, gateway: '10.1.0.9', all: '0.0.0.0' },
  { family: 'IPv6', destination: 'fd09::', prefixLength: 48, gateway: 'fd00::9', all: '::' },
])('$family', ({ destination, prefixLength, gateway, all }) => {
  const found = (host: Namespace, wanted: Partial<Route>) =>
    listRoutes(host.route).filter(route =>
      Object.entries(wanted).every(([key, value]) => route[key as keyof Route] === value),
    )

  test.each([
    { name: 'over a gateway', more: { gateway } },
    { name: 'over a link alone', more: {} },
    { name: 'with a priority', more: { gateway, priority: 77 } },
    { name: 'in a table of its own', more: { gateway, table: 100 } },
    { name: 'in a table whose number needs more than a byte', more: { gateway, table: 100_000 } },
    { name: 'with MTU and segment size', more: { gateway, mtu: 1300, advertisedMss: 1200 } },
  ])('a route $name is there as it was added, and goes when it is removed, twice', ({ more }) => {
    using host = withLink()
    const wanted: Route = { destination, prefixLength, link: host.index, ...more }
    addRoute(host.route, wanted)
    expect(found(host, wanted)).toHaveLength(1)
    const outcomes = [removeRoute(host.route, wanted), removeRoute(host.route, wanted)]
    expect(outcomes).toEqual(['removed', 'absent'])
    expect(found(host, { destination, prefixLength })).toEqual([])
  })

  test('the default route has prefix length 0', () => {
    using host = withLink()
    addRoute(host.route, { destination: all, prefixLength: 0, gateway })
    expect(found(host, { prefixLength: 0, gateway }).map(each => each.destination)).toEqual([all])
  })

  test('a route that is there is refused, replaced, or joined by another one, as is wished', () => {
    using host = withLink()
    const wanted: Route = { destination, prefixLength, gateway, link: host.index }
    addRoute(host.route, wanted)
    let thrown: unknown
    try {
      addRoute(host.route, wanted)
    } catch (error) {
      thrown = error
    }
    expect(isRefusal(thrown, errno.EEXIST)).toBe(true)
    addRoute(host.route, { ...wanted, mtu: 1290 }, 'replace')
    expect(found(host, { destination }).map(({ mtu }) => mtu)).toEqual([1290])
    addRoute(host.route, { ...wanted, priority: 2048 }, 'beside')
    expect(found(host, { destination })).toHaveLength(2)
  })

  test('the kernel is asked which way it would go', () => {
    using host = withLink()
    addRoute(host.route, { destination, prefixLength, gateway })
    const { link, gateway: next } = routeTo(
      host.route,
      destination.replace(/0$|::$/, each => (each === '0' ? '7' : '::7')),
    )
    expect({ link, next }).toEqual({ link: host.index, next: gateway })
  })
})

describe('several gateways for one destination are a route each', () => {
  test.each([
    { destination: '::', gateways: ['fd00::8', 'fd00::9'] }, // the kernel tells of these as one
    { destination: '0.0.0.0', gateways: ['10.1.0.8', '10.1.0.9'] },
  ])('added beside one another: $destination', ({ destination, gateways }) => {
    using host = withLink()
    const wanted = gateways.map(gateway => ({ destination, prefixLength: 0, gateway, link: host.index }))
    for (const route of wanted) addRoute(host.route, route, 'beside')
    const [first] = wanted
    const seen = () =>
      listRoutes(host.route, { link: host.index })
        .filter(({ prefixLength }) => prefixLength === 0)
        .map(({ gateway }) => gateway)
        .sort()
    expect(seen()).toEqual([...gateways])
    if (first) expect(removeRoute(host.route, first)).toBe('removed')
    expect(seen()).toEqual(gateways.slice(1))
  })

  test('added as one by another program, over several links', () => {
    using host = withLink()
    host.createLink({ name: 'four', kind: { type: 'veth', peer: { name: 'three' } } }, '10.2.0.1/24')
    setLink(host.route, 'three', { up: true })
    const hops = ['nexthop', 'via', '10.1.0.9', 'weight', '2', 'nexthop', 'via', '10.2.0.9', 'dev', 'four']
    host.run('ip', 'route', 'add', '10.9.0.0/16', ...hops)
    const seen = listRoutes(host.route).filter(({ destination }) => destination === '10.9.0.0')
    expect(seen.map(({ gateway, link }) => ({ gateway, link }))).toEqual([
      { gateway: '10.1.0.9', link: host.index },
      { gateway: '10.2.0.9', link: host.link('four').index },
    ])
  })

  test('replaced together, none takes the other’s place', () => {
    using host = withLink()
    const to = (gateway: string) => ({ destination: 'fd09::', prefixLength: 48, gateway, link: host.index })
    addRoute(host.route, to('fd00::7'))
    for (const asked of replacingRoutes([to('fd00::8'), to('fd00::9')])) request(host.route, asked)
    const seen = listRoutes(host.route).filter(({ destination }) => destination === 'fd09::')
    expect(seen.map(({ gateway }) => gateway)).toEqual(['fd00::8', 'fd00::9'])
  })
})

test('where no way leads, the kernel says so', () => {
  using host = freshNamespace()
  let thrown: unknown
  try {
    routeTo(host.route, '192.0.2.1')
  } catch (error) {
    thrown = error
  }
  expect(isRefusal(thrown, errno.ENETUNREACH)).toBe(true)
})

test('routes are listed of one table, over one link, of one family', () => {
  using host = withLink()
  addRoute(host.route, { destination: '10.9.0.0', prefixLength: 16, gateway: '10.1.0.9', table: 100 })
  expect(listRoutes(host.route, { table: 100 }).map(({ destination }) => destination)).toEqual(['10.9.0.0'])
  const main = listRoutes(host.route, { table: 254, link: host.index, families: [2] })
  expect(main.map(({ destination, scope }) => ({ destination, scope }))).toEqual([
    { destination: '10.1.0.0', scope: 253 },
  ])
})

test('a route is named for a person', () => {
  const route = { destination: '10.9.0.0', prefixLength: 16 }
  const words = [route, { ...route, gateway: '10.1.0.9' }, { ...route, prefixLength: 0, gateway: '10.1.0.9' }]
  expect(words.map(describeRoute)).toEqual([
    '10.9.0.0/16',
    '10.9.0.0/16 via 10.1.0.9',
    'default via 10.1.0.9',
  ])
})
