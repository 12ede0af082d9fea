/**
 * Takes away rules and chains of iptables. Rules that iptables keeps in nf_tables are found and deleted over netlink, without
 * a process; those of ip_tables need its tools, which are asked only where the kernel has such a table.
 */
import { isNotFound } from '../failure.ts'
import { readFile } from '../files.ts'
import { errno, isErrno } from '../libc/errno.ts'
import type { HeldLock } from '../lock.ts'
import type { Transport } from '../netlink/socket.ts'
import { type Chain, listChains, listRules, pickRules } from '../nftables/list.ts'
import { openNetfilterIfPresent } from '../nftables/netfilter.ts'
import type { Command } from '../nftables/nft.ts'
import { type Family, findTools, findVariant, run, type Tools, waitOption } from './tools.ts'

/** A rule as either variant can tell it. */
export interface FoundRule {
  chain: string
  comment: string
  /** Chains that it jumps or goes to. */
  targets: readonly string[]
  /** The one address that it matches, and the links. */
  source?: string
  destination?: string
  input?: string
  output?: string
}

/** What is to go: chains with whatever leads to them, and single rules. */
export interface RemovalFilter {
  isRemovedChain?(name: string): boolean
  isRemovedRule?(rule: FoundRule): boolean
}

const ATTEMPTS = 3

/** Removes from a table of one variant what a filter picks. */
export async function removeRules(
  tools: Pick<Tools, 'family' | 'variant'>,
  table: string,
  filter: RemovalFilter & { lock?: HeldLock | undefined },
): Promise<'removed' | 'absent'> {
  if (tools.variant === 'legacy') return removeFromLegacy(tools.family, table, filter)
  const netfilter = openNetfilterIfPresent()
  if (!netfilter) return 'absent'
  using _open = netfilter
  for (let attempt = 1; ; attempt++) {
    const commands = removalCommands(netfilter, { family: tools.family, table }, filter)
    if (commands.length === 0) return 'absent'
    const { applyRuleset } = await import('../nftables/engine.ts')
    try {
      await applyRuleset(commands)
      return 'removed'
    } catch (thrown) {
      if (!isNotFound(thrown) || attempt === ATTEMPTS) throw thrown // else another process deleted one of them meanwhile
    }
  }
}

/** The commands that remove what a filter picks of a table which iptables keeps in nf_tables; none when that is nothing. */
export function removalCommands(
  netfilter: Transport,
  where: { family: Family; table: string },
  filter: RemovalFilter,
): Command[] {
  const { family, table } = where
  const { isRemovedChain } = filter
  const isPicked = (chain: Chain) =>
    chain.table === table && chain.hook === undefined && Boolean(isRemovedChain?.(chain.name))
  const chains = isRemovedChain ? listChains(netfilter, family, isPicked).map(({ name }) => name) : []
  if (chains.length === 0 && !filter.isRemovedRule) return []
  const rules = pickRules(netfilter, where, rule => isRemoved(rule, chains, filter))
  return [
    ...rules.map<Command>(({ chain, handle }) => ({ verb: 'delete', kind: 'rule', ...where, chain, handle })),
    ...chains.map<Command>(name => ({ verb: 'flush', kind: 'chain', ...where, name })),
    ...chains.map<Command>(name => ({ verb: 'delete', kind: 'chain', ...where, name })),
  ]
}

function isRemoved(rule: FoundRule, chains: readonly string[], { isRemovedRule }: RemovalFilter): boolean {
  if (chains.includes(rule.chain)) return false // it goes with its chain
  return rule.targets.some(target => chains.includes(target)) || Boolean(isRemovedRule?.(rule))
}

/** Whether the kernel has a table of the older kind in this namespace. */
export function hasLegacyTable(family: Family, table: string): boolean {
  return legacyTables(family).includes(table)
}

/**
 * The kernel's tables of the older kind in this namespace. A user namespace may not ask: there it may have some where
 * the machine's own tools are of that kind.
 */
export function legacyTables(family: Family): readonly string[] {
  try {
    const names = readFile(family === 'ip' ? '/proc/net/ip_tables_names' : '/proc/net/ip6_tables_names')
    return names?.split('\n') ?? []
  } catch (thrown) {
    if (isErrno(thrown, errno.EACCES)) return findTools(family)?.variant === 'legacy' ? ['nat', 'filter'] : []
    throw thrown
  }
}

/** Removes what a filter picks from a table of ip_tables. Absent where there is no such table, or no tools for it. */
export function removeFromLegacy(
  family: Family,
  table: string,
  filter: RemovalFilter & { lock?: HeldLock | undefined },
): 'removed' | 'absent' {
  if (!hasLegacyTable(family, table)) return 'absent'
  const tools = findVariant(family, 'legacy')
  if (!tools) return 'absent'
  const lock = filter.lock ? { lock: filter.lock.descriptor } : {}
  for (let attempt = 1; ; attempt++) {
    const saved = run([tools.save, '-t', table], lock)
    const input = removalInput(saved.stdout, table, filter)
    if (input === undefined) return 'absent'
    const { status, stderr } = run([tools.restore, '--noflush', waitOption()], { input, ...lock })
    if (status === 0) return 'removed'
    // Another process deleted one of the rules meanwhile.
    if (attempt === ATTEMPTS)
      throw new Error(`remove ${tools.restore} rules from table ${table}: ${stderr.trim()}`)
  }
}

/** The rules of a table, of both variants. */
export function readRules(family: Family, table: string): FoundRule[] {
  const netfilter = openNetfilterIfPresent()
  using _open = netfilter
  const inNetfilter = netfilter ? listRules(netfilter, { family, table }) : []
  const tools = hasLegacyTable(family, table) ? findVariant(family, 'legacy') : undefined
  if (!tools) return inNetfilter
  const saved = run([tools.save, '-t', table])
  const lines = saved.stdout.split('\n').filter(line => line.startsWith('-A '))
  return [...inNetfilter, ...lines.map(readSavedRule)]
}

/** What iptables-restore has to read to remove what a filter picks of a saved table; undefined when that is nothing. Pure. */
export function removalInput(saved: string, table: string, filter: RemovalFilter): string | undefined {
  const lines = saved.split('\n')
  const chains = lines
    .flatMap(line => /^:(\S+) - /.exec(line)?.[1] ?? [])
    .filter(name => filter.isRemovedChain?.(name))
  const rules = lines.filter(line => line.startsWith('-A ') && isRemoved(readSavedRule(line), chains, filter))
  if (chains.length === 0 && rules.length === 0) return undefined
  return [
    `*${table}`,
    ...rules.map(line => line.replace(/^-A/, '-D')),
    ...chains.map(name => `-F ${name}`),
    ...chains.map(name => `-X ${name}`),
    'COMMIT\n',
  ].join('\n')
}

/** A line of iptables-save: `-A chain … -m comment --comment "…" … -j target`. */
export function readSavedRule(line: string): FoundRule {
  const args = savedArgs(line)
  const after = (...options: string[]) =>
    args.filter((_, at) => at > 0 && options.includes(args[at - 1] ?? ''))
  const matched = (option: string) => args.find((_, at) => args[at - 1] === option && args[at - 2] !== '!')
  const found = {
    source: hostIn(matched('-s')),
    destination: hostIn(matched('-d')),
    input: matched('-i'),
    output: matched('-o'),
  }
  return {
    chain: args[1] ?? '',
    comment: after('--comment')[0] ?? '',
    targets: after('-j', '-g'),
    ...Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined)),
  }
}

/** The address of a match that is for one alone. */
function hostIn(match: string | undefined): string | undefined {
  return /^(.+)\/(32|128)$/.exec(match ?? '')?.[1]
}

/** Words as iptables-save writes them: in double quotes where they hold blanks, with backslashes before quotes. */
function savedArgs(line: string): string[] {
  return [...line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(
    ([, quoted, plain]) => plain ?? quoted?.replace(/\\(.)/g, '$1') ?? '',
  )
}
