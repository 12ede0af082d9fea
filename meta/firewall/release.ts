/** Takes away what an owner has in iptables and in firewalld, by its record. */
import { everyStep } from '../../chain/plugin/undo.ts'
import { removeSources } from './firewalld.ts'
import { removePolicies, removeRulesOf } from './iptables-removal.ts'
import { type FirewallRecord, forget, recordsOfOthers } from './records.ts'

/** What is known of an owner. A policy that is not may be on any bridge, and is found by what no other asks for. */
export type Known = Omit<FirewallRecord, 'ingress'> & { ingress?: FirewallRecord['ingress'] | 'unknown' }

/**
 * Everything in a record, but for addresses that somebody else has by now; then the record itself, if all has gone: what has
 * not is tried again with it.
 */
export async function release(
  env: Readonly<Record<string, string | undefined>>,
  owner: string,
  { addresses: all, zone, ingress }: Known,
): Promise<void> {
  const others = recordsOfOthers(owner)
  const without = (records: readonly FirewallRecord[]) =>
    all.filter(address => !records.some(other => other.addresses.includes(address)))
  const sources = without(others.filter(other => other.zone === zone))
  let hasChains = true
  await everyStep({
    'delete the rules of iptables': async () => {
      const own = without(others.filter(isByIptables))
      hasChains = (await removeRulesOf(own)) || own.length === 0
    },
    'delete the policy of iptables': () => {
      const bridge = ingress === 'unknown' ? hasChains && 'of any' : ingress?.bridge
      return bridge && removePolicies(bridge, () => recordsOfOthers(owner))
    },
    'take the addresses out of firewalld': () =>
      zone === undefined || sources.length === 0
        ? undefined
        : removeSources(env, { zone, addresses: sources }),
  })
  forget(owner)
}

/** What does not say it may be. */
const isByIptables = ({ filters }: FirewallRecord) => filters === undefined || filters.length > 0
