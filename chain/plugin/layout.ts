/**
 * The one layout of our nftables tables, as data. `ip catena` and `ip6 catena` look alike; `bridge catena` filters frames.
 *
 *   table ip catena
 *     chain prerouting   nat, dstnat   fib daddr type local → published
 *     chain output       nat, dstnat   fib daddr type local → published
 *     chain published                  ports with conditions → their owner's chain, all others → translate
 *     chain translate                  dnat to hostip_address:hostip_port, else to port_address:port_port
 *     chain postrouting  nat, srcnat   published connections that would come back past the host; then containers' own
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
 *   table bridge catena
 *     chain prerouting   filter, raw   frames from a guarded port with another's hardware address are dropped
 *     chain forward      filter        frames from and to an isolated port are dropped: the host's own do not come by
 *     set guarded_port, allowed_source, isolated_port
 *
 * The chains' rules never change; what comes and goes with a container are elements (and chains of conditions), each
 * with its owner in the comment. A packet costs the same few lookups however many containers there are. The forward chains
 * come to be with the first firewall, all others with the first container: a part is there as a whole or not at all.
 */
import type { Command, Family, Json, MapSpec, SetSpec } from '../linux/nft.ts'

export const TABLE = 'catena'

export type Field = 'address' | 'protocol' | 'port' | 'interface' | 'hardware'

/** What elements serve: one plugin's sweep must not take another's for the same attachment. */
export type Role = 'masquerade' | 'ports' | 'frames' | 'firewall'

/** What comes to be together in a table, when the first container needs it. */
export type Part = 'base' | 'forward'

export function partOf(role: Role | undefined): Part {
  return role === 'firewall' ? 'forward' : 'base'
}

export interface Collection {
  name: string
  role: Role
  key: readonly Field[]
  interval?: boolean
  /** A map's values; absent for a set. */
  value?: 'address' | 'port' | 'verdict'
  /** Elements are everybody's, and stay as long as this collection has one that begins with the same field. */
  keptBy?: string
}

const port: readonly Field[] = ['protocol', 'port']
const hostPort: readonly Field[] = ['address', 'protocol', 'port']

export const internetCollections: readonly Collection[] = [
  { name: 'masquerade_source', role: 'masquerade', key: ['address'] },
  { name: 'masquerade_local', role: 'masquerade', key: ['address', 'address'], interval: true },
  // two sets, since the look-up in one of intervals costs more with each element that begins alike: a port each
  { name: 'hairpin_port', role: 'ports', key: ['address', 'protocol', 'port'] },
  { name: 'hairpin_source', role: 'ports', key: ['address', 'address'], interval: true },
  { name: 'port_address', role: 'ports', key: port, value: 'address' },
  { name: 'port_port', role: 'ports', key: port, value: 'port' },
  { name: 'port_conditions', role: 'ports', key: port, value: 'verdict' },
  { name: 'hostip_address', role: 'ports', key: hostPort, value: 'address' },
  { name: 'hostip_port', role: 'ports', key: hostPort, value: 'port' },
  { name: 'hostip_conditions', role: 'ports', key: hostPort, value: 'verdict' },
  { name: 'route_localnet', role: 'ports', key: ['interface'] },
  { name: 'forwarded', role: 'firewall', key: ['address'] },
  { name: 'policy_member', role: 'firewall', key: ['interface', 'address'] },
  { name: 'policy_bridge', role: 'firewall', key: ['interface'], keptBy: 'policy_member' },
  { name: 'policy_inside', role: 'firewall', key: ['interface', 'interface'], keptBy: 'policy_member' },
  { name: 'isolated', role: 'firewall', key: ['interface', 'address'] },
]

export const bridgeCollections: readonly Collection[] = [
  { name: 'guarded_port', role: 'frames', key: ['interface'] },
  { name: 'allowed_source', role: 'frames', key: ['interface', 'hardware'] },
  { name: 'isolated_port', role: 'firewall', key: ['interface'] },
]

/** The families that have a table of ours. */
export const families = ['ip', 'ip6', 'bridge'] as const
export type OurFamily = (typeof families)[number]

export function collectionsOf(family: OurFamily): readonly Collection[] {
  return family === 'bridge' ? bridgeCollections : internetCollections
}

export function collectionNamed(family: OurFamily, name: string): Collection | undefined {
  return collectionsOf(family).find(collection => collection.name === name)
}

export function roleOf(family: OurFamily, name: string): Role | undefined {
  return collectionNamed(family, name)?.role
}

/** Lengths of a field in a key, before padding to four bytes. */
export function fieldLength(field: Field, family: OurFamily): number {
  const lengths = { protocol: 1, port: 2, interface: 16, hardware: 6, address: family === 'ip6' ? 16 : 4 }
  return lengths[field]
}

function fieldType(field: Field, family: OurFamily): string {
  const types = {
    address: family === 'ip6' ? 'ipv6_addr' : 'ipv4_addr',
    protocol: 'inet_proto',
    port: 'inet_service',
    interface: 'ifname',
    hardware: 'ether_addr',
  }
  return types[field]
}

function collectionCommand(family: OurFamily, { name, key, interval, value }: Collection): Command {
  const types = key.map(field => fieldType(field, family))
  const set: SetSpec = {
    family,
    table: TABLE,
    name,
    type: types.length === 1 ? (types[0] ?? '') : types,
    ...(interval ? { flags: ['interval'] } : {}),
  }
  if (value === undefined) return { add: { set } }
  const map: MapSpec = { ...set, map: value === 'verdict' ? 'verdict' : fieldType(value, family) }
  return { add: { map } }
}

const RAW = -300
const DESTINATION_NAT = -100
const FILTER = 0
const SOURCE_NAT = 100

function baseChain(
  family: OurFamily,
  name: 'prerouting' | 'forward' | 'output' | 'postrouting',
  { type, prio }: { type: 'nat' | 'filter'; prio: number },
): Command {
  return { add: { chain: { family, table: TABLE, name, type, hook: name, prio, policy: 'accept' } } }
}

function plainChain(family: OurFamily, name: string): Command {
  return { add: { chain: { family, table: TABLE, name } } }
}

function rule(family: Family, chain: string, ...expr: Json[]): Command {
  return { add: { rule: { family, table: TABLE, chain, expr } } }
}

const meta = (key: string): Json => ({ meta: { key } })
const payload = (protocol: string, field: string): Json => ({ payload: { protocol, field } })
const concat = (...parts: Json[]): Json => ({ concat: parts })
const match = (left: Json, right: Json, op = '=='): Json => ({ match: { op, left, right } })
const mapped = (key: Json, name: string): Json => ({ map: { key, data: `@${name}` } })
const prefix = (addr: string, len: number): Json => ({ prefix: { addr, len } })

/** A part is there when its landmark is: this chain comes to be with all the rest of it. */
export function landmarkOf(family: OurFamily, part: Part): string {
  if (part === 'forward') return 'forward'
  return family === 'bridge' ? 'prerouting' : 'postrouting'
}

/**
 * A part of a table, without what belongs to containers. It may stand beside the other part, or beside what an administrator
 * has put there. `create` refuses when another process made it meanwhile.
 */
export function skeleton(family: OurFamily, part: Part): Command[] {
  const collections = collectionsOf(family).filter(({ role }) => partOf(role) === part)
  const landmark = landmarkOf(family, part)
  return [
    { add: { table: { family, name: TABLE } } },
    ...collections.map(collection => collectionCommand(family, collection)),
    ...rulesOf(family, part).map(command =>
      'add' in command && 'chain' in command.add && command.add.chain.name === landmark
        ? { create: command.add }
        : command,
    ),
  ]
}

function rulesOf(family: OurFamily, part: Part): Command[] {
  if (family === 'bridge') return part === 'forward' ? frameForwardRules() : frameRules()
  return part === 'forward' ? forwardRules(family) : internetRules(family)
}

/** Jumps to chains that administrators fill. */
export const OVERRIDES = 'overrides'

/** The policies come first: nobody's chain is to let through what they keep apart. */
function forwardRules(family: 'ip' | 'ip6'): Command[] {
  const source = payload(family, 'saddr')
  const destination = payload(family, 'daddr')
  const [from, to] = [meta('iifname'), meta('oifname')]
  return [
    plainChain(family, OVERRIDES),
    baseChain(family, 'forward', { type: 'filter', prio: FILTER }),
    rule(
      family,
      'forward',
      match(from, '@policy_bridge'),
      match(to, '@policy_bridge'),
      match(concat(from, to), '@policy_inside', '!='),
      { drop: null },
    ),
    rule(family, 'forward', match(concat(from, destination), '@isolated'), { drop: null }),
    rule(family, 'forward', match(concat(to, source), '@isolated'), { drop: null }),
    rule(family, 'forward', { jump: { target: OVERRIDES } }),
    rule(
      family,
      'forward',
      match(destination, '@forwarded'),
      match({ ct: { key: 'state' } }, ['established', 'related'], 'in'),
      { accept: null },
    ),
    rule(family, 'forward', match(source, '@forwarded'), { accept: null }),
  ]
}

/** Commands that have the overrides of a family jump to an administrator's chain, which is made where it is not there. */
export function overrideCommands(
  { family, name }: { family: OurFamily; name: string },
  exists: boolean,
): Command[] {
  return [
    ...(exists ? [] : [{ create: { chain: { family, table: TABLE, name } } }]),
    rule(family, OVERRIDES, { jump: { target: name } }),
  ]
}

function internetRules(family: 'ip' | 'ip6'): Command[] {
  const destination = payload(family, 'daddr')
  const source = payload(family, 'saddr')
  const portKey = concat(meta('l4proto'), payload('th', 'dport'))
  const hostPortKey = concat(destination, meta('l4proto'), payload('th', 'dport'))
  const toPublished = [
    match({ fib: { result: 'type', flags: ['daddr'] } }, 'local'),
    { goto: { target: 'published' } },
  ]
  const translated = match({ ct: { key: 'status' } }, 'dnat', 'in')
  const multicast = family === 'ip' ? prefix('224.0.0.0', 4) : prefix('ff00::', 8)
  return [
    ...['published', 'translate'].map(name => plainChain(family, name)),
    baseChain(family, 'prerouting', { type: 'nat', prio: DESTINATION_NAT }),
    baseChain(family, 'output', { type: 'nat', prio: DESTINATION_NAT }),
    baseChain(family, 'postrouting', { type: 'nat', prio: SOURCE_NAT }),
    rule(family, 'prerouting', ...toPublished),
    rule(family, 'output', ...toPublished),
    rule(family, 'published', { vmap: { key: hostPortKey, data: '@hostip_conditions' } }),
    rule(family, 'published', { vmap: { key: portKey, data: '@port_conditions' } }),
    rule(family, 'published', { goto: { target: 'translate' } }),
    rule(family, 'translate', translation(family, hostPortKey, 'hostip')),
    rule(family, 'translate', translation(family, portKey, 'port')),
    rule(
      family,
      'postrouting',
      translated,
      match(concat(destination, meta('l4proto'), payload('th', 'dport')), '@hairpin_port'),
      match(concat(destination, source), '@hairpin_source'),
      { masquerade: null },
    ),
    rule(family, 'postrouting', match(destination, multicast), { return: null }),
    rule(
      family,
      'postrouting',
      match(source, '@masquerade_source'),
      match(concat(source, destination), '@masquerade_local', '!='),
      { masquerade: null },
    ),
    ...(family === 'ip' ? guardRules() : []),
  ]
}

/** Address and port come from two maps under one key: nft 1.0.6 cannot create a map of concatenated values from JSON. */
function translation(family: 'ip' | 'ip6', key: Json, name: 'hostip' | 'port'): Json {
  return { dnat: { family, addr: mapped(key, `${name}_address`), port: mapped(key, `${name}_port`) } }
}

function guardRules(): Command[] {
  const loopback = prefix('127.0.0.0', 8)
  const outside = match(meta('iifname'), '@route_localnet')
  return [
    {
      add: {
        chain: {
          family: 'ip',
          table: TABLE,
          name: 'guard',
          type: 'filter',
          hook: 'prerouting',
          prio: RAW,
          policy: 'accept',
        },
      },
    },
    rule('ip', 'guard', outside, match(payload('ip', 'daddr'), loopback), { drop: null }),
    rule('ip', 'guard', outside, match(payload('ip', 'saddr'), loopback), { drop: null }),
  ]
}

/** The hook sees what goes from port to port: with the bridge itself, and so with the host, an isolated port may talk. */
function frameForwardRules(): Command[] {
  return [
    baseChain('bridge', 'forward', { type: 'filter', prio: FILTER }),
    rule('bridge', 'forward', match(meta('iifname'), '@isolated_port'), { drop: null }),
    rule('bridge', 'forward', match(meta('oifname'), '@isolated_port'), { drop: null }),
  ]
}

function frameRules(): Command[] {
  const allowed = concat(meta('iifname'), payload('ether', 'saddr'))
  return [
    baseChain('bridge', 'prerouting', { type: 'filter', prio: RAW }),
    rule(
      'bridge',
      'prerouting',
      match(meta('iifname'), '@guarded_port'),
      match(allowed, '@allowed_source', '!='),
      { drop: null },
    ),
  ]
}

/** The chains of a table that are ours, and no administrator's. */
export function isOurChain(family: OurFamily, name: string): boolean {
  const ours = (['base', 'forward'] as const).flatMap(part => rulesOf(family, part)).flatMap(chainIn)
  return ours.includes(name)
}

function chainIn(command: Command): string[] {
  return 'add' in command && 'chain' in command.add ? [command.add.chain.name] : []
}

/** How many rules each chain of a part has: what CHECK compares with. */
export function skeletonRules(family: OurFamily, part: Part): Map<string, number> {
  const counts = new Map<string, number>()
  for (const command of skeleton(family, part)) {
    if (!('add' in command) || !('rule' in command.add)) continue
    const { chain } = command.add.rule
    counts.set(chain, (counts.get(chain) ?? 0) + 1)
  }
  return counts
}
