/** What the firewall's tests share: containers behind bridge or ptp with a firewall, a host outside, and who reaches whom. */
import { expect } from 'bun:test'
import { bridge } from '../../../main/bridge.ts'
import { ptp } from '../../../main/ptp.ts'
import { firewall } from '../../../meta/firewall.ts'
import { outsideHost as hostOutside, type Outside } from '../../fixtures/bridge.ts'
import { type Chain, chainOf } from '../../fixtures/chain.ts'
import { getHttp, serveHttp } from '../../fixtures/http.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { peers } from '../../fixtures/plugin.ts'

export { elements, removeBridges } from '../../fixtures/bridge.ts'

export interface Firewalled {
  config?: object
  /** Of the network: 10.N.0.0/16 and fd00:N::/64 on bridge cniN. */
  number?: number
  containerId?: string
  /** Instead of bridge. */
  through?: 'ptp'
  environment?: Record<string, string>
}

/** A container with a firewall, dual-stack. */
export function firewalled(container: Namespace, options: Firewalled = {}): Chain {
  const { config = {}, number = 1, containerId = container.name, through, environment } = options
  const ipam = {
    type: 'host-local',
    ranges: [[{ subnet: `10.${number}.0.0/16` }], [{ subnet: `fd00:${number}::/64` }]],
    routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
  }
  const first = through
    ? { plugin: ptp, config: { type: 'ptp', ipam } }
    : { plugin: bridge, config: { type: 'bridge', bridge: `cni${number}`, isGateway: true, ipam } }
  return chainOf([first, { plugin: firewall, config: { type: 'firewall', ...config } }], {
    netns: container,
    containerId,
    name: `net-${number}`,
    path: peers,
    ...(environment ? { environment } : {}),
  })
}

/** A container's addresses, IPv4 first. */
export function addressesIn({ result }: Chain): [string, string] {
  const [four, six] = (result.ips as { address: string }[]).map(({ address }) => address.split('/')[0] ?? '')
  return [four ?? '', six ?? '']
}

/** Whether new links of the host look for duplicates of their link-local addresses, by which neighbours are found: a second. */
export function detectDuplicates(value: '0' | '1'): void {
  hostNamespace().setSysctl('net/ipv6/conf/default/accept_dad', value)
}

/** Whether iptables and nftables' IP tables see what goes from port to port of a bridge (br_netfilter). */
export function seeBridged(value: '0' | '1'): Disposable {
  const host = hostNamespace()
  const keys = ['iptables', 'ip6tables'].map(tables => `net/bridge/bridge-nf-call-${tables}`)
  const before = keys.map(key => host.sysctl(key))
  const set = (values: (string | undefined)[]) => {
    for (const [at, key] of keys.entries())
      if (before[at] !== undefined) host.setSysctl(key, values[at] ?? '')
  }
  set(keys.map(() => value))
  return { [Symbol.dispose]: () => set(before) }
}

export const OUTSIDE: readonly [string, string] = ['192.0.2.2', '2001:db8::2']

/** A host on the far side of the private host, which routes to the containers' networks through it. */
export function outsideHost(): Outside {
  const outside = hostOutside()
  outside.run('ip', 'route', 'add', '10.0.0.0/8', 'via', '192.0.2.1')
  outside.run('ip', 'route', 'add', 'fd00::/16', 'via', '2001:db8::1')
  return outside
}

/** Milliseconds in which an answer would have come: what is dropped is not heard of. */
const SOON = 400
const PATIENCE = 5000

export type Families = 'both' | 'IPv4' | 'IPv6' | 'none'

/** Asks a server on port 80 by both families: only these may come through. */
export async function expectReached(
  from: Namespace,
  addresses: readonly [string, string],
  expected: Families,
): Promise<void> {
  const names = ['IPv4', 'IPv6'] as const
  const answered = await Promise.all(
    addresses.map((address, at) =>
      answers(from, address, expected === 'both' || expected === names[at] ? PATIENCE : SOON),
    ),
  )
  const through = names.filter((_, at) => answered[at])
  expect(through.length === 2 ? 'both' : (through[0] ?? 'none')).toBe(expected)
}

async function answers(from: Namespace, address: string, timeout: number): Promise<boolean> {
  try {
    await getHttp(from, { address, port: 80 }, timeout)
    return true
  } catch {
    return false
  }
}

/** Servers on port 80 of namespaces. */
export function serveAll(...namespaces: Namespace[]): DisposableStack {
  const servers = new DisposableStack()
  for (const namespace of namespaces) servers.use(serveHttp(namespace, { port: 80 }))
  return servers
}

export function nft(...words: string[]): string {
  return hostNamespace().run('nft', ...words)
}

export interface Trio {
  one: Namespace
  sibling: Namespace
  other: Namespace
}

export function threeContainers(): Trio & Disposable {
  const stack = new DisposableStack()
  const [one, sibling, other] = ['one', 'sibling', 'other'].map(name => stack.use(freshNamespace(name)))
  if (!one || !sibling || !other) throw new Error('unreachable')
  return { one, sibling, other, [Symbol.dispose]: () => stack.dispose() }
}
