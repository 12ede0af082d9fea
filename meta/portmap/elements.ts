/** A published port as elements of our nftables tables, and back. */

import { type Element, type HostPort, networkIn } from '../../chain/filter/nftables/elements.ts'
import { collectionsWith } from '../../chain/filter/nftables/layout.ts'
import { type FoundElement, listIn } from '../../chain/filter/nftables/read.ts'
import { tableFamilyOf } from '../../chain/ip/family.ts'
import type { Transport } from '../../chain/linux/netlink/socket.ts'
import type { Published } from './publishers.ts'

export interface PublishedPort extends Published {
  protocol: 'tcp' | 'udp' | 'sctp'
  /** Connections from `hairpinSources` must be masqueraded to come back the same way. */
  hairpin: boolean
  /** Name of the owner's chain with conditions, if there are any. */
  conditions?: string
}

/** The elements that publish a port. */
export function elementsOf(port: PublishedPort): Element[] {
  const { protocol, hostPort, hostAddress, containerPort, address, hairpin, conditions } = port
  const family = tableFamilyOf(address)
  const key: HostPort = hostAddress === undefined ? [protocol, hostPort] : [hostAddress, protocol, hostPort]
  const elements: Element[] = [
    { family, kind: 'published-address', key, value: address },
    { family, kind: 'published-port', key, value: containerPort },
  ]
  if (conditions !== undefined)
    elements.push({ family, kind: 'published-conditions', key, value: { goto: { target: conditions } } })
  if (hairpin) elements.push({ family, kind: 'hairpin', key: [address, protocol, containerPort] })
  return elements
}

/** Networks from which connections to a container's published ports are masqueraded. */
export function hairpinSources(address: string, networks: readonly string[]): Element[] {
  return networks.map(network => ({
    family: tableFamilyOf(address),
    kind: 'hairpin-source',
    key: [address, networkIn(network)],
  }))
}

/** The port of the host that an element is about; undefined for one that publishes none. */
export function hostPortOf(
  element: Element,
): Pick<Published, 'protocol' | 'hostPort' | 'hostAddress'> | undefined {
  switch (element.kind) {
    case 'published-address':
    case 'published-port':
    case 'published-conditions':
      return partsOf(element.key)
  }
  return undefined
}

function partsOf(key: HostPort) {
  if (key.length === 2) return { protocol: key[0], hostPort: key[1] }
  return { hostAddress: key[0], protocol: key[1], hostPort: key[2] }
}

/** All ports that our tables publish, with whose they are. */
export function listPublished(netfilter: Transport): (Published & { owner: string | undefined })[] {
  return (['ip', 'ip6'] as const).flatMap(family => {
    const elements = listIn(netfilter, family, collectionsWith(family, 'published-address', 'published-port'))
    const containerPorts = new Map(elements.flatMap(containerPort))
    return elements.flatMap(element =>
      element.kind === 'published-address'
        ? [
            {
              ...partsOf(element.key),
              address: element.value,
              containerPort: containerPorts.get(JSON.stringify(element.key)) ?? 0,
              owner: element.owner,
            },
          ]
        : [],
    )
  })
}

function containerPort(element: FoundElement): [string, number][] {
  return element.kind === 'published-port' ? [[JSON.stringify(element.key), element.value]] : []
}
