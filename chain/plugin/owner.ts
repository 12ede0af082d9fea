/** Who owns a rule or an element of ours, as the comment that it carries. */
import type { Attachment, ValidAttachment } from './define.ts'

/**
 * Two hashes, of the network and of interface and container, then words for people. The form is that of the Go
 * plugins' masquerade comments, so that who knows these reads ours.
 */
export interface Owner {
  /** "<network hash>-<attachment hash>": what ownership is decided by. */
  id: string
  comment: string
}

const HASH_LENGTH = 16
const COMMENT_LENGTH = 127 // NFTNL_UDATA_COMMENT_MAXLEN without the terminating zero

function hash(text: string): string {
  return Bun.SHA512.hash(text, 'hex').slice(0, HASH_LENGTH)
}

function networkHash(network: string): string {
  return hash(network)
}

/** The half of an owner's ID that says which interface of which container, on whatever network. */
export function attachmentHash({ containerId, ifname: name }: ValidAttachment): string {
  return hash(`${name}:${containerId}`)
}

function ownerId(network: string, attachment: ValidAttachment): string {
  return `${networkHash(network)}-${attachmentHash(attachment)}`
}

export function ownerOf(attachment: Attachment): Owner {
  const id = ownerId(attachment.network, attachment)
  const { network, containerId, ifname: name } = attachment
  const readable = `net: ${network}, if: ${name}, id: ${containerId}`.replaceAll('"', '')
  return { id, comment: `${id}, ${readable}`.slice(0, COMMENT_LENGTH) }
}

/** The owner's ID in a comment; undefined when the comment is not of that form. */
export function ownerIn(comment: string): string | undefined {
  return /^[0-9a-f]{16}-[0-9a-f]{16}(?=,|$)/.exec(comment)?.[0]
}

export function isSameNetwork(owner: string, other: string): boolean {
  return owner.slice(0, HASH_LENGTH) === other.slice(0, HASH_LENGTH)
}

/** The name of the host's end of a veth pair: it follows from the attachment, so that a retry and a late DEL find it without the container. */
export function hostEndName(attachment: Attachment): string {
  return hostEndOf(ownerOf(attachment).id)
}

/** The same from the owner's ID, which is all that GC has. */
export function hostEndOf(owner: string): string {
  return `veth${owner.slice(-8)}`
}

/** The words in a comment: "net: …, if: …, id: …". */
export function readableOwner(comment: string): string {
  return comment.slice(2 * HASH_LENGTH + 3)
}

/** Tells whether an owner belongs to a network but not to one of its valid attachments. */
export function isStale(network: string, valid: readonly ValidAttachment[]): (owner: string) => boolean {
  const prefix = `${networkHash(network)}-`
  const alive = new Set(valid.map(attachment => ownerId(network, attachment)))
  return owner => owner.startsWith(prefix) && !alive.has(owner)
}
