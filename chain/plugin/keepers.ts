/** What keeps an attachment's rules, for who wants to see it: the kernel is asked, and the records of what it cannot say. */
import { errno, isErrno } from '../linux/libc.ts'
import { openNetfilterIfPresent } from '../linux/netlink/nftables.ts'
import { isRefusal } from '../linux/netlink/socket.ts'
import type { Attachment } from './define.ts'
import { MASQUERADE_PREFIX, PORTS_PREFIX, partOf } from './iptables.ts'
import { roleOf } from './layout.ts'
import { listOwned } from './owned.ts'
import { ownerOf } from './owner.ts'
import { recordsIn } from './state.ts'

/** By what the rules are for: "nftables", "iptables" or "firewalld"; without what an attachment has no rules for. */
export interface Keepers {
  masquerade?: string
  ports?: string
  firewall?: string
}

/** Tells of any attachment what keeps its rules; of none where the user may not ask. */
export function readKeepers(): (attachment: Attachment) => Keepers {
  try {
    const inNftables = rolesInNftables()
    return attachment => orNothing(() => keepersOf(attachment, inNftables))
  } catch (thrown) {
    if (mayNot(thrown)) return () => ({})
    throw thrown
  }
}

function orNothing(read: () => Keepers): Keepers {
  try {
    return read()
  } catch (thrown) {
    if (mayNot(thrown)) return {}
    throw thrown
  }
}

const mayNot = (thrown: unknown) =>
  isErrno(thrown, errno.EPERM, errno.EACCES) || isRefusal(thrown, errno.EPERM, errno.EACCES)

/** Of each owner, what it has elements for. */
function rolesInNftables(): Map<string, Set<string>> {
  using netfilter = openNetfilterIfPresent()
  const roles = new Map<string, Set<string>>()
  for (const { owner, family, collection } of netfilter ? listOwned(netfilter) : []) {
    const role = roleOf(family, collection)
    if (owner === undefined || role === undefined) continue
    roles.set(owner, (roles.get(owner) ?? new Set()).add(role))
  }
  return roles
}

const firewalls = recordsIn<{ backend?: string }>('firewall', () => true)

function keepersOf(attachment: Attachment, inNftables: ReadonlyMap<string, ReadonlySet<string>>): Keepers {
  const { id } = ownerOf(attachment)
  const byNftables = (role: string) => (inNftables.get(id)?.has(role) ? 'nftables' : undefined)
  const byIptables = (prefix: string) => (partOf(prefix, attachment) ? 'iptables' : undefined)
  const found = {
    masquerade: byIptables(MASQUERADE_PREFIX) ?? byNftables('masquerade'),
    ports: byIptables(PORTS_PREFIX) ?? byNftables('ports'),
    firewall: firewalls.recall(id)?.backend ?? byNftables('firewall'),
  }
  return Object.fromEntries(Object.entries(found).filter(([, keeper]) => keeper !== undefined))
}

/** In words: "nftables", or "masquerade nftables, ports iptables" where they differ; undefined where there are no rules. */
export function describeKeepers(keepers: Keepers): string | undefined {
  const entries = Object.entries(keepers) as [string, string][]
  const [first] = entries
  if (!first) return undefined
  if (entries.every(([, keeper]) => keeper === first[1])) return first[1]
  return entries.map(([what, keeper]) => `${what} ${keeper}`).join(', ')
}
