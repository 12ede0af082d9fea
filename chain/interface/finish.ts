/** From a new link in the container to ADD's result, for plugins whose result is that one interface. */
import { findLink, type Link } from '../linux/netlink/link.ts'
import { inNamespace } from '../linux/netns.ts'
import { ensureSysctl } from '../linux/sysctl.ts'
import type { AddRequest, DelRequest, GcRequest } from '../plugin/define.ts'
import { everyStep } from '../plugin/undo.ts'
import type { Interface, Result } from '../protocol/result.ts'
import {
  announceInterface,
  bestEffort,
  configureInterface,
  findOwnInterface,
  onHost,
  openContainer,
} from './configure.ts'
import { markFinished } from './create.ts'
import { recordInterface, releaseInterface, releaseStaleInterfaces } from './owner.ts'
import { removeInside } from './pair.ts'

/** DEL of a plugin that has nothing but its interface and addresses. Goes on past a failed step and tells all failures. */
export async function removeFinished({
  attachment,
  netns,
  ipam,
  io,
}: Pick<DelRequest<unknown>, 'attachment' | 'netns' | 'ipam' | 'io'>): Promise<void> {
  await everyStep({
    // while the interface is there: a DHCP lease is given back through it
    'release the addresses': () => ipam.remove(),
    [`delete ${attachment.ifname}`]: () => onHost(host => removeInside(host, { attachment, netns, io })),
    'forget whose it was': () => releaseInterface(attachment),
  })
}

/** GC of such a plugin. */
export async function collectStale({
  network,
  valid,
  ipam,
}: Pick<GcRequest<unknown>, 'network' | 'valid' | 'ipam'>): Promise<void> {
  await everyStep({
    'forget whose stale interfaces were': () => releaseStaleInterfaces(network, valid),
    'release stale addresses': () => ipam.gc(),
  })
}

/** A result whose addresses are all on one interface. */
export function placeOn(addresses: Result, place: Interface): Result {
  return {
    ...addresses,
    interfaces: [place],
    ips: addresses.ips.map(ip => ({ ...ip, interface: 0 })),
  }
}

/** When the neighbours are told of the addresses: as the link comes up, and again after, by those that can. */
export type Announcement = 'none' | 'when up' | 'again'

/** Puts addresses and routes on CNI_IFNAME and brings it up; it is a finished attachment's from then on. */
export function finishInterface(
  { netns, attachment, undo }: Pick<AddRequest<unknown>, 'netns' | 'attachment' | 'undo'>,
  { addresses, announcement }: { addresses: Result; announcement: Announcement },
): { result: Result; link: Link } {
  const name = attachment.ifname
  const result = placeOn(addresses, { name, sandbox: netns })
  if (announcement === 'when up') inNamespace(netns, () => announceWhenUp(name))
  const link = configureInterface({ netns, name, result })
  if (announcement === 'again') announceInterface({ netns, name, result }, link)
  undo(`forget whose ${name} is`, () => releaseInterface(attachment))
  recordInterface(attachment, { netns, index: link.index })
  using container = openContainer(netns)
  markFinished(container, link.index)
  return { link, result: placeOn(addresses, { name, mac: link.address, sandbox: netns }) }
}

/** The kernel announces what is on the link as it comes up. */
function announceWhenUp(name: string): void {
  bestEffort(() => ensureSysctl(`net/ipv4/conf/${name}/arp_notify`, '1'))
  bestEffort(() => ensureSysctl(`net/ipv6/conf/${name}/ndisc_notify`, '1'))
}

/** The MTU that CHECK expects: a later plugin's word in prevResult counts more than the configuration. */
export function expectedMtu(
  previous: Result,
  { netns, name, configured }: { netns: string; name: string; configured: number },
): number | undefined {
  return findOwnInterface(previous, { netns, name }).mtu || Math.max(configured, 0) || undefined
}

/** The container's interface as it is now. */
export function findInterface(netns: string, name: string): Link | undefined {
  using container = openContainer(netns)
  return findLink(container, name)
}
