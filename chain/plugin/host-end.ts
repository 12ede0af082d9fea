/** The host's end of a container's veth pair: named after the attachment, which its alias tells people and GC in full. */
import { listLinks, removeLink } from '../linux/netlink/link.ts'
import type { Transport } from '../linux/netlink/socket.ts'
import type { Attachment } from './define.ts'
import { ownerIn, ownerOf } from './owner.ts'

/** The name follows from the attachment, so that a retry and a late DEL find the link without the container. */
export function hostEndName(attachment: Attachment): string {
  return hostEndOf(ownerOf(attachment).id)
}

/** The same from the owner's ID, which is all that GC has. */
export function hostEndOf(owner: string): string {
  return `veth${owner.slice(-8)}`
}

/** Deletes the host ends of owners that a test picks: those of finished attachments, which have the alias. */
export function removeHostEnds(host: Transport, isPicked: (owner: string) => boolean): void {
  for (const { alias = '', index, name } of listLinks(host, { kind: 'veth' })) {
    const owner = ownerIn(alias)
    if (owner !== undefined && name === hostEndOf(owner) && isPicked(owner)) removeLink(host, index)
  }
}
