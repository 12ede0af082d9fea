/** Messages of rtnetlink in words, and as lines of ip, bridge and tc. Pure. */
import { addressText } from '../../ip/bytes.ts'
import { attributeMap, readInt32, readText, readUint32, viewOf } from '../../linux/netlink/codec.ts'
import { describeRoute, MAIN_TABLE, readRoutes } from '../../linux/netlink/route.ts'
import { describeRule, readRule } from '../../linux/netlink/rule.ts'
import type { NetlinkCall } from './calls.ts'
import { linkPart } from './link-steps.ts'
import { type Context, inPlace, type Names, nameOf, type Part, type Told, words } from './step.ts'

// linux/rtnetlink.h
const kinds = {
  link: 16,
  address: 20,
  route: 24,
  neighbour: 28,
  rule: 32,
  qdisc: 36,
  class: 40,
  filter: 44,
} as const
const DELETE = 1
const GET = 2
const REPLACE = 0x100
const EXCLUSIVE = 0x200

/** What a message changes; nothing for a question. */
export function routeStep(call: NetlinkCall, names: Names): Told[] {
  const { type } = call.message
  const verb = type & 3
  if (verb === GET) return []
  const told = partOf(call, { names, verb })
  if (!told) return []
  const { about, does, lines } = told
  return [{ about, where: call.where, does, commands: lines }]
}

function partOf(call: NetlinkCall, context: Context): Part | undefined {
  switch (call.message.type & ~3) {
    case kinds.link:
      return linkPart(call, context)
    case kinds.address:
      return addressPart(call, context)
    case kinds.route:
      return routePart(call, context)
    case kinds.rule:
      return rulePart(call, context)
    case kinds.qdisc:
    case kinds.class:
    case kinds.filter:
      return limitPart(call, context)
    default:
      return undefined // numbers of namespaces, neighbours: nothing that stays
  }
}

function addressPart({ message, where }: NetlinkCall, { names, verb }: Context): Part {
  const { payload } = message
  const found = attributeMap(payload.subarray(8))
  const name = nameOf(names, where, viewOf(payload).getUint32(4, true))
  const address = `${addressText(found.get(2) ?? found.get(1) ?? new Uint8Array(4))}/${payload[1]}`
  const broadcast = found.get(4)
  const flags = found.get(8)
  const more = [
    ...(broadcast ? ['broadcast', addressText(broadcast)] : []),
    ...(flags && readUint32(flags) & 2 ? ['nodad'] : []),
  ]
  const does = verb === DELETE ? `delete ${address} from ${name}` : `add ${address} to ${name}`
  const line = `ip address ${verb === DELETE ? 'delete' : 'add'} ${words(address, ...(verb === DELETE ? [] : more), 'dev', name)}`
  return { about: 'address', does, lines: [inPlace(where, line)] }
}

const scopeNames: Readonly<Record<number, string>> = { 253: 'link', 254: 'host' }
const ONLINK = 4

function routePart({ message, where }: NetlinkCall, { names, verb }: Context): Part {
  const [route] = readRoutes(message)
  const {
    destination = '',
    prefixLength = 0,
    gateway,
    link: index,
    source,
    priority,
    table,
    scope,
    mtu,
    advertisedMss,
  } = route ?? {}
  const onlink = viewOf(message.payload).getUint32(8, true) & ONLINK
  const to = prefixLength === 0 ? 'default' : `${destination}/${prefixLength}`
  const device = index === undefined ? undefined : nameOf(names, where, index)
  const parts = [
    ...(gateway ? ['via', gateway] : []),
    ...(device ? ['dev', device] : []),
    ...(onlink ? ['onlink'] : []),
    ...(source ? ['src', source] : []),
    ...(priority ? ['metric', String(priority)] : []),
    ...(table && table !== MAIN_TABLE ? ['table', String(table)] : []),
    ...(scope && scopeNames[scope] && !destination.includes(':') ? ['scope', scopeNames[scope] ?? ''] : []),
    ...(mtu ? ['mtu', String(mtu)] : []),
    ...(advertisedMss ? ['advmss', String(advertisedMss)] : []),
  ]
  const { flags } = message
  const how = verb === DELETE ? 'delete' : flags & REPLACE ? 'replace' : flags & EXCLUSIVE ? 'add' : 'append'
  const family = destination.includes(':') ? 'ip -6' : 'ip'
  const said = route ? describeRoute(route) : to
  return {
    about: 'route',
    does: `${how} route ${said}${device ? ` over ${device}` : ''}${table && table !== MAIN_TABLE ? ` in table ${table}` : ''}`,
    lines: [inPlace(where, `${family} route ${how} ${words(to, ...parts)}`)],
  }
}

const FRA_PRIORITY = 6

function rulePart({ message, where }: NetlinkCall, { verb }: Context): Part {
  const rule = readRule(message.payload)
  const family = message.payload[0] === 10 ? 'ip -6' : 'ip' // AF_INET6
  const { source, table, priority, input } = rule
  const from = source ? `${source.address}/${source.prefixLength}` : 'all'
  const hasPriority = attributeMap(message.payload.subarray(12)).has(FRA_PRIORITY)
  const parts = [
    ...['from', from],
    ...(input ? ['iif', input] : []),
    ...(hasPriority ? ['priority', String(priority)] : []),
    ...['table', String(table), 'protocol', 'boot'],
  ]
  const how = verb === DELETE ? 'delete' : 'add'
  return {
    about: 'rule',
    does: `${how} rule ${describeRule(rule)}`,
    lines: [inPlace(where, `${family} rule ${how} ${words(...parts)}`)],
  }
}

/** Queueing disciplines and filters, in words alone. */
function limitPart({ message, where }: NetlinkCall, { names, verb }: Context): Part {
  const name = nameOf(names, where, readInt32(message.payload.subarray(4)))
  const kind = attributeMap(message.payload.subarray(20)).get(1) // TCA_KIND
  const what = (message.type & ~3) === kinds.filter ? 'filter' : 'queueing discipline'
  return {
    about: 'limit',
    does: `${verb === DELETE ? 'delete' : 'add'} ${what}${kind ? ` ${readText(kind)}` : ''} on ${name}`,
    lines: [],
  }
}
