/** Configurations at the edge of what the Go plugins take: ours take them too, with the same effect, and CHECK agrees afterwards. */
import { afterAll, describe, expect, test } from 'bun:test'
import { rmSync } from 'node:fs'
import { removeLink } from '../../chain/linux/netlink/link.ts'
import { reaches } from '../fixtures/bridge.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { execute, mustExecute, ourExecutable, peerExecutable } from '../fixtures/plugin.ts'

const FOLDER = '/run/bounds'
const BRIDGE = 'bounds0'
const ipam = { type: 'host-local', dataDir: FOLDER, ranges: [[{ subnet: '10.61.0.0/16' }]] }
const MASTER = 'boundsm'

afterAll(() => {
  rmSync(FOLDER, { recursive: true, force: true })
  using host = hostNamespace()
  for (const name of [BRIDGE, MASTER]) removeLink(host.route, name)
})

interface Case {
  name: string
  type: string
  config: object
  args?: string
  /** What the container's interface is like afterwards. */
  seen?(container: Namespace): unknown
  /** Where the Go plugin's own CHECK finds fault with what its ADD has done. */
  goCheckFails?: true
  /** Given an interface, by a plugin that came before. */
  chained?: true
}

const linkOf = (container: Namespace) => container.link('eth0')
const other = { cniVersion: '0.4.0', interfaces: [{ name: 'x' }], ips: [] }

const cases: Case[] = [
  ...['bridge', 'ptp'].flatMap((type): Case[] =>
    [-1, -100].map(mtu => ({
      name: `mtu ${mtu}`,
      type,
      config: { bridge: BRIDGE, mtu, ipam },
      seen: container => linkOf(container)?.mtu,
    })),
  ),
  ...['bridge', 'ptp'].map(
    (type): Case => ({
      name: 'an unknown backend where nothing is masqueraded',
      type,
      config: { bridge: BRIDGE, ipMasqBackend: 'none', ipam },
    }),
  ),
  ...['owner', 'group'].map(
    (key): Case => ({
      name: `${key} 4294967295, which is no owner`,
      type: 'tap',
      config: { [key]: 4294967295, ipam },
      seen: container => linkOf(container)?.kind,
    }),
  ),
  {
    name: 'a prefix length that begins with zeros',
    type: 'static',
    config: { ipam: { addresses: [{ address: '10.1.0.5/024' }], routes: [{ dst: '10.0.0.0/008' }] } },
  },
  {
    name: 'an IPv4 address in IPv6 clothes',
    type: 'static',
    config: { ipam: { addresses: [{ address: '::ffff:10.1.0.5/120' }] } },
  },
  ...['bridge', 'ptp', 'macvlan', 'host-local', 'static'].map(
    (type): Case => ({
      name: 'a prevResult of another version, which ADD does not look at',
      type,
      config: {
        bridge: BRIDGE,
        master: MASTER,
        prevResult: other,
        ipam: type === 'static' ? { addresses: [{ address: '10.1.0.5/16' }] } : ipam,
      },
    }),
  ),
  {
    name: 'a torn prevResult, which ADD does not look at',
    type: 'bridge',
    config: { bridge: BRIDGE, prevResult: { ips: 'none' }, ipam },
  },
  {
    name: 'a gateway outside of the subnet',
    type: 'host-local',
    config: {
      ipam: { ...ipam, ranges: [[{ subnet: '203.0.113.16/28', gateway: '198.51.100.254' }]] },
    },
  },
  ...[-1, 4294967295, 4294967296].map(
    (txQLen): Case => ({
      name: `txQLen ${txQLen}`,
      type: 'tuning',
      chained: true,
      config: { txQLen },
      seen: container => linkOf(container)?.transmitQueueLength,
      ...(txQLen === 4294967295 ? {} : { goCheckFails: true }),
    }),
  ),
]

/** What a plugin makes of a case, as executable: ADD's result without what differs by nature, and what is there. */
function outcomeOf(file: string, { type, config, args, seen, chained }: Case) {
  using host = hostNamespace()
  removeLink(host.route, BRIDGE)
  removeLink(host.route, MASTER)
  host.createLink({ name: MASTER, up: true, kind: { type: 'bridge' } })
  using container = freshNamespace('bounds')
  if (chained) container.createLink({ name: 'eth0', kind: { type: 'veth', peer: { name: 'eth1' } } })
  const previous = { cniVersion: '1.1.0', interfaces: [{ name: 'eth0', sandbox: container.path }], ips: [] }
  const options = {
    netns: container,
    containerId: container.name,
    ...(args ? { args } : {}),
    config: { type, ...config, ...(chained ? { prevResult: previous } : {}) },
  }
  const added = execute(file, 'ADD', options)
  const effect = seen?.(container)
  const prevResult = added.json
  const checked = execute(file, 'CHECK', { ...options, config: { ...options.config, prevResult } })
  const deleted = execute(file, 'DEL', options)
  const { ips, routes, dns, msg } = added.json
  return {
    status: added.status,
    said: { ips: ips?.length, routes, dns, msg },
    effect,
    check: checked.status,
    deleted: deleted.status,
  }
}

describe.each(cases)('$type: $name', one => {
  test('is taken as the Go plugin takes it', () => {
    const go = outcomeOf(peerExecutable(one.type), one)
    const us = outcomeOf(ourExecutable(one.type), one)
    expect(go).toMatchObject({ status: 0, check: one.goCheckFails ? 1 : 0 })
    expect(us).toEqual({ ...go, check: 0 })
  })
})

/** A cloud provider's floating network: the gateway is outside of it, and a route over the link leads there. */
describe.each([
  { name: 'of scope link', route: { dst: '198.51.100.254/32', scope: 253 } },
  { name: 'that names none', route: { dst: '198.51.100.254/32' } },
  { name: 'by the gateway 0.0.0.0', route: { dst: '198.51.100.254/32', gw: '0.0.0.0' } },
])('a gateway outside of the subnet, with a route to it $name', ({ route }) => {
  test.each([
    { type: 'bridge', config: { bridge: BRIDGE } },
    { type: 'macvlan', config: { master: BRIDGE } },
  ])('carries traffic behind $type', async ({ type, config }) => {
    using host = hostNamespace()
    removeLink(host.route, BRIDGE)
    host.createLink({ name: BRIDGE, up: true, kind: { type: 'bridge' } })
    using far = freshNamespace('far')
    using container = freshNamespace('bounds')
    const cable = { name: 'boundsfar', up: true, master: host.link(BRIDGE).index } as const
    host.createLink({ ...cable, kind: { type: 'veth', peer: { name: 'boundsnear' } } })
    host.run('ip', 'link', 'set', 'boundsnear', 'netns', far.path)
    far.run('ip', 'link', 'set', 'boundsnear', 'up')
    far.addAddress('boundsnear', '198.51.100.254/32')
    far.run('ip', 'route', 'add', '203.0.113.16/28', 'dev', 'boundsnear')
    far.addAddress('lo', '192.0.2.77/32')
    const options = {
      netns: container,
      containerId: container.name,
      config: {
        ...config,
        ipam: {
          ...ipam,
          dataDir: `${FOLDER}/${container.name}`,
          ranges: [[{ subnet: '203.0.113.16/28', gateway: '198.51.100.254' }]],
          routes: [route, { dst: '0.0.0.0/0' }],
        },
      },
    }
    const prevResult = mustExecute(ourExecutable(type), 'ADD', options)
    expect(prevResult.ips).toMatchObject([{ address: '203.0.113.17/28', gateway: '198.51.100.254' }])
    expect(await reaches(container, far, '198.51.100.254')).toBe(true)
    expect(await reaches(container, far, '192.0.2.77')).toBe(true)
    mustExecute(ourExecutable(type), 'CHECK', { ...options, config: { ...options.config, prevResult } })
    mustExecute(ourExecutable(type), 'DEL', options)
    removeLink(host.route, 'boundsfar')
  })
})

/** What a main plugin's own `dns` makes of the IPAM plugin's: it takes its place, even where it is empty. */
test.each([
  { dns: undefined, expected: { nameservers: ['192.0.2.53'], domain: 'ipam.test' } },
  { dns: {}, expected: { nameservers: ['192.0.2.53'], domain: 'ipam.test' } },
  { dns: { domain: '' }, expected: { nameservers: ['192.0.2.53'], domain: 'ipam.test' } },
  { dns: { nameservers: [] }, expected: undefined },
  { dns: { search: [], options: [] }, expected: undefined },
  { dns: { nameservers: [], domain: 'own.test' }, expected: { domain: 'own.test' } },
])('dns $dns of a configuration leaves $expected of what the IPAM plugin answered', ({ dns, expected }) => {
  for (const type of ['bridge', 'ptp']) {
    const results = [peerExecutable(type), ourExecutable(type)].map(file => {
      using container = freshNamespace('bounds')
      const own = {
        type: 'static',
        addresses: [{ address: '10.62.0.5/24', gateway: '10.62.0.1' }],
        dns: { nameservers: ['192.0.2.53'], domain: 'ipam.test' },
      }
      const config = { bridge: BRIDGE, ipam: own, ...(dns ? { dns } : {}) }
      const options = { netns: container, containerId: container.name, config }
      const result = mustExecute(file, 'ADD', options)
      mustExecute(file, 'DEL', options)
      return result.dns
    })
    expect(results).toEqual([expected, expected])
  }
})
