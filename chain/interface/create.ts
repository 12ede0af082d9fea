/**
 * Creating a container's interface once: marked until its ADD has come to its end, so that a retry tells what a killed ADD
 * left from what is alive. Knows no kind of link.
 */
import { errno } from '../linux/libc/errno.ts'
import { findLink, removeLink, setLink } from '../linux/netlink/link.ts'
import { isRefusal, type Transport } from '../linux/netlink/socket.ts'
import { namespaceIdentity } from '../linux/netns.ts'
import type { AddRequest } from '../plugin/define.ts'
import { CniError, code } from '../protocol/error.ts'
import { openContainer } from './configure.ts'

/** The group of links whose ADD has not come to its end: a number that nothing else uses, "CTNA". Set at creation. */
export const PENDING = 0x43544e41

/** Deletes a link that a killed ADD left; one that is finished, or somebody else's, stays. */
export function removePending(route: Transport, name: string): 'removed' | 'absent' {
  const left = findLink(route, name)
  return left?.group === PENDING ? removeLink(route, left.index) : 'absent'
}

/** From here on the link is a finished attachment's; on the host its alias says whose. */
export function markFinished(route: Transport, link: string | number, alias?: string): void {
  setLink(route, link, { group: 0, ...(alias === undefined ? {} : { alias }) })
}

export interface Creation {
  create(container: Transport): void
  /** Clears away what a killed ADD left, when a name is taken, or this one: what is not finished. */
  clear(container: Transport): 'removed' | 'absent'
  /** Takes away what else a killed ADD may have left, once its interface and its addresses are gone. */
  sweep?(): Promise<void>
  /** What else may be taken than CNI_IFNAME. */
  other?: string
}

type Request = Pick<AddRequest<unknown>, 'netns' | 'attachment' | 'ipam' | 'undo' | 'keep' | 'alone'>

/** The name under which one ADD at a time makes an interface of a container. */
export function interfaceIn(netns: string, name: string): string {
  return `${name} of namespace ${namespaceIdentity(netns) ?? netns}`
}

/** Creates CNI_IFNAME in the container; what a killed ADD left goes first, and its addresses with it. */
export async function createOnce(request: Request, creation: Creation): Promise<void> {
  const { create, clear, sweep } = creation
  const { netns, ipam, undo, keep } = request
  const name = request.attachment.ifname
  // another plugin's ADD, or another network's, may be at work on the same name
  await request.alone(interfaceIn(netns, name))
  const container = keep(openContainer(netns))
  // First: creation can end half done, or without a word of how it ended. Until it is finished, it can be told from others'.
  undo(`delete what was begun of ${name}`, () => clear(container))
  try {
    create(container)
  } catch (thrown) {
    if (!isRefusal(thrown, errno.EEXIST, errno.EBUSY) || clear(container) === 'absent')
      throw explainTaken(container, thrown, { ...request, ...creation })
    await ipam.remove()
    await sweep?.()
    create(container)
  }
  undo(`delete ${name}`, () => removeLink(container, name))
}

function explainTaken(
  container: Transport,
  thrown: unknown,
  { netns, attachment, other }: Request & Creation,
): unknown {
  if (!isRefusal(thrown, errno.EEXIST)) return thrown
  const taken = findLink(container, attachment.ifname)
  if (taken) {
    return new CniError(code.internal, `interface ${taken.name} already exists in ${netns}`, {
      details: `it is a ${taken.kind ?? 'device'} with hardware address ${taken.address || 'none'}: a second ADD for a live attachment, or another network`,
      cause: thrown,
    })
  }
  if (other === undefined) return thrown
  return new CniError(code.internal, `${other} already exists`, {
    details: `${attachment.ifname} of container ${attachment.containerId} is attached in another namespace, and DEL takes it away; or it is another attachment's, whose its alias says (\`ip link\`)`,
    cause: thrown,
  })
}
