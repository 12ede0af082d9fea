/**
 * The sysctl route_localnet, which lets the host's own 127.0.0.1 reach containers behind a link, and the guard that has to
 * stand before it is set.
 */
import { ensureFolder, readState, removeFile, writeInPlace } from '../linux/files.ts'
import { findLink } from '../linux/netlink/link.ts'
import { openRoute, type Transport } from '../linux/netlink/socket.ts'
import { ensureSysctl, readSysctl } from '../linux/sysctl.ts'
import { hostEndOf, ownerIn } from '../plugin/owner.ts'
import { RUN_FOLDER } from '../plugin/state.ts'
import type { OwnedElement } from './nftables/elements.ts'
import { listOwned } from './nftables/read.ts'

const keyOf = (link: string) => `net/ipv4/conf/${link}/route_localnet`

/** A note for each link that was opened here, and not by an administrator; it says whether iptables guards the link, too. */
const OPENED = `${RUN_FOLDER}/localnet`
const noteOf = (link: string) => readState(`${OPENED}/${link}`)
const isOpen = (link: string) => readSysctl(keyOf(link)) === '1'
const isAdministrators = (link: string) => isOpen(link) && noteOf(link) === undefined

function note(link: string, text: string): void {
  ensureFolder(OPENED)
  writeInPlace(`${OPENED}/${link}`, text)
}

/**
 * The guard in our nftables table: what arrives over the link from or to 127.0.0.0/8 is dropped. None where an administrator
 * wants it open. It is added again each time, since somebody may have flushed it.
 */
export function localnetGuard(link: string): OwnedElement[] {
  return isAdministrators(link) ? [] : [{ family: 'ip', collection: 'route_localnet', key: [link] }]
}

/** Lets the host's own 127.0.0.1 reach containers behind a link. */
export function openLocalnet(link: string): void {
  if (isOpen(link)) return
  if (noteOf(link) === undefined) note(link, '')
  ensureSysctl(keyOf(link), '1')
}

/** Notes that iptables guards the link, too: it then stays open when our nftables table goes. */
export function keepLocalnetOpen(link: string): void {
  if (!isAdministrators(link)) note(link, KEPT)
}

const KEPT = 'iptables'

/** Closes what was opened here, if the link is still there. */
function close(link: string): void {
  if (isOpen(link)) ensureSysctl(keyOf(link), '0')
  removeFile(`${OPENED}/${link}`)
}

/**
 * Before an owner's rules go: a pair of its own needs the door no longer, and its guard goes with the rules. A bridge stays
 * open for its other containers.
 */
export function closeOwnLocalnet(owner: string): void {
  const link = hostEndOf(owner)
  if (noteOf(link) !== undefined && !isOthers(link, owner)) close(link)
}

/** The name says nothing of the network: another one's attachment of the same interface has its pair under it, too. */
function isOthers(name: string, owner: string): boolean {
  using host = openRoute()
  const other = ownerIn(findLink(host, name)?.alias ?? '')
  return other !== undefined && other !== owner
}

/** Before the guard of 127.0.0.0/8 goes with its table, the doors that it guards are closed again. */
export function closeLocalnet(netfilter: Transport): void {
  for (const { collection, key } of listOwned(netfilter, ['ip'])) {
    const [link = ''] = key.map(String)
    if (collection === 'route_localnet' && noteOf(link) !== KEPT) close(link)
  }
}
