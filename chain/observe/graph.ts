/** What is to be drawn of a node: uplinks, hubs (bridges, and links that containers' links stand on), and the containers on them. Pure. */
import { portTextOf } from './details.ts'
import { type Health, healthOf } from './health.ts'
import type { Attachment, Disagreement, Label, Limits, NodeModel, SeenLink } from './model.ts'

export interface GraphContainer {
  /** Unique in the graph. */
  id: string
  name: string
  network: string
  containerId: string
  ifname: string
  /** "veth", "macvlan"; of what cannot be seen "". */
  kind: string
  hostEnd: string
  addresses: string[]
  /** "8080→80", "192.0.2.1:53→53/udp". */
  ports: string[]
  limits: Limits
  runtime: string
  netns: string
  mtu?: number
  since?: string
  label: Label
  health: Health
  evidence: string[]
  disagreements: Disagreement[]
}

/** A link that containers hang on. */
export interface GraphHub {
  id: string
  name: string
  /** "bridge", "macvlan master", "vlan 10 on eth0", "host" for pairs without a bridge. */
  kind: string
  networks: string[]
  addresses: string[]
  mtu?: number
  isUp: boolean
  containers: GraphContainer[]
}

/** A link of the host that is no container's: the way to the world, a tunnel, a VLAN. */
export interface GraphLink {
  name: string
  kind: string
  addresses: string[]
  /** The default route goes by it. */
  isUplink: boolean
  isUp: boolean
  mtu: number
  /** The link that it stands on. */
  on?: string
}

export interface Graph {
  links: GraphLink[]
  hubs: GraphHub[]
}

const MODES: Readonly<Record<string, string>> = { macvlan: 'macvlan', ipvlan: 'ipvlan', vlan: 'VLAN' }

/** Of a network, or of all; with `foreign` namespaces that no CNI plugin has made. */
export function graphOf(
  node: NodeModel,
  { network, foreign = false }: { network?: string; foreign?: boolean } = {},
): Graph {
  const shown = node.attachments
    .filter(each => network === undefined || each.network === network)
    .filter(({ label }) => foreign || label !== 'foreign')
  const hubs = new Map<string, GraphHub>()
  for (const { link, role, addresses, networks } of node.links) {
    if (role !== 'bridge' || (network !== undefined && !networks.includes(network))) continue
    hubs.set(link.name, hubFor(link.name, 'bridge', { link, addresses, networks }))
  }
  for (const attachment of shown) {
    const place = hubOf(attachment, node)
    const known = hubs.get(place.name) ?? place
    hubs.set(place.name, known)
    if (attachment.network && !known.networks.includes(attachment.network))
      known.networks.push(attachment.network)
    known.containers.push(containerOf(attachment, known.containers.length))
  }
  const isHub = ({ link }: SeenLink) => hubs.has(link.name) && hubs.get(link.name)?.kind === 'bridge'
  const way = new Set(
    node.host.routes.filter(({ prefixLength }) => prefixLength === 0).map(({ link }) => link),
  )
  const nameOf = (index: number | undefined) => node.host.links.find(link => link.index === index)?.name
  const links = node.links
    .filter(seen => seen.role === 'other' && !isHub(seen) && isShown(seen))
    .map(({ link, addresses }): GraphLink => {
      const on = link.kind === 'veth' || link.parentNamespace !== undefined ? undefined : nameOf(link.parent)
      return {
        name: link.name,
        kind: link.kind ?? 'device',
        addresses,
        isUplink: way.has(link.index),
        isUp: link.up,
        mtu: link.mtu,
        ...(on === undefined ? {} : { on }),
      }
    })
  return { links, hubs: [...hubs.values()].toSorted((one, other) => one.name.localeCompare(other.name)) }
}

/** Not the devices that the kernel puts into every namespace, nor a pair of somebody's without an address. */
function isShown({ link, addresses }: SeenLink): boolean {
  if (addresses.length > 0) return true
  return link.up && link.kind !== 'veth' && link.kind !== 'ifb'
}

function hubFor(
  name: string,
  kind: string,
  of: { link?: SeenLink['link']; addresses?: readonly string[]; networks?: readonly string[] } = {},
): GraphHub {
  const { link, addresses = [], networks = [] } = of
  return {
    id: `hub-${name}`,
    name,
    kind,
    networks: [...networks],
    addresses: [...addresses],
    ...(link ? { mtu: link.mtu } : {}),
    isUp: link?.up ?? true,
    containers: [],
  }
}

/** Where a container's interface hangs: on its bridge, on the link that it stands on, on the host, or on nothing that is there. */
function hubOf({ host, link, cache, label }: Attachment, { links }: NodeModel): GraphHub {
  const bridge = host?.master === undefined ? undefined : links.find(seen => seen.link.index === host.master)
  if (bridge) return hubFor(bridge.link.name, 'bridge', bridge)
  const mode = MODES[link?.kind ?? '']
  if (host && mode) {
    const seen = links.find(each => each.link.index === host.index)
    return hubFor(host.name, `${mode} master`, seen ?? { link: host })
  }
  if (host) return hubFor('routed', 'by the host')
  return hubFor(
    label === 'orphan' || (cache && !link) ? 'gone' : 'elsewhere',
    label === 'orphan' ? 'containers that are gone' : 'not on this host',
  )
}

function containerOf(attachment: Attachment, number: number): GraphContainer {
  const { name, network, containerId, ifname, link, host, addresses, ports, limits, runtime, netns, since } =
    attachment
  return {
    id: `${network}-${name}-${ifname}-${number}`,
    name,
    network,
    containerId,
    ifname,
    kind: link?.kind ?? '',
    hostEnd: host?.name ?? '',
    addresses,
    ports: ports.map(portTextOf),
    limits,
    runtime,
    netns: netns ?? '',
    ...(link ? { mtu: link.mtu } : {}),
    ...(since === undefined ? {} : { since: new Date(since).toISOString() }),
    label: attachment.label,
    health: healthOf(attachment),
    evidence: attachment.evidence,
    disagreements: attachment.disagreements,
  }
}
