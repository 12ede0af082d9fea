/** The links that limits are put on: the host end of the container's pair, and the ifb that traffic from the container goes through. */

import { explained } from '../../chain/interface/master.ts'
import { type Ends, findPeer } from '../../chain/interface/owner.ts'
import type { Link } from '../../chain/linux/netlink/link.ts'
import {
  changeLink,
  findLink,
  getLink,
  listLinks,
  newLink,
  readLinkMessage,
  removeLink,
} from '../../chain/linux/netlink/link.ts'
import { batch, type Transport } from '../../chain/linux/netlink/socket.ts'
import type { Attachment, ValidAttachment } from '../../chain/plugin/define.ts'
import { isStale, ownerIn, ownerOf } from '../../chain/plugin/owner.ts'
import type { Undo } from '../../chain/plugin/undo.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import type { Result } from '../../chain/protocol/result.ts'
import { redirectionTargets } from './shape.ts'

const PREFIX = 'bwp'
const NAME_LENGTH = 15 // IFNAMSIZ without the terminating zero

function hashed(text: string): string {
  const hash = new Bun.CryptoHasher('sha512').update(text).digest('hex')
  return `${PREFIX}${hash}`.slice(0, NAME_LENGTH)
}

/** The Go plugin's name, which all interfaces of a container on a network share. */
function sharedName({ network, containerId }: Pick<Attachment, 'network' | 'containerId'>): string {
  return hashed(network + containerId)
}

/** A name for the second interface and those after it. */
function ownName(attachment: Attachment): string {
  return hashed(`${attachment.network}/${attachment.containerId}/${attachment.ifname}`)
}

/**
 * The attachment's ifb. Ours says in its alias whose it is; one with the Go plugin's name and no alias was made by the
 * reference, for whichever interface.
 */
export function findIfb(host: Transport, attachment: Attachment): Link | undefined {
  const found = candidates(host, attachment)
  return found.find(link => isOwn(link, attachment)) ?? found.find(({ alias }) => alias === undefined)
}

/** The attachment's ifb, if it is ours. */
export function findOwnIfb(host: Transport, attachment: Attachment): Link | undefined {
  return candidates(host, attachment).find(link => isOwn(link, attachment))
}

function candidates(host: Transport, attachment: Attachment): Link[] {
  return [sharedName(attachment), ownName(attachment)].flatMap(name => {
    const link = findLink(host, name)
    return link?.kind === 'ifb' ? [link] : []
  })
}

function isOwn({ alias }: Link, attachment: Attachment): boolean {
  return ownerIn(alias ?? '') === ownerOf(attachment).id
}

/** Creates the attachment's ifb, up, under the Go plugin's name if that is free. */
export function createIfb(
  host: Transport,
  undo: Undo,
  { attachment, mtu }: { attachment: Attachment; mtu: number },
): Link {
  const shared = sharedName(attachment)
  const name = findLink(host, shared) ? ownName(attachment) : shared
  const { comment } = ownerOf(attachment)
  // First: creation can end half done, or without a word of how it ended.
  undo(`delete ${name}`, () => {
    const link = findLink(host, name)
    return link && (link.alias ?? comment) === comment && removeLink(host, link.index)
  })
  const [, , [reply] = []] = explained('ifb', () =>
    batch(host, [
      newLink({ name, kind: { type: 'ifb' }, mtu, transmitQueueLength: 0 }),
      changeLink(name, { alias: comment, up: true }),
      getLink(name),
    ]),
  )
  if (!reply) throw new CniError(code.internal, `the kernel does not tell of the new link ${name}`)
  return readLinkMessage(reply)
}

export function removeIfb(host: Transport, attachment: Attachment): 'removed' | 'absent' {
  const link = findIfb(host, attachment)
  return link ? removeLink(host, link.index) : 'absent'
}

/** The host end of a container's pair, if its interface has one on this host. */
export function findHostEnd(places: Ends, name: string): Link | undefined {
  const inside = findLink(places.container, name)
  return inside && findPeer(places, inside)
}

/** As above, for what must be there and told of in prevResult. */
export function requireHostEnd(places: Ends, { name, previous }: { name: string; previous: Result }): Link {
  const refuse = (message: string): never => {
    throw new CniError(code.internal, message, {
      details: `bandwidth shapes pairs of veth links whose host end prevResult tells of; it tells of ${JSON.stringify(previous.interfaces)}`,
    })
  }
  if (previous.interfaces.length === 0) refuse('prevResult: no interfaces provided')
  const inside =
    findLink(places.container, name) ??
    refuse(`container interface ${name} has no veth peer: could not look up "${name}": Link not found`)
  if (inside.parent === undefined)
    refuse(`container interface ${name} has no veth peer: interface "${name}" was not a veth interface`)
  const outside =
    findHostEnd(places, name) ?? refuse(`veth peer with index ${inside.parent} is not in host ns`)
  const told = previous.interfaces.some(one => !one.sandbox && one.name === outside.name)
  return told
    ? outside
    : refuse(`no veth peer of container interface found in host ns: ${outside.name} is not in prevResult`)
}

/**
 * Removes the ifbs of a network that no valid attachment owns. Those of the Go plugin do not say whose they are: they go
 * when no link's packets come to them any more.
 */
export function removeStaleIfbs(host: Transport, network: string, valid: readonly ValidAttachment[]): void {
  const ifbs = listLinks(host, { kind: 'ifb' }).filter(({ name }) => name.startsWith(PREFIX))
  const stale = isStale(network, valid)
  const alive = new Set(valid.map(({ containerId }) => sharedName({ network, containerId })))
  const anonymous = ifbs.filter(({ alias, name }) => alias === undefined && !alive.has(name))
  const used =
    anonymous.length > 0
      ? redirectionTargets(
          host,
          listLinks(host, { kind: 'veth' }).map(({ index }) => index),
        )
      : new Set()
  const gone = [
    ...ifbs.filter(({ alias }) => stale(ownerIn(alias ?? '') ?? '')),
    ...anonymous.filter(({ index }) => !used.has(index)),
  ]
  for (const { index } of gone) removeLink(host, index)
}
