/**
 * The host's own 127.0.0.1 as a way to published ports: the sysctl route_localnet of the link that leads to the container,
 * and the guard that has to stand before it is set.
 */
import { closeLink, isOpen, KEPT_OPEN, localnetKey, note, noteOf } from '../../chain/filter/localnet.ts'
import type { Element } from '../../chain/filter/nftables/elements.ts'
import { errno } from '../../chain/linux/libc/errno.ts'
import { findLink } from '../../chain/linux/netlink/link.ts'
import { routeTo } from '../../chain/linux/netlink/route.ts'
import { isRefusal, openRoute } from '../../chain/linux/netlink/socket.ts'
import { ensureSysctl } from '../../chain/linux/sysctl.ts'
import { hostEndOf, ownerIn } from '../../chain/plugin/owner.ts'
import { portMappings } from './configuration.ts'
import type { Call, Target } from './publication.ts'

/**
 * The link towards the container: the host's 127.0.0.1 reaches it only if that link lets loopback addresses through. None where
 * no port is published on it.
 */
export function linkToContainer({ config }: Call, targets: readonly Target[]): string | undefined {
  const isOnLoopback = config.snat && portMappings(config).some(({ families }) => families.includes(4))
  const target = targets.find(({ family }) => family === 4)
  if (!isOnLoopback || !target) return undefined
  using host = openRoute()
  try {
    const { link } = routeTo(host, target.address)
    return link === undefined ? undefined : findLink(host, link)?.name
  } catch (thrown) {
    if (isRefusal(thrown, errno.ENETUNREACH, errno.EHOSTUNREACH)) return undefined
    throw thrown
  }
}

const isAdministrators = (link: string) => isOpen(link) && noteOf(link) === undefined

/**
 * The guard in our nftables table: what arrives over the link from or to 127.0.0.0/8 is dropped. None where an administrator
 * wants it open. It is added again each time, since somebody may have flushed it.
 */
export function localnetGuard(link: string): Element[] {
  return isAdministrators(link) ? [] : [{ family: 'ip', kind: 'localnet-guard', key: [link] }]
}

/** Lets the host's own 127.0.0.1 reach containers behind a link. */
export function openLocalnet(link: string): void {
  if (isOpen(link)) return
  if (noteOf(link) === undefined) note(link, '')
  ensureSysctl(localnetKey(link), '1')
}

/** Notes that iptables guards the link, too: it then stays open when our nftables table goes. */
export function keepLocalnetOpen(link: string): void {
  if (!isAdministrators(link)) note(link, KEPT_OPEN)
}

/**
 * Before an owner's rules go: a pair of its own needs the door no longer, and its guard goes with the rules. A bridge stays
 * open for its other containers.
 */
export function closeOwnLocalnet(owner: string): void {
  const link = hostEndOf(owner)
  if (noteOf(link) !== undefined && !isOthers(link, owner)) closeLink(link)
}

/** The name says nothing of the network: another one's attachment of the same interface has its pair under it, too. */
function isOthers(name: string, owner: string): boolean {
  using host = openRoute()
  const other = ownerIn(findLink(host, name)?.alias ?? '')
  return other !== undefined && other !== owner
}
