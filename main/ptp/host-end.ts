/** What ptp has on the host: the gateway’s address on its end of the pair, and the way to the container. */

import { errno } from '../../chain/linux/libc/errno.ts'
import { addAddress, listAddresses, type NewAddress } from '../../chain/linux/netlink/address.ts'
import { findLink, type Link } from '../../chain/linux/netlink/link.ts'
import { addRoute, listRoutes, MAIN_TABLE, scopes } from '../../chain/linux/netlink/route.ts'
import { isRefusal, type Transport } from '../../chain/linux/netlink/socket.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import type { RoutedAddress } from './routes.ts'

/** The host's part: the gateway's address on its end, and the way to the container's address. */
export function routeToContainer(host: Transport, hostEnd: Link, routed: readonly RoutedAddress[]): void {
  for (const { address, gateway, width } of routed) {
    addGateway(host, { link: hostEnd.index, address: gateway, prefixLength: width, skipDetection: true })
    try {
      addRoute(host, { destination: address, prefixLength: width, link: hostEnd.index, scope: scopes.host })
    } catch (thrown) {
      throw isRefusal(thrown, errno.EEXIST) ? explainRouted(host, address, width) : thrown
    }
  }
}

/** Two addresses of one container may have one gateway. */
function addGateway(host: Transport, address: NewAddress): void {
  try {
    addAddress(host, address)
  } catch (thrown) {
    if (!isRefusal(thrown, errno.EEXIST)) throw thrown
  }
}

function explainRouted(host: Transport, address: string, width: number): CniError {
  const route = listRoutes(host, { prefixLength: width }).find(({ destination }) => destination === address)
  const other = route?.link === undefined ? undefined : findLink(host, route.link)
  return new CniError(
    code.internal,
    `address ${address} is in use: the host routes it to ${other?.name ?? 'another link'}`,
    {
      details: 'two containers have been given one address; look at the IPAM plugin’s reservations',
    },
  )
}

/** CHECK: what is missing of the host's part, in words. */
export function missingOnHost(host: Transport, hostEnd: Link, routed: readonly RoutedAddress[]): string[] {
  const addresses = listAddresses(host, hostEnd.index).map(({ address }) => address)
  const routes = listRoutes(host, { table: MAIN_TABLE, link: hostEnd.index })
  return routed.flatMap(({ address, gateway, width }) => {
    const isRouted = routes.some(
      ({ destination, prefixLength }) => destination === address && prefixLength === width,
    )
    return [
      ...(addresses.includes(gateway) ? [] : [`gateway address ${gateway} is not on ${hostEnd.name}`]),
      ...(isRouted ? [] : [`the host's route to ${address} is missing`]),
    ]
  })
}
