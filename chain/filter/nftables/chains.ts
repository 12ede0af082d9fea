/** Our nftables tables without what belongs to containers: the chains and rules of layout.ts as commands of nft. Pure. */
import type { Command, Family, Json, SetSpec } from '../../linux/nftables/nft.ts'
import {
  type Collection,
  collectionsOf,
  type Field,
  type OurFamily,
  type Part,
  partOf,
  TABLE,
} from './layout.ts'

function fieldType(field: Field, family: OurFamily): string {
  const types = {
    address: family === 'ip6' ? 'ipv6_addr' : 'ipv4_addr',
    protocol: 'inet_proto',
    port: 'inet_service',
    interface: 'ifname',
    hardware: 'ether_addr',
    owner: 'ipv6_addr', // as many bytes
    length: 'inet_service',
  }
  return types[field]
}

/** The command that makes a collection; one that is there already is left as it is. */
export function collectionCommand(
  family: OurFamily,
  { name, key, interval, value }: Collection,
  table = TABLE,
): Command {
  const types = key.map(field => fieldType(field, family))
  const set: SetSpec = {
    family,
    table,
    name,
    type: types.length === 1 ? (types[0] ?? '') : types,
    ...(interval ? { flags: ['interval'] } : {}),
  }
  if (value === undefined) return { verb: 'add', kind: 'set', ...set }
  return { verb: 'add', kind: 'map', ...set, map: value === 'verdict' ? 'verdict' : fieldType(value, family) }
}

const RAW = -300
const FILTER = 0
/**
 * Behind iptables' nat (-100 and 100, NF_IP_PRI_NAT_*), whoever was there first: of the chains of NAT the first that
 * translates a connection has it, and what an administrator redirects or gives a source is not ours. In front of firewalld's
 * (-90 and 110).
 */
const DESTINATION_NAT = -95
const SOURCE_NAT = 105

function baseChain(
  family: OurFamily,
  name: 'prerouting' | 'forward' | 'output' | 'postrouting',
  { type, prio }: { type: 'nat' | 'filter'; prio: number },
): Command {
  return { verb: 'add', kind: 'chain', family, table: TABLE, name, type, hook: name, prio, policy: 'accept' }
}

function plainChain(family: OurFamily, name: string): Command {
  return { verb: 'add', kind: 'chain', family, table: TABLE, name }
}

function rule(family: Family, chain: string, ...expr: Json[]): Command {
  return { verb: 'add', kind: 'rule', family, table: TABLE, chain, expr }
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
export function chainsOf(family: OurFamily, part: Part): Command[] {
  const landmark = landmarkOf(family, part)
  return [
    { verb: 'add', kind: 'table', family, name: TABLE },
    ...setsOf(family, part),
    ...rulesOf(family, part).map<Command>(command =>
      command.kind === 'chain' && command.name === landmark ? { ...command, verb: 'create' } : command,
    ),
  ]
}

/** Its sets and maps: those that are there stay as they are. */
export function setsOf(family: OurFamily, part: Part): Command[] {
  return collectionsOf(family)
    .filter(({ role, waitsFor }) => partOf(role) === part && waitsFor === undefined)
    .map(collection => collectionCommand(family, collection))
}

function rulesOf(family: OurFamily, part: Part): Command[] {
  if (family === 'bridge') return part === 'forward' ? frameForwardRules() : frameRules()
  return part === 'forward' ? forwardRules(family) : internetRules(family)
}

/** Jumps to chains that administrators fill. */
export const OVERRIDES = 'overrides'

/** The policies come first: no other chain is to let through what they keep apart. */
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
export function overrideCommands({
  family,
  name,
  exists,
}: {
  family: OurFamily
  name: string
  exists: boolean
}): Command[] {
  return [
    ...(exists ? [] : [{ verb: 'create', kind: 'chain', family, table: TABLE, name } as const]),
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
      verb: 'add',
      kind: 'chain',
      family: 'ip',
      table: TABLE,
      name: 'guard',
      type: 'filter',
      hook: 'prerouting',
      prio: RAW,
      policy: 'accept',
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

/** How many rules each chain of a part has: what CHECK compares with. */
export function ruleCounts(family: OurFamily, part: Part): Map<string, number> {
  const counts = new Map<string, number>()
  for (const command of chainsOf(family, part)) {
    if (command.kind === 'rule') counts.set(command.chain, (counts.get(command.chain) ?? 0) + 1)
  }
  return counts
}
