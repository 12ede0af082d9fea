/** What the tests of the main plugins share: an IPAM plugin that keeps count, hosts with cables, and things broken by hand. */
import { removeAddress } from '../../chain/linux/netlink/address.ts'
import { removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { removeRoute } from '../../chain/linux/netlink/route.ts'
import { definePlugin, type Plugin } from '../../chain/plugin/define.ts'
import { CniError } from '../../chain/protocol/error.ts'
import type { IpConfig, Result, Route } from '../../chain/protocol/result.ts'
import { hostLocal } from '../../ipam/host-local.ts'
import { connect, freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, mustCall, type Outcome } from '../fixtures/plugin.ts'
import { difference, type Snapshot, snapshot } from '../fixtures/snapshot.ts'

export interface Ipam {
  plugin: Plugin
  /** Verbs in their order. */
  calls: string[]
  /** "container interface" of those that hold addresses. */
  held: Set<string>
}

/** An IPAM plugin that gives everybody the same addresses; a verb may fail. */
export function ipamWith(
  answer: { ips?: IpConfig[]; routes?: Route[]; dns?: Result['dns'] },
  fails: string[] = [],
): Ipam {
  const calls: string[] = []
  const held = new Set<string>()
  const note = (verb: string) => {
    calls.push(verb)
    if (fails.includes(verb)) throw new CniError(50, `${verb} refused`)
  }
  const plugin = definePlugin({
    name: 'test-ipam',
    add({ attachment: { containerId, ifname: name } }) {
      note('ADD')
      held.add(`${containerId} ${name}`)
      return { interfaces: [], ips: [], routes: [], dns: {}, ...answer }
    },
    check: () => note('CHECK'),
    del({ attachment: { containerId, ifname: name } }) {
      note('DEL')
      held.delete(`${containerId} ${name}`)
    },
    status: () => note('STATUS'),
    gc: () => note('GC'),
  })
  return { plugin, calls, held }
}

export const ipam = { type: 'test-ipam' }

/** Two addresses and default routes in 10.1.0.0/24 and fd00:1::/64. */
export const dualStack = {
  ips: [
    { address: '10.1.0.2/24', gateway: '10.1.0.1' },
    { address: 'fd00:1::2/64', gateway: 'fd00:1::1' },
  ],
  routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
}

export interface Wired {
  host: Namespace
  neighbour: Namespace
  /** The host's end of the cable. */
  master: string
  [Symbol.dispose](): void
}

let cables = 0

/** A neighbour on a cable to the host, with the addresses that `dualStack` has as gateways. */
export function wiredHost(addresses = ['10.1.0.1/24', 'fd00:1::1/64']): Wired {
  const host = hostNamespace()
  const neighbour = freshNamespace('neighbour')
  const master = `phys${++cables}`
  connect({ namespace: host, name: master }, { namespace: neighbour, name: 'eth0', addresses })
  return {
    host,
    neighbour,
    master,
    [Symbol.dispose]() {
      removeLink(host.route, master) // the kernel takes its time over a namespace's links
      neighbour[Symbol.dispose]()
      host[Symbol.dispose]()
    },
  }
}

/** Takes pictures of the host and of namespaces; `left` tells what differs since. */
export function watch(...namespaces: Namespace[]): { left(): { added: string[]; gone: string[] } } {
  const look = (): Snapshot =>
    [undefined, ...namespaces].flatMap((each, at) => snapshot(each).map(line => `${at} ${line}`))
  const before = look()
  return { left: () => difference(before, look()) }
}

export const nothing = { added: [], gone: [] }

/** Breaks one thing on an interface by hand; CHECK's message must match. */
export interface Damage {
  name: string
  harm(container: Namespace, host: Namespace): void
  message: string
}

/** What every interface with `dualStack` can suffer. */
export const commonDamages: Damage[] = [
  {
    name: 'an IPv4 address that is gone',
    harm: container =>
      removeAddress(container.route, {
        link: container.link('eth0').index,
        address: '10.1.0.2',
        prefixLength: 24,
      }),
    message: 'Failed to match addr 10.1.0.2/24 on interface eth0',
  },
  {
    name: 'an IPv6 address that is gone',
    harm: container =>
      removeAddress(container.route, {
        link: container.link('eth0').index,
        address: 'fd00:1::2',
        prefixLength: 64,
      }),
    message: 'Failed to match addr fd00:1::2/64 on interface eth0',
  },
  {
    name: 'a route that is gone',
    harm: container => removeRoute(container.route, { destination: '0.0.0.0', prefixLength: 0 }),
    message: 'Expected Route 0.0.0.0/0 not found in routing table',
  },
  {
    name: 'a link that is down',
    harm: container => setLink(container.route, 'eth0', { up: false }),
    message: 'Interface eth0 is down',
  },
  {
    name: 'another hardware address',
    harm: container => setLink(container.route, 'eth0', { address: '02:00:00:00:00:99' }),
    message: "doesn't match container Mac: 02:00:00:00:00:99",
  },
  {
    name: 'an interface that is gone',
    harm: container => void removeLink(container.route, 'eth0'),
    message: 'interface eth0 is not in',
  },
]

/** An attachment that is taken away again at the end of a test, whatever became of it. */
export async function attach(
  plugin: Plugin,
  request: Call,
): Promise<AsyncDisposable & { result: Outcome['json'] }> {
  const result = await mustCall(plugin, 'ADD', request)
  return {
    result,
    async [Symbol.asyncDispose]() {
      await mustCall(plugin, 'DEL', request)
    },
  }
}

/** How calls of one plugin look: for a container, with the addresses of a pool where there is one, and what else a test wants. */
export function callsOf(usual: { type: string; [key: string]: unknown }) {
  return (
    container: Namespace | undefined,
    pool: Ipam | undefined,
    config: object = {},
    more: Call = {},
  ): Call => ({
    netns: container,
    ...(pool ? { delegates: [pool.plugin] } : {}),
    ...more,
    config: { ...usual, ...(pool ? { ipam } : {}), ...config },
  })
}

/** Both families from host-local. */
export const dualStackPool = {
  type: 'host-local',
  ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00:1::/64' }]],
}

/** The same with addresses from host-local, for a container that has a network to itself. */
export function callsWithHostLocal(type: string) {
  return (container: Namespace, config: object = {}, more: Call = {}): Call => ({
    netns: container,
    delegates: [hostLocal],
    ...more,
    config: { name: `net-${container.name}`, type, ipam: dualStackPool, ...config },
  })
}
