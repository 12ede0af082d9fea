/** What CHECK looks at on the host: the bridge, its gateway, and the container's port. */

import { type Ends, findPeer } from '../../chain/interface/owner.ts'
import { findLink, type Link } from '../../chain/linux/netlink/link.ts'
import type { Transport } from '../../chain/linux/netlink/socket.ts'
import { CniError, code, toCniError } from '../../chain/protocol/error.ts'
import type { Result } from '../../chain/protocol/result.ts'
import * as gateway from './gateway-addresses.ts'
import * as port from './port.ts'
import type { BridgeConfiguration } from './schema.ts'
import * as vlan from './vlan.ts'

const differs = (message: string, details = 'the host no longer is as ADD left it') =>
  new CniError(code.internal, message, { details })

/** The bridge is there as it was, and is the gateway that it was. */
export function checkBridge(host: Transport, config: BridgeConfiguration, result: Result): Link {
  const expected = result.interfaces.find(({ name, sandbox }) => name === config.bridge && !sandbox)
  if (!expected)
    throw new CniError(
      code.internal,
      `CNI created bridge ${config.bridge} in host namespace was not found: prevResult has none`,
    )
  const link = findLink(host, config.bridge)
  if (!link) throw differs(`Interface name ${config.bridge} not found: the bridge is gone`)
  if (link.kind !== 'bridge')
    throw differs(
      `Interface ${config.bridge} does not have link type of bridge: it is a ${link.kind ?? 'device'}`,
    )
  if (expected.mac && expected.mac !== link.address) {
    throw differs(`Bridge interface ${link.name} Mac doesn't match: ${expected.mac}: it has ${link.address}`)
  }
  if (!link.up) throw differs(`bridge ${link.name} is down`)
  if (config.promiscMode && !link.promiscuous)
    throw differs(
      `Bridge interface ${link.name} configured Promisc Mode true doesn't match current state: it is not promiscuous`,
    )
  if (vlan.wantsFiltering(config) && !link.data.vlanFiltering)
    throw differs(`bridge ${link.name} does not filter VLANs`)
  if (config.isGateway || config.isDefaultGateway) checkGateway(host, { config, bridge: link, result })
  return link
}

/** For STATUS: whether the next ADD could use what has the bridge's name. Nothing there is fine. */
export function checkUsable(host: Transport, config: BridgeConfiguration): void {
  const existing = findLink(host, config.bridge)
  if (!existing) return
  try {
    port.requireBridge(existing)
    if (vlan.wantsFiltering(config)) vlan.requireFiltering(existing, { created: false })
  } catch (thrown) {
    const { message, details } = toCniError(thrown)
    throw new CniError(code.pluginNotAvailable, message, { details, cause: thrown })
  }
}

function checkGateway(
  host: Transport,
  { config, bridge, result }: { config: BridgeConfiguration; bridge: Link; result: Result },
): void {
  const gateways = gateway.gatewaysOf(result)
  if (gateways.length === 0) return
  const link = config.vlan === 0 ? bridge : checkGatewayLink(host, { bridge, vlan: config.vlan })
  const [missing] = gateway.missingGateways(host, link, gateways)
  if (missing) throw differs(`gateway address ${missing} is not on ${link.kind} ${link.name}`)
}

function checkGatewayLink(host: Transport, parts: { bridge: Link; vlan: number }): Link {
  const { bridge, vlan: id } = parts
  const name = vlan.gatewayName(bridge.name, id)
  const link = findLink(host, name)
  if (!link) throw differs(`${name}, the gateway's interface, is gone`)
  if (!link.up) throw differs(`${name}, the gateway's interface, is down`)
  const peer = link.parent === undefined ? undefined : findLink(host, link.parent)
  if (peer?.master !== bridge.index) throw differs(`${name} does not lead to bridge ${bridge.name}`)
  checkVlans(host, peer, { vlan: id, vlanTrunk: undefined, preserveDefaultVlan: false })
  return link
}

function checkVlans(host: Transport, link: Link, keys: Parameters<typeof vlan.missingVlans>[2]): void {
  const [missing] = vlan.missingVlans(host, link, keys)
  if (missing) throw differs(missing)
}

/** The host end is the one of prevResult, on the bridge, with its settings. */
export function checkHostEnd(
  places: Ends,
  parts: { config: BridgeConfiguration; containerEnd: Link; link: Link; result: Result },
): Link {
  const { config, containerEnd, link, result } = parts
  const hostEnd = findPeer(places, containerEnd)
  if (hostEnd?.master !== link.index) {
    throw differs(
      `CNI veth created for bridge ${link.name} was not found: ${containerEnd.name} has no host end on it`,
      'its veth peer was taken off the bridge or moved',
    )
  }
  const expected = result.interfaces.find(({ name, sandbox }) => name === hostEnd.name && !sandbox)
  if (!expected)
    throw differs(`host end ${hostEnd.name} of ${containerEnd.name} is not the one in prevResult`)
  if (expected.mac && expected.mac !== hostEnd.address) {
    throw differs(
      `Interface ${hostEnd.name} Mac doesn't match: ${expected.mac} not found: it has ${hostEnd.address}`,
    )
  }
  checkPort(places.host, config, hostEnd)
  return hostEnd
}

/** An interface of another plugin is still a port of the bridge, with its settings. */
export function checkAttached(
  host: Transport,
  { config, bridge, name }: { config: BridgeConfiguration; bridge: Link; name: string },
): Link {
  const link = findLink(host, name)
  if (!link) throw differs(`${name} of prevResult is gone`)
  if (link.master !== bridge.index) throw differs(`${name} is not on bridge ${bridge.name}`)
  checkPort(host, config, link)
  return link
}

function checkPort(host: Transport, config: BridgeConfiguration, link: Link): void {
  if (!link.up) throw differs(`host end ${link.name} is down`)
  if (config.hairpinMode && !link.port?.hairpin) throw differs(`host end ${link.name} is not in hairpin mode`)
  if (config.portIsolation && !link.port?.isolated) throw differs(`host end ${link.name} is not isolated`)
  checkVlans(host, link, config)
}
