/** Lets the host route between its links. */
import { isIpv6 } from '../ip/family.ts'
import { ensureSysctl, readSysctl } from '../linux/sysctl.ts'
import type { Rules } from '../plugin/define.ts'
import { bestEffort } from './configure.ts'

const switches = [
  { key: 'net/ipv4/ip_forward', isFor: (address: string) => !isIpv6(address) },
  { key: 'net/ipv6/conf/all/forwarding', isFor: isIpv6 },
]

/** Switches forwarding on for the families of these addresses. Stays on: others may rely on it by now. */
export function enableForwarding(addresses: readonly string[]): void {
  for (const { key, isFor } of switches) if (addresses.some(isFor)) ensureSysctl(key, '1')
}

/** Rules that are of no use where the host does not route for these addresses: whoever puts them back switches that on, too. */
export function withForwarding(rules: Rules, addresses: readonly string[]): Rules {
  const off = () => switches.find(({ key, isFor }) => addresses.some(isFor) && readSysctl(key) !== '1')
  return {
    async add(undo) {
      enableForwarding(addresses)
      if (await rules.check()) await rules.add(undo)
    },
    async check() {
      const closed = off()
      return closed ? `${closed.key.replaceAll('/', '.')} is off` : rules.check()
    },
  }
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
