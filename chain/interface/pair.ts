/** A container's veth pair: the host's end is named after the attachment, and its alias tells DEL and GC whose it is. */
import { close } from '../linux/libc/file.ts'
import {
  findLink,
  getLink,
  type Link,
  listLinks,
  newLink,
  readLinkMessage,
  removeLink,
  unlistLink,
} from '../linux/netlink/link.ts'
import { attempt, KernelError, openRoute, type Request, type Transport } from '../linux/netlink/socket.ts'
import { inNamespace, namespaceState, openNamespace } from '../linux/netns.ts'
import type { Attachment, DelRequest } from '../plugin/define.ts'
import { hostEndName, hostEndOf, ownerIn } from '../plugin/owner.ts'
import { CniError, code } from '../protocol/error.ts'
import { PENDING } from './create.ts'
import { otherOwner, otherThan, sayLeft } from './owner.ts'

export interface PairSpec {
  attachment: Attachment
  netns: string
  /** Of both ends; 0 and less: the kernel's choice. */
  mtu: number
  /** Hardware address of the container's end. */
  mac?: string | undefined
  /** What the host's end is put on. */
  master?: number
  /** More that the host's end is to be, in the same exchange. */
  settings?: readonly Request[]
  /** What a refusal of the pair itself means; else it is thrown as it is. */
  explain?(refusal: KernelError): Error
}

/**
 * Creates the pair: the container's end in place under its final name, the host's end up. One exchange with the kernel, so that
 * a kill leaves all of it or nothing; until `markFinished` a retry knows it for half done.
 */
export function createPair(host: Transport, spec: PairSpec): Link {
  const { attachment, netns, mtu, mac, master, settings = [], explain } = spec
  const name = hostEndName(attachment)
  const size = mtu > 0 ? { mtu } : {}
  const namespace = openNamespace(netns)
  try {
    const peer = { name: attachment.ifname, namespace, ...size, ...(mac ? { address: mac } : {}) }
    const onMaster = master === undefined ? {} : { master }
    const kind = { type: 'veth', peer } as const
    const [created, ...rest] = attempt(host, [
      newLink({ name, kind, up: true, group: PENDING, ...onMaster, ...size }),
      ...settings,
      getLink(name),
    ])
    if (created instanceof KernelError) throw explain?.(created) ?? created
    for (const answer of rest) if (answer instanceof KernelError) throw answer
    const [reply] = rest.at(-1) as Exclude<(typeof rest)[number], KernelError>
    if (!reply) throw new CniError(code.internal, `the kernel did not describe ${name}`)
    return readLinkMessage(reply)
  } finally {
    close(namespace)
  }
}

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
  if (link && other === undefined) return unlistLink({ route: host }, link)
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
export function removeInside(host: Transport, request: PairRequest): 'removed' | 'absent' {
  const { netns } = request
  if (netns === undefined || namespaceState(netns) !== 'present') return 'absent'
  const namespace = openNamespace(netns)
  try {
    using container = inNamespace(namespace, openRoute)
    return removeOwn({ host, container, namespace }, request)
  } finally {
    close(namespace)
  }
}

function removeOwn(
  { host, container, namespace }: { host: Transport; container: Transport; namespace: number },
  { attachment, netns, io }: PairRequest,
): 'removed' | 'absent' {
  const inside = findLink(container, attachment.ifname)
  if (!inside) return 'absent'
  const other = otherOwner({ attachment, netns }, { host, container }, inside)
  if (other === undefined) return unlistLink({ route: container, namespace }, inside)
  sayLeft(io, `${inside.name} in ${netns}`, other)
  return 'absent'
}

/** Deletes the host ends of owners that a test picks: those of finished attachments. */
export function removeHostEnds(host: Transport, isPicked: (owner: string) => boolean): void {
  for (const link of listLinks(host, { kind: 'veth' })) {
    const owner = isFinished(link) ? ownerIn(link.alias ?? '') : undefined
    if (owner !== undefined && link.name === hostEndOf(owner) && isPicked(owner))
      unlistLink({ route: host }, link)
  }
}

function isFinished({ group, kind }: Link): boolean {
  return kind === 'veth' && group !== PENDING
}
