/** A container that is connected with the host by a pair, whose traffic bandwidth shapes: limits, calls, and what is left. */
import { removeLink } from '../../../chain/linux/netlink/link.ts'
import { findDiscipline } from '../../../chain/linux/netlink/qdisc.ts'
import { connect, freshNamespace, hostNamespace, type Namespace } from '../../fixtures/namespace.ts'
import type { Call } from '../../fixtures/plugin.ts'

export const Mbit = 1_000_000

export const limits = {
  ingressRate: 100 * Mbit,
  ingressBurst: Mbit,
  egressRate: 50 * Mbit,
  egressBurst: Mbit,
}

export const sharedIfb = 'bwp77388ce63739' // H("bwp", 15, "test-netcontainer-1")

let pairs = 0

/** A container that is connected with the host; the host's end has a name of its own, since it goes a moment late. */
export function connected(interfaces: string[] = ['eth0']) {
  const host = hostNamespace()
  const container = freshNamespace('container')
  const ends = interfaces.map((name, index) => {
    const end = `veth${++pairs}`
    connect(
      { namespace: container, name, addresses: [`10.${index}.0.2/24`, `fd00:${index}::2/64`] },
      {
        namespace: host,
        name: end,
        addresses: [`10.${index}.0.1/24`, `10.${index}.0.9/24`, `fd00:${index}::1/64`],
      },
    )
    return end
  })
  const endOf = (name: string) => ends[interfaces.indexOf(name)] ?? ''
  return {
    host,
    container,
    end: endOf('eth0'),
    endOf,
    /** A call for one of the interfaces. */
    callFor: (config: object, more: Call = {}): Call => ({
      netns: container,
      ...more,
      config: {
        prevResult: resultFor(container, endOf(more.interface ?? 'eth0'), more.interface),
        ...config,
      },
    }),
    [Symbol.dispose]() {
      for (const name of [...ends, ...ifbs(host)]) removeLink(host.route, name)
      container[Symbol.dispose]()
      host[Symbol.dispose]()
    },
  }
}

export function resultFor(container: Namespace, end: string, name = 'eth0') {
  return { cniVersion: '1.1.0', interfaces: [{ name: end }, { name, sandbox: container.path }], ips: [] }
}

export const ifbs = (host: Namespace) =>
  host
    .links()
    .filter(({ kind }) => kind === 'ifb')
    .map(({ name }) => name)
    .sort()

export function leftBy(host: Namespace, end: string) {
  const { index } = host.link(end)
  return {
    root: findDiscipline(host.route, index, 'root')?.kind ?? 'noqueue',
    hook: findDiscipline(host.route, index, 'ingress')?.kind,
    ifbs: ifbs(host),
  }
}

export const nothing = { root: 'noqueue', hook: undefined, ifbs: [] }
