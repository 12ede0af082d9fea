/** A result on an interface: put there, and told when it no longer is. */
import { describe, expect, test } from 'bun:test'
import { rmSync, writeFileSync } from 'node:fs'
import {
  announceInterface,
  bestEffort,
  checkInterface,
  configureInterface,
  findOwnInterface,
  openContainer,
  openContainerIfPresent,
} from '../../chain/interface/configure.ts'
import { errno, SystemError } from '../../chain/linux/libc/errno.ts'
import { listAddresses, removeAddress } from '../../chain/linux/netlink/address.ts'
import { setLink } from '../../chain/linux/netlink/link.ts'
import { listRoutes, removeRoute } from '../../chain/linux/netlink/route.ts'
import { emptyResult, type Result } from '../../chain/protocol/result.ts'
import { capture } from '../fixtures/capture.ts'
import { connect, freshNamespace, type Namespace } from '../fixtures/namespace.ts'

/** A container with a cable to a neighbour, its end still down and without an address. */
function wired() {
  const container = freshNamespace('container')
  const neighbour = freshNamespace('neighbour')
  connect({ namespace: container, name: 'eth0' }, { namespace: neighbour, name: 'eth0' })
  setLink(container.route, 'eth0', { up: false })
  return {
    container,
    neighbour,
    [Symbol.dispose]() {
      container[Symbol.dispose]()
      neighbour[Symbol.dispose]()
    },
  }
}

const own = [{ name: 'eth0' }]

function resultOf(more: Partial<Result>): Result {
  return { ...emptyResult(), interfaces: own, ...more }
}

const ips = [
  { address: '10.1.0.2/24', gateway: '10.1.0.1', interface: 0 },
  { address: 'fd00:1::2/64', gateway: 'fd00:1::1', interface: 0 },
]

function configure(container: Namespace, result: Partial<Result>) {
  return configureInterface({ netns: container.path, name: 'eth0', result: resultOf(result) })
}

describe('a container’s namespace', () => {
  test('is entered where it is one', () => {
    using container = freshNamespace()
    using _open = openContainer(container.path)
    using _known = openContainerIfPresent(container.path)
    expect(_known).toBeDefined()
  })

  test('that is absent is told in the words that people search for, and DEL needs none', () => {
    expect(() => openContainer('/run/netns/none')).toThrow(
      expect.objectContaining({
        code: 8,
        message:
          'failed to open netns "/run/netns/none": failed to Statfs "/run/netns/none": no such file or directory',
      }),
    )
    for (const path of ['/run/netns/none', '', undefined]) {
      expect(openContainerIfPresent(path)).toBeUndefined()
    }
  })

  test('that a reboot has made a plain file is none', () => {
    const path = '/run/netns/plain-file'
    writeFileSync(path, '')
    using _file = { [Symbol.dispose]: () => rmSync(path) }
    expect(() => openContainer(path)).toThrow(
      expect.objectContaining({ code: 8, message: expect.stringContaining(`unknown FS magic on "${path}"`) }),
    )
    expect(openContainerIfPresent(path)).toBeUndefined()
  })
})

describe('addresses', () => {
  test('of both families are there, and can be used at once', () => {
    using there = wired()
    const { container } = there
    const link = configure(container, { ips })
    expect(link).toMatchObject({ name: 'eth0', up: true })
    expect(container.addresses('eth0')).toEqual(['10.1.0.2/24', 'fd00:1::2/64'])
    const tentative = listAddresses(container.route, link.index).filter(each => each.tentative)
    expect(tentative.filter(({ address }) => !address.startsWith('fe80'))).toEqual([])
    expect(container.sysctl('net/ipv6/conf/eth0/keep_addr_on_down')).toBe('1')
  })

  test('of IPv6 are given where the container had it switched off', () => {
    using there = wired()
    const { container } = there
    for (const link of ['lo', 'eth0']) container.setSysctl(`net/ipv6/conf/${link}/disable_ipv6`, '1')
    configure(container, { ips: ips.slice(0, 1) })
    expect(container.sysctl('net/ipv6/conf/eth0/disable_ipv6')).toBe('1')
    configure(container, { ips: ips.slice(1) })
    expect(container.addresses('eth0')).toEqual(['10.1.0.2/24', 'fd00:1::2/64'])
    expect(container.sysctl('net/ipv6/conf/lo/disable_ipv6')).toBe('0')
  })

  test('that are on no interface, or on another one, are not this one’s', () => {
    using there = wired()
    const { container } = there
    configure(container, { ips: [{ address: '10.9.0.2/24' }] })
    expect(container.addresses('eth0')).toEqual([])
    const refused = () =>
      configure(container, {
        interfaces: [{ name: 'eth0' }, { name: 'cni0' }],
        ips: [{ address: '10.9.0.2/24', interface: 1 }],
      })
    expect(refused).toThrow(
      expect.objectContaining({
        message: 'failed to add IP addr 10.9.0.2/24 to "eth0": invalid interface index 1',
        details: "the result's interface with that index is cni0, not eth0",
      }),
    )
    expect(() => configure(container, { ips: [{ address: '10.9.0.2/24', interface: 7 }] })).toThrow(
      expect.objectContaining({ details: expect.stringContaining('is absent, not eth0') }),
    )
    expect(() => configure(container, { ips: [{ address: '10.9.0.2', interface: 0 }] })).toThrow(
      'address 10.9.0.2 of the IPAM result is not an address with prefix',
    )
    expect(container.addresses('eth0')).toEqual([])
  })

  test('need an interface', () => {
    using container = freshNamespace()
    expect(() => configure(container, { ips: ips.slice(0, 1) })).toThrow(
      `failed to lookup "eth0": Link not found: there is no interface eth0 in ${container.path}`,
    )
  })
})

describe('routes', () => {
  const routesWith = (routes: Result['routes'], given = ips) => {
    using there = wired()
    configure(there.container, { ips: given, routes })
    return listRoutes(there.container.route)
      .filter(
        ({ destination, table }) =>
          !/^(fe80|ff00|10\.1\.|127\.|::1|fd00:1:)/.test(destination) && table !== 255,
      )
      .map(({ destination, prefixLength, gateway, table, priority, mtu, advertisedMss, scope }) => ({
        dst: `${destination}/${prefixLength}`,
        ...(gateway === undefined ? {} : { via: gateway }),
        ...(table === 254 ? {} : { table }),
        ...(priority === undefined || priority === 1024 ? {} : { priority }),
        ...(mtu === undefined ? {} : { mtu }),
        ...(advertisedMss === undefined ? {} : { advertisedMss }),
        ...(scope === 253 ? { scope } : {}),
      }))
  }

  test('without a gateway go by the first one of their family', () => {
    const second = { address: '10.1.0.3/24', gateway: '10.1.0.9', interface: 0 }
    expect(routesWith([{ dst: '0.0.0.0/0' }, { dst: '::/0' }], [...ips, second])).toEqual([
      { dst: '0.0.0.0/0', via: '10.1.0.1' },
      { dst: '::/0', via: 'fd00:1::1' },
    ])
  })

  test.each([
    {
      name: 'a gateway of its own',
      route: { dst: '192.0.2.0/24', gw: '10.1.0.7' },
      found: { via: '10.1.0.7' },
    },
    { name: '0.0.0.0 for no gateway', route: { dst: '192.0.2.0/24', gw: '0.0.0.0' }, found: { scope: 253 } },
    { name: 'the scope of the link', route: { dst: '192.0.2.0/24', scope: 253 }, found: { scope: 253 } },
    {
      name: 'numbers',
      route: { dst: '192.0.2.0/24', mtu: 1400, advmss: 1360, priority: 77, table: 100 },
      found: { via: '10.1.0.1', mtu: 1400, advertisedMss: 1360, priority: 77, table: 100 },
    },
    {
      name: 'zeroes, which say nothing',
      route: { dst: '192.0.2.0/24', mtu: 0, advmss: 0, priority: 0, table: 0 },
      found: { via: '10.1.0.1' },
    },
    {
      name: 'numbers below zero, which say as little',
      route: { dst: '192.0.2.0/24', mtu: -1, advmss: -1, priority: -1, table: -1 },
      found: { via: '10.1.0.1' },
    },
    { name: 'host bits', route: { dst: '192.0.2.7/24' }, found: { via: '10.1.0.1' } },
  ])('may have $name', ({ route, found }) => {
    expect<unknown>(routesWith([route])).toEqual([{ dst: '192.0.2.0/24', ...found }])
  })

  test('to the gateway itself is on the link, though that is outside of the network', () => {
    const outside = [{ address: '10.1.0.2/32', gateway: '192.0.2.1', interface: 0 }]
    expect(routesWith([{ dst: '192.0.2.1/32' }, { dst: '0.0.0.0/0' }], outside)).toEqual([
      { dst: '0.0.0.0/0', via: '192.0.2.1' },
      { dst: '192.0.2.1/32', scope: 253 },
    ])
  })

  test('that are none are refused', () => {
    using there = wired()
    expect(() => configure(there.container, { routes: [{ dst: '10.0.0.0' }] })).toThrow(
      'route 10.0.0.0 is not a network with prefix',
    )
  })
})

test('neighbours hear where the addresses are', async () => {
  using there = wired()
  const { container, neighbour } = there
  const result = resultOf({ ips })
  const given = { netns: container.path, name: 'eth0', result }
  const link = configureInterface(given)
  using heard = await capture(neighbour, 'arp or icmp6')
  announceInterface(given, link)
  await heard.line(/Request who-has 10\.1\.0\.2 .*tell 10\.1\.0\.2|Reply 10\.1\.0\.2 is-at/)
  await heard.line(/neighbor advertisement.*fd00:1::2/)
})

test('what helps but is not everywhere may be refused, what is wrong may not', () => {
  const refuse = (number: number) => () => {
    throw new SystemError('write /proc/sys', number)
  }
  for (const number of [errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL])
    expect(() => bestEffort(refuse(number))).not.toThrow()
  expect(() => bestEffort(refuse(errno.EIO))).toThrow(SystemError)
  expect(() =>
    bestEffort(() => {
      throw new TypeError('no')
    }),
  ).toThrow(TypeError)
})

describe('CHECK', () => {
  /** A configured container and prevResult as ADD printed it. */
  function added(routes: Result['routes'] = []) {
    const there = wired()
    const link = configure(there.container, { ips, routes })
    const interfaces = [{ name: 'eth0', mac: link.address, sandbox: there.container.path }]
    const previous = { ...emptyResult(), interfaces, ips, routes }
    const check = (more: object = {}) =>
      checkInterface({ netns: there.container.path, name: 'eth0', previous, kind: 'veth', ...more })
    return { ...there, previous, check }
  }

  test('finds what ADD left', () => {
    using all = added([{ dst: '0.0.0.0/0' }, { dst: '192.0.2.0/24', gw: '10.1.0.7', table: 100 }])
    expect(all.check()).toMatchObject({ name: 'eth0', kind: 'veth' })
  })

  test('needs prevResult, and an interface there that is in this namespace', () => {
    using all = added()
    expect(() => all.check({ previous: undefined })).toThrow('prevResult: veth: Required prevResult missing')
    const elsewhere = { ...all.previous, interfaces: [{ name: 'eth0', sandbox: '/run/netns/other' }] }
    expect(() => all.check({ previous: elsewhere })).toThrow(
      `Sandbox in prevResult /run/netns/other doesn't match configured netns: ${all.container.path}`,
    )
  })

  test('takes the last interface of a name, and its hardware address in any case', () => {
    using all = added()
    const { container, previous } = all
    const [own] = previous.interfaces
    const shouted = { ...own, name: 'eth0', mac: own?.mac?.toUpperCase() ?? '' }
    const interfaces = [{ name: 'eth0', mac: '02:00:00:00:00:99', sandbox: container.path }, shouted]
    expect(findOwnInterface({ ...previous, interfaces }, { netns: container.path, name: 'eth0' })).toBe(
      shouted,
    )
    expect(() => all.check({ previous: { ...previous, interfaces, ips: [] } })).not.toThrow()
  })

  test.each<{ name: string; more?: object; harm?: (container: Namespace) => unknown; message: string }>([
    {
      name: 'another kind',
      more: { kind: 'macvlan' },
      message: 'Error: Container interface eth0 not of type macvlan: it is a veth',
    },
    {
      name: 'a route in another table than its own',
      harm: ({ route, link }) => {
        removeRoute(route, { destination: '192.0.2.0', prefixLength: 24, table: 100 })
        expect(link('eth0').up).toBe(true)
      },
      message: 'Expected Route 192.0.2.0/24 via 10.1.0.7 not found in routing table',
    },
    {
      name: 'an address that has another prefix',
      harm: container => {
        const { index } = container.link('eth0')
        removeAddress(container.route, { link: index, address: '10.1.0.2', prefixLength: 24 })
        container.addAddress('eth0', '10.1.0.2/16')
      },
      message: 'Failed to match addr 10.1.0.2/24 on interface eth0',
    },
  ])('notices $name', ({ more, harm, message }) => {
    using all = added([{ dst: '192.0.2.0/24', gw: '10.1.0.7', table: 100 }])
    harm?.(all.container)
    expect(() => all.check(more)).toThrow(
      expect.objectContaining({ code: 999, message, details: 'the container no longer is as ADD left it' }),
    )
  })

  test('looks at nothing else of an interface that was left down', () => {
    using all = added([{ dst: '192.0.2.0/24' }])
    setLink(all.container.route, 'eth0', { up: false })
    expect(() => all.check()).toThrow()
    expect(() => all.check({ leftDown: true })).not.toThrow()
    expect(() => all.check({ leftDown: true, kind: 'vlan' })).toThrow('not of type vlan')
  })

  test('is content where a later plugin has moved a route that names no table, but not with the kernel’s own', () => {
    using all = added([{ dst: '192.0.2.0/24' }])
    const { container } = all
    removeRoute(container.route, { destination: '192.0.2.0', prefixLength: 24 })
    container.run('ip', 'route', 'add', 'local', '192.0.2.0/24', 'dev', 'eth0', 'table', 'local')
    expect(() => all.check()).toThrow('Expected Route 192.0.2.0/24')
    container.run('ip', 'route', 'add', '192.0.2.0/24', 'via', '10.1.0.1', 'table', '100')
    expect(() => all.check()).not.toThrow()
  })
})
