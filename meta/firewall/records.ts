/** Whose addresses are in iptables or in firewalld: neither can say it, and DEL may come with nothing but the environment. */

import type { BackendName } from '../../chain/filter/decision.ts'
import type { Family, Variant } from '../../chain/linux/iptables/tools.ts'
import { isSameNetwork } from '../../chain/plugin/owner.ts'
import { isObject, isTexts, recordsIn } from '../../chain/plugin/state.ts'
import type { Ingress } from './ingress.ts'

/** One of the packet filters that iptables keeps. */
export interface Filter {
  family: Family
  variant: Variant
}

export interface FirewallRecord {
  addresses: string[]
  /** What has been chosen, and the filters of iptables that accept the addresses. */
  backend?: BackendName | 'firewalld'
  filters?: readonly Filter[]
  /** firewalld's zone, where it has them. */
  zone?: string
  /** The policy that iptables enforces. */
  ingress?: Ingress
}

const isFilter = (found: Partial<Filter>) =>
  isObject(found) &&
  (found.family === 'ip' || found.family === 'ip6') &&
  (found.variant === 'nf_tables' || found.variant === 'legacy')

const isBackend = (found: string) => ['iptables', 'nftables', 'firewalld'].includes(found)

const records = recordsIn<FirewallRecord>(
  'firewall',
  ({ addresses, filters = [], backend = 'iptables' }) =>
    isTexts(addresses) && Array.isArray(filters) && filters.every(isFilter) && isBackend(backend),
)

export const { recall, forget, recorded } = records

/**
 * Remembers an owner's addresses, which no other of its network has from now on: whoever had one has not been deleted, but is
 * gone. Another network may have the same.
 */
export function remember(owner: string, record: FirewallRecord): void {
  for (const other of recorded()) {
    const theirs = other === owner || !isSameNetwork(other, owner) ? undefined : recall(other)
    const rest = theirs?.addresses.filter(address => !record.addresses.includes(address))
    if (!theirs || !rest || rest.length === theirs.addresses.length) continue
    if (rest.length === 0) records.forget(other)
    else records.remember(other, { ...theirs, addresses: rest })
  }
  records.remember(owner, record)
}

/** What all owners have but one. */
export function recordsOfOthers(owner: string): FirewallRecord[] {
  return recorded().flatMap(other => (other === owner ? [] : (recall(other) ?? [])))
}
