/** What connection tracking remembers of published UDP ports, and has to forget: UDP has no connections of its own. */

import { listAddresses } from '../../chain/linux/netlink/address.ts'
import { flushConnections } from '../../chain/linux/netlink/conntrack.ts'
import { openRoute } from '../../chain/linux/netlink/socket.ts'
import { openNetfilterIfPresent } from '../../chain/linux/nftables/netfilter.ts'
import type { PortMapping } from './configuration.ts'
import { listPublished } from './elements.ts'
import { type Published, recall } from './publishers.ts'

const UDP = 17

/** Before: it would keep going where it went before the rules were there. */
export function forgetConnectionsToHost(mappings: readonly PortMapping[]): void {
  const ports = new Map(
    mappings.filter(({ protocol }) => protocol === 'udp').map(mapping => [mapping.hostPort, mapping]),
  )
  if (ports.size === 0) return
  using host = openRoute()
  const local = new Set(listAddresses(host).map(({ address }) => address))
  flushConnections({ protocol: UDP, ports: new Set(ports.keys()) }, ({ original }) => {
    const mapping = ports.get(original.destinationPort)
    return mapping !== undefined && local.has(mapping.hostAddress ?? original.destination)
  })
}

/** What an owner has published: read from the kernel where nftables has it, from its record where iptables has. */
export function publishedBy(owner: string): Published[] {
  return [...publishedInNftables(owner), ...(recall(owner)?.published ?? [])]
}

function publishedInNftables(owner: string): Published[] {
  using netfilter = openNetfilterIfPresent()
  return netfilter ? listPublished(netfilter).filter(port => port.owner === owner) : []
}

/** After the rules have gone, it would still reach whoever has the address next. */
export function forgetConnectionsThrough(published: readonly Published[]): void {
  const udp = published.filter(({ protocol }) => protocol === 'udp')
  if (udp.length === 0) return
  for (const [replySource, some] of Map.groupBy(udp, ({ address }) => address)) {
    const through = new Set(some.map(({ hostPort, containerPort }) => `${hostPort} ${containerPort}`))
    flushConnections({ protocol: UDP, replySource }, ({ original, reply }) =>
      through.has(`${original.destinationPort} ${reply.sourcePort}`),
    )
  }
}
