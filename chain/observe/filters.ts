/** What packet filters hold for containers, ours and the Go plugins', each with whose it says that it is. Changes nothing. */
// start-up: what plugins load of the filter stays in one piece when all of it is reached from here
import '../filter/backend.ts'
import '../filter/sweep.ts'
import { MASQUERADE_PREFIX, PORTS_PREFIX } from '../filter/iptables/chains.ts'
import { collectionOf } from '../filter/nftables/elements.ts'
import { isConditionsChain, TABLE } from '../filter/nftables/layout.ts'
import { type FoundElement, listOwned, ownedChains } from '../filter/nftables/read.ts'
import { parseAddress } from '../ip/address.ts'
import { isLoopback } from '../ip/text.ts'
import { readLegacyTable } from '../linux/iptables/legacy.ts'
import { type FoundRule, legacyTables, readRules } from '../linux/iptables/removal.ts'
import type { Family as InternetFamily, Variant } from '../linux/iptables/tools.ts'
import type { Transport } from '../linux/netlink/socket.ts'
import { listAllTables, listChains, listRules, type Rule } from '../linux/nftables/list.ts'
import { openNetfilterIfPresent } from '../linux/nftables/netfilter.ts'
import type { Family } from '../linux/nftables/nft.ts'
import { ownerIn, readableOwner } from '../plugin/owner.ts'

/** Whose something is, as far as it says so itself. */
export interface Ownership {
  /** ID of the owner, of ours and of the Go plugins' masquerade. */
  owner?: string
  network?: string
  containerId?: string
  ifname?: string
}

/** An element, a rule or a chain that is there for one container. */
export interface FilterObject extends Ownership {
  backend: 'nftables' | 'iptables'
  /** Of iptables: where it keeps it. */
  variant?: Variant
  maker: 'catena' | 'go'
  what: 'element' | 'rule' | 'chain'
  family: Family
  table: string
  /** The set, map or chain that it is in; a chain's own name. */
  place: string
  /** In words, as nft or iptables would have it. */
  text: string
  /** Addresses of containers in it. */
  addresses: string[]
  handle?: number
  element?: FoundElement
}

/** All of them. */
export function readFilters(): FilterObject[] {
  using netfilter = openNetfilterIfPresent()
  const inNftables = netfilter ? [...readOurs(netfilter), ...readGoPlugins(netfilter)] : []
  return [...inNftables, ...readIptables(netfilter)]
}

/** What a comment of ours says: "net: …, if: …, id: …", of which the end may be cut off. */
export function ownershipIn(comment: string): Ownership {
  const owner = ownerIn(comment)
  if (owner === undefined) return {}
  const named = /^net: (.*), if: ([^,]*), id: (.*)$/.exec(readableOwner(comment))
  const [, network, ifname, containerId] = named ?? []
  return {
    owner,
    ...(network ? { network } : {}),
    ...(ifname ? { ifname } : {}),
    ...(containerId ? { containerId } : {}),
  }
}

function readOurs(netfilter: Transport): FilterObject[] {
  const elements = listOwned(netfilter).flatMap((element): FilterObject[] => {
    if (element.owner === undefined) return [] // it is everybody's
    const { name } = collectionOf(element)
    const key = element.key.map(part => textOf(part)).join(' . ')
    const value = element.value === undefined ? '' : ` : ${textOf(element.value)}`
    return [
      {
        backend: 'nftables',
        maker: 'catena',
        what: 'element',
        family: element.family,
        table: TABLE,
        place: name,
        text: `${key}${value}`,
        addresses: addressesIn(element),
        element,
        ...ownershipIn(element.comment),
      },
    ]
  })
  const chains = (['ip', 'ip6'] as const).flatMap(family =>
    ownedChains(netfilter, family)
      .filter(({ name }) => isConditionsChain(name))
      .map(
        ({ name, owner }): FilterObject => ({
          backend: 'nftables',
          maker: 'catena',
          what: 'chain',
          family,
          table: TABLE,
          place: name,
          text: `chain ${name}`,
          addresses: [],
          owner,
        }),
      ),
  )
  return [...elements, ...chains]
}

function textOf(part: unknown): string {
  if (typeof part !== 'object' || part === null) return String(part)
  if ('prefix' in part) {
    const { addr, len } = part.prefix as { addr: string; len: number }
    return `${addr}/${len}`
  }
  if ('goto' in part) return `goto ${(part.goto as { target: string }).target}`
  return JSON.stringify(part)
}

/** The container's: of a published port it is the value, of everything else the first address of the key. */
function addressesIn({ kind, key, value }: FoundElement): string[] {
  const candidates = kind === 'published-address' ? [value] : kind.startsWith('published') ? [] : key
  const found = candidates.find(each => typeof each === 'string' && parseAddress(each) !== undefined)
  return typeof found === 'string' && kind !== 'waiting' ? [found] : []
}

/** The tables of the Go plugins' nftables backends: their rules have a comment each. */
function readGoPlugins(netfilter: Transport): FilterObject[] {
  const tables = listAllTables(netfilter)
  return tables.flatMap(({ family, name }) => {
    if (name === 'cni_plugins_masquerade')
      return goRules(netfilter, { family, table: name }, rule =>
        rule.chain === 'masq_checks' ? ownershipIn(rule.comment) : {},
      )
    if (name === 'cni_hostport')
      return goRules(netfilter, { family, table: name }, ({ chain, comment }) =>
        /^(hostports|hostip_hostports|masquerading)$/.test(chain) && comment !== ''
          ? { containerId: comment }
          : {},
      )
    if (family === 'bridge' && name === 'nat') return spoofChecks(netfilter)
    return []
  })
}

function goRules(
  netfilter: Transport,
  where: { family: Family; table: string },
  ownershipOf: (rule: Rule) => Ownership,
): FilterObject[] {
  return listRules(netfilter, where).flatMap(rule => {
    const ownership = ownershipOf(rule)
    return Object.keys(ownership).length === 0 ? [] : [goRule(where, rule, ownership)]
  })
}

function goRule(
  { family, table }: { family: Family; table: string },
  rule: Rule,
  ownership: Ownership,
): FilterObject {
  return {
    backend: 'nftables',
    maker: 'go',
    what: 'rule',
    family,
    table,
    place: rule.chain,
    text: `rule ${rule.handle}${rule.comment ? ` "${rule.comment}"` : ''}`,
    addresses: [rule.source, rule.destination].filter(each => each !== undefined),
    handle: rule.handle,
    ...ownership,
  }
}

const SPOOF_CHAIN = /^cni-br-iface-(.+)-([^-]+)(?:-mac)?$/

function spoofChecks(netfilter: Transport): FilterObject[] {
  const where = { family: 'bridge', table: 'nat' } as const
  const rules = goRules(netfilter, where, ({ comment, chain }) => {
    const found = chain === 'PREROUTING' ? /^macspoofchk-(.+)-([^-]+)$/.exec(comment) : undefined
    return found ? { containerId: found[1] ?? '', ifname: found[2] ?? '' } : {}
  })
  const chains = listChains(
    netfilter,
    'bridge',
    ({ table, name }) => table === 'nat' && SPOOF_CHAIN.test(name),
  )
  return [
    ...rules,
    ...chains.map(({ name }): FilterObject => {
      const [, containerId = '', ifname = ''] = SPOOF_CHAIN.exec(name.replace(/-mac$/, '')) ?? []
      return {
        backend: 'nftables',
        maker: 'go',
        what: 'chain',
        ...where,
        place: name,
        text: `chain ${name}`,
        addresses: [],
        containerId,
        ifname,
      }
    }),
  ]
}

const families = ['ip', 'ip6'] as const

/** Chains of a container in table nat, and rules of the plugin firewall in table filter. Ours have the Go plugins' names. */
function readIptables(netfilter: Transport | undefined): FilterObject[] {
  return families.flatMap(family => {
    const legacy = legacyTables(family)
    return (['nf_tables', 'legacy'] as const).flatMap(variant => {
      const isThere = (table: string) =>
        variant === 'legacy' ? legacy.includes(table) : netfilter !== undefined
      const rulesIn = (table: string) =>
        isThere(table) ? rulesOf({ family, variant }, table, netfilter) : []
      return [
        ...natChains(rulesIn('nat'), { family, variant }),
        ...forwardRules(rulesIn('filter'), { family, variant }),
      ]
    })
  })
}

interface Kept {
  family: InternetFamily
  variant: Variant
}

function rulesOf({ family, variant }: Kept, table: string, netfilter: Transport | undefined): FoundRule[] {
  if (variant === 'nf_tables') return netfilter ? listRules(netfilter, { family, table }) : []
  // what iptables says of its own rules has their addresses; without its tools there are chains and comments alone
  const saved = readRules(family, table).filter(rule => !('handle' in rule))
  if (saved.length > 0) return saved
  const brief = readLegacyTable(family, table)
  const chains = ['PREROUTING', 'POSTROUTING', 'OUTPUT', 'FORWARD', 'CNI-HOSTPORT-DNAT']
  return chains.flatMap(chain => (brief?.rulesIn(chain) ?? []).map(rule => ({ ...rule, chain })))
}

const OWN_CHAIN = new RegExp(`^(?:${PORTS_PREFIX}|${MASQUERADE_PREFIX})[0-9a-f]{21,24}$`)

/** A chain, with what its rules and those that lead to it say. */
function natChains(rules: readonly FoundRule[], { family, variant }: Kept): FilterObject[] {
  const names = new Set(
    rules.flatMap(({ chain, targets }) => [chain, ...targets]).filter(name => OWN_CHAIN.test(name)),
  )
  return [...names].toSorted().map((name): FilterObject => {
    const about = rules.filter(({ chain, targets }) => chain === name || targets.includes(name))
    const comment = about.map(rule => rule.comment).find(text => text.includes('id: "')) ?? ''
    const [, network, containerId] = /name: "(.*)" id: "(.*)"/.exec(comment) ?? []
    return {
      backend: 'iptables',
      variant,
      maker: 'go',
      what: 'chain',
      family,
      table: 'nat',
      place: name,
      text: `chain ${name}${comment ? ` (${comment})` : ''}`,
      addresses: [...new Set(about.flatMap(({ source }) => (source && !isLoopback(source) ? [source] : [])))],
      ...(network === undefined ? {} : { network }),
      ...(containerId === undefined ? {} : { containerId }),
    }
  })
}

/** The plugin firewall's: they have addresses, and no comment. */
function forwardRules(rules: readonly FoundRule[], { family, variant }: Kept): FilterObject[] {
  return rules
    .filter(
      ({ chain, source, destination }) => chain === 'CNI-FORWARD' && (source ?? destination) !== undefined,
    )
    .map(rule => ({
      backend: 'iptables',
      variant,
      maker: 'go',
      what: 'rule',
      family,
      table: 'filter',
      place: 'CNI-FORWARD',
      text: rule.source
        ? `from ${rule.source}: accept`
        : `to ${rule.destination}: accept what is established`,
      addresses: [rule.source ?? rule.destination ?? ''],
      ...('handle' in rule ? { handle: Number(rule.handle) } : {}),
    }))
}
