/**
 * An interface of a container that stands on a master: macvlan, ipvlan, VLAN. It comes to be in the container under its
 * final name wherever the kernel can do that.
 */
import { errno } from '../linux/libc/errno.ts'
import {
  changeLink,
  findLink,
  getLink,
  type NewLink,
  newLink,
  readLinkMessage,
  removeLink,
} from '../linux/netlink/link.ts'
import type { Kind } from '../linux/netlink/link-kind.ts'
import { ownNamespaceId } from '../linux/netlink/namespace-id.ts'
import { isRefusal, request, type Transport } from '../linux/netlink/socket.ts'
import type { Attachment } from '../plugin/define.ts'
import { ownerOf } from '../plugin/owner.ts'
import { PENDING, removePending } from './create.ts'
import { finishInterface } from './finish.ts'
import { explainDown, explainKind, type Master } from './master.ts'

export interface SubInterfaceSpec {
  attachment: Attachment
  master: Master
  kind: Kind
  /** 0: the master's. */
  mtu: number
  mac?: string | undefined
}

/**
 * Creates the interface, from inside: a name that the host uses too is no obstacle then. Throws KernelError, EEXIST when the
 * name is taken in the container, or what the kind says of its own on that master (a VLAN's ID).
 */
export function createSubInterface(container: Transport, spec: SubInterfaceSpec): void {
  const { attachment, master, kind, mtu, mac } = spec
  const link: NewLink = {
    name: attachment.ifname,
    kind,
    group: PENDING,
    parent: master.link.index,
    ...(master.inContainer ? {} : { parentNamespace: ownNamespaceId(container) }),
    ...(mtu ? { mtu } : {}),
    ...(mac ? { address: mac } : {}),
  }
  try {
    request(container, newLink(link))
  } catch (thrown) {
    const collides = !master.inContainer && isRefusal(thrown, errno.EEXIST)
    if (!collides || findLink(container, link.name)) throw explainKind(thrown, kind.type)
    createUnderAnotherName(container, link, temporaryName(attachment))
  }
}

/** Clears away what a killed ADD left, under either name. */
export function clearSubInterface(container: Transport, attachment: Attachment): 'removed' | 'absent' {
  const found = [attachment.ifname, temporaryName(attachment)].map(name => removePending(container, name))
  return found.includes('removed') ? 'removed' : 'absent'
}

function temporaryName(attachment: Attachment): string {
  return `new${ownerOf(attachment).id.slice(-8)}`
}

/**
 * Before Linux 6.15 a link comes to be in its parent's namespace and is moved from there: where the host has a link of that
 * name, it needs another one on the way.
 */
function createUnderAnotherName(container: Transport, link: NewLink, temporary: string): void {
  removePending(container, temporary)
  request(container, newLink({ ...link, name: temporary }))
  try {
    const [reply] = request(container, getLink(temporary))
    if (reply) request(container, changeLink(readLinkMessage(reply).index, { name: link.name }))
  } catch (thrown) {
    removeLink(container, temporary)
    throw thrown
  }
}

/** As `finishInterface`; a master that is down is named as the reason. */
export function finishSubInterface(
  request: Parameters<typeof finishInterface>[0],
  options: Parameters<typeof finishInterface>[1] & { master: Master },
): ReturnType<typeof finishInterface> {
  try {
    return finishInterface(request, options)
  } catch (thrown) {
    throw explainDown(thrown, options.master)
  }
}
