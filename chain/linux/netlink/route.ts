/** Routes over rtnetlink (linux/rtnetlink.h). */
import { addressBytes, addressText } from '../../ip/bytes.ts'
import { AF_INET, AF_INET6, isIpv6, socketFamilyOf } from '../../ip/family.ts'
import { errno } from '../libc/errno.ts'
import {
  align,
  attribute,
  attributeMap,
  CodecError,
  findAttribute,
  join,
  type Message,
  nested,
  readUint16,
  readUint32,
  split,
  uint32,
} from './codec.ts'
import {
  CREATE,
  dump,
  EXCLUSIVE,
  isRefusal,
  REPLACE,
  type Request,
  request,
  type Transport,
} from './socket.ts'

const RTM_NEWROUTE = 24
const RTM_DELROUTE = 25
const RTM_GETROUTE = 26
// RTA_*
const DESTINATION = 1
const OUTPUT = 4
const GATEWAY = 5
const PRIORITY = 6
const PREFERRED_SOURCE = 7
const METRICS = 8
const MULTIPATH = 9
const TABLE = 15
const RTAX_MTU = 2
const RTAX_ADVMSS = 8

export const MAIN_TABLE = 254
export const LOCAL_TABLE = 255
/** RT_SCOPE_*. */
export const scopes = { universe: 0, site: 200, link: 253, host: 254, nowhere: 255 } as const
const RTPROT_BOOT = 3
const RTN_UNICAST = 1
const RTM_F_CLONED = 0x200
const IPV6_PRIORITY = 1024 // IP6_RT_PRIO_USER: that of IPv6 routes which say none

export interface Route {
  /** "10.1.0.0", "::" …; with prefix length 0 the default route. */
  destination: string
  prefixLength: number
  gateway?: string
  /** Index of the outgoing link. */
  link?: number
  source?: string
  priority?: number
  /** Default: the main table. */
  table?: number
  scope?: number
  mtu?: number
  advertisedMss?: number
  /** RTPROT_*: who made it (2: the kernel). */
  protocol?: number
  /** RTN_*: 1 unicast, 2 local, 3 broadcast, 7 unreachable. */
  type?: number
}

function header(route: Route, family: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(12)) // struct rtmsg
  const table = route.table ?? MAIN_TABLE
  view.setUint8(0, family)
  view.setUint8(1, route.prefixLength)
  view.setUint8(4, table < 256 ? table : 0)
  view.setUint8(5, route.protocol ?? RTPROT_BOOT)
  view.setUint8(
    6,
    route.scope ?? (route.gateway === undefined && family === AF_INET ? scopes.link : scopes.universe),
  )
  view.setUint8(7, route.type ?? RTN_UNICAST)
  return new Uint8Array(view.buffer)
}

function encodeRoute(route: Route): Uint8Array {
  const { destination, prefixLength, gateway, link, source, priority, table, mtu, advertisedMss } = route
  const metrics = [
    ...(mtu ? [uint32(RTAX_MTU, mtu)] : []),
    ...(advertisedMss ? [uint32(RTAX_ADVMSS, advertisedMss)] : []),
  ]
  return join(
    header(route, socketFamilyOf(destination)),
    ...(prefixLength > 0 ? [attribute(DESTINATION, addressBytes(destination))] : []),
    ...(gateway === undefined ? [] : [attribute(GATEWAY, addressBytes(gateway))]),
    ...(link === undefined ? [] : [uint32(OUTPUT, link)]),
    ...(source === undefined ? [] : [attribute(PREFERRED_SOURCE, addressBytes(source))]),
    ...(priority ? [uint32(PRIORITY, priority)] : []),
    ...(table !== undefined && table > 255 ? [uint32(TABLE, table)] : []),
    ...(metrics.length ? [nested(METRICS, ...metrics)] : []),
  )
}

export function describeRoute({ destination, prefixLength, gateway }: Route): string {
  const to = prefixLength === 0 ? 'default' : `${destination}/${prefixLength}`
  return gateway === undefined ? to : `${to} via ${gateway}`
}

/** The request that adds a route. `mode`: refuse one that is there (EEXIST), replace it, or add beside others. */
export function newRoute(route: Route, mode: 'exclusive' | 'replace' | 'beside' = 'exclusive'): Request {
  const flags = { exclusive: EXCLUSIVE, replace: REPLACE, beside: 0 }[mode]
  return {
    operation: `add route ${describeRoute(route)}`,
    type: RTM_NEWROUTE,
    flags: CREATE | flags,
    payload: encodeRoute(route),
  }
}

/**
 * Requests that have routes replace what their tables have to the same destinations. Several to one destination (by
 * several gateways) come to be beside one another.
 */
export function replacingRoutes(routes: readonly Route[]): Request[] {
  const begun = new Set<string>()
  return routes.map(route => {
    const { destination, prefixLength, table = MAIN_TABLE } = route
    const usual = isIpv6(destination) ? IPV6_PRIORITY : 0
    const place = `${destination}/${prefixLength} ${route.priority || usual} ${table}`
    const mode = begun.has(place) ? 'beside' : 'replace'
    begun.add(place)
    return newRoute(route, mode)
  })
}

export function addRoute(
  transport: Transport,
  route: Route,
  mode?: 'exclusive' | 'replace' | 'beside',
): void {
  request(transport, newRoute(route, mode))
}

export function removeRoute(transport: Transport, route: Route): 'removed' | 'absent' {
  try {
    request(transport, {
      operation: `delete route ${describeRoute(route)}`,
      type: RTM_DELROUTE,
      // nowhere, unspecified: any scope and any origin match
      payload: encodeRoute({ scope: scopes.nowhere, protocol: 0, type: 0, ...route }),
    })
    return 'removed'
  } catch (thrown) {
    if (isRefusal(thrown, errno.ESRCH, errno.ENODEV)) return 'absent'
    throw thrown
  }
}

export interface RouteFilter {
  table?: number
  /** Index of the outgoing link. */
  link?: number
  /** Of the destination: 0 for default routes. */
  prefixLength?: number
  families?: readonly number[]
}

/** All routes, or those of one table, over one link, of one length; of both families or of one. */
export function listRoutes(transport: Transport, filter: RouteFilter = {}): Route[] {
  const { families = [AF_INET, AF_INET6] } = filter
  return families.flatMap(family => dumpFamily(transport, family, filter))
}

/** The kernel is asked to leave the others out, of which there may be a million; those before 4.20 do not. */
function dumpFamily(
  transport: Transport,
  family: number,
  { table, link, prefixLength }: RouteFilter,
): Route[] {
  const header = new Uint8Array(12)
  header[0] = family
  const payload = join(
    header,
    ...(table === undefined ? [] : [uint32(TABLE, table)]),
    ...(link === undefined ? [] : [uint32(OUTPUT, link)]),
  )
  try {
    return dump(transport, { operation: 'list routes', type: RTM_GETROUTE, payload }, message => {
      if (message.type !== RTM_NEWROUTE || isCloned(message)) return undefined
      if (prefixLength !== undefined && message.payload[1] !== prefixLength) return undefined
      const routes = readRoutes(message).filter(
        route =>
          (table === undefined || route.table === table) && (link === undefined || route.link === link),
      )
      return routes.length > 0 ? routes : undefined
    }).flat()
  } catch (thrown) {
    if (isRefusal(thrown, errno.ENOENT, errno.ENODEV)) return [] // there is no such table, no such link
    throw thrown
  }
}

/**
 * The routes of a message: one for each of its next hops. IPv6 routes to one destination with one metric come as a single
 * one, however they were added.
 */
export function readRoutes(message: Message): Route[] {
  const route = readRouteMessage(message)
  const [, rest] = split(message.payload, 12)
  const hops = findAttribute(rest, MULTIPATH)
  return hops === undefined ? [route] : readHops(hops).map(hop => ({ ...route, ...hop }))
}

const HOP_HEADER = 8 // struct rtnexthop: length 2, flags 1, hops 1, link 4

function readHops(bytes: Uint8Array): Pick<Route, 'gateway' | 'link'>[] {
  const found: Pick<Route, 'gateway' | 'link'>[] = []
  for (let at = 0; at < bytes.length; ) {
    const length = readUint16(bytes.subarray(at))
    if (length < HOP_HEADER || at + length > bytes.length)
      throw new CodecError(`next hop at byte ${at}: length ${length}, ${bytes.length - at} bytes left`)
    const gateway = attributeMap(bytes.subarray(at + HOP_HEADER, at + length)).get(GATEWAY)
    found.push({
      link: readUint32(bytes.subarray(at + 4)),
      ...(gateway ? { gateway: addressText(gateway) } : {}),
    })
    at += align(length)
  }
  return found
}

function isCloned({ payload }: Message): boolean {
  return (split(payload, 12)[0].getUint32(8, true) & RTM_F_CLONED) !== 0
}

/** The numbers of the tables that have routes in them. */
export function listRouteTables(transport: Transport): Set<number> {
  const tables = new Set<number>()
  for (const family of [AF_INET, AF_INET6]) {
    const payload = new Uint8Array(12)
    payload[0] = family
    dump(transport, { operation: 'list routes', type: RTM_GETROUTE, payload }, message => {
      if (message.type !== RTM_NEWROUTE || isCloned(message)) return
      const table = findAttribute(message.payload.subarray(12), TABLE)
      tables.add(table ? readUint32(table) : (message.payload[4] ?? 0))
    })
  }
  return tables
}

/** The route that the kernel would take to an address. Throws KernelError (ENETUNREACH) when there is none. */
export function routeTo(transport: Transport, address: string): Route {
  const bytes = addressBytes(address)
  const payload = new Uint8Array(12)
  payload[0] = socketFamilyOf(address)
  payload[1] = bytes.length * 8
  const [reply] = request(transport, {
    operation: `look up the route to ${address}`,
    type: RTM_GETROUTE,
    payload: join(payload, attribute(DESTINATION, bytes)),
  })
  if (!reply) throw new RangeError(`the kernel gave no route to ${address}`)
  return readRouteMessage(reply)
}

function readRouteMessage({ payload }: Message): Route {
  const [head, rest] = split(payload, 12)
  const found = attributeMap(rest)
  const get = <T>(type: number, read: (value: Uint8Array) => T): T | undefined => {
    const value = found.get(type)
    return value && read(value)
  }
  const metrics = attributeMap(found.get(METRICS) ?? new Uint8Array(0))
  const mtu = metrics.get(RTAX_MTU)
  const advertisedMss = metrics.get(RTAX_ADVMSS)
  const optional = {
    gateway: get(GATEWAY, addressText),
    link: get(OUTPUT, readUint32),
    source: get(PREFERRED_SOURCE, addressText),
    priority: get(PRIORITY, readUint32),
    mtu: mtu && readUint32(mtu),
    advertisedMss: advertisedMss && readUint32(advertisedMss),
  }
  const present = Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined))
  return {
    destination: get(DESTINATION, addressText) ?? (head.getUint8(0) === AF_INET ? '0.0.0.0' : '::'),
    prefixLength: head.getUint8(1),
    table: get(TABLE, readUint32) ?? head.getUint8(4),
    protocol: head.getUint8(5),
    scope: head.getUint8(6),
    type: head.getUint8(7),
    ...present,
  }
}
