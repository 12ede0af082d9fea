/**
 * What keeps a container's rules where its configuration names no backend: iptables on a node that uses it, nftables on all
 * others. docs/backends.md has the table.
 */
import { readFile } from '../linux/files.ts'
import { policySign, type Sought } from '../linux/iptables/brief.ts'
import { findUse } from '../linux/iptables/usage.ts'
import type { Io } from '../plugin/io.ts'
import { NODE_WIDE } from '../plugin/state.ts'
import type { Undo } from '../plugin/undo.ts'
import { isObject } from '../protocol/configuration.ts'
import { CniError, code } from '../protocol/error.ts'
import { type BackendName, type Decision, iptablesBecause } from './decision.ts'

/** What is known of a call when it is decided. */
export interface Circumstances {
  /** CNI_ARGS. */
  args?: string
  /** A chain of table filter that the configuration names. */
  chain?: string
}

/** The backend for a configuration, which may name one. */
export async function decideBackend(
  named: BackendName | '' | undefined,
  circumstances: Circumstances = {},
): Promise<Decision> {
  if (named) return { backend: named, why: 'the configuration says so', by: 'configuration' }
  const nodeWide = nodeWideBackend()
  if (nodeWide === 'nftables') return { backend: 'nftables', why: `${NODE_WIDE} says so`, by: 'node' }
  if (nodeWide === 'iptables') return iptablesBecause({ why: `${NODE_WIDE} says so`, by: 'node' })
  // nerdctl hands this over with every container, and reads iptables to know which ports are free
  if (/(^|;)NERDCTL_/.test(circumstances.args ?? ''))
    return iptablesBecause({ why: 'nerdctl reads it', by: 'use' })
  const use = await findUse(soughtFor(circumstances))
  if (!use) return { backend: 'nftables', why: 'nothing on this node uses iptables', by: 'use' }
  const tool = use.family === 'ip' ? 'iptables' : 'ip6tables'
  const why = `this node uses it: ${use.sign} of table ${use.table} of ${tool} (${use.variant})`
  return {
    ...iptablesBecause({ why, by: 'use' }, use.variant),
    dropsForwarded: use.sign === policySign('FORWARD'),
  }
}

/** The backend that somebody wants for what is there already. Throws where iptables is wanted and not installed. */
export async function imposedBackend(to: BackendName, circumstances: Circumstances = {}): Promise<Decision> {
  const reason = { why: 'it is to be moved there', by: 'node' } as const
  if (to === 'nftables') return { backend: to, ...reason }
  const use = await findUse(soughtFor(circumstances))
  const decision = iptablesBecause(reason, use?.variant)
  if (decision.backend === 'iptables') return decision
  throw new CniError(code.pluginNotAvailable, 'iptables is not installed', {
    details: 'install the package iptables; nothing has been changed',
  })
}

function nodeWideBackend(): BackendName | undefined {
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
    if (isObject(json)) return json
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
  const named = chain ? [chain] : []
  return {
    isOwn: ({ targets, comment }) =>
      targets.some(target => target.startsWith('CNI-')) || comment === LOOPBACK_GUARD,
    chains: [...ADMIN_CHAINS, FORWARD_CHAIN, ...named],
    signIn: table => {
      const full = [...ADMIN_CHAINS, ...named].find(name => table.rulesIn(name).length > 0)
      if (full) return `a rule in chain ${full}`
      if (!chain || !table.hasChain(chain)) return undefined
      // an empty chain that CNI-FORWARD leads to may be one that an earlier firewall has made
      const isOurs = table.rulesIn(FORWARD_CHAIN).some(({ targets }) => targets.includes(chain))
      return isOurs ? undefined : `chain ${chain}`
    },
  }
}

/** A way to keep an attachment's rules: by nftables, by iptables, with firewalld. Chosen once; nothing asks afterwards which it is. */
export interface Backend {
  /** Puts the rules there, in the place of what the attachment had before; each step is followed by what undoes it. */
  add(undo: Undo): Promise<void>
  /** CHECK: a sentence about what is missing. */
  check(): Promise<string | undefined>
  /** Takes away what has come of `add`, as far as it came. */
  remove(): Promise<void>
}

/**
 * Adds rules by the backend that was decided. Where that turns out not to work on this node, and no configuration insists on
 * it, the other one stands in, once what came of the attempt is removed.
 */
export async function addByBackend(
  { io, undo }: { io: Io; undo: Undo },
  way: { by: Decision['by']; backend(): Promise<Backend>; fallback(other: Decision): Promise<Backend> },
): Promise<void> {
  let tried: Backend | undefined
  try {
    tried = await way.backend()
    await tried.add(undo)
  } catch (thrown) {
    const { explainLack, fallbackFor } = await import('./fallback.ts')
    const other = way.by === 'configuration' ? undefined : fallbackFor(thrown)
    if (!other || !(thrown instanceof Error)) throw explainLack(thrown)
    io.stderr(`${other.why}, so ${other.backend} stands in: ${thrown.message}\n`)
    await tried?.remove()
    const backend = await way.fallback(other)
    await backend.add(undo)
  }
}
