/** bridge: joins containers of a network on a bridge of the host, which may be their gateway. */

import { findLink, type Link, removeLink } from '../chain/linux/netlink/link.ts'
import { openRoute, type Transport } from '../chain/linux/netlink/socket.ts'
import { type AddRequest, type Attachment, definePlugin } from '../chain/plugin/define.ts'
import { allocate } from '../chain/plugin/delegate.ts'
import { guardPort, masquerade, type Owned } from '../chain/plugin/elements.ts'
import {
  announceInterface,
  checkInterface,
  configureInterface,
  onHost,
  openContainer,
  removeInterface,
  requirePrevious,
} from '../chain/plugin/interface.ts'
import { legacyMasquerade, legacySpoofCheck } from '../chain/plugin/legacy.ts'
import { isStale, ownerOf } from '../chain/plugin/owner.ts'
import { addOwned, missingOwned, removeOwned } from '../chain/plugin/ruleset.ts'
import { main } from '../chain/plugin/run.ts'
import { chooseMac, configuredDns, macArgument } from '../chain/plugin/schema.ts'
import { everyStep } from '../chain/plugin/undo.ts'
import { formatAddress, formatCidr, networkOf, parseCidr } from '../chain/protocol/address.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import { emptyResult, type Result } from '../chain/protocol/result.ts'
import { type BridgeConfiguration, configuration } from './bridge/configuration.ts'
import * as gateway from './bridge/gateway.ts'
import * as port from './bridge/port.ts'

type Request = AddRequest<BridgeConfiguration>

/** Positions in the result, as the reference has them. */
const CONTAINER = 2

/** What a bridge's container has in our tables. */
const roles = ['masquerade', 'frames'] as const

export const bridge = definePlugin({
  name: 'bridge',
  config: configuration,

  async add(request) {
    const { config, attachment, netns, undo } = request
    using host = openRoute()
    const link = joinBridge(host, request)
    const events = port.openLinkEvents()
    try {
      const hostEnd = await plugIn(host, { request, link })
      const addressed = config.ipam?.type ? await takeAddresses(request, config.ipam.type) : emptyResult()
      const placed = describe(addressed, { link, hostEnd, attachment, netns })
      if (config.isGateway || config.isDefaultGateway)
        becomeGateway(host, { request, link, hostEnd, result: placed })
      const containerEnd = config.disableContainerInterface
        ? readContainerEnd(request)
        : bringUp(request, placed)
      const owned = ownedBy({ config, attachment, result: placed, hostEnd, containerEnd })
      if (owned.elements.length > 0) {
        undo('delete the rules', () =>
          removeOwned(request.engine, { roles, isOwner: owner => owner === owned.owner.id }),
        )
        await addOwned(request.engine, owned)
      }
      if (!config.disableContainerInterface) {
        port.awaitPort(host, events, hostEnd.index)
        announceInterface({ netns, name: attachment.interface, result: placed }, containerEnd)
      }
      port.markFinished(host, hostEnd, attachment)
      return finish(placed, { config, bridge: findLink(host, link.index) ?? link, containerEnd })
    } finally {
      events.close()
    }
  },

  async check({ config, attachment, netns, previous, delegate }) {
    if (config.ipam?.type) await delegate.check(config.ipam.type)
    const result = requirePrevious(previous, 'bridge')
    using host = openRoute()
    const link = checkBridge(host, config, result)
    const containerEnd = checkInterface({
      netns,
      name: attachment.interface,
      previous,
      kind: 'veth',
      leftDown: config.disableContainerInterface,
    })
    const hostEnd = checkHostEnd(host, { config, containerEnd, link, result })
    const owned = ownedBy({ config, attachment, result, hostEnd, containerEnd })
    const [missing] = missingOwned(owned)
    if (missing)
      throw new CniError(code.internal, missing, { details: 'was the ruleset flushed or reloaded?' })
  },

  async del({ config, attachment, netns, engine, delegate }) {
    using host = openRoute()
    const { id } = ownerOf(attachment)
    const legacy = [legacyMasquerade(attachment), legacySpoofCheck(attachment)]
    await everyStep({
      // Rules before links: nf_tables and the link then wait for the same grace period.
      'delete the rules': () =>
        removeOwned(engine, {
          roles,
          isOwner: owner => owner === id,
          extra: netfilter => legacy.flatMap(find => find(netfilter)),
        }),
      [`delete ${attachment.interface}`]: () => removeInterface(netns, attachment.interface),
      'delete the host end': () => removeLink(host, port.hostEndName(attachment)),
      'release the addresses': () => config.ipam?.type && delegate.del(config.ipam.type),
    })
  },

  async status({ config, delegate }) {
    if (config.ipam?.type) await delegate.status(config.ipam.type)
  },

  async gc({ config, network, valid, engine, delegate }) {
    const isOwner = isStale(network, valid)
    await everyStep({
      'delete stale rules': () => removeOwned(engine, { roles, isOwner }),
      'delete stale host ends': () => onHost(host => port.removeHostEnds(host, isOwner)),
      'release stale addresses': () => config.ipam?.type && delegate.gc(config.ipam.type),
    })
  },
})

function joinBridge(host: Transport, { config, undo }: Request): Link {
  const { bridge: link, created } = port.ensureBridge(host, {
    name: config.bridge,
    mtu: config.mtu,
    promiscuous: config.promiscMode,
    vlanFiltering: config.vlan !== 0 || config.vlanTrunk !== undefined,
  })
  // Another container may have joined a bridge that this ADD created: it goes only if nobody did.
  if (created) undo(`delete bridge ${config.bridge}`, () => onHost(anew => port.removeIfUnused(anew, link)))
  return link
}

async function plugIn(host: Transport, { request, link }: { request: Request; link: Link }): Promise<Link> {
  const { config, attachment, netns, args, undo, delegate } = request
  const mac = chooseMac([
    macArgument(args),
    { key: 'args.cni.mac', value: config.args?.cni?.mac },
    { key: 'runtimeConfig.mac', value: config.runtimeConfig?.mac },
  ])
  openContainer(netns).close() // says what is wrong with the path before anything is made
  if (port.removeHalfDone(host, attachment) === 'removed' && config.ipam?.type)
    await delegate.del(config.ipam.type)
  const hostEnd = port.createPort(host, {
    attachment,
    netns,
    bridge: link,
    mtu: config.mtu,
    mac,
    hairpin: config.hairpinMode,
    isolated: config.portIsolation,
  })
  undo(`delete ${hostEnd.name}`, () => onHost(anew => removeLink(anew, hostEnd.index)))
  return hostEnd
}

async function takeAddresses(request: Request, type: string): Promise<Result> {
  const { config } = request
  const result = await allocate(request, type)
  const isGateway = config.isGateway || config.isDefaultGateway
  const complete = {
    ...result,
    ips: (isGateway ? gateway.withGateways(result.ips) : result.ips).map(ip => ({
      ...ip,
      interface: CONTAINER,
    })),
  }
  return config.isDefaultGateway ? gateway.withDefaultRoutes(complete) : complete
}

function describe(
  result: Result,
  { link, hostEnd, attachment, netns }: { link: Link; hostEnd: Link; attachment: Attachment; netns: string },
): Result {
  return {
    ...result,
    interfaces: [
      { name: link.name, mac: link.address },
      { name: hostEnd.name, mac: hostEnd.address },
      { name: attachment.interface, sandbox: netns },
    ],
  }
}

function becomeGateway(
  host: Transport,
  parts: { request: Request; link: Link; hostEnd: Link; result: Result },
): void {
  const { request, link, hostEnd, result } = parts
  const { config, undo } = request
  gateway.ensureGateways(host, link, {
    gateways: gateway.gatewaysOf(result),
    force: config.forceAddress,
    changed: (what, cidr) =>
      undo(`take back that ${formatCidr(cidr)} was ${what} at ${link.name}`, () =>
        onHost(
          anew => port.isUnused(anew, link, hostEnd.index) && gateway.undoChange(anew, link, { what, cidr }),
        ),
      ),
  })
  gateway.enableForwarding(result.ips)
}

function bringUp({ config, netns, attachment }: Request, result: Result): Link {
  const setup = { netns, name: attachment.interface, result, detectDuplicates: config.enabledad }
  return configureInterface(setup)
}

function readContainerEnd({ netns, attachment }: Request): Link {
  using container = openContainer(netns)
  const link = findLink(container, attachment.interface)
  if (link) return link
  throw new CniError(code.internal, `${attachment.interface} vanished from ${netns} after it was created`)
}

/** The elements that this attachment has in our tables: what ADD puts there and CHECK looks for. */
function ownedBy(parts: {
  config: BridgeConfiguration
  attachment: Attachment
  result: Result
  hostEnd: Link
  containerEnd: Link
}): Owned {
  const { config, attachment, result, hostEnd, containerEnd } = parts
  const pairs = result.ips
    .filter(
      ip => ip.interface === undefined || result.interfaces[ip.interface]?.name === attachment.interface,
    )
    .flatMap(({ address }) => {
      const cidr = parseCidr(address)
      return cidr ? [{ address: formatAddress(cidr.address), network: formatCidr(networkOf(cidr)) }] : []
    })
  return {
    owner: ownerOf(attachment),
    elements: [
      ...(config.ipMasq ? masquerade(pairs) : []),
      ...(config.macspoofchk ? guardPort(hostEnd.name, containerEnd.address) : []),
    ],
  }
}

function finish(
  result: Result,
  { config, bridge: link, containerEnd }: { config: BridgeConfiguration; bridge: Link; containerEnd: Link },
): Result {
  const [, hostEnd, container] = result.interfaces
  const dns = configuredDns(config.dns)
  return {
    ...result,
    interfaces: [
      { name: link.name, mac: link.address },
      ...(hostEnd ? [hostEnd] : []),
      ...(container ? [{ ...container, mac: containerEnd.address }] : []),
    ],
    ...(dns ? { dns } : {}),
  }
}

function checkBridge(host: Transport, config: BridgeConfiguration, result: Result): Link {
  const expected = result.interfaces.find(({ name, sandbox }) => name === config.bridge && !sandbox)
  if (!expected) throw new CniError(code.internal, `prevResult has no bridge ${config.bridge}`)
  const link = findLink(host, config.bridge)
  const differs = (message: string) =>
    new CniError(code.internal, message, { details: 'the host no longer is as ADD left it' })
  if (!link) throw differs(`bridge ${config.bridge} is gone`)
  if (link.kind !== 'bridge') throw differs(`${config.bridge} is a ${link.kind ?? 'device'}, not a bridge`)
  if (expected.mac && expected.mac !== link.address) {
    throw differs(`bridge ${link.name} has hardware address ${link.address}, not ${expected.mac}`)
  }
  if (!link.up) throw differs(`bridge ${link.name} is down`)
  if (config.promiscMode && !link.promiscuous) throw differs(`bridge ${link.name} is not promiscuous`)
  const isGateway = config.isGateway || config.isDefaultGateway
  const [missing] = isGateway ? gateway.missingGateways(host, link, gateway.gatewaysOf(result)) : []
  if (missing) throw differs(`gateway address ${missing} is not on bridge ${link.name}`)
  return link
}

function checkHostEnd(
  host: Transport,
  parts: { config: BridgeConfiguration; containerEnd: Link; link: Link; result: Result },
): Link {
  const { config, containerEnd, link, result } = parts
  const hostEnd = port.findPort(host, containerEnd, link)
  if (!hostEnd) {
    throw new CniError(code.internal, `${containerEnd.name} has no host end on bridge ${link.name}`, {
      details: 'its veth peer was taken off the bridge or moved',
    })
  }
  const expected = result.interfaces.find(({ name, sandbox }) => name === hostEnd.name && !sandbox)
  if (!expected)
    throw new CniError(
      code.internal,
      `host end ${hostEnd.name} of ${containerEnd.name} is not the one in prevResult`,
    )
  if (expected.mac && expected.mac !== hostEnd.address) {
    throw new CniError(
      code.internal,
      `${hostEnd.name} has hardware address ${hostEnd.address}, not ${expected.mac}`,
    )
  }
  if (!hostEnd.up) throw new CniError(code.internal, `host end ${hostEnd.name} is down`)
  if (config.hairpinMode && !hostEnd.port?.hairpin)
    throw new CniError(code.internal, `host end ${hostEnd.name} is not in hairpin mode`)
  if (config.portIsolation && !hostEnd.port?.isolated)
    throw new CniError(code.internal, `host end ${hostEnd.name} is not isolated`)
  return hostEnd
}

if (import.meta.main) main(bridge)
