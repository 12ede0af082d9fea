/** What keeps an attachment's rules, for who wants to see it: the kernel is asked, and the records of what it cannot say. */
import { errno, isErrno } from '../linux/libc/errno.ts'
import { isRefusal } from '../linux/netlink/socket.ts'
import { filledSets, listElements } from '../linux/nftables/list.ts'
import { openNetfilterIfPresent } from '../linux/nftables/netfilter.ts'
import type { Attachment } from '../plugin/define.ts'
import { ownerIn, ownerOf } from '../plugin/owner.ts'
import { isObject, recordsIn } from '../plugin/state.ts'

/** As in layout.ts, which plugins alone load: what two loads share is a piece of its own, which costs either. */
const TABLE = 'catena'

/** By what the rules are for: "nftables", "iptables" or "firewalld"; without what an attachment has no rules for. */
export interface RuleBackends {
  masquerade?: string
  ports?: string
  firewall?: string
}

/** Tells of any attachment what keeps its rules; of none where the user may not ask. */
export function readRuleBackends(): (attachment: Attachment) => RuleBackends {
  try {
    const [inNftables, inIptables] = [rolesInNftables(), rolesInIptables()]
    return attachment => orNothing(() => ruleBackendsOf(attachment, inNftables, inIptables))
  } catch (thrown) {
    if (mayNot(thrown)) return () => ({})
    throw thrown
  }
}

function orNothing(read: () => RuleBackends): RuleBackends {
  try {
    return read()
  } catch (thrown) {
    if (mayNot(thrown)) return {}
    throw thrown
  }
}

const mayNot = (thrown: unknown) =>
  isErrno(thrown, errno.EPERM, errno.EACCES) || isRefusal(thrown, errno.EPERM, errno.EACCES)

/** Sets and maps of our tables (layout.ts) that tell by an element of an attachment's what it has rules for. */
const telling: Readonly<Record<string, keyof RuleBackends>> = {
  masquerade_source: 'masquerade',
  port_address: 'ports',
  hostip_address: 'ports',
  forwarded: 'firewall',
  policy_member: 'firewall',
}

const families = ['ip', 'ip6'] as const

/** Of each owner, what it has elements for. */
function rolesInNftables(): Map<string, Set<string>> {
  using netfilter = openNetfilterIfPresent()
  const roles = new Map<string, Set<string>>()
  if (!netfilter) return roles
  for (const family of families) {
    const filled = filledSets(netfilter, family, TABLE)
    for (const [name, role] of Object.entries(telling)) {
      if (!filled.includes(name)) continue
      for (const { comment } of listElements(netfilter, { family, table: TABLE, set: name })) {
        const owner = ownerIn(comment) ?? ''
        roles.set(owner, (roles.get(owner) ?? new Set()).add(role))
      }
    }
  }
  return roles
}

const firewalls = recordsIn<{ backend?: string }>(
  'firewall',
  ({ backend = '' }) => typeof backend === 'string',
)
/** Of each chain of iptables, the interfaces that have a part in it: see iptables.ts. */
const shares = recordsIn<Record<string, { attachment: Attachment }>>('iptables', found =>
  Object.values(found).every(share => isObject(share) && isObject(share.attachment)),
)

/** Of each owner, what it has chains for. */
function rolesInIptables(): Map<string, Set<string>> {
  const roles = new Map<string, Set<string>>()
  for (const chain of shares.recorded()) {
    for (const { attachment } of Object.values(shares.recall(chain) ?? {})) {
      const owner = ownerOf(attachment).id
      const role = chain.startsWith('CNI-DN-') ? 'ports' : 'masquerade'
      roles.set(owner, (roles.get(owner) ?? new Set()).add(role))
    }
  }
  return roles
}

type Roles = ReadonlyMap<string, ReadonlySet<string>>

function ruleBackendsOf(attachment: Attachment, inNftables: Roles, inIptables: Roles): RuleBackends {
  const { id } = ownerOf(attachment)
  const backendOf = (role: string) =>
    inIptables.get(id)?.has(role) ? 'iptables' : inNftables.get(id)?.has(role) ? 'nftables' : undefined
  const found = {
    masquerade: backendOf('masquerade'),
    ports: backendOf('ports'),
    firewall: firewalls.recall(id)?.backend ?? backendOf('firewall'),
  }
  return Object.fromEntries(Object.entries(found).filter(([, backend]) => backend !== undefined))
}

/** In words: "nftables", or "masquerade nftables, ports iptables" where they differ; undefined where there are no rules. */
export function describeRuleBackends(backends: RuleBackends): string | undefined {
  const entries = Object.entries(backends) as [string, string][]
  const [first] = entries
  if (!first) return undefined
  if (entries.every(([, backend]) => backend === first[1])) return first[1]
  return entries.map(([what, backend]) => `${what} ${backend}`).join(', ')
}
