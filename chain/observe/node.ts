/**
 * Reads a node once: networks, caches, reservations, records, namespaces, links, packet filters, and joins them into one model in
 * which every object says whether somebody still needs it. Works on what the kernel and the files say, whoever has made it.
 */
import { canonicalAddress, isGlobalUnicast } from '../ip/text.ts'
import { SystemFailure } from '../linux/failure.ts'
import { SystemError } from '../linux/libc/errno.ts'
import { close, O_RDONLY, open } from '../linux/libc/file.ts'
import { status } from '../linux/libc/status.ts'
import type { Link } from '../linux/netlink/link.ts'
import { namespaceNumber } from '../linux/netlink/namespace-id.ts'
import { openRoute } from '../linux/netlink/socket.ts'
import { inNamespace, namespaceIdentity, namespaceState } from '../linux/netns.ts'
import type { CachedAttachment } from '../runtime/network.ts'
import { addressesOf, cachedResultOf, fromCache, type Ground, withoutCache } from './attachments.ts'
import {
  type NetworkFile,
  pluginsIn,
  readCaches,
  readNetworkFiles,
  readRecords,
  readReservations,
  type SeenCache,
} from './files.ts'
import { readFilters } from './filters.ts'
import { labelFilters, labelRecords, labelReservations } from './labels.ts'
import { labelLinks } from './links.ts'
import type { Identity, NodeModel, SeenNamespace } from './model.ts'
import { type FoundNamespace, findDeadMounts, findNamespaces } from './namespaces.ts'
import { redirections } from './redirections.ts'
import { readStack, type Stack } from './stack.ts'

export interface Places {
  /** Folders of network configurations. */
  configurations: readonly string[]
  /** libcni's CacheDir, of whatever runtimes. */
  caches?: readonly string[]
  /** Folders in which host-local keeps a folder for each network, beside those that configurations name. */
  reservations?: readonly string[]
  /** What runtimes say of their sandboxes, by container ID. */
  identities?: ReadonlyMap<string, Identity>
  /** A file younger than this may belong to an ADD that is under way: it is no leftover. Milliseconds. */
  grace?: number
}

const CACHES = ['/var/lib/cni']
const RESERVATIONS = ['/var/lib/cni/networks']
const GRACE = 60_000

/** All that is known of the node. */
export function readNode(given: Places): NodeModel {
  const { caches = CACHES, reservations = RESERVATIONS, identities = new Map(), grace = GRACE } = given
  const networks = readNetworkFiles(given.configurations)
  const cacheFiles = readCaches(caches)
  const whole = cacheFiles.filter((file): file is SeenCache & { attachment: CachedAttachment } =>
    Boolean(file.attachment),
  )
  const host = readStack()
  const unreadable: string[] = []
  const namespaces = findNamespaces().map(found => readNamespace(found, unreadable))
  const live = liveAddresses(host, namespaces)
  const bridges = bridgesOf(networks, whole)
  const identityAt = identitiesByPath()
  const ground: Ground = {
    host,
    namespaces,
    redirections: redirections(host.links),
    identities,
    identityAt,
    peerNamespaceOf: peerFinder(namespaces),
    networksOn: bridge => bridges.get(bridge) ?? [],
    isLive: address => live.has(canonicalAddress(address) ?? address),
    isComplete: unreadable.length === 0,
  }
  const cached = whole.map(cache => fromCache(cache, ground))
  const attachments = [...cached, ...withoutCache(cached, ground)]
  const folders = [...new Set([...reservations, ...dataFolders(networks, whole)])]
  const found = readReservations(folders)
  const judge = { ground, attachments, reservations: found, grace, now: Date.now() }
  return {
    networks,
    attachments,
    brokenCaches: cacheFiles.filter(({ attachment }) => !attachment),
    reservations: labelReservations(judge),
    namespaces: namespaces.map(namespace => ({ ...namespace, ...namespaceLabel(namespace, cached, judge) })),
    deadMounts: findDeadMounts(),
    links: labelLinks(judge),
    filters: labelFilters(readFilters(), judge),
    records: labelRecords(readRecords(), judge),
    host,
    unreadable,
  }
}

function readNamespace(found: FoundNamespace, unreadable: string[]): SeenNamespace {
  const nothing = { label: 'unknown' as const, evidence: [] }
  const paths = [...found.paths, ...found.processes.map(process => `/proc/${process}/ns/net`)]
  let problem = ''
  for (const path of paths) {
    try {
      return { ...found, ...nothing, stack: inNamespace<Stack>(path, readStack) }
    } catch (thrown) {
      if (!(thrown instanceof SystemError || thrown instanceof SystemFailure)) throw thrown
      problem = `${path} cannot be looked into: ${thrown.message}`
      if (identityOf(path) !== found.identity) problem = '' // it has ended meanwhile
    }
  }
  if (problem) unreadable.push(problem)
  return { ...found, ...nothing }
}

function identityOf(path: string): string | undefined {
  try {
    return namespaceState(path) === 'present' ? namespaceIdentity(path) : undefined
  } catch {
    return undefined
  }
}

/** Asks each path once: a container has several interfaces. */
function identitiesByPath(): (path: string) => string | undefined {
  const known = new Map<string, string | undefined>()
  return path => {
    if (!known.has(path)) known.set(path, identityOf(path))
    return known.get(path)
  }
}

function liveAddresses(host: Stack, namespaces: readonly SeenNamespace[]): Set<string> {
  const stacks = [host, ...namespaces.flatMap(({ stack }) => stack ?? [])]
  return new Set(
    stacks.flatMap(({ addresses }) =>
      addresses.flatMap(({ address }) => (isGlobalUnicast(address) ? [address] : [])),
    ),
  )
}

/** By the kernel's numbers of namespaces, which no container can choose. */
function peerFinder(namespaces: readonly SeenNamespace[]): (link: Link) => string | undefined {
  using route = openRoute()
  const numbers = new Map<number, string>()
  for (const { identity, paths, processes } of namespaces) {
    const path = paths[0] ?? `/proc/${processes[0]}/ns/net`
    const number = numberOf(route, path, identity)
    if (number !== undefined) numbers.set(number, identity)
  }
  return ({ parent, parentNamespace }) => {
    if (parent === undefined) return undefined
    return parentNamespace === undefined ? 'host' : numbers.get(parentNamespace)
  }
}

function numberOf(route: ReturnType<typeof openRoute>, path: string, identity: string): number | undefined {
  try {
    const descriptor = open(path, O_RDONLY)
    try {
      return namespaceIdentity(`/proc/self/fd/${descriptor}`) === identity
        ? namespaceNumber(route, descriptor)
        : undefined
    } finally {
      close(descriptor)
    }
  } catch (thrown) {
    if (thrown instanceof SystemError) return undefined
    throw thrown
  }
}

type Whole = SeenCache & { attachment: CachedAttachment }

/** Bridges with the networks whose containers are on them, by configurations and by results. */
function bridgesOf(files: readonly NetworkFile[], caches: readonly Whole[]): Map<string, string[]> {
  const bridges = new Map<string, Set<string>>()
  const note = (bridge: string, network: string) =>
    bridges.set(bridge, (bridges.get(bridge) ?? new Set()).add(network))
  for (const { network } of files)
    for (const { type, raw } of network?.plugins ?? [])
      if (type === 'bridge') note(String(raw.bridge || 'cni0'), network?.name ?? '')
  for (const { attachment } of caches) {
    const plugin = pluginsIn(attachment.configuration).find(({ type }) => type === 'bridge')
    if (plugin) note(String(plugin.bridge || 'cni0'), attachment.network)
    else if (delegatedToBridge(attachment))
      note(cachedResultOf(attachment)?.interfaces[0]?.name ?? '', attachment.network)
  }
  return new Map([...bridges].map(([bridge, networks]) => [bridge, [...networks].toSorted()]))
}

/** As flannel's: the result has a bridge, its port and the container's interface. */
function delegatedToBridge(attachment: CachedAttachment): boolean {
  const interfaces = cachedResultOf(attachment)?.interfaces ?? []
  return interfaces.filter(({ sandbox }) => !sandbox).length > 1
}

/** What host-local was told to use in the place of its usual folder. */
function dataFolders(files: readonly NetworkFile[], caches: readonly Whole[]): string[] {
  const plugins = [
    ...files.flatMap(({ network }) => network?.plugins.map(({ raw }) => raw) ?? []),
    ...caches.flatMap(({ attachment }) => pluginsIn(attachment.configuration)),
  ]
  return plugins.flatMap(({ ipam }) => {
    const folder = typeof ipam === 'object' && ipam !== null && 'dataDir' in ipam ? ipam.dataDir : undefined
    return typeof folder === 'string' && folder.startsWith('/') ? [folder.replace(/\/+$/, '')] : []
  })
}

/** What runtimes call the namespaces that they make. */
const RUNTIMES_OWN = /\/netns\/(cni-|netns-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/** Orphan: of a runtime by its name, and with no process and no address inside. Whatever else has a name may be a person's. */
function namespaceLabel(
  { identity, paths, processes, stack }: SeenNamespace,
  attachments: readonly { namespace?: string }[],
  { grace, now }: { grace: number; now: number },
): Pick<SeenNamespace, 'label' | 'evidence'> {
  if (attachments.some(({ namespace }) => namespace === identity))
    return { label: 'live', evidence: ['a cache names it'] }
  if (processes.length > 0) return { label: 'foreign', evidence: [`${processes.length} processes are in it`] }
  const isRuntimes = paths.some(path => RUNTIMES_OWN.test(path))
  const used = stack?.links.filter(link => !link.loopback && addressesOf(stack, link).length > 0) ?? []
  const unused = ['no cache names it', 'no process is in it']
  if (!isRuntimes) return { label: 'foreign', evidence: unused }
  if (!stack || used.length > 0) return { label: 'unknown', evidence: unused }
  // an ADD begins with it; the kernel's file of a namespace is as old as its mount
  const isYoung = paths.some(path => now - (status(path)?.modified ?? now) < grace)
  if (isYoung)
    return { label: 'unknown', evidence: [...unused, 'it is so young that its ADD may be under way'] }
  return { label: 'orphan', evidence: [...unused, 'no link in it has an address'] }
}
