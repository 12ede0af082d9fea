/** What a table of iptables comes to for who wants to know whether it is used, whatever keeps it. */
import type { Family, Variant } from './tools.ts'

/** As much of a rule as tells whose it is. */
export interface BriefRule {
  /** Chains that it leads to. */
  targets: readonly string[]
  comment: string
}

/** A table of either variant. */
export interface BriefTable {
  /** Built-in chains that drop what comes to their end. */
  dropping: readonly string[]
  hasChain(name: string): boolean
  rulesIn(chain: string): readonly BriefRule[]
}

export interface Place {
  family: Family
  variant: Variant
  table: string
}

/** What of iptables counts as its use. */
export interface Sought {
  /** Rules of built-in chains that do not count. */
  isOwn(rule: BriefRule): boolean
  /** Chains of table filter that `signIn` looks at. */
  chains: readonly string[]
  /** What else counts in table filter, in words. */
  signIn(filter: BriefTable): string | undefined
}

/** The sign that a chain drops what comes to its end. */
export const policySign = (chain: string) => `the policy of chain ${chain}`
