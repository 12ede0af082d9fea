/**
 * What keeps a container's rules where its configuration names no backend: iptables on a node that uses it, nftables on all
 * others. docs/backends.md has the table.
 */
import { readFile } from '../linux/files.ts'
import { policySign, type Sought } from '../linux/iptables/brief.ts'
import { findTools, findVariant, type Variant } from '../linux/iptables/tools.ts'
import { findUse } from '../linux/iptables/usage.ts'
import { CniError, code } from '../protocol/error.ts'
import type { World } from './world.ts'

export type Backend = 'nftables' | 'iptables'

export interface Decision {
  backend: Backend
  /** Where iptables is to keep the rules. */
  variant?: Variant
  /** The reason, as the end of a sentence: "because …". */
  why: string
  /** Who has decided it: the configuration, whose word is final, an administrator for the node, or what is found there. */
  by: 'configuration' | 'node' | 'use'
  /** Known on the way: iptables drops what is forwarded and not accepted. */
  dropsForwarded?: boolean
}

/** What is known of a call when it is decided. */
export interface Circumstances {
  /** CNI_ARGS. */
  args?: string
  /** A chain of table filter that the configuration names. */
  chain?: string
}

/** An administrator's answer for all silent configurations of the node. */
export const NODE_WIDE = '/etc/cni/catena.json'

/** The backend for a configuration, which may name one. */
export async function decideBackend(
  named: Backend | '' | undefined,
  circumstances: Circumstances = {},
): Promise<Decision> {
  if (named) return { backend: named, why: 'the configuration says so', by: 'configuration' }
  const wanted = nodeWideBackend()
  if (wanted === 'nftables') return { backend: 'nftables', why: `${NODE_WIDE} says so`, by: 'node' }
  if (wanted === 'iptables') return byIptables({ why: `${NODE_WIDE} says so`, by: 'node' })
  // nerdctl hands this over with every container, and reads iptables to know which ports are free
  if (/(^|;)NERDCTL_/.test(circumstances.args ?? ''))
    return byIptables({ why: 'nerdctl reads it', by: 'use' })
  const use = await findUse(soughtFor(circumstances))
  if (!use) return { backend: 'nftables', why: 'nothing on this node uses iptables', by: 'use' }
  const tool = use.family === 'ip' ? 'iptables' : 'ip6tables'
  const why = `this node uses it: ${use.sign} of table ${use.table} of ${tool} (${use.variant})`
  return {
    ...byIptables({ why, by: 'use' }, use.variant),
    dropsForwarded: use.sign === policySign('FORWARD'),
  }
}

/** iptables where its tools are, of the variant that is in use if there are some, else of the machine's choice. */
function byIptables(reason: Pick<Decision, 'why' | 'by'>, used?: Variant): Decision {
  const tools = (used && findVariant('ip', used)) ?? findTools('ip')
  if (tools) return { backend: 'iptables', variant: tools.variant, ...reason }
  return { backend: 'nftables', why: `iptables is not installed, though ${reason.why}`, by: 'use' }
}

function nodeWideBackend(): Backend | undefined {
  const text = readFile(NODE_WIDE)
  if (text === undefined) return undefined
  const { backend } = parse(text)
  if (backend === undefined || backend === '') return undefined
  if (backend === 'nftables' || backend === 'iptables') return backend
  throw new CniError(
    code.invalidConfiguration,
    `${NODE_WIDE}: backend: must be "nftables" or "iptables": got ${JSON.stringify(backend)}`,
  )
}

function parse(text: string): { backend?: unknown } {
  try {
    const json: unknown = JSON.parse(text)
    if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json
  } catch (thrown) {
    throw new CniError(code.invalidConfiguration, `${NODE_WIDE}: must be JSON`, {
      details: String(thrown).replace(/^SyntaxError: /, ''),
      cause: thrown,
    })
  }
  throw new CniError(code.invalidConfiguration, `${NODE_WIDE}: must be a JSON object`)
}

/** The comment of what stands in INPUT for published ports: no chain's name tells whose it is. */
export const LOOPBACK_GUARD = 'published ports reach 127.0.0.0/8 from this host alone'

/** Chains that administrators fill; what leads there is often of others, but need not be. */
const ADMIN_CHAINS = ['CNI-ADMIN', 'DOCKER-USER']

/** Of table filter: leads to the chain that an administrator fills, and is made by the first firewall. */
export const FORWARD_CHAIN = 'CNI-FORWARD'

/** Rules into chains of CNI plugins, ours or the Go ones, are what these have left: they do not count as the node's use. */
function soughtFor({ chain }: Circumstances): Sought {
  return {
    isOwn: ({ targets, comment }) =>
      targets.some(target => target.startsWith('CNI-')) || comment === LOOPBACK_GUARD,
    signIn: table => {
      const full = [...ADMIN_CHAINS, chain ?? ''].find(name => table.rulesIn(name).length > 0)
      if (full) return `a rule in chain ${full}`
      // an empty chain that CNI-FORWARD leads to may be one that an earlier firewall has made
      const isOurs = table.rulesIn(FORWARD_CHAIN).some(({ targets }) => targets.includes(chain ?? ''))
      return chain && !isOurs && table.hasChain(chain) ? `chain ${chain}` : undefined
    },
  }
}

/** What stands in for iptables. */
export const instead = {
  backend: 'nftables',
  why: 'iptables does not work on this node',
  by: 'use',
} as const satisfies Decision

/**
 * Applies what was decided. Where iptables turns out not to work on this node, and no configuration insists on it, nftables
 * does it, once what came of the attempt is swept.
 */
export async function withBackend<T extends Pick<Decision, 'by'>>(
  { world }: { world: World },
  way: { decision: T; instead: T; apply(decision: T): Promise<void>; sweep(): Promise<void> },
): Promise<void> {
  const { decision, apply, sweep } = way
  try {
    await apply(decision)
  } catch (thrown) {
    if (decision.by === 'configuration' || !isOfIptables(thrown)) throw thrown
    world.stderr(`iptables does not work on this node, so nftables stands in: ${thrown.message}\n`)
    await sweep()
    await apply(way.instead)
  }
}

/** What the tools say, as it is or behind a CNI error. */
function isOfIptables(thrown: unknown): thrown is Error {
  const names = [thrown, thrown instanceof Error ? thrown.cause : undefined].map(
    each => each instanceof Error && each.name,
  )
  return names.includes('IptablesError')
}

/** The sentence about a decision that STATUS writes to standard error. */
export function describeDecision(
  what: string,
  { backend, why, variant }: { backend: string; why: string; variant?: Variant },
): string {
  const kind = variant === undefined ? backend : `${backend} (${variant})`
  return `${what} by ${kind}, because ${why}`
}
