/** All that nf_tables and ip_tables have in a namespace, and the way of a packet through it, hook by hook, in the kernel's order. */
import {
  type Chain,
  describeSets,
  type Element,
  listAllTables,
  listChains,
  listElements,
  type SetDescription,
} from '../../linux/nftables/list.ts'
import { openNetfilterIfPresent } from '../../linux/nftables/netfilter.ts'
import type { Family } from '../../linux/nftables/nft.ts'
import { listWholeRules, type WholeRule } from '../../linux/nftables/whole-rules.ts'
import { readLegacyTables } from './legacy-tables.ts'
import type { Counters, FoundElement, Lookups, Outcome, Table, Verdict } from './outcome.ts'
import { familyOfPacket, type Packet } from './packet.ts'
import { carryOut } from './verdict.ts'

export type Hook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting'
const hooks: readonly Hook[] = ['prerouting', 'input', 'forward', 'output', 'postrouting'] // NF_INET_*

export interface Ruleset {
  tables: readonly Table[]
}

/** A rule, or a chain's policy, that has said something about a packet. */
export interface Decision {
  hook: Hook
  family: Family
  isLegacy?: boolean
  table: string
  chain: string
  /** Absent of a policy. */
  handle?: number
  text: string
  comment: string
  verdict: Verdict
  isMatch: true | 'unknown'
  counters?: Counters
  element?: { set: string; comment: string }
}

export interface Passage {
  outcome: 'on' | 'dropped' | 'unknown'
  /** As it is afterwards. */
  packet: Packet
  decisions: Decision[]
}

/** Reads the ruleset of the namespace that the thread is in. */
export function readRuleset(): Ruleset {
  using netfilter = openNetfilterIfPresent()
  if (!netfilter) return { tables: readLegacyTables() }
  const families: Family[] = ['ip', 'ip6', 'inet', 'bridge']
  const chains = new Map(families.map(family => [family, listChains(netfilter, family)]))
  const tables = listAllTables(netfilter).map(({ family, name }): Table => {
    const rules = Map.groupBy(listWholeRules(netfilter, family, name), ({ chain }) => chain)
    const sets = new Map(
      describeSets(netfilter, family, name).map(set => [
        set.name,
        { set, elements: listElements(netfilter, { family, table: name, set: set.name }) },
      ]),
    )
    const own = chains.get(family)?.filter(({ table }) => table === name) ?? []
    return { family, name, chains: own, rules, find: (set, key) => lookUp(sets.get(set), key) }
  })
  return { tables: [...tables, ...readLegacyTables()] }
}

function lookUp(
  found: { set: SetDescription; elements: Element[] } | undefined,
  key: Uint8Array,
): FoundElement | undefined {
  if (!found) return undefined
  const { set, elements } = found
  const hit = elements.some(({ keyEnd }) => keyEnd)
    ? elements.find(element => isBetween(element, key, set.keyType))
    : set.isInterval
      ? inIntervals(elements, key)
      : elements.find(element => compare(key, element.key) === 0)
  if (!hit) return undefined
  const { data, comment, target, verdict } = hit
  return {
    data,
    comment,
    ...(target === undefined ? {} : { target }),
    ...(verdict === undefined ? {} : { verdict }),
  }
}

/** Over the other's length. */
function compare(one: Uint8Array, other: Uint8Array): number {
  for (let at = 0; at < other.length; at++) {
    const difference = (one[at] ?? 0) - (other[at] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

/** Each element begins an interval, or says where one has ended. */
function inIntervals(elements: readonly Element[], key: Uint8Array): Element | undefined {
  const before = elements
    .filter(element => compare(key, element.key) >= 0)
    .toSorted(
      (one, other) =>
        compare(other.key, one.key) || Number(one.isEnd ?? false) - Number(other.isEnd ?? false),
    )
  const [last] = before
  return last && !last.isEnd ? last : undefined
}

/** Lengths of nft's datatypes in a concatenation, padded; of all others four bytes. */
const LENGTHS: Readonly<Record<number, number>> = { 8: 16, 9: 8, 41: 16 } // ipv6_addr, ether_addr, ifname

/** Field by field: six bits of the type for each, the last one's lowest. */
function isBetween({ key: from, keyEnd: to = from }: Element, key: Uint8Array, type: number): boolean {
  const types: number[] = []
  for (let rest = type; rest > 0; rest = Math.floor(rest / 64)) types.unshift(rest % 64)
  let at = 0
  return types.every(each => {
    const length = LENGTHS[each] ?? 4
    const part = (bytes: Uint8Array) => bytes.subarray(at, at + length)
    const isIn = compare(part(key), part(from)) >= 0 && compare(part(key), part(to)) <= 0
    at += length
    return isIn
  })
}

/** Chains of a hook that a packet passes, in order. */
function chainsAt({ tables }: Ruleset, hook: Hook, family: Family): { table: Table; chain: Chain }[] {
  const families: Family[] = family === 'bridge' ? ['bridge'] : [family, 'inet']
  return tables
    .filter(table => families.includes(table.family))
    .flatMap(table =>
      table.chains.flatMap(chain =>
        chain.hook !== undefined && hooks[chain.hook] === hook ? [{ table, chain }] : [],
      ),
    )
    .toSorted((one, other) => (one.chain.priority ?? 0) - (other.chain.priority ?? 0))
}

/** A packet at a hook: every base chain is asked, until one drops it. Of chains that translate the first one that does has it. */
export function passHook(
  ruleset: Ruleset,
  { hook, isFrame = false }: { hook: Hook; isFrame?: boolean },
  given: { packet: Packet; around: Omit<Lookups, 'find'> },
): Passage {
  const { around } = given
  let { packet } = given
  const decisions: Decision[] = []
  const family = isFrame ? 'bridge' : familyOfPacket(packet)
  let isTranslated = false
  let isCertain = true
  for (const { table, chain } of chainsAt(ruleset, hook, family)) {
    if (chain.type === 'nat' && (packet.isAnswer || isTranslated)) continue
    const walk = { table, hook, packet, around, decisions, depth: 0 }
    const verdict = walkChain(chain.name, walk) ?? policyOf(chain, walk)
    packet = walk.packet
    if (decisions.some(({ isMatch }) => isMatch === 'unknown')) isCertain = false
    if (verdict.kind === 'translate') {
      packet = translated(packet, verdict, around)
      isTranslated = true
    }
    if (verdict.kind === 'drop' || verdict.kind === 'reject')
      return { outcome: isCertain ? 'dropped' : 'unknown', packet, decisions }
  }
  return { outcome: 'on', packet, decisions }
}

interface Walk {
  table: Table
  hook: Hook
  packet: Packet
  around: Omit<Lookups, 'find'>
  decisions: Decision[]
  depth: number
}

const DROP = 0 // NF_DROP

function policyOf({ name, policy = 1 }: Chain, { table, hook, decisions }: Walk): Verdict {
  if (policy !== DROP) return { kind: 'accept' }
  const verdict = { kind: 'drop' } as const
  decisions.push({
    hook,
    family: table.family,
    ...(table.isLegacy ? { isLegacy: true } : {}),
    table: table.name,
    chain: name,
    text: 'policy drop',
    comment: '',
    verdict,
    isMatch: true,
  })
  return verdict
}

/** Undefined where the chain's end is reached, or a rule returns. */
function walkChain(chain: string, walk: Walk): Verdict | undefined {
  if (walk.depth > 16) return undefined // NFT_JUMP_STACK_SIZE
  for (const rule of walk.table.rules.get(chain) ?? []) {
    const outcome = carryOut(rule, walk.packet, { ...walk.around, find: walk.table.find })
    if (outcome.isMatch === false) continue
    if (outcome.mark !== undefined) walk.packet = { ...walk.packet, mark: outcome.mark }
    note(rule, outcome, walk)
    if (outcome.isMatch === 'unknown') continue
    const { verdict } = outcome
    if (verdict.kind === 'return') return undefined
    if (verdict.kind === 'jump' || verdict.kind === 'goto') {
      const deeper = { ...walk, depth: walk.depth + 1 }
      const found = walkChain(verdict.chain, deeper)
      walk.packet = deeper.packet
      if (found) return found
      if (verdict.kind === 'goto') return undefined
    } else if (verdict.kind !== 'continue') return verdict
  }
  return undefined
}

/** What says nothing, such as a counter, or only leads on, is no decision; what is not known is one where it could drop. */
function note(rule: WholeRule, outcome: Outcome, { table, hook, decisions }: Walk): void {
  const { verdict, isMatch, text, counters, element } = outcome
  if (isMatch === false || ['continue', 'jump', 'goto', 'return'].includes(verdict.kind)) return
  decisions.push({
    hook,
    family: table.family,
    ...(table.isLegacy ? { isLegacy: true } : {}),
    table: table.name,
    chain: rule.chain,
    handle: rule.handle,
    text,
    comment: rule.comment,
    verdict,
    isMatch,
    ...(counters ? { counters } : {}),
    ...(element ? { element } : {}),
  })
}

function translated(
  packet: Packet,
  verdict: Verdict & { kind: 'translate' },
  around: Omit<Lookups, 'find'>,
): Packet {
  const { what, address, port } = verdict
  if (what === 'destination' || what === 'redirect')
    return {
      ...packet,
      destination: address ?? (what === 'redirect' ? around.ownAddress(packet) : packet.destination),
      destinationPort: port ?? packet.destinationPort,
      isTranslated: true,
    }
  return {
    ...packet,
    source: address ?? around.ownAddress(packet),
    sourcePort: port ?? packet.sourcePort,
    isSourceTranslated: true,
  }
}
