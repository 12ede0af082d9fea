/** What an iptables table is to hold, as data, and as what iptables-restore reads. Pure. */
import type { Family, Variant } from './tools.ts'

/** A rule as arguments of iptables, without its chain: ["-p", "tcp", "-j", "ACCEPT"]. */
export type Args = readonly string[]

export interface Rule {
  chain: string
  args: Args
}

/** A rule that is added only where none like it is. */
export interface EnsuredRule extends Rule {
  /** Where in the chain it is added: at its end unless said otherwise. */
  at?: 'start' | 'end'
}

export interface Plan {
  family: Family
  /** The machine's choice when absent. */
  variant?: Variant
  table: 'nat' | 'filter'
  /** Chains that others use too: made where they are not there, never emptied. */
  chains?: readonly string[]
  /** Rules in chains that others use too, in this order. */
  ensure?: readonly EnsuredRule[]
  /** Chains of one owner alone: made with exactly these rules. Whatever they were before goes, with what led there. */
  own?: readonly { name: string; rules: readonly Args[] }[]
  /** Rules that lead to chains of one's own, added at the end of their chain. */
  enter?: readonly Rule[]
  /** What other tables of the family are to hold first: by the same process, each table a transaction of its own. */
  first?: readonly Omit<Plan, 'first'>[]
}

/** A line of what iptables-restore reads, and what it is there for. */
export interface Line {
  text: string
  checks?: EnsuredRule
  creates?: string
  adds?: Rule
}

/**
 * The lines that bring a plan about, given which of the ensured rules are absent: one transaction a table. Each of the others is
 * checked by the tool itself, and so is that no own chain is there yet: otherwise all is refused, and nothing done.
 */
export function linesOf(plan: Plan, absent: ReadonlySet<EnsuredRule>): Line[] {
  const { table, ensure = [], own = [], enter = [], first = [] } = plan
  return [
    ...first.flatMap(other => linesOf(other, absent)),
    { text: `*${table}` },
    ...ensure.map(rule => (absent.has(rule) ? adding(rule, rule.at) : checking(rule))),
    ...own.map(({ name }) => ({ text: `-N ${quote(name)}`, creates: name })),
    ...own.flatMap(({ name, rules }) => rules.map(args => adding({ chain: name, args }))),
    ...enter.map(rule => adding(rule)),
    { text: 'COMMIT' },
  ]
}

/** Checks alone: they change nothing, and are refused at the first rule of the plan that is not there. */
export function checksOf({ table, ensure = [], own = [], enter = [], first = [] }: Plan): Line[] {
  const rules = [
    ...ensure,
    ...own.flatMap(({ name, rules }) => rules.map(args => ({ chain: name, args }))),
    ...enter,
  ]
  const lines = [{ text: `*${table}` }, ...rules.map(checking), { text: 'COMMIT' }]
  return [...first.flatMap(checksOf), ...lines]
}

function adding(rule: Rule, at: 'start' | 'end' = 'end'): Line {
  return { text: ruleText(at === 'start' ? '-I' : '-A', rule), adds: rule }
}

function checking(rule: Rule): Line {
  return { text: ruleText('-C', rule), checks: rule }
}

/** A rule as a line of iptables-restore, with the option that says what becomes of it. */
function ruleText(option: '-A' | '-I' | '-C' | '-D', { chain, args }: Rule): string {
  return [option, ...[chain, ...args].map(quote)].join(' ')
}

/** iptables-restore knows double quotes, and a backslash for what would end them. A line cannot go on. */
function quote(word: string): string {
  if (/[\n\r\0]/.test(word))
    throw new TypeError(`a word of an iptables rule ends its line: ${JSON.stringify(word)}`)
  return /^[\w!@%+=:,./-]+$/.test(word) ? word : `"${word.replace(/["\\]/g, '\\$&')}"`
}

/** The number of the line that a tool complains about, from 1. */
export function lineIn(stderr: string): number | undefined {
  const found = /\bline:? (\d+)/.exec(stderr)
  return found ? Number(found[1]) : undefined
}
