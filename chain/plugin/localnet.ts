/**
 * The sysctl route_localnet, which lets the host's own 127.0.0.1 reach containers behind a link, and the guard that has to
 * stand before it is set.
 */
import { ensureFolder, readFile, writeInPlace } from '../linux/files.ts'
import type { Transport } from '../linux/netlink/socket.ts'
import { ensureSysctl, readSysctl } from '../linux/sysctl.ts'
import type { OwnedElement } from './elements.ts'
import { listOwned } from './owned.ts'
import { RUN_FOLDER } from './state.ts'

const keyOf = (link: string) => `net/ipv4/conf/${link}/route_localnet`

/**
 * The guard in our nftables table: what arrives over the link from or to 127.0.0.0/8 is dropped. None where route_localnet
 * is on already: a guard of ours stands there, or an administrator wants it open.
 */
export function localnetGuard(link: string): OwnedElement[] {
  if (readSysctl(keyOf(link)) === '1') return []
  return [{ family: 'ip', collection: 'route_localnet', key: [link] }]
}

/** Lets the host's own 127.0.0.1 reach containers behind a link. */
export function openLocalnet(link: string): void {
  ensureSysctl(keyOf(link), '1')
}

/** Before the guard of 127.0.0.0/8 goes with its table, the doors that it guards are closed again. */
export function closeLocalnet(netfilter: Transport): void {
  for (const { collection, key } of listOwned(netfilter, ['ip'])) {
    const [link = ''] = key.map(String)
    if (collection !== 'route_localnet' || readFile(`${KEPT_OPEN}/${link}`) !== undefined) continue
    if (readSysctl(keyOf(link)) !== undefined) ensureSysctl(keyOf(link), '0') // absent: the link has gone
  }
}

const KEPT_OPEN = `${RUN_FOLDER}/localnet`

/** Notes that iptables guards the link, too: it then stays open when our nftables table goes. */
export function keepLocalnetOpen(link: string): void {
  ensureFolder(KEPT_OPEN)
  writeInPlace(`${KEPT_OPEN}/${link}`, '')
}
