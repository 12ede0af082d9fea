/**
 * Rules of iptables, put there a whole table at once: one iptables-restore where everything shared is there already.
 *
 * Nothing is read beforehand. The transaction itself has the tool check that shared rules are there (`-C`) and that an
 * owner's chains are not (`-N`): it compares as it does for everybody, and what others do meanwhile cannot come between.
 * What it refuses for such a reason is made good under a lock, and the transaction tried again.
 */

import { helperPath } from '../child-environment.ts'
import { SystemFailure } from '../failure.ts'
import { type HeldLock, takeLock, unlessUnwritable } from '../lock.ts'
import { checksOf, type EnsuredRule, type Line, lineIn, linesOf, type Plan, type Rule } from './plan.ts'
import { removeRules } from './removal.ts'
import {
  type Family,
  findTools,
  findVariant,
  type Outcome,
  run,
  type Tools,
  type Variant,
  waitOption,
} from './tools.ts'

const LOCK = '/run/catena/iptables/lock'

/** Adding shares the lock; who mends what is shared, or takes away, excludes the others. */
export function lockRules(options: { shared: boolean }): HeldLock {
  return takeLock(LOCK, options)
}

/** A refused plan: what failed, in which table, and the tool's own sentence. */
export class IptablesError extends SystemFailure {
  override name = 'IptablesError'
  declare readonly said: string
  /** The line that the tool names, if it names one. */
  readonly line: Line | undefined
  readonly family: Family
  /** The tools are not installed. */
  readonly isMissing: boolean

  constructor(
    message: string,
    options: { family: Family; said: string; subject?: string; line?: Line | undefined; isMissing?: boolean },
  ) {
    const { subject, said } = options
    super(message, { operation: 'apply iptables rules', subject, said })
    this.family = options.family
    this.line = options.line
    this.isMissing = options.isMissing ?? false
  }
}

/** The tools of a family, of one variant if need be. Throws IptablesError with `isMissing` where they are not installed. */
export function requireTools(family: Family, variant?: Variant): Tools {
  const tools = variant === undefined ? findTools(family) : findVariant(family, variant)
  if (tools) return tools
  const suffix = variant === 'legacy' ? '-legacy' : ''
  const name = `${family === 'ip' ? 'iptables' : 'ip6tables'}${suffix}`
  throw new IptablesError(`apply ${name} rules: ${name} is not installed`, {
    family,
    said: `no ${name}, ${name}-restore and ${name}-save in ${helperPath()}`,
    isMissing: true,
  })
}

const ATTEMPTS = 16

/** What a caller knows of a table saves the processes that find it out; it may be true no more. */
export interface Known {
  /** Rules that are to be ensured, and are absent. */
  absent?: readonly EnsuredRule[]
  /** Some of the shared chains are not there: they are made before anything is tried. */
  lacksChains?: boolean
}

/** Brings a plan about, whole or not at all; what is shared and was missing stays. Throws IptablesError. */
export async function applyPlan(plan: Plan, known: Known = {}): Promise<void> {
  const tools = requireTools(plan.family, plan.variant)
  const absent = new Set(known.absent)
  if (!known.lacksChains) {
    using lock = lockRules({ shared: true })
    if (!attempt(tools, { plan, absent, lock })) return
  }
  using lock = lockRules({ shared: false })
  if (known.lacksChains) makeShared(tools, { plan, absent, lock })
  for (let tries = 1; ; tries++) {
    const refused = attempt(tools, { plan, absent, lock })
    if (!refused) return
    if (tries === ATTEMPTS || !(await makeGood(tools, { plan, absent, refused, lock })))
      throw explain(plan, refused)
  }
}

interface Refusal extends Outcome {
  line: Line | undefined
}

interface Attempt {
  plan: Plan
  absent: Set<EnsuredRule>
  lock: HeldLock
}

function attempt(tools: Tools, { plan, absent, lock }: Attempt): Refusal | undefined {
  return restore(tools, linesOf(plan, absent), lock)
}

function restore(
  { restore: path }: Tools,
  lines: readonly Line[],
  lock: HeldLock | undefined,
): Refusal | undefined {
  const input = `${lines.map(({ text }) => text).join('\n')}\n`
  const outcome = run([path, '--noflush', waitOption()], {
    input,
    ...(lock ? { lock: lock.descriptor } : {}),
  })
  if (outcome.status === 0) return undefined
  const number = lineIn(outcome.stderr)
  return { ...outcome, line: number === undefined ? undefined : lines[number - 1] }
}

/** The chain that the nf_tables variant says is not there; it names COMMIT as the line. */
function absentChain({ stderr }: Refusal): string | undefined {
  return /Chain '([^']+)' does not exist/.exec(stderr)?.[1]
}

const leadsTo = ({ chain, args }: Rule, name: string) => chain === name || args.includes(name)

/** The kernel's or another process's fault, and not the input's (xshared.h, RESOURCE_PROBLEM). */
const RESOURCE_PROBLEM = 4

/** Removes the reason for a refusal; false when it is not one that could be removed. */
async function makeGood(
  tools: Tools,
  { plan, absent, refused, lock }: Attempt & { refused: Refusal },
): Promise<boolean> {
  const { line, status } = refused
  if (line?.creates !== undefined) {
    const own = new Set(plan.own?.map(({ name }) => name))
    await removeRules(tools, plan.table, { lock, isRemovedChain: name => own.has(name) })
    return true
  }
  const chain = absentChain(refused) ?? ''
  if (line?.checks || tablesOf(plan).some(({ chains }) => chains?.includes(chain))) {
    const made = makeShared(tools, { plan, absent, lock })
    if (line?.checks) absent.add(line.checks)
    return line?.checks !== undefined || made.length > 0
  }
  return status === RESOURCE_PROBLEM
}

const tablesOf = (plan: Plan) => [...(plan.first ?? []), plan]

/** Makes the shared chains of all tables that are not there. Rules that lead to those that were made are absent. */
function makeShared(tools: Tools, { plan, absent, lock }: Attempt): string[] {
  const made = tablesOf(plan).flatMap(each => makeChains(tools, each, lock))
  for (const rule of tablesOf(plan).flatMap(({ ensure = [] }) => ensure))
    if (made.some(name => leadsTo(rule, name))) absent.add(rule)
  return made
}

/**
 * Makes the shared chains that are not there, one by one: not every version of iptables-restore leaves alone a chain that
 * another process makes at the same moment. Answers those that were made.
 */
function makeChains({ command }: Tools, { chains = [], table }: Plan, lock: HeldLock): string[] {
  const make = (chain: string) =>
    run([command, waitOption(), '-t', table, '-N', chain], { lock: lock.descriptor }).status === 0
  return chains.filter(make)
}

/** Whether a chain is there. Throws IptablesError where the tools are not installed. */
export function hasChain(sought: {
  family: Family
  variant: Variant | undefined
  table: string
  chain: string
}): boolean {
  const { family, variant, table, chain } = sought
  const { command } = requireTools(family, variant)
  return run([command, waitOption(), '-t', table, '-S', chain, '1']).status === 0
}

export interface MissingRule extends Rule {
  table: string
}

/** The first rule of a plan that is not there; undefined when all are. Throws IptablesError for what iptables does not take. */
export function missingRule(plan: Plan): MissingRule | undefined {
  const tools = requireTools(plan.family, plan.variant)
  using lock = unlessUnwritable(() => lockRules({ shared: true }))
  const lines = checksOf(plan) // without --test, with which the nf_tables variant does not look
  const refused = restore(tools, lines, lock)
  if (!refused) return undefined
  const chain = absentChain(refused)
  const missing =
    chain === undefined ? refused.line : lines.find(({ checks }) => checks && leadsTo(checks, chain))
  const rule = missing?.checks
  if (!rule) throw explain(plan, refused)
  const { table } = plan.first?.find(({ ensure }) => ensure?.includes(rule)) ?? plan
  return { table, chain: rule.chain, args: rule.args }
}

function explain({ family, table }: Plan, { line, stderr, status }: Refusal): IptablesError {
  const tool = family === 'ip' ? 'iptables' : 'ip6tables'
  const subject = line ? `: ${line.text}` : ''
  const said = firstLine(stderr) || `exit status ${status}`
  return new IptablesError(`apply ${tool} rules to table ${table}${subject}: ${said}`, {
    family,
    subject: `table ${table}`,
    said: stderr,
    line,
  })
}

function firstLine(stderr: string): string {
  return stderr.split('\n').find(line => line.trim() !== '') ?? ''
}
