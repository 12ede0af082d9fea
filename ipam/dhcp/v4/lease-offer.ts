/** What a server leases: an acknowledgement's options as addresses, routes and times. Pure. */
import { addressText } from '../../../chain/ip/bytes.ts'
import type { Result, Route } from '../../../chain/protocol/result.ts'
import { namesIn, textIn } from '../codec.ts'
import { type Message, option } from './packet.ts'

/** A lease's content; times in seconds from its acknowledgement, `Infinity` for ever. */
export interface LeaseOffer {
  address: string
  /** From the subnet mask; undefined when the server gave none or one with holes. */
  prefixLength?: number
  server: string
  leaseSeconds: number
  renewalSeconds: number
  rebindingSeconds: number
  routers: string[]
  routes: OfferedRoute[]
  nameServers: string[]
  domain?: string
  search: string[]
  mtu?: number
}

export interface OfferedRoute {
  destination: string
  /** "0.0.0.0": the destination is on the link itself. */
  router: string
}

const DEFAULT_LEASE_SECONDS = 3600 // as the Go plugin
const INFINITE = 0xffffffff // RFC 2131, 3.3
const SMALLEST_MTU = 68 // RFC 2132, 5.1

/** Reads an offer or acknowledgement. Answers what is wrong with it when it cannot be used. */
export function readLeaseOffer(message: Message): LeaseOffer | string {
  const { options, yourAddress } = message
  const server = addressesIn(options.get(option.serverIdentifier))[0]
  if (server === undefined || server === '0.0.0.0') return 'it names no server'
  if (!isHostAddress(yourAddress)) return `${yourAddress} is no address for a host`
  const leaseSeconds = secondsIn(options.get(option.leaseTime)) ?? DEFAULT_LEASE_SECONDS
  if (leaseSeconds === 0) return 'its lease is of zero seconds'
  const prefixLength = prefixLengthIn(options.get(option.subnetMask))
  const domain = textIn(options.get(option.domainName))
  const mtu = numberIn(options.get(option.interfaceMtu), 2)
  const routers = addressesIn(options.get(option.routers))
  return {
    address: yourAddress,
    server,
    leaseSeconds,
    ...renewalTimes(options, leaseSeconds),
    routers,
    routes: routesIn(options, routers),
    nameServers: addressesIn(options.get(option.nameServers)),
    search: namesIn(options.get(option.domainSearch)),
    ...(prefixLength === undefined ? {} : { prefixLength }),
    ...(domain === undefined ? {} : { domain }),
    ...(mtu === undefined || mtu < SMALLEST_MTU ? {} : { mtu }),
  }
}

/** T1 and T2 as the server says, if they lie in order within the lease; else at 50 and 85 percent, as the Go plugin. */
function renewalTimes(
  options: Message['options'],
  leaseSeconds: number,
): Pick<LeaseOffer, 'rebindingSeconds' | 'renewalSeconds'> {
  const renewalSeconds = secondsIn(options.get(option.renewalTime)) ?? leaseSeconds / 2
  const rebindingSeconds = secondsIn(options.get(option.rebindingTime)) ?? leaseSeconds * 0.85
  const inOrder = 0 < renewalSeconds && renewalSeconds < rebindingSeconds && rebindingSeconds < leaseSeconds
  return inOrder
    ? { renewalSeconds, rebindingSeconds }
    : { renewalSeconds: leaseSeconds / 2, rebindingSeconds: leaseSeconds * 0.85 }
}

/** Not of 0/8, loopback, multicast, reserved or broadcast. */
function isHostAddress(address: string): boolean {
  const first = Number(address.slice(0, address.indexOf('.')))
  return first > 0 && first < 224 && first !== 127
}

function numberIn(value: Uint8Array | undefined, length: 2 | 4): number | undefined {
  if (value?.length !== length) return undefined
  return value.reduce((number, byte) => number * 256 + byte, 0)
}

function secondsIn(value: Uint8Array | undefined): number | undefined {
  const seconds = numberIn(value, 4)
  return seconds === INFINITE ? Number.POSITIVE_INFINITY : seconds
}

/** A list of addresses; bytes that do not fill another one are passed over. */
function addressesIn(value: Uint8Array | undefined): string[] {
  const count = Math.floor((value?.length ?? 0) / 4)
  return Array.from({ length: count }, (_, index) =>
    addressText((value ?? new Uint8Array(0)).subarray(index * 4, index * 4 + 4)),
  )
}

/** The number of leading ones of a mask of four bytes without holes. */
function prefixLengthIn(value: Uint8Array | undefined): number | undefined {
  const mask = numberIn(value, 4)
  if (mask === undefined) return undefined
  const length = Math.clz32(~mask)
  return length === 32 || mask << length === 0 ? length : undefined
}

/** Option 121 replaces all others (RFC 3442); else option 33's classful ones, then the default through the first router. */
function routesIn(options: Message['options'], routers: string[]): OfferedRoute[] {
  const classless = options.get(option.classlessRoutes)
  if (classless) return classlessRoutes(classless)
  const pairs = addressesIn(options.get(option.staticRoutes))
  const routes: OfferedRoute[] = []
  for (let index = 0; index + 1 < pairs.length; index += 2) {
    const [network, router] = [pairs[index] ?? '', pairs[index + 1] ?? '']
    const length = classfulLength(network)
    if (length !== undefined) routes.push({ destination: `${network}/${length}`, router })
  }
  const [router] = routers
  return router === undefined ? routes : [...routes, { destination: '0.0.0.0/0', router }]
}

function classfulLength(network: string): number | undefined {
  const first = Number(network.slice(0, network.indexOf('.')))
  if (first === 0 || first >= 224) return undefined // RFC 2132, 5.8: the default route is illegal here
  return first < 128 ? 8 : first < 192 ? 16 : 24
}

/** Length, the network's significant bytes, router. A cut-off or impossible entry ends the list: what follows cannot be read. */
function classlessRoutes(value: Uint8Array): OfferedRoute[] {
  const routes: OfferedRoute[] = []
  for (let at = 0; at < value.length; ) {
    const length = value[at] ?? 33
    const significant = Math.ceil(length / 8)
    const end = at + 1 + significant + 4
    if (length > 32 || end > value.length) return routes
    const network = new Uint8Array(4)
    network.set(value.subarray(at + 1, at + 1 + significant))
    const router = addressText(value.subarray(end - 4, end))
    routes.push({ destination: `${addressText(network)}/${length}`, router })
    at = end
  }
  return routes
}

const SCOPE_LINK = 253 // RT_SCOPE_LINK

/** A lease as a result: the Go plugin's, and beyond it name servers, domains and the routes' MTU. `priority` 0 says none. */
export function resultOf(offer: LeaseOffer, priority: number): Result {
  const [gateway] = offer.routers
  const domain = offer.domain === undefined ? {} : { domain: offer.domain }
  return {
    interfaces: [],
    ips: [{ address: `${offer.address}/${offer.prefixLength ?? 32}`, ...(gateway ? { gateway } : {}) }],
    routes: offer.routes.map(route => routeOf(route, offer.mtu, priority)),
    dns: {
      ...(offer.nameServers.length > 0 ? { nameservers: offer.nameServers } : {}),
      ...domain,
      ...(offer.search.length > 0 ? { search: offer.search } : {}),
    },
  }
}

function routeOf({ destination, router }: OfferedRoute, mtu: number | undefined, priority: number): Route {
  return {
    dst: destination,
    ...(router === '0.0.0.0' ? { scope: SCOPE_LINK } : { gw: router }),
    ...(mtu === undefined ? {} : { mtu }),
    ...(priority === 0 ? {} : { priority }),
  }
}
