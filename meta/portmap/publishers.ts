/**
 * Who holds a host port, and whether that container is still alive. A record under /run says where an owner's container is;
 * the kernel says whether it still has the address.
 */

import { openContainerIfPresent } from '../../chain/interface/configure.ts'
import { listAddresses } from '../../chain/linux/netlink/address.ts'
import { findLink } from '../../chain/linux/netlink/link.ts'
import type { Attachment } from '../../chain/plugin/define.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import { isObject, isTexts, recordsIn } from '../../chain/plugin/state.ts'
import { CniError, code } from '../../chain/protocol/error.ts'

export interface Published {
  protocol: string
  hostPort: number
  /** The host's address that it is published on; absent: all of the family. */
  hostAddress?: string
  address: string
  containerPort: number
}

export interface Publisher extends Attachment {
  netns: string
  addresses: string[]
  /** What it has published through iptables, where the kernel cannot be asked for it by owner. */
  published?: readonly Published[]
}

const records = recordsIn<Publisher>(
  'ports',
  ({ network, containerId, ifname: name, netns, addresses, published = [] }) =>
    isTexts([network, containerId, name, netns]) &&
    isTexts(addresses) &&
    Array.isArray(published) &&
    published.every(port => isObject(port) && isTexts([(port as Published).address])),
)

export const { recall, forget, recorded } = records

/** Remembers where an attachment is: before its rules are there, so that no rule is without a record, and none is torn. */
export function remember(publisher: Publisher): void {
  records.remember(ownerOf(publisher).id, publisher)
}

/** Alive: its namespace is there, with the interface, with an address that ports lead to. */
export function isAlive({ netns, ifname: name, addresses }: Publisher): boolean {
  using container = openContainerIfPresent(netns)
  const link = container && findLink(container, name)
  if (!link) return false
  return listAddresses(container, link.index).some(({ address }) => addresses.includes(address))
}

/**
 * A host port that another holds: refused while its container lives, taken over when it is dead. Another interface of the
 * same container keeps it: runtimes hand one list of ports to each of a container's networks.
 */
export function resolveConflict(
  publisher: Publisher | undefined,
  wanted: { attachment: Attachment; port: string; words?: string },
): 'take' | 'leave' {
  if (!publisher || !isAlive(publisher)) return 'take'
  const { network, ifname: name, containerId, netns } = publisher
  if (containerId === wanted.attachment.containerId) return 'leave'
  const words = wanted.words || `net: ${network}, if: ${name}, id: ${containerId}`
  throw new CniError(code.internal, `host port ${wanted.port} is taken by another container (${words})`, {
    details: `container ${containerId} on network ${network} is alive in ${netns}; remove it, or choose another hostPort`,
  })
}
