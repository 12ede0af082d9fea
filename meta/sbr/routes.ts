/** Which routes of an interface an address's own table gets, and which the main table keeps. Pure. */
import type { Route } from '../../chain/linux/netlink/route.ts'
import {
  type Cidr,
  contains,
  formatAddress,
  isUnspecified,
  parseAddress,
  parseCidr,
} from '../../chain/protocol/address.ts'
import type { IpConfig } from '../../chain/protocol/result.ts'

function isSix({ destination }: Route): boolean {
  return destination.includes(':')
}

/** Within a link: fe80::/10, and multicast. Packets to these have link-local sources, for which there is no rule. */
function isLinkLocal({ destination }: Route): boolean {
  return /^(fe[89ab]|ff)/i.test(destination) && destination.includes(':')
}

/** Routes that go from the main table to the addresses' own: those of families that have any. */
export function isMovable(route: Route, sixes: ReadonlySet<boolean>): boolean {
  return sixes.has(isSix(route)) && !isLinkLocal(route)
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
    .filter(route => isSix(route) === six && concerns(route, network, networks))
    .map(route => ({ ...route, table }))
  const gateway = ip.gateway === undefined ? undefined : parseAddress(ip.gateway)
  const isGiven = gateway && gateway.family === network.address.family && !isUnspecified(gateway)
  const preset: Route[] = isGiven
    ? [{ destination: six ? '::' : '0.0.0.0', prefixLength: 0, gateway: formatAddress(gateway), link, table }]
    : []
  const others = own.filter(route => !(isGiven && isSameDefault(route, formatAddress(gateway))))
  return [...bareRoutes(others), ...preset, ...others.filter(({ gateway }) => gateway !== undefined)]
}

function isSameDefault({ gateway, prefixLength }: Route, wanted: string): boolean {
  return prefixLength === 0 && gateway === wanted
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
