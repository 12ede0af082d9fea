/** Where a container's packets are accepted, and by whom they would be dropped all the same. */

import type { Family } from '../../chain/linux/iptables/tools.ts'
import {
  findChain,
  listBaseChains,
  listTables,
  openNetfilterIfPresent,
} from '../../chain/linux/netlink/nftables.ts'
import { TABLE } from '../../chain/plugin/layout.ts'
import type { FirewallConfiguration } from './configuration.ts'
import { isRunning } from './firewalld.ts'
import { type Filter, obstructingFilters, usualFilters } from './iptables.ts'
import { familyOf } from './subject.ts'

export interface Backends {
  nftables: boolean
  firewalld: boolean
  iptables: Filter[]
}

/**
 * What the configuration says. Where it is silent: firewalld if it runs, else nftables; and iptables as well where its FORWARD
 * may drop the packets, since nothing that another table accepts undoes that.
 */
export async function chooseBackends(
  { backend }: FirewallConfiguration,
  used: readonly Family[],
  env: Readonly<Record<string, string | undefined>>,
): Promise<Backends> {
  if (backend === 'iptables') return { nftables: false, firewalld: false, iptables: usualFilters(used) }
  if (backend !== '')
    return { nftables: backend === 'nftables', firewalld: backend === 'firewalld', iptables: [] }
  const firewalld = await isRunning(env)
  return { nftables: !firewalld, firewalld, iptables: obstructingFilters(used) }
}

const FORWARD_HOOK = 2 // NF_INET_FORWARD
const NF_DROP = 0

/**
 * What stays in the way of the packets, in sentences: base chains of others that drop what they do not accept. What these are
 * for is not known, so nothing can be done about them.
 */
export function obstacles({ backend }: FirewallConfiguration, addresses: readonly string[]): string[] {
  const used = [...new Set(addresses.map(familyOf))]
  if (used.length === 0) return []
  const filters = backend === '' || backend === 'iptables' ? [] : obstructingFilters(used)
  return [
    ...foreignDrops(used).map(
      chain =>
        `${chain} drops what it does not accept, and no other table can undo that: ${addresses.join(' and ')} must be accepted there`,
    ),
    ...filters.map(
      ({ family, variant }) =>
        `FORWARD of ${family === 'ip' ? 'iptables' : 'ip6tables'} (${variant}) may drop packets of ${addresses.join(' and ')}; without "backend" they would be accepted there too`,
    ),
  ]
}

/**
 * Tables of iptables, which hold thousands of chains where kube-proxy writes them: only the one that people write there by
 * hand is looked up. FORWARD, in capitals, is an affair of iptables' backend.
 */
const ofIptables = ['filter', 'nat', 'mangle', 'raw', 'security']
const USUAL_NAME = 'forward'

function foreignDrops(used: readonly Family[]): string[] {
  const netfilter = openNetfilterIfPresent()
  if (!netfilter) return []
  using _open = netfilter
  return [...used, 'inet' as const].flatMap(family => {
    const tables = listTables(netfilter, family).filter(table => table !== TABLE)
    const isLarge = (table: string) => family !== 'inet' && ofIptables.includes(table)
    const chains = [
      ...tables.filter(isLarge).flatMap(table => findChain(netfilter, family, table, USUAL_NAME) ?? []),
      ...(tables.every(isLarge) ? [] : listBaseChains(netfilter, family)).filter(
        ({ table }) => table !== TABLE && !isLarge(table),
      ),
    ]
    return chains
      .filter(({ hook, policy }) => hook === FORWARD_HOOK && policy === NF_DROP)
      .map(({ table, name }) => `chain ${name} of table ${family} ${table}`)
  })
}
