/**
 * The one layout of our nftables tables, as data; chains.ts makes them. `ip catena` and `ip6 catena` look alike; `bridge
 * catena` filters frames.
 *
 *   table ip catena
 *     chain prerouting   nat, dstnat+5 fib daddr type local → published
 *     chain output       nat, dstnat+5 fib daddr type local → published
 *     chain published                  ports with conditions → their owner's chain, all others → translate
 *     chain translate                  dnat to hostip_address:hostip_port, else to port_address:port_port
 *     chain postrouting  nat, srcnat+5 published connections that would come back past the host; then containers' own
 *     chain guard        filter, raw   127.0.0.0/8 from outside, where route_localnet had to be set
 *     chain forward      filter        between bridges with a policy: drop; within, where isolated: drop; then overrides;
 *                                      then containers' packets and the answers to them are accepted
 *     chain overrides                  → chains that an administrator fills: CNI-ADMIN, or as the network names it
 *     set masquerade_source, masquerade_local      containers, and what they reach without masquerade
 *     set hairpin_port, hairpin_source             container . protocol . port and container . source to be masqueraded
 *     map port_*, hostip_*                         published ports, of any or of one host address
 *     map port_conditions, hostip_conditions       those with conditions → chain
 *     set forwarded                                containers that may be forwarded to and from
 *     set policy_bridge, policy_inside             bridges with a policy, and each one paired with itself
 *     set policy_member, isolated                  bridge . container: who keeps the policy there, and who is isolated
 *     set waiting_*                                what another network's container has by now: sharing.ts, made when needed
 *   table bridge catena
 *     chain prerouting   filter, raw   frames from a guarded port with another's hardware address are dropped
 *     chain forward      filter        frames from and to an isolated port are dropped: the host's own do not come by
 *     set guarded_port, allowed_source, isolated_port
 *
 * The chains' rules never change; what comes and goes with a container are elements (and chains of conditions), each
 * with its owner in the comment. A packet costs the same few lookups however many containers there are. The forward chains
 * come to be with the first firewall, all others with the first container: a part is there as a whole or not at all.
 */
export const TABLE = 'catena'

export type Field = 'address' | 'protocol' | 'port' | 'interface' | 'hardware' | 'owner' | 'length'

/** What elements serve: one plugin's sweep must not take another's for the same attachment. */
export type Role = 'masquerade' | 'ports' | 'frames' | 'firewall'

/** What comes to be together in a table, when the first container needs it. */
export type Part = 'base' | 'forward'

export function partOf(role: Role | undefined): Part {
  return role === 'firewall' ? 'forward' : 'base'
}

/** What an element says of its owner: elements.ts has the keys and values of each. */
export type Kind =
  | 'masquerade'
  | 'masquerade-exception'
  | 'hairpin'
  | 'hairpin-source'
  | 'published-address'
  | 'published-port'
  | 'published-conditions'
  | 'localnet-guard'
  | 'forwarded'
  | 'policy-member'
  | 'policy-bridge'
  | 'policy-inside'
  | 'isolated'
  | 'guarded-port'
  | 'allowed-source'
  | 'isolated-port'

export interface Collection {
  name: string
  /** What its elements are; `waiting` of those that wait for `waitsFor`. */
  kind: Kind | 'waiting'
  role: Role
  key: readonly Field[]
  interval?: boolean
  /** Two networks may have one address: of two owners of a key the second one's waits in a collection of its own. */
  shareable?: boolean
  /** What elements of this one wait to be. The collection comes to be with the first of them. */
  waitsFor?: Kind
  /** A map's values; absent for a set. */
  value?: 'address' | 'port' | 'verdict'
  /** Elements are everybody's, and stay as long as there is one of this kind that begins with the same field. */
  keptBy?: Kind
}

const port: readonly Field[] = ['protocol', 'port']
const hostPort: readonly Field[] = ['address', 'protocol', 'port']
const onBridge: readonly Field[] = ['interface', 'address']

/** What is looked up; what waits to be follows from these. */
type LookedUp = Collection & { kind: Kind }

const masquerading: readonly LookedUp[] = [
  { name: 'masquerade_source', kind: 'masquerade', role: 'masquerade', key: ['address'], shareable: true },
  {
    name: 'masquerade_local',
    kind: 'masquerade-exception',
    role: 'masquerade',
    key: ['address', 'address'],
    interval: true,
    shareable: true,
  },
]

const publishing: readonly LookedUp[] = [
  // two sets, since the look-up in one of intervals costs more with each element that begins alike: a port each
  { name: 'hairpin_port', kind: 'hairpin', role: 'ports', key: hostPort, shareable: true },
  {
    name: 'hairpin_source',
    kind: 'hairpin-source',
    role: 'ports',
    key: ['address', 'address'],
    interval: true,
    shareable: true,
  },
  { name: 'port_address', kind: 'published-address', role: 'ports', key: port, value: 'address' },
  { name: 'port_port', kind: 'published-port', role: 'ports', key: port, value: 'port' },
  { name: 'port_conditions', kind: 'published-conditions', role: 'ports', key: port, value: 'verdict' },
  { name: 'hostip_address', kind: 'published-address', role: 'ports', key: hostPort, value: 'address' },
  { name: 'hostip_port', kind: 'published-port', role: 'ports', key: hostPort, value: 'port' },
  { name: 'hostip_conditions', kind: 'published-conditions', role: 'ports', key: hostPort, value: 'verdict' },
  { name: 'route_localnet', kind: 'localnet-guard', role: 'ports', key: ['interface'] },
]

const forwarding: readonly LookedUp[] = [
  { name: 'forwarded', kind: 'forwarded', role: 'firewall', key: ['address'], shareable: true },
  { name: 'policy_member', kind: 'policy-member', role: 'firewall', key: onBridge, shareable: true },
  {
    name: 'policy_bridge',
    kind: 'policy-bridge',
    role: 'firewall',
    key: ['interface'],
    keptBy: 'policy-member',
  },
  {
    name: 'policy_inside',
    kind: 'policy-inside',
    role: 'firewall',
    key: ['interface', 'interface'],
    keptBy: 'policy-member',
  },
  { name: 'isolated', kind: 'isolated', role: 'firewall', key: onBridge, shareable: true },
]

const lookedUp = [...masquerading, ...publishing, ...forwarding]

/** Before the same key its owner; and no interval, since many may wait for it: a prefix is an address and a length. */
function waitingCollection({ name, kind, role, key, interval }: LookedUp): Collection {
  return {
    name: `waiting_${name}`,
    kind: 'waiting',
    role,
    key: ['owner', ...key, ...(interval ? (['length'] as const) : [])],
    waitsFor: kind,
  }
}

const internetCollections: Collection[] = [...lookedUp]
for (const each of lookedUp) if (each.shareable) internetCollections.push(waitingCollection(each))

const bridgeCollections: readonly Collection[] = [
  { name: 'guarded_port', kind: 'guarded-port', role: 'frames', key: ['interface'] },
  { name: 'allowed_source', kind: 'allowed-source', role: 'frames', key: ['interface', 'hardware'] },
  { name: 'isolated_port', kind: 'isolated-port', role: 'firewall', key: ['interface'] },
]

/** The families that have a table of ours. */
export const families = ['ip', 'ip6', 'bridge'] as const
export type OurFamily = (typeof families)[number]

export function collectionsOf(family: OurFamily): readonly Collection[] {
  return family === 'bridge' ? bridgeCollections : internetCollections
}

/** The collections that hold elements of a kind: the published ports of any host address are in one, those of one in another. */
export function collectionsWith(family: OurFamily, ...kinds: Kind[]): readonly Collection[] {
  return collectionsOf(family).filter(({ kind }) => kinds.some(one => one === kind))
}

/** The length of a prefix that is one address. */
export function prefixWidth(family: OurFamily): number {
  return family === 'ip6' ? 128 : 32
}

/** Lengths of a field in a key, before padding to four bytes. */
export function fieldLength(field: Field, family: OurFamily): number {
  const address = family === 'ip6' ? 16 : 4
  const lengths = { protocol: 1, port: 2, length: 2, interface: 16, hardware: 6, owner: 16, address }
  return lengths[field]
}

/** The chains of our tables that are no owner's and no administrator's. */
export const ownChains: Readonly<Record<OurFamily, readonly string[]>> = (() => {
  const internet = [
    'prerouting',
    'output',
    'published',
    'translate',
    'postrouting',
    'guard',
    'forward',
    'overrides',
  ]
  return { ip: internet, ip6: internet.filter(name => name !== 'guard'), bridge: ['prerouting', 'forward'] }
})()

/** What an owner's chain of conditions is called; whose it is, its rules and the elements that lead there say. */
export const conditionsChain = (owner: string) => `${CONDITIONS}${owner}`
export const isConditionsChain = (name: string) => name.startsWith(CONDITIONS)
const CONDITIONS = 'conditions-'
