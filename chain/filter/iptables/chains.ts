/**
 * A container's chains in iptables' table nat. They are named after network and container as the Go plugins name them, so
 * that either's DEL removes what the other made. The interface is not in the name: several interfaces of one container on one
 * network share a chain, and who has which part of it is kept under /run.
 */

import {
  applyPlan,
  hasChain,
  IptablesError,
  lockRules,
  missingRule,
  requireTools,
} from '../../linux/iptables/apply.ts'
import type { Args, EnsuredRule, Plan, Rule } from '../../linux/iptables/plan.ts'
import { readRules } from '../../linux/iptables/removal.ts'
import { withBriefTable } from '../../linux/iptables/sign.ts'
import { type Family, findTools, type Variant } from '../../linux/iptables/tools.ts'
import { type HeldLock, unlessUnwritable } from '../../linux/lock.ts'
import type { Attachment, ValidAttachment } from '../../plugin/define.ts'
import { isObject, recordsIn } from '../../plugin/state.ts'
import { CniError, code, toCniError } from '../../protocol/error.ts'
import { explainIptables, withIptables } from './failure.ts'

export const TABLE = 'nat'

export const families = ['ip', 'ip6'] as const satisfies readonly Family[]

/** Chains that masquerade what a container sends. */
export const MASQUERADE_PREFIX = 'CNI-'

/** Chains that lead to a container's published ports. */
export const PORTS_PREFIX = 'CNI-DN-'

const CHAIN_LENGTH = 28 // what iptables takes

/** What an interface's chains are called: a prefix, then SHA-512 of network and container in hexadecimal, cut. */
export function chainName(prefix: string, { network, containerId }: Attachment): string {
  const digest = new Bun.CryptoHasher('sha512').update(network + containerId).digest('hex')
  return `${prefix}${digest}`.slice(0, CHAIN_LENGTH)
}

/** An interface's part of its container's chain, and the rules that lead into it. */
export interface Part {
  rules: readonly Args[]
  enter: readonly Rule[]
}

/** What all containers share: chains and rules that the first one makes, and that stay. */
export interface SharedRules {
  chains: readonly string[]
  ensure: readonly EnsuredRule[]
  /** The same for other tables. */
  first?: Plan['first'] & {}
}

export interface ChainSpec {
  attachment: Attachment
  prefix: string
  /** Where the chain is: the machine's choice when absent. */
  variant?: Variant | undefined
  shared(family: Family): SharedRules
  parts: Partial<Record<Family, Part>>
}

interface Share {
  attachment: Attachment
  variant?: Variant | undefined
  parts: Partial<Record<Family, Part>>
}

/** A share as every version writes it: what leads into a chain has its arguments as "words". */
interface StoredShare extends Omit<Share, 'parts'> {
  parts: Partial<Record<Family, { rules: readonly Args[]; enter: readonly { chain: string; words: Args }[] }>>
}

const isWholePart = (part: StoredShare['parts'][Family]) =>
  isObject(part) && Array.isArray(part.rules) && Array.isArray(part.enter) && part.enter.every(isObject)

/** Of each chain: the interfaces that share it, by name. */
const shares = recordsIn<Record<string, StoredShare>>('iptables', found =>
  Object.values(found).every(
    share =>
      isObject(share) &&
      isObject(share.attachment) &&
      isObject(share.parts) &&
      Object.values(share.parts).every(isWholePart) &&
      [undefined, 'nf_tables', 'legacy'].includes(share.variant),
  ),
)

function mapParts<T, U>(
  parts: Partial<Record<Family, T>>,
  change: (part: T) => U,
): Partial<Record<Family, U>> {
  const entries = families.flatMap(family => (parts[family] ? [[family, change(parts[family])]] : []))
  return Object.fromEntries(entries)
}

function readShares(chain: string): Record<string, Share> {
  const stored = Object.entries(shares.recall(chain) ?? {})
  return Object.fromEntries(
    stored.map(([name, share]) => {
      const parts = mapParts(share.parts, ({ rules, enter }) => ({
        rules,
        enter: enter.map(({ chain, words }) => ({ chain, args: words })),
      }))
      return [name, { ...share, parts }]
    }),
  )
}

function writeShares(chain: string, all: readonly Share[]): void {
  const stored = all.map(share => {
    const parts = mapParts(share.parts, ({ rules, enter }) => ({
      rules,
      enter: enter.map(({ chain, args }) => ({ chain, words: args })),
    }))
    return [share.attachment.ifname, { ...share, parts }]
  })
  shares.remember(chain, Object.fromEntries(stored))
}

/** Whether an interface has a part in its container's chain, and in which variant of iptables. */
export function partOf(
  prefix: string,
  attachment: Attachment,
): { variant?: Variant | undefined } | undefined {
  const all = readShares(chainName(prefix, attachment))
  return Object.hasOwn(all, attachment.ifname) ? all[attachment.ifname] : undefined
}

/** Whether a container has its chain, whoever has made it: the Go plugins leave no record. */
export function hasOwnChain(prefix: string, attachment: Attachment): boolean {
  const name = chainName(prefix, attachment)
  return families.some(family =>
    (['nf_tables', 'legacy'] as const).some(variant =>
      withBriefTable({ family, variant, table: TABLE }, table => table.hasChain(name), [name]),
    ),
  )
}

function plansOf(
  { attachment, prefix, variant, shared, parts }: ChainSpec,
  others: readonly Share[] = [],
): Plan[] {
  const name = chainName(prefix, attachment)
  return families.flatMap(family => {
    const all = [
      ...others.flatMap(other => other.parts[family] ?? []),
      ...(parts[family] ? [parts[family]] : []),
    ]
    if (all.length === 0) return []
    const rules = unique(all.flatMap(part => part.rules))
    const enter = unique(all.flatMap(part => part.enter))
    const place = { family, ...(variant === undefined ? {} : { variant }), table: TABLE } as const
    const first = shared(family).first?.map(plan => ({ ...plan, ...place, table: plan.table }))
    return [{ ...place, ...shared(family), ...(first ? { first } : {}), own: [{ name, rules }], enter }]
  })
}

function unique<T>(items: readonly T[]): T[] {
  return [...new Map(items.map(item => [JSON.stringify(item), item])).values()]
}

function othersThan({ ifname: own }: Attachment, all: Record<string, Share>): Share[] {
  return Object.entries(all).flatMap(([name, share]) => (name === own ? [] : [share]))
}

/** Makes an interface's part of its container's chain, with all that it needs. Whatever it had there before is replaced. */
export async function addChain(spec: ChainSpec): Promise<void> {
  const { attachment, prefix, parts } = spec
  const usual = findTools('ip')?.variant
  const variant = spec.variant ?? usual // which may be another one by the time of CHECK
  const chain = chainName(prefix, attachment)
  const others = await withIptables(() => othersIn(chain, attachment))
  writeShares(chain, [...others, { attachment, variant, parts }])
  const neighbours = others.filter(other => (other.variant ?? usual) === variant)
  for (const plan of plansOf({ ...spec, variant }, neighbours)) await withIptables(() => applyPlan(plan))
}

/** The other interfaces that have a part in a chain; none if the chain has gone, as by a DEL of the Go plugins'. */
function othersIn(chain: string, attachment: Attachment): Share[] {
  const others = othersThan(attachment, readShares(chain))
  return others.filter(({ parts, variant }) =>
    families.some(family => parts[family] && hasChain({ family, variant, table: TABLE, chain })),
  )
}

/**
 * A sentence about the first rule of an interface that is missing; undefined when all are there. Rules in other tables are
 * ours alone: what the Go plugins made is complete without them.
 */
export async function missingFromChain(spec: ChainSpec): Promise<string | undefined> {
  const own = partOf(spec.prefix, spec.attachment)
  for (const plan of plansOf({ ...spec, variant: own?.variant })) {
    const missing = await withIptables(() => missingRule(own ? plan : { ...plan, first: [] }))
    if (!missing) continue
    const { table, chain, args } = missing
    return `rule ${[chain, ...args].join(' ')} is missing in table ${table} of ${plan.family}`
  }
  return undefined
}

/** STATUS: throws where iptables is not installed. */
export function requireIptables(): void {
  try {
    requireTools('ip')
  } catch (thrown) {
    const { message, details } = toCniError(explainIptables(thrown))
    throw new CniError(code.pluginNotAvailable, message, { details, cause: thrown })
  }
}

/** Stands for all interfaces of a container: whose rules others made cannot be known more exactly. */
const ALL = ''

/** What leaving a container's chains comes to: those that go, and those that other interfaces still have a part in. */
export interface Leaving {
  isRemovedChain(name: string): boolean
  /** Afterwards: forgets the parts, and remakes what is left of chains that others share. */
  finish(): Promise<void>
}

/** Plans how attachments leave their chains. Nothing is touched before `finish`. */
export function leaveChains(attachments: readonly Attachment[], prefixes: readonly string[]): Leaving {
  const isLeaving = (one: Attachment) =>
    attachments.some(
      other =>
        other.network === one.network &&
        other.containerId === one.containerId &&
        (other.ifname === one.ifname || other.ifname === ALL),
    )
  const left = new Map(
    prefixes.flatMap(prefix =>
      attachments.map(attachment => {
        const chain = chainName(prefix, attachment)
        const others = Object.values(readShares(chain)).filter(share => !isLeaving(share.attachment))
        return [chain, { chain, prefix, attachment, others }] as const
      }),
    ),
  )
  return {
    isRemovedChain: name => left.get(name)?.others.length === 0,
    async finish() {
      for (const each of left.values()) {
        if (each.others.length === 0) shares.forget(each.chain)
        else await remake(each)
      }
    },
  }
}

/** What others have of a chain; that it cannot be made is their CHECK's affair, and no reason to fail a DEL. */
async function remake(part: {
  attachment: Attachment
  prefix: string
  chain: string
  others: readonly Share[]
}): Promise<void> {
  const { attachment, prefix, chain, others } = part
  writeShares(chain, others)
  const nothing = () => ({ chains: [], ensure: [] })
  for (const variant of new Set(others.map(other => other.variant))) {
    const together = others.filter(other => other.variant === variant)
    for (const plan of plansOf({ attachment, prefix, variant, shared: nothing, parts: {} }, together)) {
      try {
        await applyPlan(plan)
      } catch (thrown) {
        if (!(thrown instanceof IptablesError)) throw thrown
      }
    }
  }
}

/** As the Go plugins' comments say whose a rule is: `name: "network" id: "container"`, with a word before it. */
export function ownershipComment(word: string, { network, containerId }: Attachment): string {
  return `${word}name: "${network}" id: "${containerId}"`
}

/**
 * Attachments of a network that have chains and are not valid: from what is kept under /run, and from the comments of rules
 * that others made. The latter say no interface: a container is stale when none of its interfaces is valid.
 */
export function staleAttachments(network: string, valid: readonly ValidAttachment[]): Attachment[] {
  const isValid = (one: ValidAttachment) =>
    valid.some(other => other.containerId === one.containerId && other.ifname === one.ifname)
  const kept = shares
    .recorded()
    .flatMap(chain => Object.values(readShares(chain)).map(share => share.attachment))
    .filter(attachment => attachment.network === network && !isValid(attachment))
  const prefix = `name: "${network}" id: "`
  const told = families
    .flatMap(family => readRules(family, TABLE))
    .flatMap(({ comment }) => {
      const args = comment.replace(/^dnat /, '')
      return args.startsWith(prefix) && args.endsWith('"') ? [args.slice(prefix.length, -1)] : []
    })
  const containers = new Set(told.filter(id => !valid.some(({ containerId }) => containerId === id)))
  return unique([...kept, ...[...containers].map(containerId => ({ network, containerId, ifname: ALL }))])
}

/** Waits for tools that a killed plugin has left running, which hold its lock; then nothing is added until it is released. */
export function lockRulesIfUsed(): HeldLock | undefined {
  return shares.wereEver() ? unlessUnwritable(() => lockRules({ shared: false })) : undefined
}
