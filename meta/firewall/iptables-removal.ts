/** Rules and policies of iptables taken away: by address, since they carry no owner; and by bridge. */
import { tableFamilyOf } from '../../chain/ip/family.ts'
import { lockRules } from '../../chain/linux/iptables/apply.ts'
import type { FoundTable } from '../../chain/linux/iptables/found.ts'
import {
  type FoundRule,
  hasLegacyTable,
  removeFromLegacy,
  removeRules,
} from '../../chain/linux/iptables/removal.ts'
import type { Family } from '../../chain/linux/iptables/tools.ts'
import { unlessUnwritable } from '../../chain/linux/lock.ts'
import { findChain } from '../../chain/linux/nftables/list.ts'
import { openNetfilterIfPresent } from '../../chain/linux/nftables/netfilter.ts'
import {
  FIRST_STAGE,
  FORWARD,
  families,
  policyComment,
  read,
  SECOND_STAGE,
  TABLE,
  variants,
} from './iptables.ts'
import type { FirewallRecord } from './records.ts'

/**
 * Takes away the rules of addresses, whoever added them. Chains that all share stay, as the Go plugin leaves them: answers whether
 * there are any of the addresses' families.
 */
export async function removeRulesOf(addresses: readonly string[]): Promise<boolean> {
  let hasChains = false
  const filter = {
    isRemovedRule: (rule: { chain: string; source?: string; destination?: string }) =>
      rule.chain === FORWARD &&
      [rule.source, rule.destination].some(address => address !== undefined && addresses.includes(address)),
  }
  for (const family of new Set(addresses.map(tableFamilyOf))) {
    const isThere = hasForwardChain(family)
    if (isThere) await removeRules({ family, variant: 'nf_tables' }, TABLE, filter)
    removeFromLegacy(family, TABLE, filter)
    hasChains ||= isThere || hasLegacyTable(family, TABLE)
  }
  return hasChains
}

/**
 * Takes away what no container on a bridge asks for any more, or on any bridge: the Go plugin leaves it for ever. Nothing is taken
 * while an address is accepted of which there is no record: the Go plugin's containers have the same rules.
 */
export async function removePolicies(
  bridge: string | 'of any',
  others: () => readonly FirewallRecord[],
): Promise<void> {
  using lock = unlessUnwritable(() => lockRules({ shared: false })) // who adds one meanwhile waits, and then finds it missing
  const records = others()
  const ingresses = records.flatMap(({ ingress }) => ingress ?? [])
  const isMeant = (link: string | undefined): link is string =>
    link !== undefined && (bridge === 'of any' || link === bridge)
  const ingressesOn = (link: string) => ingresses.filter(ingress => ingress.bridge === link)
  const isRemovedRule = ({ chain, comment, input, output }: FoundRule) =>
    chain === FIRST_STAGE
      ? isMeant(input) && !ingressesOn(input).some(({ policy }) => comment.endsWith(policyComment(policy)))
      : chain === SECOND_STAGE && isMeant(output) && ingressesOn(output).length === 0
  for (const family of families) {
    for (const variant of variants) {
      if (read({ family, variant }, table => !holdsStrangers(table, records)))
        await removeRules({ family, variant }, TABLE, { isRemovedRule, lock })
    }
  }
}

function holdsStrangers(table: FoundTable, records: readonly FirewallRecord[]): boolean {
  const known = new Set(records.flatMap(({ addresses }) => addresses))
  return table.rulesIn(FORWARD).some(({ source }) => source !== undefined && !known.has(source))
}

function hasForwardChain(family: Family): boolean {
  const netfilter = openNetfilterIfPresent()
  if (!netfilter) return false
  using _open = netfilter
  return findChain(netfilter, { family, table: TABLE, chain: FORWARD }) !== undefined
}
