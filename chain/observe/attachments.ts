/** Interfaces of containers: what the caches say, held against namespaces and links; and those that no cache knows. */

import { canonicalAddress, isGlobalUnicast } from '../ip/text.ts'
import { nameIn } from '../linux/files.ts'
import type { Link } from '../linux/netlink/link.ts'
import { ownerIn } from '../plugin/owner.ts'
import { newestVersion } from '../protocol/version.ts'
import { type CachedAttachment, parseResult, type Result } from '../runtime/network.ts'
import { disagreementsOf, limitsOf, portsOf } from './details.ts'
import type { SeenCache } from './files.ts'
import { ownershipIn } from './filters.ts'
import { nameOf, runtimeOf } from './identity.ts'
import type { Attachment, Identity, SeenNamespace, Source } from './model.ts'
import { processName } from './namespaces.ts'
import type { Stack } from './stack.ts'

/** What attachments are made of. */
export interface Ground {
  host: Stack
  namespaces: readonly SeenNamespace[]
  /** The identity of the namespace that a path leads to. */
  identityAt(path: string): string | undefined
  /** Of a link of the host, the namespace that its other end is in. */
  peerNamespaceOf(link: Link): string | undefined
  /** Of each link, those whose incoming packets are sent through it. */
  redirections: ReadonlyMap<number, readonly number[]>
  /** What runtimes say of their sandboxes, by container ID. */
  identities: ReadonlyMap<string, Identity>
  /** Networks whose containers are on a bridge, by its name. */
  networksOn(bridge: string): string[]
  /** All addresses that any link has. */
  isLive(address: string): boolean
  isComplete: boolean
}

/** Addresses of a link that a person gave it, with prefix lengths. */
export function addressesOf(stack: Stack, link: Link): string[] {
  return stack.addresses
    .filter(({ link: index, address }) => index === link.index && isGlobalUnicast(address))
    .map(({ address, prefixLength }) => `${address}/${prefixLength}`)
}

/** A cached result, of whatever version; undefined for one that cannot be read. */
export function cachedResultOf({ result }: CachedAttachment): Result | undefined {
  if (!result) return undefined
  try {
    return parseResult(result, typeof result.cniVersion === 'string' ? result.cniVersion : newestVersion)
  } catch {
    return undefined
  }
}

/** The host's end of a container's interface: a veth's peer, or the link that a macvlan or a VLAN stands on. */
function hostSideOf(ground: Ground, inside: Link, namespace: string): Link | undefined {
  if (inside.parent === undefined) return undefined
  const { links } = ground.host
  const found = links.find(({ index }) => index === inside.parent)
  if (!found) return undefined
  if (inside.kind !== 'veth') return inside.parentNamespace === undefined ? undefined : found
  const isPair = found.kind === 'veth' && found.parent === inside.index
  return isPair && ground.peerNamespaceOf(found) === namespace ? found : undefined
}

/** An attachment that a cache knows. */
export function fromCache(cache: SeenCache & { attachment: CachedAttachment }, ground: Ground): Attachment {
  const { attachment, modified } = cache
  const { network, containerId, ifname } = attachment
  const result = cachedResultOf(attachment)
  const netns = attachment.netns ?? sandboxIn(result, ifname)
  const identity = netns === undefined ? undefined : ground.identityAt(netns)
  const namespace = ground.namespaces.find(each => each.identity === identity)
  const link = namespace?.stack?.links.find(({ name }) => name === ifname)
  const host = link && namespace ? hostSideOf(ground, link, namespace.identity) : undefined
  const cached = result?.ips.map(({ address }) => address) ?? []
  const sources: Source[] = ['cache', ...(link ? (['namespace'] as const) : [])]
  if (ownerIn(host?.alias ?? '') !== undefined) sources.push('alias')
  const known = ground.identities.get(containerId)
  if (known) sources.push('CRI')
  const called = nameOf(attachment, known)
  return {
    network,
    containerId,
    ifname,
    ...called,
    runtime: runtimeOf(attachment, called.identity),
    ...(netns === undefined ? {} : { netns }),
    ...(namespace === undefined ? {} : { namespace: namespace.identity }),
    ...(link ? { link } : {}),
    ...(host ? { host } : {}),
    addresses: link && namespace?.stack ? addressesOf(namespace.stack, link) : cached,
    gateways:
      result?.ips.flatMap(({ gateway, address }) =>
        gateway ? [`${gateway}/${address.split('/')[1]}`] : [],
      ) ?? [],
    ports: portsOf(attachment.capabilityArgs?.portMappings),
    limits: limitsOf(host, ground.host, ground.redirections),
    since: modified,
    sources,
    cache,
    ...verdictOf({ netns, ifname, result, cached }, { ground, namespace, link }),
    disagreements: disagreementsOf({ cached, result, ifname, link, stack: namespace?.stack }),
  }
}

/** Older versions of libcni, such as podman's, write no namespace beside the result; the result has it. */
function sandboxIn(result: Result | undefined, ifname: string): string | undefined {
  return result?.interfaces.find(({ name, sandbox }) => name === ifname && sandbox)?.sandbox
}

/** Live: its interface is in its namespace. Orphan: there is neither its namespace nor any of its addresses. */
function verdictOf(
  {
    netns,
    ifname,
    result,
    cached,
  }: {
    netns: string | undefined
    ifname: string
    result: Result | undefined
    cached: readonly string[]
  },
  {
    ground,
    namespace,
    link,
  }: { ground: Ground; namespace: SeenNamespace | undefined; link: Link | undefined },
): Pick<Attachment, 'label' | 'evidence'> {
  if (link) return { label: 'live', evidence: [`${ifname} is in ${netns}`] }
  if (namespace?.stack) return { label: 'unknown', evidence: [`${netns} is there, and has no ${ifname}`] }
  if (namespace) return { label: 'unknown', evidence: [`${netns} is there, and cannot be looked into`] }
  const gone = netns ? `its namespace ${netns} is gone` : 'the cache names no namespace'
  const addresses = cached.map(address => address.split('/')[0] ?? '')
  const living = addresses.filter(address => ground.isLive(address))
  if (living.length > 0)
    return { label: 'unknown', evidence: [gone, `${living.join(', ')} is on a link all the same`] }
  if (!result || !netns || !ground.isComplete) return { label: 'unknown', evidence: [gone] }
  const none = addresses.length > 0 ? `no link has ${addresses.join(', ')}` : 'it had no address'
  const ends = result.interfaces.filter(({ sandbox, name }) => !sandbox && name.startsWith('veth'))
  const left = ends.filter(({ name }) => ground.host.links.some(found => found.name === name))
  const pair = left.length > 0 ? `its host end ${left[0]?.name} is left` : 'no host end of it is left'
  return { label: 'orphan', evidence: [gone, none, pair] }
}

/** Interfaces in namespaces that no cache tells of: of a runtime without CNI, or of a container whose cache is gone. */
export function withoutCache(known: readonly Attachment[], ground: Ground): Attachment[] {
  return ground.namespaces.flatMap(namespace => {
    const { stack, identity } = namespace
    const links = stack?.links.filter(link => isInterface(link)) ?? []
    return links
      .filter(({ name }) => !known.some(each => each.namespace === identity && each.ifname === name))
      .map(link => foreign({ namespace, link, stack: stack as Stack }, ground))
  })
}

/** Not the loopback, nor the devices that the kernel puts into every namespace. */
function isInterface({ loopback, kind, up, name }: Link): boolean {
  if (loopback || kind === 'bridge' || kind === 'ifb') return false
  return up || !/^(tunl|gre|gretap|erspan|sit|ip6tnl|ip6gre|ip_vti|ip6_vti|teql|dummy)0$/.test(name)
}

function foreign(
  { namespace, link, stack }: { namespace: SeenNamespace; link: Link; stack: Stack },
  ground: Ground,
): Attachment {
  const { identity, paths, processes } = namespace
  const host = hostSideOf(ground, link, identity)
  const ownership = ownershipIn(host?.alias ?? '')
  const bridge = ground.host.links.find(({ index }) => index === host?.master)?.name
  const networks = bridge === undefined ? [] : ground.networksOn(bridge)
  const path = paths[0]
  const isOurs = ownership.owner !== undefined
  const label = isOurs || networks.length > 0 ? 'unknown' : 'foreign'
  const process = processes[0]
  return {
    network: ownership.network ?? (networks.length === 1 ? (networks[0] ?? '') : ''),
    containerId: ownership.containerId ?? '',
    ifname: link.name,
    name:
      (path === undefined ? undefined : nameIn(path)) ??
      (process === undefined ? identity : `${processName(process) ?? 'process'}-${process}`),
    runtime: isOurs ? 'CNI' : path?.startsWith('/run/docker/netns/') ? 'docker' : '',
    ...(path === undefined ? {} : { netns: path }),
    namespace: identity,
    link,
    ...(host ? { host } : {}),
    addresses: addressesOf(stack, link),
    gateways: [],
    ports: [],
    limits: limitsOf(host, ground.host, ground.redirections),
    sources: ['namespace', ...(isOurs ? (['alias'] as const) : [])],
    disagreements: [],
    label,
    evidence: [
      'no cache tells of it',
      ...(isOurs ? [`the alias of ${host?.name} says whose it is`] : []),
      ...(networks.length > 0 ? [`it is on ${bridge}, the bridge of ${networks.join(', ')}`] : []),
    ],
  }
}

/** An address without its prefix length, as the kernel writes it. */
export const bare = (address: string) => canonicalAddress(address.split('/')[0] ?? '') ?? address
