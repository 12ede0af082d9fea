/**
 * Who publishes a host port, and whether that container is still alive. A record under /run says where an owner's container is;
 * the kernel says whether it still has the address.
 */

import { addOwned } from '../../chain/filter/nftables/apply.ts'
import { collectionOf, type Element, elementOf, type Owned } from '../../chain/filter/nftables/elements.ts'
import { collectionsOf, type OurFamily } from '../../chain/filter/nftables/layout.ts'
import { openContainerIfPresent } from '../../chain/interface/configure.ts'
import { listAddresses } from '../../chain/linux/netlink/address.ts'
import { findLink } from '../../chain/linux/netlink/link.ts'
import type { Engine, Json } from '../../chain/linux/nftables/nft.ts'
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
  request: { attachment: Attachment; port: string; owner?: string },
): 'take' | 'leave' {
  if (!publisher || !isAlive(publisher)) return 'take'
  const { network, ifname: name, containerId, netns } = publisher
  if (containerId === request.attachment.containerId) return 'leave'
  const owner = request.owner || `net: ${network}, if: ${name}, id: ${containerId}`
  throw new CniError(code.internal, `host port ${request.port} is taken by another container (${owner})`, {
    details: `container ${containerId} on network ${network} is alive in ${netns}; remove it, or choose another hostPort`,
  })
}

/*
 * Standby publishers: interfaces of a container that publish ports which another interface of it holds. Runtimes hand one list
 * of ports to each of a container's networks, and the first one has them. When that goes the next one takes them over.
 */

export interface StandbyPublisher {
  /** All that it is to have in our nftables tables. */
  owned?: Owned
  /** Ports whose reservations it waits for. Its rules of iptables are there, behind those of the publisher. */
  ports?: readonly Published[]
}

/** An element in a record, by the name of its set or map. */
interface StoredElement {
  family: OurFamily
  collection: string
  key: readonly Json[]
  value?: Json
}

interface StoredOwned extends Omit<Owned, 'elements' | 'shared'> {
  elements: readonly StoredElement[]
  shared?: readonly StoredElement[]
}

/** As every version writes it, under the names that the first one has chosen: a node may go from one to the other and back. */
interface Stored {
  owned?: StoredOwned
  claims?: readonly Published[]
}

/** Of each container, its standbys by their owners' IDs. */
const standbys = recordsIn<Record<string, Stored>>('ports/heirs', found =>
  Object.values(found).every(isObject),
)

function stored(element: Element): StoredElement {
  const { family, key, value } = element
  return { family, collection: collectionOf(element).name, key, ...(value === undefined ? {} : { value }) }
}

function storedOwned({ elements, shared = [], ...rest }: Owned): StoredOwned {
  return { ...rest, elements: elements.map(stored), shared: shared.map(stored) }
}

/** None where somebody has meddled with the record. */
function restored({ family, collection, key, value }: StoredElement): Element[] {
  const found = collectionsOf(family).find(({ name }) => name === collection)
  if (!found || found.waitsFor !== undefined || key.length !== found.key.length) return []
  return [elementOf({ family, kind: found.kind, key, ...(value === undefined ? {} : { value }) })]
}

function restoredOwned({ elements, shared = [], ...rest }: StoredOwned): Owned {
  return { ...rest, elements: elements.flatMap(restored), shared: shared.flatMap(restored) }
}

export function waitForPort(
  { attachment }: { attachment: Attachment },
  { owned, ports }: StandbyPublisher,
): void {
  const { containerId } = attachment
  const own = { ...(owned ? { owned: storedOwned(owned) } : {}), ...(ports ? { claims: ports } : {}) }
  standbys.remember(containerId, { ...standbys.recall(containerId), [ownerOf(attachment).id]: own })
}

/** The standbys of an interface that are alive. */
export function standbysOf(attachment: Attachment): (StandbyPublisher & { id: string })[] {
  const own = ownerOf(attachment).id
  return Object.entries(standbys.recall(attachment.containerId) ?? {}).flatMap(([id, { owned, claims }]) => {
    const publisher = id === own ? undefined : recall(id)
    if (!publisher || !isAlive(publisher)) return []
    return [{ id, ...(owned ? { owned: restoredOwned(owned) } : {}), ...(claims ? { ports: claims } : {}) }]
  })
}

/**
 * Hands the ports of an interface over before its rules go, so that no packet finds them unpublished. That it cannot be done
 * is the standby's CHECK's affair, and no reason to fail a DEL.
 */
export async function transferPorts(engine: Engine, attachment: Attachment): Promise<void> {
  const { id } = ownerOf(attachment)
  for (const { owned } of standbysOf(attachment)) {
    try {
      if (owned) await addOwned(engine, owned, ({ owner }) => (owner === id ? 'take' : 'leave'))
    } catch (thrown) {
      if (!(thrown instanceof CniError)) throw thrown
    }
  }
}

/** Forgets that an interface waits for anything. */
export function stopWaiting(attachment: Attachment): void {
  const { containerId } = attachment
  const { [ownerOf(attachment).id]: own, ...others } = standbys.recall(containerId) ?? {}
  if (Object.keys(others).length > 0) standbys.remember(containerId, others)
  else standbys.forget(containerId)
}
