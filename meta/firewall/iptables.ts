/**
 * The Go plugin's chains of iptables, as it names and orders them, so that either's DEL takes away what the other's ADD made.
 * Its rules carry no owner: whose an address is, records.ts knows.
 */

import { FORWARD_CHAIN } from '../../chain/filter/backend.ts'
import { explainIptables, withIptables } from '../../chain/filter/iptables/failure.ts'
import { tableFamilyOf } from '../../chain/ip/family.ts'
import {
  applyPlan,
  IptablesError,
  lockRules,
  missingRule,
  requireTools,
} from '../../chain/linux/iptables/apply.ts'
import type { BriefTable } from '../../chain/linux/iptables/brief.ts'
import { type FoundTable, mayDropIn, withTable } from '../../chain/linux/iptables/found.ts'
import type { Args, EnsuredRule, Plan } from '../../chain/linux/iptables/plan.ts'
import {
  type FoundRule,
  hasLegacyTable,
  removeFromLegacy,
  removeRules,
} from '../../chain/linux/iptables/removal.ts'
import { withBriefTable } from '../../chain/linux/iptables/sign.ts'
import { type Family, findTools, type Variant } from '../../chain/linux/iptables/tools.ts'
import { unlessUnwritable } from '../../chain/linux/lock.ts'
import { findChain } from '../../chain/linux/nftables/list.ts'
import { openNetfilterIfPresent } from '../../chain/linux/nftables/netfilter.ts'
import type { Engine } from '../../chain/linux/nftables/nft.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import { hostCidr, type Ingress } from './ingress.ts'
import type { Filter, FirewallRecord } from './records.ts'

const TABLE = 'filter'
const FORWARD = FORWARD_CHAIN
const FIRST_STAGE = 'CNI-ISOLATION-STAGE-1'
const SECOND_STAGE = 'CNI-ISOLATION-STAGE-2'

const families = ['ip', 'ip6'] as const
const variants = ['nf_tables', 'legacy'] as const

export interface FilterSpec {
  addresses: readonly string[]
  admin: string
  /** The policy that iptables is to enforce. */
  ingress: Ingress | undefined
}

/** The filters of one variant, or of the machine's choice. Throws where the tools are not installed. */
export function usualFilters(used: readonly Family[], variant?: Variant): Filter[] {
  return used.map(family => {
    try {
      return { family, variant: requireTools(family, variant).variant }
    } catch (thrown) {
      throw explain(thrown)
    }
  })
}

/** What becomes of an administrator's chain in filters that have no other rules of ours. */
export interface AdminFilters {
  /** They hold it, and nothing leads there yet. */
  unled: Filter[]
  /** Those of the machine's choice, of families in which it is nowhere. None where the tools are missing. */
  without: Filter[]
}

export function adminFilters(
  used: readonly Family[],
  { admin, but }: { admin: string; but: readonly Filter[] },
): AdminFilters {
  const found: AdminFilters = { unled: [], without: [] }
  for (const family of used) {
    const states = variants.map(variant => {
      const isOther = but.some(one => one.family === family && one.variant === variant)
      return isOther ? 'led' : stateOf({ family, variant }, admin)
    })
    for (const [at, variant] of variants.entries())
      if (states[at] === 'unled') found.unled.push({ family, variant })
    const tools = states.every(state => state === 'absent') ? findTools(family) : undefined
    if (tools) found.without.push({ family, variant: tools.variant })
  }
  return found
}

/** Whether what is forwarded comes by an administrator's chain: over ours, or straight. */
function stateOf(filter: Filter, admin: string): 'absent' | 'led' | 'unled' {
  const leads = (table: BriefTable, from: string, to: string) =>
    table.rulesIn(from).some(({ targets }) => targets.includes(to))
  const look = (table: BriefTable) => {
    if (!table.hasChain(admin)) return 'absent'
    const isLed =
      leads(table, 'FORWARD', admin) || (leads(table, 'FORWARD', FORWARD) && leads(table, FORWARD, admin))
    return isLed ? 'led' : 'unled'
  }
  return withBriefTable({ ...filter, table: TABLE }, look, [admin, FORWARD]) ?? 'absent'
}

/** Has what is forwarded come by an administrator's chain that is there, even where the tools are not. */
async function leadTo(filter: Filter, admin: string, engine: Engine): Promise<void> {
  try {
    await makeWay(filter, admin)
  } catch (thrown) {
    if (!(thrown instanceof IptablesError) || filter.variant === 'legacy') throw explain(thrown)
    const expr = [{ jump: { target: admin } }]
    await engine([
      { verb: 'insert', kind: 'rule', family: filter.family, table: TABLE, chain: 'FORWARD', expr },
    ])
  }
}

function makeWay(filter: Filter, admin: string): Promise<void> {
  return applyPlan(planFor(filter, { addresses: [], admin, ingress: undefined }))
}

/** As `leadTo`, for who may want to fill the chain: where the tools do not work, it stays empty. */
async function prepare(filter: Filter, admin: string): Promise<void> {
  try {
    await makeWay(filter, admin)
  } catch (thrown) {
    if (!(thrown instanceof IptablesError)) throw thrown
  }
}

/** A container's rules in a filter. */
export function rulesIn(filter: Filter, spec: FilterSpec) {
  return { add: () => addRules(filter, spec), check: () => missingFrom(filter, spec) }
}

/** The way of what is forwarded over an administrator's chain, in a filter in which there is none. */
export function wayTo(admin: string, filter: Filter, engine: Engine) {
  return { add: () => leadTo(filter, admin, engine), check: () => missingWay(filter, admin) }
}

/** An administrator's chain for who may want to fill it: it is not missed. */
export function preparedChain(admin: string, filter: Filter) {
  return { add: () => prepare(filter, admin), check: () => undefined }
}

/** The sentence about a filter in which what is forwarded does not come by an administrator's chain. */
function missingWay(filter: Filter, admin: string): string {
  const tool = filter.family === 'ip' ? 'iptables' : 'ip6tables'
  return `${tool} (${filter.variant}) no longer leads from FORWARD over ${FORWARD} to ${admin}`
}

function read<T>(filter: Filter, body: (table: FoundTable) => T): T | undefined {
  return withTable({ ...filter, table: TABLE, builtin: 'FORWARD' }, body)
}

/** Filters whose FORWARD may drop packets: by its policy, by a rule, or in a chain that it leads to. Not by our own chains. */
export function obstructingFilters(used: readonly Family[]): Filter[] {
  return used.flatMap(family =>
    variants.flatMap(variant => {
      const filter = { family, variant }
      return read(filter, table => mayDropIn(table, 'FORWARD', [FORWARD, FIRST_STAGE])) ? [filter] : []
    }),
  )
}

/** Filters in which one of the addresses is accepted, whoever has seen to it. */
export function filtersThatAccept(addresses: readonly string[]): Filter[] {
  const used = families.filter(family => addresses.some(address => tableFamilyOf(address) === family))
  return used.flatMap(family =>
    variants.flatMap(variant => {
      const filter = { family, variant }
      const accepted = read(filter, table => table.rulesIn(FORWARD).map(({ source }) => source)) ?? []
      return accepted.some(source => source !== undefined && addresses.includes(source)) ? [filter] : []
    }),
  )
}

/** What of a family's table a container needs. */
function planFor({ family, variant }: Filter, { addresses, admin, ingress }: FilterSpec): Plan {
  const own = addresses.filter(address => tableFamilyOf(address) === family)
  return {
    family,
    variant,
    table: TABLE,
    chains: [FORWARD, admin, ...(ingress ? [FIRST_STAGE, SECOND_STAGE] : [])],
    ensure: [
      atStart('FORWARD', [...comment('CNI firewall plugin rules'), '-j', FORWARD]),
      atStart(FORWARD, [...comment('CNI firewall plugin admin overrides'), '-j', admin]),
      ...own.flatMap(acceptRules),
      ...(ingress ? policyRules(ingress) : []),
    ],
  }
}

const comment = (text: string): Args => ['-m', 'comment', '--comment', text]
const atStart = (chain: string, args: Args): EnsuredRule => ({ chain, args, at: 'start' })

function acceptRules(address: string): EnsuredRule[] {
  const answers = ['-m', 'conntrack', '--ctstate', 'RELATED,ESTABLISHED', '-j', 'ACCEPT']
  return [
    { chain: FORWARD, args: ['-d', hostCidr(address), ...answers] },
    { chain: FORWARD, args: ['-s', hostCidr(address), '-j', 'ACCEPT'] },
  ]
}

const policyComment = (policy: string) => `CNI firewall plugin rules (ingressPolicy: ${policy})`

function policyRules({ policy, bridge }: Ingress): EnsuredRule[] {
  const shared = comment(policyComment('same-bridge|isolated'))
  const own = comment(policyComment(policy))
  const inside = atStart(FIRST_STAGE, ['-i', bridge, '-o', bridge, '-j', 'DROP', ...own])
  return [
    atStart('FORWARD', ['-j', FIRST_STAGE, ...shared]),
    atStart(FIRST_STAGE, ['-i', bridge, '!', '-o', bridge, '-j', SECOND_STAGE, ...own]),
    ...(policy === 'isolated' ? [inside] : []),
    { chain: FIRST_STAGE, args: ['-j', 'RETURN', ...shared] },
    atStart(SECOND_STAGE, ['-o', bridge, '-j', 'DROP', ...shared]),
    { chain: SECOND_STAGE, args: ['-j', 'RETURN', ...shared] },
  ]
}

/** Adds what is missing of it. The rules of an address that none is about yet need not be looked for by the tool. */
async function addRules(filter: Filter, spec: FilterSpec): Promise<void> {
  const plan = planFor(filter, spec)
  const present = read(filter, table => table.rulesIn(FORWARD)) ?? []
  const isNew = ({ args: [option, cidr = ''] }: EnsuredRule) =>
    (option === '-s' || option === '-d') &&
    !present.some(({ source, destination }) =>
      [source, destination].some(address => address !== undefined && hostCidr(address) === cidr),
    )
  await explained(() => applyPlan(plan, plan.ensure?.filter(isNew)))
}

/** A sentence about the first rule that is not there; undefined when all are. */
async function missingFrom(filter: Filter, spec: FilterSpec): Promise<string | undefined> {
  const missing = await explained(() => missingRule(planFor(filter, spec)))
  if (!missing) return undefined
  const tool = filter.family === 'ip' ? 'iptables' : 'ip6tables'
  return `${tool} rule ${[missing.chain, ...missing.args].join(' ')} is missing`
}

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

/** STATUS: the tools of both families are there. Code 50. */
export function requireInstalled(): void {
  const missing = families.filter(family => !findTools(family))
  if (missing.length === 0) return
  const names = missing.map(family => (family === 'ip' ? 'iptables' : 'ip6tables')).join(' and ')
  throw new CniError(code.pluginNotAvailable, `${names} not installed`, {
    details: 'install the package iptables, or set backend to nftables',
  })
}

const explained = <T>(step: () => Promise<T> | T) => withIptables(step, INSTALL)
const explain = (thrown: unknown) => explainIptables(thrown, INSTALL)

const INSTALL =
  'install the package iptables: FORWARD of iptables drops packets that are not accepted there, or backend says iptables'
