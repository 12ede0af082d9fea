/** Which routes of an interface an address's own table gets, and which the main table keeps. Pure. */

import {
  type Cidr,
  contains,
  formatAddress,
  networkOf,
  parseAddress,
  parseCidr,
} from '../../chain/ip/address.ts'
import { isIpv6, widthOf } from '../../chain/ip/family.ts'
import { isLinkLocal, isMulticast, realGateway } from '../../chain/ip/text.ts'
import type { Route } from '../../chain/linux/netlink/route.ts'
import type { IpConfig } from '../../chain/protocol/result.ts'

/** To what is within a link, or multicast, of IPv6. Packets to these have link-local sources, for which there is no rule. */
function staysOnLink({ destination }: Route): boolean {
  return isIpv6(destination) && (isLinkLocal(destination) || isMulticast(destination))
}

/** Routes that go from the main table to the addresses' own: those of families that have any. */
export function isMovable(route: Route, sixes: ReadonlySet<boolean>): boolean {
  return sixes.has(isIpv6(route.destination)) && !staysOnLink(route)
}

/**
 * The routes of an address's table: the default one over its gateway, and those of the interface which concern it: by
 * source or gateway in its network, or by no gateway. One whose gateway lies in no network of the interface concerns all.
 */
export function routesFor(
  ip: IpConfig,
  {
    link,
    networks,
    routes,
    table,
  }: { link: number; networks: readonly Cidr[]; routes: readonly Route[]; table: number },
): Route[] {
  const network = parseCidr(ip.address)
  if (!network) return []
  const six = network.address.family === 6
  const own = routes
    .filter(route => isIpv6(route.destination) === six && concerns(route, network, networks))
    .map(route => ({ ...route, table }))
  const gateway = realGateway(ip.gateway)
  const isGiven = gateway !== undefined && isIpv6(gateway) === six
  const preset: Route[] = isGiven
    ? [{ destination: six ? '::' : '0.0.0.0', prefixLength: 0, gateway, link, table }]
    : []
  const others = own.filter(route => !(isGiven && isSameDefault(route, gateway)))
  return [...bareRoutes(others), ...preset, ...others.filter(({ gateway }) => gateway !== undefined)]
}

/**
 * The main table's route to an address's network, as it is and with the address as its source: what has no source of its own
 * yet and goes to the network leaves by this interface. None where the kernel has made none, as for a /32.
 */
export function withSourceHint(
  ip: IpConfig,
  routes: readonly Route[],
): { bare: Route; hinted: Route } | undefined {
  const network = parseCidr(ip.address)
  if (!network || network.prefixLength === widthOf(network.address.family)) return undefined
  const { address } = networkOf(network)
  const destination = formatAddress(address)
  const bare = routes.find(
    route =>
      route.destination === destination &&
      route.prefixLength === network.prefixLength &&
      route.gateway === undefined,
  )
  return bare && { bare, hinted: { ...bare, source: formatAddress(network.address) } }
}

/** Whether the table of an address has routes of the interface for sure: the kernel's own for its network, or the gateway's. */
export function isFilled(ip: IpConfig): boolean {
  const network = parseCidr(ip.address)
  if (!network) return false
  return network.prefixLength < widthOf(network.address.family) || realGateway(ip.gateway) !== undefined
}

function isSameDefault({ gateway, prefixLength }: Route, expected: string): boolean {
  return prefixLength === 0 && gateway === expected
}

/** In which order routes are taken away: undoing, from the last to the first, has gateways within reach again. */
export function gatewaysFirst(routes: readonly Route[]): Route[] {
  return [...routes.filter(({ gateway }) => gateway !== undefined), ...bareRoutes(routes)]
}

/** Those without a gateway come first: gateways are reached over them. */
function bareRoutes(routes: readonly Route[]): Route[] {
  return routes.filter(({ gateway }) => gateway === undefined)
}

function concerns({ gateway, source }: Route, network: Cidr, networks: readonly Cidr[]): boolean {
  if (gateway === undefined && source === undefined) return true
  const isIn = (address: string | undefined, where: Cidr) => {
    const parsed = address === undefined ? undefined : parseAddress(address)
    return parsed !== undefined && contains(where, parsed)
  }
  const isNowhere = gateway !== undefined && !networks.some(one => isIn(gateway, one))
  return isIn(gateway, network) || isIn(source, network) || isNowhere
}
