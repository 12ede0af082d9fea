/** Looks into a table of iptables for signs of somebody's use. Loaded where there is one. */

import type { Transport } from '../netlink/socket.ts'
import { findChain, findChains, listRules } from '../nftables/list.ts'
import { openNetfilterIfPresent } from '../nftables/netfilter.ts'
import { type BriefTable, type Place, policySign, type Sought } from './brief.ts'
import { readLegacyTable } from './legacy.ts'
import { hasLegacyTable } from './removal.ts'

const builtins: Readonly<Record<string, readonly string[]>> = {
  filter: ['FORWARD', 'INPUT', 'OUTPUT'],
  nat: ['POSTROUTING', 'PREROUTING', 'OUTPUT', 'INPUT'],
}

/** What shows that a table is used, in words; undefined when nothing does. */
export function signOfUse(place: Place, sought: Sought): string | undefined {
  const look = (table: BriefTable) => signIn(table, place, sought)
  return withBriefTable(place, look, place.table === 'filter' ? sought.chains : [])
}

/** Looks into a table of either variant, at some chains first of all, without running a program; undefined where there is none. */
export function withBriefTable<T>(
  place: Place,
  look: (table: BriefTable) => T,
  chains: readonly string[] = [],
): T | undefined {
  if (place.variant === 'legacy') {
    if (!hasLegacyTable(place.family, place.table)) return undefined
    const table = readLegacyTable(place.family, place.table)
    return table && look(table)
  }
  using netfilter = openNetfilterIfPresent()
  return netfilter && look(inNetfilter(netfilter, place, chains))
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
function inNetfilter(netfilter: Transport, place: Place, more: readonly string[]): BriefTable {
  const { family, table } = place
  const usual = builtins[table] ?? []
  const asked = [...usual, ...more]
  const chains = findChains(netfilter, place, asked)
  return {
    dropping: usual.filter(name => chains.get(name)?.policy === NF_DROP),
    hasChain: name =>
      asked.includes(name)
        ? chains.has(name)
        : findChain(netfilter, { family, table, chain: name }) !== undefined,
    rulesIn: name =>
      asked.includes(name) && !chains.get(name)?.uses
        ? []
        : listRules(netfilter, { family, table, chain: name }),
  }
}
