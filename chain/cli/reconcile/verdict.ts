/**
 * Which attachments are dead: two signals that do not depend on one another have to say so. Their namespace is gone, or holds
 * neither the interface nor a process; and the runtime does not know the sandbox, or no link of the node has any of their addresses. Pure.
 */
import { bare } from '../../observe/attachments.ts'
import type { CriAnswer } from '../../observe/cri.ts'
import type { Attachment, NodeModel } from '../../observe/model.ts'
import type { ValidAttachment } from '../../runtime/network.ts'

export type Cached = Attachment & { cache: NonNullable<Attachment['cache']> }

export interface Verdict {
  attachment: Cached
  /** 'left': there is something against it, and not enough. */
  verdict: 'alive' | 'dead' | 'left'
  evidence: string[]
}

export interface Witnesses {
  node: NodeModel
  cri: readonly CriAnswer[]
  /** Milliseconds: what is younger may belong to an ADD that is under way. */
  grace: number
  /** Milliseconds since the epoch. */
  now: number
}

/** Whose sandboxes no CRI knows, by the form of their IDs and namespaces. */
const WITHOUT_CRI = ['podman', 'docker', 'nerdctl', 'cnitool']
/** Of whose sandboxes one can say that a CRI would know them. */
const WITH_CRI = ['containerd', 'CRI-O', 'Kubernetes']

const mayBeOfCri = ({ runtime }: Pick<Attachment, 'runtime'>) => !WITHOUT_CRI.includes(runtime)

/** Attachments that no cache tells of are none of a runtime's: they are for `catena doctor`. */
export function judgeAll(witnesses: Witnesses): Verdict[] {
  return witnesses.node.attachments.filter(isCached).map(attachment => judge(attachment, witnesses))
}

const isCached = (attachment: Attachment): attachment is Cached => attachment.cache !== undefined

function judge(attachment: Cached, { node, cri, grace, now }: Witnesses): Verdict {
  const { containerId, cache } = attachment
  const left = (...evidence: string[]): Verdict => ({ attachment, verdict: 'left', evidence })
  if (attachment.label === 'live') return { attachment, verdict: 'alive', evidence: attachment.evidence }
  const gone = isGone(attachment, node)
  if (gone === undefined) return left(...attachment.evidence)
  const knowing = cri.find(({ sandboxes }) => sandboxes.has(containerId))
  if (knowing) return left(gone, `the runtime at ${knowing.socket} knows its sandbox`)
  const silent = cri.find(({ state }) => state === 'silent')
  if (silent && mayBeOfCri(attachment))
    return left(gone, `the runtime at ${silent.socket} cannot be asked: ${silent.problem}`)
  if (now - cache.modified < grace) return left(gone, 'it is so young that its ADD may be under way')
  const asked = cri.filter(({ state }) => state === 'answers')
  const unknown = asked.map(({ socket }) => `the runtime at ${socket} does not know its sandbox`)
  if (asked.length > 0 && WITH_CRI.includes(attachment.runtime))
    return { attachment, verdict: 'dead', evidence: [gone, ...unknown] }
  const trace = traceOf(attachment, node)
  return trace.isFound
    ? left(gone, trace.says)
    : { attachment, verdict: 'dead', evidence: [gone, trace.says, ...unknown] }
}

/** The first signal: what is so of the namespace; undefined where it speaks for the attachment, or not at all. */
function isGone({ netns, namespace: identity, ifname }: Attachment, node: NodeModel): string | undefined {
  if (netns === undefined) return undefined
  if (identity === undefined) return `its namespace ${netns} is gone`
  const namespace = node.namespaces.find(each => each.identity === identity)
  if (!namespace?.stack || namespace.processes.length > 0) return undefined
  if (namespace.stack.links.some(({ name }) => name === ifname)) return undefined
  return `${netns} has neither an interface ${ifname} nor a process`
}

/** The second signal, where nobody can be asked. */
function traceOf({ cache, addresses }: Cached, node: NodeModel): { isFound: boolean; says: string } {
  const [unreadable] = node.unreadable
  if (unreadable) return { isFound: true, says: unreadable }
  if (!cache.attachment.result) return { isFound: true, says: 'its cached result cannot be read' }
  const own = new Set(addresses.map(bare))
  const stacks = [node.host, ...node.namespaces.flatMap(({ stack }) => stack ?? [])]
  const found = stacks.flatMap(stack => stack.addresses).find(({ address }) => own.has(bare(address)))
  if (found) return { isFound: true, says: `${found.address} is on a link all the same` }
  return {
    isFound: false,
    says: own.size > 0 ? `no link has ${[...own].join(', ')}` : 'it had no address',
  }
}

/** What GC of a network has to leave: all that is not an orphan by two signals, whether a cache tells of it or not. */
export function validOn(network: string, { node, cri }: Pick<Witnesses, 'node' | 'cri'>): ValidAttachment[] {
  const isKnown = (containerId: string) => cri.some(({ sandboxes }) => sandboxes.has(containerId))
  const owners = [
    ...node.attachments,
    ...[...node.reservations, ...node.filters].filter(
      ({ label, containerId }) => label !== 'orphan' || isKnown(containerId ?? ''),
    ),
  ].filter(each => each.network === network && each.containerId)
  const keys = owners.map(({ containerId, ifname = 'eth0' }) => [containerId, ifname] as const)
  const unique = new Map(keys.map(key => [key.join(' '), key]))
  return [...unique.values()].map(([containerId = '', ifname]) => ({ containerId, ifname }))
}

/** Plugins whose leftovers can be seen without asking them. */
const SEEN = [
  ...['bridge', 'ptp', 'loopback', 'macvlan', 'ipvlan', 'vlan', 'dummy', 'host-local', 'static'],
  ...['portmap', 'firewall', 'bandwidth', 'tuning'],
]

/**
 * Whether plugins' GC has something to do. A runtime that takes no locks of ours may begin an ADD at any moment, and what that has
 * reserved is in no list yet: where nothing can be seen to be left over, nothing is called.
 */
export function needsCollection(network: string, types: readonly string[], node: NodeModel): boolean {
  if (types.some(type => !SEEN.includes(type))) return true
  const objects = [...node.reservations, ...node.filters]
  return (
    objects.some(each => each.label === 'orphan' && each.network === network) ||
    node.links.some(({ label, networks }) => label === 'orphan' && networks.includes(network))
  )
}

/** Why GC might take what somebody needs. */
export function objectionTo(
  network: string,
  { node, cri }: Pick<Witnesses, 'node' | 'cri'>,
): string | undefined {
  const silent = cri.find(({ state }) => state === 'silent')
  if (silent) return `the runtime at ${silent.socket} cannot be asked`
  const nameless = node.attachments.find(each => each.network === network && each.containerId === '')
  if (nameless) return `${nameless.name} is on it, and nothing says which container that is`
  return node.unreadable[0]
}
