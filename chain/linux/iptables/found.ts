/** What a table of iptables holds, of either variant: read over netlink where it is in nf_tables, else from its own tool. */
import { findChain, listRules, openNetfilterIfPresent } from '../netlink/nftables.ts'
import { goesOn } from '../netlink/nftables-expression.ts'
import { type FoundRule, hasLegacyTable, readSavedRule } from './removal.ts'
import { type Family, findVariant, run, type Variant } from './tools.ts'

export interface FoundTable {
  rules: (FoundRule & { mayDrop: boolean })[]
  /** Built-in chains that drop what comes to their end. */
  dropping: string[]
}

/** A table as it is, if it has that built-in chain; undefined where there is none, or nobody has the tools to read it. */
export function readTable(
  family: Family,
  variant: Variant,
  { table, chain }: { table: string; chain: string },
): FoundTable | undefined {
  return variant === 'legacy' ? readLegacyTable(family, table) : readNftTable(family, table, chain)
}

const NF_DROP = 0

function readNftTable(family: Family, table: string, chain: string): FoundTable | undefined {
  const netfilter = openNetfilterIfPresent()
  if (!netfilter) return undefined
  using _open = netfilter
  const builtin = findChain(netfilter, family, table, chain)
  if (!builtin) return undefined
  return {
    rules: listRules(netfilter, family, table),
    dropping: builtin.policy === NF_DROP ? [chain] : [],
  }
}

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
    rules: rules.map(rule => ({ ...rule, mayDrop: rule.targets.some(target => !letsThrough.has(target)) })),
    dropping: lines.flatMap(line => /^:(\S+) DROP /.exec(line)?.[1] ?? []),
  }
}

/** Whether what is sent through a chain may be dropped in it, or in those that it leads to, but for some chains. */
export function mayDropIn(table: FoundTable, chain: string, but: readonly string[] = []): boolean {
  if (table.dropping.includes(chain)) return true
  const seen = new Set(but)
  const open = [chain]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    seen.add(next)
    for (const { chain: one, targets, mayDrop } of table.rules) {
      if (one !== next) continue
      if (mayDrop) return true
      open.push(...targets.filter(target => !seen.has(target)))
    }
  }
  return false
}
