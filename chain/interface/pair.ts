/** Taking a container's veth pair away: the host's end is named after the attachment, and its alias tells DEL and GC whose it is. */
import { findLink, type Link, listLinks, removeLink } from '../linux/netlink/link.ts'
import type { Transport } from '../linux/netlink/socket.ts'
import type { Attachment, DelRequest } from '../plugin/define.ts'
import { hostEndName, hostEndOf, ownerIn } from '../plugin/owner.ts'
import { openContainerIfPresent } from './configure.ts'
import { PENDING } from './create.ts'
import { otherOwner, otherThan, sayLeft } from './owner.ts'

/** What to do with a pair is asked from the end that the host has: its alias is no container's to write. */
type PairRequest = Pick<DelRequest<unknown>, 'attachment' | 'netns' | 'io'>

/**
 * Deletes an attachment's pair, by the end that the host has under its name, else by the one in the container: other plugins
 * name theirs otherwise. One that belongs to another attachment is left, and said.
 */
export function removePair(host: Transport, request: PairRequest): 'removed' | 'absent' {
  const { attachment, io } = request
  const link = findLink(host, hostEndName(attachment))
  const other = link && otherThan(attachment, link.alias)
  if (link && other === undefined) return removeLink(host, link.index)
  if (link && other !== undefined) sayLeft(io, link.name, other)
  return removeInside(host, request)
}

/** Clears away a pair that a killed ADD of this attachment left. */
export function removePendingPair(host: Transport, attachment: Attachment): 'removed' | 'absent' {
  const left = findLink(host, hostEndName(attachment))
  const isOwn = left?.group === PENDING && otherThan(attachment, left.alias) === undefined
  return isOwn ? removeLink(host, left.index) : 'absent'
}

/** Deletes a container's interface, if both are still there and no other attachment is known to have it. */
export function removeInside(host: Transport, { attachment, netns, io }: PairRequest): 'removed' | 'absent' {
  using container = openContainerIfPresent(netns)
  const inside = container && findLink(container, attachment.ifname)
  if (!container || !inside) return 'absent'
  const other = otherOwner({ attachment, netns }, { host, container }, inside)
  if (other === undefined) return removeLink(container, inside.index)
  sayLeft(io, `${inside.name} in ${netns}`, other)
  return 'absent'
}

/** Deletes the host ends of owners that a test picks: those of finished attachments. */
export function removeHostEnds(host: Transport, isPicked: (owner: string) => boolean): void {
  for (const link of listLinks(host, { kind: 'veth' })) {
    const owner = isFinished(link) ? ownerIn(link.alias ?? '') : undefined
    if (owner !== undefined && link.name === hostEndOf(owner) && isPicked(owner)) removeLink(host, link.index)
  }
}

function isFinished({ group, kind }: Link): boolean {
  return kind === 'veth' && group !== PENDING
}
