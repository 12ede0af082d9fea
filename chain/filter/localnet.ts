/**
 * The note of each link whose sysctl route_localnet portmap has set, and not an administrator; and how they are closed again
 * before the guard of 127.0.0.0/8 goes with its table, whichever plugin's DEL or GC empties that.
 */
import { ensureFolder, readState, removeFile, writeInPlace } from '../linux/files.ts'
import type { Transport } from '../linux/netlink/socket.ts'
import { ensureSysctl, readSysctl } from '../linux/sysctl.ts'
import { RUN_FOLDER } from '../plugin/state.ts'
import { collectionsWith, type OurFamily } from './nftables/layout.ts'
import { listIn } from './nftables/read.ts'

export const localnetKey = (link: string) => `net/ipv4/conf/${link}/route_localnet`

const OPENED = `${RUN_FOLDER}/localnet`

/** What is noted of a link, KEPT_OPEN or nothing more; undefined for one that was not opened here. */
export const noteOf = (link: string) => readState(`${OPENED}/${link}`)

/** Of a link that iptables guards, too. */
export const KEPT_OPEN = 'iptables'

export function note(link: string, text: '' | typeof KEPT_OPEN): void {
  ensureFolder(OPENED)
  writeInPlace(`${OPENED}/${link}`, text)
}

export const isOpen = (link: string) => readSysctl(localnetKey(link)) === '1'

/** Closes what was opened here, if the link is still there. */
export function closeLink(link: string): void {
  if (isOpen(link)) ensureSysctl(localnetKey(link), '0')
  removeFile(`${OPENED}/${link}`)
}

/** For whoever empties a table of ours: what its elements guard is closed. */
export function closeGuardedLinks(netfilter: Transport, family: OurFamily): void {
  for (const element of listIn(netfilter, family, collectionsWith(family, 'localnet-guard')))
    if (element.kind === 'localnet-guard' && noteOf(element.key[0]) !== KEPT_OPEN) closeLink(element.key[0])
}
