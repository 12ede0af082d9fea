/** What the tests of sbr share: a container on two networks, and what its tables hold. */
import { addRoute, describeRoute, listRoutes } from '../../../chain/linux/netlink/route.ts'
import { describeRule, listRules } from '../../../chain/linux/netlink/rule.ts'
import { connect, freshNamespace, type Namespace } from '../../fixtures/namespace.ts'
import type { Call } from '../../fixtures/plugin.ts'

/** A container with two networks, each with a router: eth0 has the default routes, net1 is what sbr is asked for. */
export function twoNetworks() {
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

export const gateways = { 4: '10.1.0.1', 6: 'fd00:1::1' }

export function callFor(
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
export const rulesOf = ({ route }: Namespace) =>
  listRules(route)
    .filter(({ source }) => source)
    .map(describeRule)

/** Routes of a table over net1: "default via 10.1.0.1". */
export const tableOf = (container: Namespace, table: number, link: number) =>
  listRoutes(container.route, { table, link })
    .filter(({ destination }) => !destination.startsWith('ff'))
    .map(describeRoute)
    .sort()

export const views = (container: Namespace, link: number) => ({
  rules: rulesOf(container),
  100: tableOf(container, 100, link),
  101: tableOf(container, 101, link),
  main: container
    .routes()
    .filter(route => route.link === link)
    .map(describeRoute)
    .sort(),
})

export const separated = {
  rules: ['from 10.1.0.2/32 lookup 100', 'from fd00:1::2/128 lookup 101'],
  100: ['10.1.0.0/24', 'default via 10.1.0.1'],
  101: ['default via fd00:1::1', 'fd00:1::/64', 'fe80::/64'],
  main: [],
}
