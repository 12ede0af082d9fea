/**
 * What a container has in our nftables tables, as data: elements and chains of an owner, and the commands that put them there.
 * Pure; the layout itself is layout.ts.
 */
import type { Command, Json } from '../../linux/nftables/nft.ts'
import type { Owner } from '../../plugin/owner.ts'
import { type OurFamily, TABLE } from './layout.ts'

/** An element to add: one key of one collection, for one owner. */
export interface OwnedElement {
  family: OurFamily
  collection: string
  /** A part per field of the collection's key. */
  key: readonly Json[]
  value?: Json
}

/** A chain of an owner's own, named after it, with rules. */
export interface OwnedChain {
  family: OurFamily
  name: string
  rules: readonly Json[][]
}

export interface Owned {
  owner: Owner
  elements: readonly OwnedElement[]
  chains?: readonly OwnedChain[]
  /** Elements that belong to all: they stay as long as the table, or as long as their collection is kept. */
  shared?: readonly OwnedElement[]
  /** Chains that an administrator fills, and that the overrides jump to. They are made if need be, and left alone. */
  overrides?: readonly { family: 'ip' | 'ip6'; name: string }[]
}

const prefixOf = (cidr: string): Json => {
  const [addr = '', length] = cidr.split('/')
  const full = addr.includes(':') ? 128 : 32
  return Number(length) === full ? addr : { prefix: { addr, len: Number(length) } }
}

/** An address of a container, and the network that it reaches without masquerade ("10.1.0.0/16"). */
export interface Source {
  address: string
  network: string
}

/** Addresses of a container whose traffic leaves masqueraded, but for their own networks. */
export function masquerade(sources: readonly Source[]): OwnedElement[] {
  return sources.flatMap(({ address, network }) => {
    const family = address.includes(':') ? 'ip6' : 'ip'
    return [
      { family, collection: 'masquerade_source', key: [address] },
      { family, collection: 'masquerade_local', key: [address, prefixOf(network)] },
    ] satisfies OwnedElement[]
  })
}

export interface PublishedPort {
  protocol: 'tcp' | 'udp' | 'sctp'
  hostPort: number
  /** The host address that it is reachable on; absent: on all. */
  hostAddress?: string
  containerPort: number
  /** Address of the container; its family is the mapping's. */
  address: string
  /** Connections from `hairpinSources` must be masqueraded to come back the same way. */
  hairpin: boolean
  /** Name of the owner's chain with conditions, if there are any. */
  conditions?: string
}

/** The elements that publish a port. */
export function publish(port: PublishedPort): OwnedElement[] {
  const { protocol, hostPort, hostAddress, containerPort, address, hairpin, conditions } = port
  const family = address.includes(':') ? 'ip6' : 'ip'
  const kind = hostAddress === undefined ? 'port' : 'hostip'
  const key = [...(hostAddress === undefined ? [] : [hostAddress]), protocol, hostPort]
  return [
    { family, collection: `${kind}_address`, key, value: address },
    { family, collection: `${kind}_port`, key, value: containerPort },
    ...(conditions === undefined
      ? []
      : [
          {
            family,
            collection: `${kind}_conditions`,
            key,
            value: { goto: { target: conditions } },
          } as OwnedElement,
        ]),
    ...(hairpin
      ? [{ family, collection: 'hairpin_port', key: [address, protocol, containerPort] } as OwnedElement]
      : []),
  ]
}

/** Networks from which connections to a container's published ports are masqueraded. */
export function hairpinSources(address: string, networks: readonly string[]): OwnedElement[] {
  return networks.map(network => ({
    family: familyOf(address),
    collection: 'hairpin_source',
    key: [address, prefixOf(network)],
  }))
}

/** Frames from a bridge port (by name) are let through with this hardware address only. */
export function guardPort(port: string, address: string): OwnedElement[] {
  return [
    { family: 'bridge', collection: 'guarded_port', key: [port] },
    { family: 'bridge', collection: 'allowed_source', key: [port, address] },
  ]
}

const familyOf = (address: string) => (address.includes(':') ? 'ip6' : 'ip')

/** Containers whose packets, and the answers to them, are forwarded. */
export function forwarded(addresses: readonly string[]): OwnedElement[] {
  return addresses.map(address => ({ family: familyOf(address), collection: 'forwarded', key: [address] }))
}

export interface IngressPolicy {
  /** The link that containers are reached over: a bridge, or a host end that is on none. */
  bridge: string
  addresses: readonly string[]
  isolated: boolean
}

/** Containers that other fenced bridges do not reach; when isolated, their own neighbours neither. */
export function ingressPolicy({
  bridge,
  addresses,
  isolated,
}: IngressPolicy): Pick<Owned, 'elements' | 'shared'> {
  const families = [...new Set(addresses.map(familyOf))]
  const collections = isolated ? ['policy_member', 'isolated'] : ['policy_member']
  return {
    elements: collections.flatMap(collection =>
      addresses.map(address => ({ family: familyOf(address), collection, key: [bridge, address] }) as const),
    ),
    shared: families.flatMap<OwnedElement>(family => [
      { family, collection: 'policy_bridge', key: [bridge] },
      { family, collection: 'policy_inside', key: [bridge, bridge] },
    ]),
  }
}

/** A bridge's port (by name) between which and the other ports no frame goes. */
export function isolatePort(port: string): OwnedElement[] {
  return [{ family: 'bridge', collection: 'isolated_port', key: [port] }]
}

function elementJson({ key, value }: OwnedElement, comment?: string): Json {
  const [first = null] = key
  const whole: Json = key.length === 1 ? first : { concat: [...key] }
  const element: Json = comment === undefined ? whole : { elem: { val: whole, comment } }
  return value === undefined ? element : [element, value]
}

/** Elements of one collection in one command: nft then sends them in one message. */
export function elementCommands(
  verb: 'create' | 'add' | 'delete',
  elements: readonly { element: OwnedElement; comment?: string }[],
): Command[] {
  const groups = new Map<string, Json[]>()
  for (const { element, comment } of elements) {
    const name = `${element.family} ${element.collection}`
    const group = groups.get(name) ?? []
    group.push(elementJson(element, comment))
    groups.set(name, group)
  }
  return [...groups].map<Command>(([name, elem]) => {
    const [family, collection = ''] = name.split(' ') as [OurFamily, string]
    return { verb, kind: 'element', family, table: TABLE, name: collection, elem }
  })
}

function chainCommands({ owner, chains = [] }: Owned): Command[] {
  return chains.flatMap(({ family, name, rules }) => [
    { verb: 'create', kind: 'chain', family, table: TABLE, name },
    ...rules.map<Command>(expr => ({
      verb: 'add',
      kind: 'rule',
      family,
      table: TABLE,
      chain: name,
      expr,
      comment: owner.comment,
    })),
  ])
}

/** Commands that put an owner's elements and chains there; refused as a whole when a key is taken. Pure. */
export function additions(owned: Owned): Command[] {
  const { owner, elements, shared = [] } = owned
  return [
    ...chainCommands(owned),
    ...elementCommands(
      'add',
      shared.map(element => ({ element })),
    ),
    ...elementCommands(
      'create',
      elements.map(element => ({ element, comment: owner.comment })),
    ),
  ]
}

/** A key as text, for comparing. */
export function keyText({ family, collection, key }: OwnedElement): string {
  return JSON.stringify([family, collection, key])
}
