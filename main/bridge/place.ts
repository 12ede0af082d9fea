/** Where the gateway of a container's network is: on the bridge itself, or on the host's interface in its VLAN. */

import { type Link, removeLink } from '../../chain/linux/netlink/link.ts'
import type { Transport } from '../../chain/linux/netlink/socket.ts'
import type { AddRequest } from '../../chain/plugin/define.ts'
import { enableForwarding } from '../../chain/plugin/forwarding.ts'
import { onHost } from '../../chain/plugin/interface.ts'
import { formatCidr } from '../../chain/protocol/address.ts'
import type { Result } from '../../chain/protocol/result.ts'
import type { BridgeConfiguration } from './configuration.ts'
import * as gateway from './gateway.ts'
import * as port from './port.ts'
import * as vlan from './vlan.ts'

type Request = AddRequest<BridgeConfiguration>

/** isDefaultGateway implies isGateway. */
export function isGateway(config: BridgeConfiguration): boolean {
  return config.isGateway || config.isDefaultGateway
}

/** The link that has the gateway addresses, and whether nobody else needs them: for undoing. */
interface Place {
  link: Link
  isUnused(host: Transport): boolean
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
  const place: Place =
    config.vlan === 0
      ? { link, isUnused: anew => port.isUnused(anew, link, hostEnd.index) }
      : joinVlan(host, { request, bridge: link, hostEnd })
  gateway.ensureGateways(host, place.link, {
    gateways,
    force: config.forceAddress,
    changed: (what, cidr) =>
      undo(`take back that ${formatCidr(cidr)} was ${what} at ${place.link.name}`, () =>
        onHost(anew => place.isUnused(anew) && gateway.undoChange(anew, place.link, { what, cidr })),
      ),
  })
  enableForwarding(result.ips.map(({ address }) => address))
  if (place.link === link) return result
  const { name, address: mac } = place.link
  return { ...result, interfaces: [...result.interfaces, { name, mac }] }
}

function joinVlan(
  host: Transport,
  { request, bridge, hostEnd }: { request: Request; bridge: Link; hostEnd: Link },
): Place {
  const { config, undo } = request
  const { link, created } = vlan.ensureGatewayLink(host, { bridge, vlan: config.vlan })
  const except = [hostEnd.index, link.parent]
  const isUnused = (anew: Transport) => vlan.isVlanUnused(anew, bridge, { vlan: config.vlan, except })
  if (created)
    undo(`delete ${link.name}`, () => onHost(anew => isUnused(anew) && removeLink(anew, link.index)))
  return { link, isUnused }
}
