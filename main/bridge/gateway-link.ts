/** Where the gateway of a container's network is: on the bridge itself, or on the host's interface in its VLAN. */

import { enableForwarding } from '../../chain/interface/forwarding.ts'
import { awaitLink } from '../../chain/interface/ready.ts'
import type { Link } from '../../chain/linux/netlink/link.ts'
import type { Transport } from '../../chain/linux/netlink/socket.ts'
import type { AddRequest } from '../../chain/plugin/define.ts'
import type { Result } from '../../chain/protocol/result.ts'
import * as gateway from './gateway-addresses.ts'
import * as port from './port.ts'
import type { BridgeConfiguration } from './schema.ts'
import * as vlan from './vlan.ts'

type Request = AddRequest<BridgeConfiguration>

/** isDefaultGateway implies isGateway. */
export function isGateway(config: BridgeConfiguration): boolean {
  return config.isGateway || config.isDefaultGateway
}

/** Puts the gateways where they belong. The result then lists a VLAN's interface as well. */
export function becomeGateway(
  host: Transport,
  parts: { request: Request; link: Link; hostEnd: Link; result: Result },
): Result {
  const { request, link, hostEnd, result } = parts
  const { config, undo } = request
  const gateways = gateway.gatewaysOf(result)
  if (!isGateway(config) || gateways.length === 0) return result
  const place: gateway.GatewayLink =
    config.vlan === 0
      ? { link, isUnused: () => port.isUnused(host, link, hostEnd.index) }
      : joinVlan(host, { request, bridge: link, hostEnd })
  gateway.ensureGateways(host, undo, { ...place, gateways, force: config.forceAddress })
  for (const network of gateway.outlyingNetworks(result, gateways))
    gateway.ensureWay(host, undo, { ...place, network })
  enableForwarding(result.ips.map(({ address }) => address))
  if (place.link === link) return result
  awaitLink(host, place.link.index)
  const { name, address: mac } = place.link
  return { ...result, interfaces: [...result.interfaces, { name, mac }] }
}

function joinVlan(
  host: Transport,
  { request, bridge, hostEnd }: { request: Request; bridge: Link; hostEnd: Link },
): gateway.GatewayLink {
  const { config, undo } = request
  const isUnused = (own?: Link) =>
    vlan.isVlanUnused(host, bridge, { vlan: config.vlan, except: [hostEnd.index, own?.parent] })
  const link = vlan.ensureGatewayLink(host, undo, { bridge, vlan: config.vlan, isUnused })
  return { link, isUnused: () => isUnused(link) }
}
