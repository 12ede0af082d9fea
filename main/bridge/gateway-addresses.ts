/** The bridge as its containers' gateway: addresses, forwarding, default routes. */

import {
  addressAfter,
  type Cidr,
  contains,
  formatAddress,
  formatCidr,
  networkOf,
  overlaps,
  parseAddress,
  parseCidr,
} from '../../chain/ip/address.ts'
import { familyOf } from '../../chain/ip/family.ts'
import { isLinkLocal, realGateway } from '../../chain/ip/text.ts'
import { errno } from '../../chain/linux/libc/errno.ts'
import {
  addAddress,
  type InterfaceAddress,
  listAddresses,
  removeAddress,
} from '../../chain/linux/netlink/address.ts'
import type { Link } from '../../chain/linux/netlink/link.ts'
import { addRoute, removeRoute } from '../../chain/linux/netlink/route.ts'
import { isRefusal, type Transport } from '../../chain/linux/netlink/socket.ts'
import { reversible, type Undo } from '../../chain/plugin/undo.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import type { IpConfig, Result } from '../../chain/protocol/result.ts'

/** Addresses without a gateway get the first one of their network. */
export function withGateways(ips: readonly IpConfig[]): IpConfig[] {
  return ips.map(ip => {
    const parsed = parseCidr(ip.address)
    if (realGateway(ip.gateway) !== undefined || !parsed) return ip
    return { ...ip, gateway: formatAddress(addressAfter(networkOf(parsed).address)) }
  })
}

/** A default route per family through the first gateway, where the IPAM plugin gave none. */
export function withDefaultRoutes(result: Result): Result {
  const routes = (['0.0.0.0/0', '::/0'] as const).flatMap(dst => {
    const gateways = result.ips.flatMap(ip => realGateway(ip.gateway) ?? [])
    const gateway = gateways.find(one => familyOf(one) === familyOf(dst))
    const given = result.routes.some(route => route.dst === dst)
    return gateway === undefined || given ? [] : [{ dst, gw: gateway }]
  })
  return { ...result, routes: [...result.routes, ...routes] }
}

/**
 * The gateways that the bridge is to have, with their networks' prefix lengths. Each once, as the kernel has an IPv6 address:
 * one that several networks name belongs to the one which it lies in.
 */
export function gatewaysOf(result: Result): Cidr[] {
  const found = new Map<string, Cidr>()
  for (const { address, gateway } of result.ips) {
    const network = parseCidr(address)
    const parsed = parseAddress(realGateway(gateway) ?? '')
    if (!network || !parsed) continue
    const name = formatAddress(parsed)
    if (!found.has(name) || contains(network, parsed))
      found.set(name, { address: parsed, prefixLength: network.prefixLength })
  }
  return [...found.values()]
}

/** The link that has the gateway addresses, and whether no other port needs them: for undoing. */
export interface GatewayLink {
  link: Link
  isUnused(): boolean
}

/**
 * Puts gateway addresses on a link. Another IPv4 address, or an IPv6 one of an overlapping network, is refused, or
 * replaced when `force` says so.
 */
export function ensureGateways(
  host: Transport,
  undo: Undo,
  { gateways, ...rest }: GatewayLink & { gateways: readonly Cidr[]; force: boolean },
): void {
  const present = listAddresses(host, rest.link.index)
  for (const gateway of gateways) ensureGateway(host, undo, { gateway, present, ...rest })
}

interface GatewayStep extends GatewayLink {
  gateway: Cidr
  present: readonly InterfaceAddress[]
  force: boolean
}

function ensureGateway(
  host: Transport,
  undo: Undo,
  { link, isUnused, gateway, present, force }: GatewayStep,
): void {
  const own = formatCidr(gateway)
  const cidrs = present
    .map(({ address, prefixLength }) => parseCidr(`${address}/${prefixLength}`))
    .filter(one => one !== undefined)
  if (cidrs.some(one => formatCidr(one) === own)) return
  const family = gateway.address.family
  for (const other of cidrs) {
    if (other.address.family !== family || (family === 6 && !isInTheWay(other, gateway))) continue
    if (!force) throw occupied(link, other, own)
    reversible(undo, `give ${formatCidr(other)} back to ${link.name}`, {
      forth: () => removeAddress(host, { link: link.index, ...plain(other) }),
      back: () => isUnused() && restoreAddress(host, link, other),
    })
  }
  try {
    reversible(undo, `take ${own} from ${link.name}`, {
      forth: () => addAddress(host, { link: link.index, ...plain(gateway), skipDetection: true }),
      back: () => isUnused() && removeAddress(host, { link: link.index, ...plain(gateway) }),
    })
  } catch (thrown) {
    if (isRefusal(thrown, errno.EEXIST)) return // another container's ADD was quicker
    throw thrown
  }
}

/** A link may have any number of link-local addresses: one is the kernel's. */
const isInTheWay = (other: Cidr, gateway: Cidr) =>
  overlaps(other, gateway) && !isLinkLocal(formatAddress(other.address))

/** Networks that have no gateway of theirs in them: to these no address of the bridge makes a way. */
export function outlyingNetworks({ ips }: Result, gateways: readonly Cidr[]): Cidr[] {
  return ips.flatMap(({ address }) => {
    const cidr = parseCidr(address)
    return !cidr || gateways.some(gateway => contains(gateway, cidr.address)) ? [] : [networkOf(cidr)]
  })
}

/** The way to the containers of a network whose gateway lies outside. */
export function ensureWay(
  host: Transport,
  undo: Undo,
  { link, isUnused, network }: GatewayLink & { network: Cidr },
): void {
  const { address: destination, prefixLength } = plain(network)
  const route = { destination, prefixLength, link: link.index }
  try {
    reversible(undo, `take the way to ${formatCidr(network)} from ${link.name}`, {
      forth: () => addRoute(host, route),
      back: () => isUnused() && removeRoute(host, route),
    })
  } catch (thrown) {
    if (!isRefusal(thrown, errno.EEXIST)) throw thrown
  }
}

/** It may be there still. */
function restoreAddress(host: Transport, link: Link, cidr: Cidr): void {
  try {
    addAddress(host, { link: link.index, ...plain(cidr), skipDetection: true })
  } catch (thrown) {
    if (!isRefusal(thrown, errno.EEXIST)) throw thrown
  }
}

function plain({ address, prefixLength }: Cidr): { address: string; prefixLength: number } {
  return { address: formatAddress(address), prefixLength }
}

function occupied(link: Link, other: Cidr, own: string): CniError {
  return new CniError(
    code.internal,
    `failed to set bridge addr: "${link.name}" already has an IP address different from ${own}`,
    {
      details: `it has ${formatCidr(other)}: another network uses the bridge, or its subnet was changed; give this network a bridge of its own, or set forceAddress`,
    },
  )
}

/** The gateways that are not on the link. */
export function missingGateways(host: Transport, link: Link, gateways: readonly Cidr[]): string[] {
  const present = new Set(
    listAddresses(host, link.index).map(({ address, prefixLength }) => `${address}/${prefixLength}`),
  )
  return gateways.map(formatCidr).filter(gateway => !present.has(gateway))
}
