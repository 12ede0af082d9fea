/** Whose addresses are in iptables or in firewalld: neither can say it, and DEL may come with nothing but the environment. */
import { recordsIn } from '../../chain/plugin/state.ts'

export interface FirewallRecord {
  addresses: string[]
  /** firewalld's zone, where it has them. */
  zone?: string
}

const records = recordsIn<FirewallRecord>('firewall')

export const { recall, forget, recorded } = records

/** Remembers an owner's addresses, which nobody else has from now on: whoever had one has not been deleted, but is gone. */
export function remember(owner: string, record: FirewallRecord): void {
  for (const other of recorded()) {
    const theirs = other === owner ? undefined : recall(other)
    const rest = theirs?.addresses.filter(address => !record.addresses.includes(address))
    if (theirs && rest && rest.length < theirs.addresses.length)
      records.remember(other, { ...theirs, addresses: rest })
  }
  records.remember(owner, record)
}

/** Addresses without those that another owner has by now: a late DEL must not cut off who came after. */
export function withoutOthers(owner: string, addresses: readonly string[]): string[] {
  if (addresses.length === 0) return []
  const others = recorded().filter(other => other !== owner)
  const held = new Set(others.flatMap(other => recall(other)?.addresses ?? []))
  return addresses.filter(address => !held.has(address))
}
