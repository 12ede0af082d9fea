/**
 * The Go plugin's chains of iptables, as it names and orders them, so that either's DEL takes away what the other's ADD made.
 * Its rules carry no owner: whose an address is, records.ts knows.
 */
import { FORWARD_CHAIN } from '../../chain/filter/backend.ts'
import { explainIptables, withIptables } from '../../chain/filter/iptables/failure.ts'
import { tableFamilyOf } from '../../chain/ip/family.ts'
import { applyPlan, missingRule, requireTools } from '../../chain/linux/iptables/apply.ts'
import { type FoundTable, mayDropIn, withTable } from '../../chain/linux/iptables/found.ts'
import type { Args, EnsuredRule, Plan } from '../../chain/linux/iptables/plan.ts'
import { type Family, findTools, type Variant } from '../../chain/linux/iptables/tools.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import { hostCidr, type Ingress } from './ingress.ts'
import type { Filter } from './records.ts'

export const TABLE = 'filter'
export const FORWARD = FORWARD_CHAIN
export const FIRST_STAGE = 'CNI-ISOLATION-STAGE-1'
export const SECOND_STAGE = 'CNI-ISOLATION-STAGE-2'

export const families = ['ip', 'ip6'] as const
export const variants = ['nf_tables', 'legacy'] as const

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

/** A container's rules in a filter. */
export function rulesIn(filter: Filter, spec: FilterSpec) {
  return { add: () => addRules(filter, spec), check: () => missingFrom(filter, spec) }
}

/** What a filter has, if it is there. */
export function read<T>(filter: Filter, body: (table: FoundTable) => T): T | undefined {
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
export function planFor({ family, variant }: Filter, { addresses, admin, ingress }: FilterSpec): Plan {
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

export const policyComment = (policy: string) => `CNI firewall plugin rules (ingressPolicy: ${policy})`

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
  await explained(() => applyPlan(plan, { absent: plan.ensure?.filter(isNew) ?? [] }))
}

/** A sentence about the first rule that is not there; undefined when all are. */
async function missingFrom(filter: Filter, spec: FilterSpec): Promise<string | undefined> {
  const missing = await explained(() => missingRule(planFor(filter, spec)))
  if (!missing) return undefined
  const tool = filter.family === 'ip' ? 'iptables' : 'ip6tables'
  return `${tool} rule ${[missing.chain, ...missing.args].join(' ')} is missing`
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
export const explain = (thrown: unknown) => explainIptables(thrown, INSTALL)

const INSTALL =
  'install the package iptables: FORWARD of iptables drops packets that are not accepted there, or backend says iptables'
