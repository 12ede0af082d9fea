/** Looks into a table of iptables for signs of somebody's use. Loaded where there is one. */
import { findChain, listRules, openNetfilterIfPresent } from '../netlink/nftables.ts'
import type { Transport } from '../netlink/socket.ts'
import { type BriefTable, type Place, policySign, type Sought } from './brief.ts'
import { readLegacyTable } from './legacy.ts'
import { hasLegacyTable } from './removal.ts'

const builtins: Readonly<Record<string, readonly string[]>> = {
  filter: ['FORWARD', 'INPUT', 'OUTPUT'],
  nat: ['POSTROUTING', 'PREROUTING', 'OUTPUT', 'INPUT'],
}

/** What shows that a table is used, in words; undefined when nothing does. */
export function signOfUse(place: Place, sought: Sought): string | undefined {
  return withBriefTable(place, table => signIn(table, place, sought))
}

/** Looks into a table of either variant, without running a program; undefined where there is none. */
export function withBriefTable<T>(place: Place, look: (table: BriefTable) => T): T | undefined {
  if (place.variant === 'legacy') {
    if (!hasLegacyTable(place.family, place.table)) return undefined
    const table = readLegacyTable(place.family, place.table)
    return table && look(table)
  }
  using netfilter = openNetfilterIfPresent()
  return netfilter && look(inNetfilter(netfilter, place))
}

function signIn(table: BriefTable, { table: name }: Place, sought: Sought): string | undefined {
  for (const chain of builtins[name] ?? []) {
    if (table.dropping.includes(chain)) return policySign(chain)
    if (table.rulesIn(chain).some(rule => !sought.isOwn(rule))) return `a rule in chain ${chain}`
  }
  return name === 'filter' ? sought.signIn(table) : undefined
}

const NF_DROP = 0

/** Only the chains that are asked for are looked at: kube-proxy has thousands of others. */
function inNetfilter(netfilter: Transport, { family, table }: Place): BriefTable {
  const find = (name: string) => findChain(netfilter, family, table, name)
  return {
    dropping: (builtins[table] ?? []).filter(name => find(name)?.policy === NF_DROP),
    hasChain: name => find(name) !== undefined,
    rulesIn: name => listRules(netfilter, family, table, name),
  }
}
