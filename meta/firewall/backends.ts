/** Where a container's packets are accepted, and by whom they would be dropped all the same. */

import { decideBackend } from '../../chain/filter/backend.ts'
import type { BackendName, Decision } from '../../chain/filter/decision.ts'
import { TABLE } from '../../chain/filter/nftables/layout.ts'
import { tableFamilyOf } from '../../chain/ip/family.ts'
import type { Family, Variant } from '../../chain/linux/iptables/tools.ts'
import { findChain, listBaseChains, listTables } from '../../chain/linux/nftables/list.ts'
import { openNetfilterIfPresent } from '../../chain/linux/nftables/netfilter.ts'
import type { AttachmentRequest } from '../../chain/plugin/define.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import { adminFilters } from './admin-chain.ts'
import { adminChain, namedBackend, zoneOf } from './configuration.ts'
import { isRunning, missingSource } from './firewalld.ts'
import { familiesOf } from './ingress.ts'
import { filtersThatAccept, obstructingFilters, usualFilters } from './iptables.ts'
import { type Filter, type FirewallRecord, recall } from './records.ts'
import type { FirewallConfiguration } from './schema.ts'

/** What accepts a container's packets, and what else is done in iptables. */
export interface Choice {
  backend: BackendName | 'firewalld'
  why: string
  by: Decision['by']
  /** Filters of iptables that accept its packets: where that is the backend, and where they would drop them. */
  accepting: Filter[]
  /** Those that hold an administrator's chain, and do not lead there yet: they are to, whatever the backend is. */
  obeyed: Filter[]
  /** Those in which that chain is made for who may want to fill it. */
  prepared: Filter[]
}

type Asked = Pick<AttachmentRequest<FirewallConfiguration>, 'config' | 'io'> & { args?: string }

/**
 * What the configuration says. Where it is silent: firewalld if it runs, else what backend.ts decides; and iptables as well
 * where its FORWARD may drop the packets, since nothing that another table accepts undoes that.
 */
export async function chooseBackend(asked: Asked, used: readonly Family[]): Promise<Choice> {
  return choiceBy(await decide(asked), asked, used)
}

/** The same for a decision that somebody has made. */
export function choiceBy(decision: Decided, asked: Asked, used: readonly Family[]): Choice {
  const admin = adminChain(asked.config)
  const isSilent = decision.by !== 'configuration'
  const accepting = unique([
    ...(decision.backend === 'iptables' ? usualFilters(used, decision.variant) : []),
    ...(isSilent ? obstructingFilters(used) : []),
  ])
  const { unled, without } = adminFilters(used, { admin, but: accepting })
  const isToPrepare = isSilent && decision.backend === 'nftables' && decision.by !== 'node'
  return { ...decision, accepting, obeyed: unled, prepared: isToPrepare ? without : [] }
}

/** What an earlier ADD has chosen, whatever the node has become since. */
export async function choiceAtAdd(
  asked: Asked & Pick<AttachmentRequest<unknown>, 'attachment'>,
  addresses: readonly string[],
): Promise<Choice> {
  const used = familiesOf(addresses)
  const named = namedBackend(asked.config)
  const recorded = recall(ownerOf(asked.attachment).id)
  const isTold = recorded?.backend !== undefined // version 0.1.0 noted addresses alone
  if (!isTold && named) return chooseBackend(asked, used)
  const record = isTold ? recorded : await foundRecord(asked, addresses)
  const accepting = unique([...(record.filters ?? []), ...(named ? [] : obstructingFilters(used))])
  return {
    backend: record.backend ?? 'nftables',
    why: 'ADD has chosen it',
    by: named ? 'configuration' : 'use',
    accepting,
    obeyed: adminFilters(used, { admin: adminChain(asked.config), but: accepting }).unled,
    prepared: [],
  }
}

/** What has left no record is nftables' alone, or the Go plugin's: then firewalld or iptables has the addresses. */
async function foundRecord(
  { config, io }: Asked,
  addresses: readonly string[],
): Promise<Pick<FirewallRecord, 'backend' | 'filters'>> {
  const sources = { zone: zoneOf(config), addresses }
  if ((await isRunning(io.env)) && !(await missingSource(io.env, sources))) return { backend: 'firewalld' }
  const filters = filtersThatAccept(addresses)
  return filters.length > 0 ? { backend: 'iptables', filters } : { backend: 'nftables' }
}

/** Another choice, where the first one turns out not to work on this node. */
export function insteadOf(
  choice: Choice,
  { backend, why, by, variant }: Decision,
  used: readonly Family[],
): Choice {
  const accepting = backend === 'iptables' ? usualFilters(used, variant) : []
  const obeyed = choice.obeyed.filter(one => !accepting.some(other => isSame(one, other)))
  return { backend, why, by, accepting, obeyed, prepared: [] }
}

type Decided = Pick<Choice, 'backend' | 'why' | 'by'> & { variant?: Variant }

export async function decide({ config, args, io }: Asked): Promise<Decided> {
  const named = namedBackend(config)
  if (named === 'firewalld') return { backend: named, why: 'the configuration says so', by: 'configuration' }
  if (!named && (await isRunning(io.env))) return { backend: 'firewalld', why: 'it runs', by: 'use' }
  return decideBackend(named, { chain: adminChain(config), ...(args === undefined ? {} : { args }) })
}

const isSame = (one: Filter, other: Filter) => one.family === other.family && one.variant === other.variant

function unique(filters: readonly Filter[]): Filter[] {
  return filters.filter((one, at) => filters.findIndex(other => isSame(one, other)) === at)
}

const FORWARD_HOOK = 2 // NF_INET_FORWARD
const NF_DROP = 0

/**
 * What stays in the way of the packets, in sentences: base chains of others that drop what they do not accept. What these are
 * for is not known, so nothing can be done about them.
 */
export function blockingChains(config: FirewallConfiguration, addresses: readonly string[]): string[] {
  const used = [...new Set(addresses.map(tableFamilyOf))]
  if (used.length === 0) return []
  const named = namedBackend(config)
  const filters = named === '' || named === 'iptables' ? [] : obstructingFilters(used)
  return [
    ...foreignDrops(used).map(
      chain =>
        `${chain} drops what it does not accept, and no other table can undo that: ${addresses.join(' and ')} must be accepted there`,
    ),
    ...filters.map(
      ({ family, variant }) =>
        `FORWARD of ${family === 'ip' ? 'iptables' : 'ip6tables'} (${variant}) may drop packets of ${addresses.join(' and ')}; without "backend" they would be accepted there too`,
    ),
  ]
}

/**
 * Tables of iptables, which hold thousands of chains where kube-proxy writes them: only the one that people write there by
 * hand is looked up. FORWARD, in capitals, is an affair of iptables' backend.
 */
const ofIptables = ['filter', 'nat', 'mangle', 'raw', 'security']
const USUAL_NAME = 'forward'

function foreignDrops(used: readonly Family[]): string[] {
  const netfilter = openNetfilterIfPresent()
  if (!netfilter) return []
  using _open = netfilter
  return [...used, 'inet' as const].flatMap(family => {
    const tables = listTables(netfilter, family).filter(table => table !== TABLE)
    const isLarge = (table: string) => family !== 'inet' && ofIptables.includes(table)
    const chains = [
      ...tables
        .filter(isLarge)
        .flatMap(table => findChain(netfilter, { family, table, chain: USUAL_NAME }) ?? []),
      ...(tables.every(isLarge) ? [] : listBaseChains(netfilter, family)).filter(
        ({ table }) => table !== TABLE && !isLarge(table),
      ),
    ]
    return chains
      .filter(({ hook, policy }) => hook === FORWARD_HOOK && policy === NF_DROP)
      .map(({ table, name }) => `chain ${name} of table ${family} ${table}`)
  })
}
