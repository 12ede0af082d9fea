/**
 * Whose a container's interface is, as the host knows it: from the alias of the pair's end on the host, or from a record under
 * /run. What stands in the container — names, aliases, addresses, and the indexes of links that it makes — is the container's
 * to write, and proves nothing.
 */
import { findLink, type Link } from '../linux/netlink/link.ts'
import { ownNamespaceId } from '../linux/netlink/namespace-id.ts'
import type { Transport } from '../linux/netlink/socket.ts'
import { namespaceIdentity, ownNamespaceIdentity } from '../linux/netns.ts'
import type { Attachment, ValidAttachment } from '../plugin/define.ts'
import type { Io } from '../plugin/io.ts'
import { attachmentHash, isStale, ownerIn, ownerOf, readableOwner } from '../plugin/owner.ts'
import { isObject, isTexts, recordsIn } from '../plugin/state.ts'

/** A device of the host that is an interface of a container: what the container cannot change about it, and its name at home. */
export interface LentDevice {
  name: string
  index: number
  kind?: string
  permanentAddress?: string
  parentDevice?: string
  /** Its settings, and more names, as they are to be again. */
  address?: string
  mtu?: number
  group?: number
  alternativeNames?: readonly string[]
}

/** Which interface a record is about: one that came later under the same name is another. */
interface Placed {
  netns: string
  index: number
}

interface InterfaceRecord extends Placed {
  /** The owner's comment. */
  owner: string
  device?: LentDevice
}

/** A record for each interface of each container, whatever its network: it can have one owner. */
const records = recordsIn<InterfaceRecord>(
  'interfaces',
  ({ owner, netns, index, device = {} }) =>
    isTexts([owner, netns]) && typeof index === 'number' && isObject(device),
)

/** From here on the interface is this attachment's. Interfaces with an end on the host say so there, and need no record. */
export function recordInterface(attachment: Attachment, about: Placed & { device?: LentDevice }): void {
  records.remember(attachmentHash(attachment), { owner: ownerOf(attachment).comment, ...about })
}

/** The device that this attachment was lent. */
export function lentDevice(attachment: Attachment): LentDevice | undefined {
  const found = records.recall(attachmentHash(attachment))
  return found && ownerIn(found.owner) === ownerOf(attachment).id ? found.device : undefined
}

/** Forgets that the interface is this attachment's; another's record stays. */
export function releaseInterface(attachment: Attachment): void {
  const key = attachmentHash(attachment)
  const found = records.recall(key)
  if (found === undefined || ownerIn(found.owner) === ownerOf(attachment).id) records.forget(key)
}

/** A network's records that no valid attachment has, with what forgets each. */
function stale(network: string, valid: readonly ValidAttachment[]) {
  const isOwner = isStale(network, valid)
  return records.recorded().flatMap(key => {
    const record = records.recall(key)
    const owner = record && ownerIn(record.owner)
    return owner !== undefined && isOwner(owner) ? [{ ...record, forget: () => records.forget(key) }] : []
  })
}

/** GC, but for devices of the host, which have to come home. */
export function releaseStaleInterfaces(network: string, valid: readonly ValidAttachment[]): void {
  for (const { device, forget } of stale(network, valid)) if (!device) forget()
}

/** The devices that a network's dead attachments were lent. */
export function staleLoans(network: string, valid: readonly ValidAttachment[]) {
  return stale(network, valid).flatMap(({ netns, device, forget }) =>
    netns && device ? [{ netns, device, forget }] : [],
  )
}

/** A namespace that a container is in, and sockets there and on the host. */
export interface Ends {
  host: Transport
  container: Transport
  netns: string | undefined
}

/**
 * Whether what a link stands on, or its peer, is in this very namespace. A container chooses the indexes of links that it makes; the
 * number of the namespace is the kernel's, and says nothing where both ends are in one: then that has to be this one
 * (CNI_NETNS_OVERRIDE).
 */
export function isParentHere({ parentNamespace }: Link, { container, netns }: Omit<Ends, 'host'>): boolean {
  if (parentNamespace !== undefined) return parentNamespace === ownNamespaceId(container)
  return netns !== undefined && namespaceIdentity(netns) === ownNamespaceIdentity()
}

/** The host's end of a container's interface: its peer, if that is in this very namespace. */
export function findPeer({ host, ...place }: Ends, inside: Link): Link | undefined {
  const { index, kind, parent } = inside
  if (kind !== 'veth' || parent === undefined || !isParentHere(inside, place)) return undefined
  const outside = findLink(host, parent)
  return outside?.kind === 'veth' && outside.parent === index ? outside : undefined
}

/** The comment of another owner to whom an interface of a container belongs; undefined when none is known. */
export function otherOwner(
  { attachment, netns }: { attachment: Attachment; netns: string | undefined },
  places: { host: Transport; container: Transport },
  inside: Link,
): string | undefined {
  const alias = findPeer({ ...places, netns }, inside)?.alias
  if (alias !== undefined && ownerIn(alias) !== undefined) return otherThan(attachment, alias)
  const found = records.recall(attachmentHash(attachment))
  const isAbout = found?.netns === netns && found?.index === inside.index
  return isAbout ? otherThan(attachment, found?.owner) : undefined
}

/** A comment, if it names an owner and another one than this. */
export function otherThan(attachment: Attachment, comment: string | undefined): string | undefined {
  const owner = comment === undefined ? undefined : ownerIn(comment)
  return owner === undefined || owner === ownerOf(attachment).id ? undefined : comment
}

/** DEL succeeds, and says what it has left alone. */
export function sayLeft({ stderr }: Io, what: string, owner: string): void {
  stderr(`${what} is left alone: it belongs to another attachment (${readableOwner(owner)})\n`)
}
