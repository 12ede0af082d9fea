/** Links of the host: which network's bridge, whose host end, whose IFB, and which of them are not needed any more. */
import type { Link } from '../linux/netlink/link.ts'
import { addressesOf, cachedResultOf } from './attachments.ts'
import { ownershipIn } from './filters.ts'
import { type Judge, ownersOf } from './labels.ts'
import type { Labelled, SeenLink } from './model.ts'
import { redirections } from './redirections.ts'

export function labelLinks(judge: Judge): SeenLink[] {
  const { ground } = judge
  const targets = ground.redirections
  return ground.host.links
    .filter(({ loopback }) => !loopback)
    .map(link => {
      const networks = ground.networksOn(link.name)
      const peerNamespace = link.kind === 'veth' ? ground.peerNamespaceOf(link) : undefined
      const of = {
        link,
        addresses: addressesOf(ground.host, link),
        ...(peerNamespace === undefined ? {} : { peerNamespace }),
      }
      if (networks.length > 0 && link.kind === 'bridge')
        return {
          ...of,
          role: 'bridge',
          networks,
          label: 'live',
          evidence: [`networks ${networks.join(', ')} use it`],
        }
      if (link.kind === 'ifb' && /^bwp[0-9a-f]{12}$/.test(link.name))
        return { ...of, role: 'ifb', networks: [], ...judgeIfb(link, targets, judge) }
      const end = link.kind === 'veth' ? judgeHostEnd(link, peerNamespace, judge) : undefined
      if (end) return { ...of, role: 'host end', ...end }
      return { ...of, role: 'other', networks: [], label: 'foreign', evidence: [] }
    })
}

/** Ours by its alias; the Go plugin's by its bridge, or by a cached result. Undefined for a pair of somebody else's. */
function judgeHostEnd(
  link: Link,
  peer: string | undefined,
  judge: Judge,
): ({ networks: string[] } & Labelled) | undefined {
  const { ground, attachments } = judge
  const ownership = ownershipIn(link.alias ?? '')
  const bridge = ground.host.links.find(({ index }) => index === link.master)
  const networks = ownership.network ? [ownership.network] : bridge ? ground.networksOn(bridge.name) : []
  const told = attachments.filter(({ host, cache, label, link: inside }) => {
    if (label === 'foreign') return false
    if (host) return host.index === link.index && inside?.kind === 'veth' // others only stand on it
    const ends = cache && cachedResultOf(cache.attachment)?.interfaces
    return ends?.some(({ name, sandbox }) => !sandbox && name === link.name)
  })
  const known = [...told, ...(ownership.owner === undefined ? [] : ownersOf(ownership, judge))]
  if (known.length === 0 && ownership.owner === undefined && networks.length === 0) return undefined
  const alive = known.find(({ label }) => label !== 'orphan')
  if (alive)
    return {
      networks: networks.length > 0 ? networks : [alive.network],
      label: alive.label,
      evidence: [`${alive.ifname} of ${alive.name}: ${alive.evidence[0]}`],
    }
  const owner = known[0]
  const signs = [
    owner
      ? `container ${owner.name}: ${owner.evidence[0]}`
      : `no cache knows ${ownership.containerId ?? 'its container'}`,
  ]
  if (peer === 'host')
    return { networks, label: 'orphan', evidence: [...signs, 'its other end is on the host'] }
  if (peer !== undefined || !ground.isComplete)
    return {
      networks,
      label: 'unknown',
      evidence: [...signs, 'its other end is in a namespace that is there'],
    }
  return {
    networks,
    label: 'orphan',
    evidence: [...signs, 'its other end is in no namespace that a path or a process leads to'],
  }
}

function judgeIfb(link: Link, targets: ReadonlyMap<number, readonly number[]>, judge: Judge): Labelled {
  const ownership = ownershipIn(link.alias ?? '')
  const owner = ownership.owner === undefined ? undefined : ownersOf(ownership, judge)[0]
  const users = targets.get(link.index) ?? []
  const user = judge.ground.host.links.find(({ index }) => index === users[0])
  if (user) return { label: 'live', evidence: [`packets of ${user.name} go through it`] }
  if (owner && owner.label !== 'orphan')
    return { label: owner.label, evidence: [`container ${owner.name}: ${owner.evidence[0]}`] }
  const whose = ownership.containerId
    ? `no cache knows ${ownership.containerId}`
    : 'its name is that of a plugin bandwidth'
  return { label: 'orphan', evidence: [whose, 'no link sends it packets'] }
}

/** Hooks for incoming packets that send them to a link which is gone: the kernel drops them. */
export function brokenRedirections(links: readonly Link[]): Link[] {
  const present = new Set(links.map(({ index }) => index))
  const broken = [...redirections(links)].filter(([target]) => target === 0 || !present.has(target))
  return links.filter(({ index }) => broken.some(([, users]) => users.includes(index)))
}
