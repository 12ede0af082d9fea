/** What the firewall's tests share: containers behind bridge or ptp with a firewall, a host outside, and who reaches whom. */
import { removeLink } from '../../../chain/linux/netlink/link.ts'
import { openNetfilter } from '../../../chain/linux/netlink/nftables.ts'
import { listOwned } from '../../../chain/plugin/owned.ts'
import { bridge } from '../../../main/bridge.ts'
import { ptp } from '../../../main/ptp.ts'
import { firewall } from '../../../meta/firewall.ts'
import { type Chain, chainOf } from '../../fixtures/chain.ts'
import { getHttp, serveHttp } from '../../fixtures/http.ts'
import { connect, freshNamespace, hostNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { peers } from '../../fixtures/plugin.ts'

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

let cables = 0

export interface Outside extends Namespace {
  /** The host's end of the cable. */
  uplink: string
}

export const OUTSIDE: readonly [string, string] = ['192.0.2.2', '2001:db8::2']

/** A host on the far side of the private host, which routes to the containers' networks through it. */
export function outsideHost(): Outside {
  const outside = freshNamespace('outside')
  const host = hostNamespace()
  const uplink = `up${++cables}`
  outside.setSysctl('net/ipv6/conf/default/accept_dad', '0')
  connect(
    { namespace: host, name: uplink, addresses: ['192.0.2.1/24', '2001:db8::1/64'] },
    { namespace: outside, name: 'eth0', addresses: ['192.0.2.2/24', '2001:db8::2/64'] },
  )
  outside.run('ip', 'route', 'add', '10.0.0.0/8', 'via', '192.0.2.1')
  outside.run('ip', 'route', 'add', 'fd00::/16', 'via', '2001:db8::1')
  return {
    ...outside,
    uplink,
    [Symbol.dispose]() {
      removeLink(host.route, uplink)
      outside[Symbol.dispose]()
    },
  }
}

/** Time in which an answer would have come: what is dropped is not heard of. */
const SOON = 400

/** Asks a server on port 80 by both families: "both", "IPv4", "IPv6" or "none" says what came through. */
export async function reached(from: Namespace, [four, six]: readonly [string, string]): Promise<string> {
  const [is4, is6] = await Promise.all([four, six].map(address => answers(from, address)))
  if (is4 && is6) return 'both'
  return is4 ? 'IPv4' : is6 ? 'IPv6' : 'none'
}

async function answers(from: Namespace, address: string): Promise<boolean> {
  try {
    await getHttp(from, { address, port: 80 }, SOON)
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

/** The firewall's elements in our tables, as "family collection key". */
export function elements(): string[] {
  using netfilter = openNetfilter()
  return listOwned(netfilter).map(({ family, collection, key }) => `${family} ${collection} ${key.join(' ')}`)
}

export function nft(...words: string[]): string {
  return hostNamespace().run('nft', ...words)
}

/** Bridges outlive their containers; other tests use the same addresses. */
export function removeBridges(): void {
  using host = hostNamespace()
  for (const { kind, index } of host.links()) if (kind === 'bridge') removeLink(host.route, index)
}
