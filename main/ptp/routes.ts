/** An address of a container with the gateway by which it leaves: what ptp turns into routes on both ends. */

import { formatAddress, networkOf, parseAddress, parseCidr, sameAddress } from '../../chain/ip/address.ts'
import { widthOf } from '../../chain/ip/family.ts'
import { realGateway } from '../../chain/ip/text.ts'
import { errno } from '../../chain/linux/libc/errno.ts'
import {
  describeRoute,
  LOCAL_TABLE,
  listRoutes,
  newRoute,
  type Route,
  removeRoute,
  scopes,
} from '../../chain/linux/netlink/route.ts'
import { attempt, isRefusal, KernelError, type Transport } from '../../chain/linux/netlink/socket.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import type { Result } from '../../chain/protocol/result.ts'

export interface RoutedAddress {
  address: string
  gateway: string
  /** The address's network, its host bits cleared. */
  network: string
  prefixLength: number
  /** Bits of the family's addresses: 32 or 128. */
  width: 32 | 128
}

/** Every address of the result with its gateway; one without is refused, for nothing would lead out. */
export function routedAddressesOf({ ips }: Result): RoutedAddress[] {
  return ips.map(({ address, gateway }, index) => {
    const cidr = parseCidr(address)
    const next = parseAddress(realGateway(gateway) ?? '')
    if (!cidr || !next || next.family !== cidr.address.family) {
      throw new CniError(
        code.internal,
        `IPAM result: ips[${index}].gateway: ${address} needs a gateway of its family`,
        {
          details: `it is ${gateway ?? 'missing'}; ptp puts the gateway on the host's end of the pair`,
        },
      )
    }
    if (sameAddress(next, cidr.address)) {
      throw new CniError(code.internal, `IPAM result: ips[${index}].gateway: ${address} is its own gateway`)
    }
    return {
      address: formatAddress(cidr.address),
      gateway: formatAddress(next),
      network: formatAddress(networkOf(cidr).address),
      prefixLength: cidr.prefixLength,
      width: widthOf(cidr.address.family),
    }
  })
}

/** "10.1.0.0/16". */
export function networkText({ network, prefixLength }: RoutedAddress): string {
  return `${network}/${prefixLength}`
}

/** The container's own routes: everything but the gateway goes by the gateway, its neighbours of the same network too. */
function routesInContainer(
  { address, gateway, network, prefixLength, width }: RoutedAddress,
  link: number,
): Route[] {
  const toGateway = { destination: gateway, prefixLength: width, link, scope: scopes.link, source: address }
  const toNetwork = {
    destination: network,
    prefixLength,
    link,
    gateway,
    scope: scopes.universe,
    source: address,
  }
  return prefixLength === width ? [toGateway] : [toGateway, toNetwork]
}

/** Replaces the routes that the kernel made for the addresses' networks. */
export function leaveByGateways(
  container: Transport,
  { routed, link }: { routed: readonly RoutedAddress[]; link: number },
): void {
  for (const { network, prefixLength } of routed) {
    removeRoute(container, { destination: network, prefixLength, link })
  }
  const requests = routed
    .flatMap(each => routesInContainer(each, link))
    .map(route => newRoute(route, 'beside'))
  for (const answer of attempt(container, requests)) {
    if (isRefusal(answer, errno.EEXIST)) continue // two addresses with one gateway
    if (answer instanceof KernelError) throw answer
  }
}

/** CHECK: the container's routes that are missing, in words. */
export function missingRoutes(
  container: Transport,
  { routed, link }: { routed: readonly RoutedAddress[]; link: number },
): string[] {
  // of any table: sbr and vrf have tables of their own
  const present = listRoutes(container, { link }).filter(({ table }) => table !== LOCAL_TABLE)
  const isThere = (expected: Route) =>
    present.some(
      ({ destination, prefixLength, gateway }) =>
        destination === expected.destination &&
        prefixLength === expected.prefixLength &&
        gateway === expected.gateway,
    )
  return routed
    .flatMap(each => routesInContainer(each, link))
    .filter(route => !isThere(route))
    .map(describeRoute)
}
