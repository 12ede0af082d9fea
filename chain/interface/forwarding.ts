/** Lets the host route between its links. */
import { isIpv6 } from '../ip/family.ts'
import { ensureSysctl } from '../linux/sysctl.ts'
import { bestEffort } from './configure.ts'

/** Switches forwarding on for the families of these addresses. Stays on: others may rely on it by now. */
export function enableForwarding(addresses: readonly string[]): void {
  if (addresses.some(address => !isIpv6(address))) ensureSysctl('net/ipv4/ip_forward', '1')
  if (addresses.some(address => isIpv6(address))) ensureSysctl('net/ipv6/conf/all/forwarding', '1')
}

/**
 * Prepares a link of the host that stands before containers, just created: it takes no router's word, and its link-local
 * address can be used as soon as it is there. Without one the kernel cannot ask for the neighbour that it forwards to, and
 * proving one unique takes it two seconds.
 */
export function prepareHostLink(name: string): void {
  for (const key of ['accept_ra', 'accept_dad'])
    bestEffort(() => ensureSysctl(`net/ipv6/conf/${name}/${key}`, '0'))
}
