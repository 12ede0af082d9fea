/** `catena reconcile`: DEL for attachments that are dead, then GC of plugins where something is left over. */
import { status } from '../../linux/libc/status.ts'
import { namespaceState } from '../../linux/netns.ts'
import type { CriAnswer } from '../../observe/cri.ts'
import type { NodeModel } from '../../observe/model.ts'
import { toCniError } from '../../protocol/error.ts'
import {
  collectGarbageOfPlugins,
  delIfStill,
  hasMaintenance,
  listFromNetwork,
  type NetworkList,
  parseNetwork,
  parseNetworkList,
  type RuntimeOptions,
} from '../../runtime/network.ts'
import { type Cached, judgeAll, needsCollection, objectionTo, type Verdict, validOn } from './verdict.ts'

export interface Reconciliation {
  read(): NodeModel
  cri: readonly CriAnswer[]
  /** Milliseconds. */
  grace: number
  isDryRun: boolean
  options: RuntimeOptions
}

/** What became of an attachment that is not alive. */
export interface Outcome extends Verdict {
  outcome: 'deleted' | 'would be deleted' | 'left' | 'failed'
  error?: string
}

export interface Collection {
  network: string
  outcome: 'done' | 'would be done' | 'nothing to do' | 'not done' | 'failed'
  why?: string
}

/** Something that is left over, and of which no runtime's cache tells. */
export interface Leftover {
  kind: 'address' | 'link' | 'rules' | 'record' | 'namespace'
  what: string
  evidence: readonly string[]
}

export interface Report {
  alive: number
  outcomes: Outcome[]
  collections: Collection[]
  leftovers: Leftover[]
  unreadable: readonly string[]
}

export async function reconcile(given: Reconciliation): Promise<Report> {
  const node = given.read()
  const verdicts = judgeAll({ node, cri: given.cri, grace: given.grace, now: Date.now() })
  const lists = networksOf(node)
  const outcomes: Outcome[] = []
  for (const verdict of verdicts)
    if (verdict.verdict !== 'alive') outcomes.push(await bury(verdict, lists, given))
  const after = given.isDryRun ? node : given.read()
  const collections: Collection[] = []
  for (const list of lists.values()) collections.push(await collect(list, after, given))
  return {
    alive: verdicts.filter(({ verdict }) => verdict === 'alive').length,
    outcomes,
    collections,
    leftovers: given.isDryRun ? [] : leftoversIn(given.read(), given.cri),
    unreadable: node.unreadable,
  }
}

/** Of several files with one name the first, as runtimes take them. */
function networksOf({ networks }: NodeModel): Map<string, NetworkList> {
  const lists = new Map<string, NetworkList>()
  for (const { network } of networks)
    if (network && !lists.has(network.name)) lists.set(network.name, network)
  return lists
}

async function bury(
  verdict: Verdict,
  lists: ReadonlyMap<string, NetworkList>,
  { isDryRun, options }: Reconciliation,
): Promise<Outcome> {
  const { attachment } = verdict
  if (verdict.verdict === 'left') return { ...verdict, outcome: 'left' }
  if (isDryRun) return { ...verdict, outcome: 'would be deleted' }
  try {
    const list = listOf(attachment, lists)
    const isStill = () => isUnchanged(attachment)
    const isDone = await delIfStill(list, attachment.cache.attachment, { ...options, isStill })
    if (isDone) return { ...verdict, outcome: 'deleted' }
    return { ...verdict, verdict: 'left', outcome: 'left', evidence: ['it has changed meanwhile'] }
  } catch (thrown) {
    const { message, details } = toCniError(thrown)
    return { ...verdict, outcome: 'failed', error: [message, details].filter(Boolean).join('; ') }
  }
}

/** The configuration that it was added with; with the plugins beside the network's file where that is the same still. */
function listOf({ cache, network }: Cached, lists: ReadonlyMap<string, NetworkList>): NetworkList {
  const { configuration } = cache.attachment
  const current = lists.get(network)
  if (current && (configuration === '' || current.text === configuration)) return current
  try {
    return parseNetworkList(configuration)
  } catch (thrown) {
    const single = singleIn(configuration)
    if (single) return single
    if (current) return current
    throw thrown
  }
}

function singleIn(configuration: string): NetworkList | undefined {
  try {
    return listFromNetwork(parseNetwork(configuration))
  } catch {
    return undefined
  }
}

/** An ID can be given again, as cnitool's is, which comes of the namespace's path. */
function isUnchanged({ cache, netns, namespace }: Cached): boolean {
  if (status(cache.path, { follow: false })?.modified !== cache.modified) return false
  return namespace !== undefined || netns === undefined || namespaceState(netns) !== 'present'
}

async function collect(list: NetworkList, node: NodeModel, given: Reconciliation): Promise<Collection> {
  const { name: network } = list
  const types = list.plugins.flatMap(({ type, raw }) => [type, ...ipamTypeIn(raw)])
  if (list.disableGC) return { network, outcome: 'not done', why: 'its configuration says disableGC' }
  if (!needsCollection(network, types, node)) return { network, outcome: 'nothing to do' }
  const tooOld = `version ${list.cniVersion || '0.1.0'} of its configuration has no GC`
  const why = hasMaintenance(list) ? objectionTo(network, { node, cri: given.cri }) : tooOld
  if (why) return { network, outcome: 'not done', why }
  if (given.isDryRun) return { network, outcome: 'would be done' }
  try {
    const readValid = () => validOn(network, { node: given.read(), cri: given.cri })
    await collectGarbageOfPlugins(list, readValid, given.options)
    return { network, outcome: 'done' }
  } catch (thrown) {
    return { network, outcome: 'failed', why: toCniError(thrown).message }
  }
}

function ipamTypeIn({ ipam }: Readonly<Record<string, unknown>>): string[] {
  const type = typeof ipam === 'object' && ipam !== null && 'type' in ipam ? ipam.type : undefined
  return typeof type === 'string' ? [type] : []
}

/** Not what a runtime may still ask for, though no cache has it. */
function leftoversIn(
  { reservations, links, filters, records, namespaces }: NodeModel,
  cri: readonly CriAnswer[],
): Leftover[] {
  const isForgotten = ({ containerId = '' }) => !cri.some(({ sandboxes }) => sandboxes.has(containerId))
  const of = <T extends { label: string; evidence: string[] }>(
    kind: Leftover['kind'],
    objects: readonly T[],
    name: (object: T) => string,
  ) =>
    objects
      .filter(({ label }) => label === 'orphan')
      .map(object => ({ kind, what: name(object), evidence: object.evidence }))
  return [
    ...of('address', reservations.filter(isForgotten), ({ path }) => path),
    ...of('link', links, ({ link }) => link.name),
    ...of('rules', filters.filter(isForgotten), ({ family, table, place }) => `${family} ${table} ${place}`),
    ...of('record', records, ({ path }) => path),
    ...of('namespace', namespaces, ({ paths, identity }) => paths[0] ?? identity),
  ]
}
