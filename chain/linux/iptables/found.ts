/** What a table of iptables holds, of either variant: read over netlink where it is in nf_tables, else from its own tool. */

import { goesOn } from '../nftables/expression.ts'
import { findChain, listRules } from '../nftables/list.ts'
import { openNetfilterIfPresent } from '../nftables/netfilter.ts'
import { type FoundRule, hasLegacyTable, readSavedRule } from './removal.ts'
import { type Family, findVariant, run, type Variant } from './tools.ts'

export interface FoundTable {
  /** The rules of one chain, read when they are asked for. */
  rulesIn(chain: string): (FoundRule & { mayDrop: boolean })[]
  /** Built-in chains that drop what comes to their end. */
  dropping: readonly string[]
}

/** Reads a table that has some built-in chain; undefined where it has not, or there are no tools to read it. */
export function withTable<T>(
  { family, variant, table, builtin }: { family: Family; variant: Variant; table: string; builtin: string },
  read: (found: FoundTable) => T,
): T | undefined {
  if (variant === 'legacy') {
    const found = readLegacyTable(family, table)
    return found && read(found)
  }
  const netfilter = openNetfilterIfPresent()
  if (!netfilter) return undefined
  using _open = netfilter
  const chain = findChain(netfilter, { family, table, chain: builtin })
  if (!chain) return undefined
  return read({
    rulesIn: name => listRules(netfilter, { family, table, chain: name }),
    dropping: chain.policy === NF_DROP ? [builtin] : [],
  })
}

const NF_DROP = 0

function readLegacyTable(family: Family, table: string): FoundTable | undefined {
  const tools = hasLegacyTable(family, table) ? findVariant(family, 'legacy') : undefined
  return tools && readSaved(run([tools.save, '-t', table]).stdout)
}

/** A table as iptables-save prints it. Pure. */
export function readSaved(text: string): FoundTable {
  const lines = text.split('\n')
  const chains = lines.flatMap(line => /^:(\S+) - /.exec(line)?.[1] ?? [])
  const letsThrough = new Set([...chains, ...goesOn, 'ACCEPT', 'RETURN'])
  const rules = lines.filter(line => line.startsWith('-A ')).map(readSavedRule)
  return {
    rulesIn: name =>
      rules
        .filter(({ chain }) => chain === name)
        .map(rule => ({ ...rule, mayDrop: rule.targets.some(target => !letsThrough.has(target)) })),
    dropping: lines.flatMap(line => /^:(\S+) DROP /.exec(line)?.[1] ?? []),
  }
}

/** Whether what is sent through a chain may be dropped in it, or in those that it leads to, but for some chains. */
export function mayDropIn(table: FoundTable, chain: string, but: readonly string[] = []): boolean {
  if (table.dropping.includes(chain)) return true
  const seen = new Set(but)
  const open = [chain]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (seen.has(next)) continue
    seen.add(next)
    const rules = table.rulesIn(next)
    if (rules.some(({ mayDrop }) => mayDrop)) return true
    open.push(...rules.flatMap(({ targets }) => targets))
  }
  return false
}
