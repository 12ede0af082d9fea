/** bridge: joins containers of a network on a bridge of the host, which may be their gateway. */

import { addRules, requireBackend, rulesAtAdd, sweepStaleRules } from '../chain/filter/masquerade.ts'
import {
  announceInterface,
  checkInterface,
  configureInterface,
  onHost,
  openContainer,
} from '../chain/interface/configure.ts'
import { interfaceIn, markFinished } from '../chain/interface/create.ts'
import { withForwarding } from '../chain/interface/forwarding.ts'
import { removeHostEnds, removePair } from '../chain/interface/pair.ts'
import { findLink, type Link } from '../chain/linux/netlink/link.ts'
import { openRoute, type Transport } from '../chain/linux/netlink/socket.ts'
import { configuredDns } from '../chain/plugin/configured.ts'
import {
  type AddRequest,
  type Attachment,
  definePlugin,
  readablePrevious,
  requirePrevious,
} from '../chain/plugin/define.ts'
import { chooseMac, macArgument, randomMac } from '../chain/plugin/mac.ts'
import { hostEndName, isStale, ownerOf } from '../chain/plugin/owner.ts'
import { main } from '../chain/plugin/run.ts'
import { everyStep } from '../chain/plugin/undo.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import { emptyResult, type Result } from '../chain/protocol/result.ts'
import * as chained from './bridge/chained.ts'
import { checkAttached, checkBridge, checkHostEnd, checkUsable } from './bridge/check.ts'
import { configuration } from './bridge/checks.ts'
import * as gateway from './bridge/gateway-addresses.ts'
import { becomeGateway, isGateway } from './bridge/gateway-link.ts'
import * as port from './bridge/port.ts'
import { allowedAddress, rulesFor, sweep, sweepRules } from './bridge/rules.ts'
import type { BridgeConfiguration } from './bridge/schema.ts'
import * as vlan from './bridge/vlan.ts'

type Request = AddRequest<BridgeConfiguration>

/** Positions in the result, as the Go plugin has them. */
const CONTAINER = 2

export const bridge = definePlugin({
  name: 'bridge',
  ipam: 'optional',
  config: configuration,

  async add(request) {
    const host = request.keep(openRoute())
    const existing = chained.findInterface(host, request.config, readablePrevious(request))
    return existing ? await attachExisting(host, request, existing) : await attachNew(host, request)
  },

  async check({ config, args, attachment, netns, previous, ipam, engine }) {
    await ipam.check()
    const result = requirePrevious(previous, 'bridge')
    using host = openRoute()
    const link = checkBridge(host, config, result)
    const attached = chained.namedInterface(config, result)
    const found = attached
      ? {
          port: checkAttached(host, { config, bridge: link, name: attached }),
          mac: chained.guestAddress(config, result, configuredMac(config, args)),
        }
      : checkPair(host, { config, attachment, netns, result, link })
    const { name } = found.port
    const mac = (config.macspoofchk && allowedAddress(attachment, name)) || found.mac
    const rules = rulesFor({ config, attachment, result, port: name, mac })
    const missing = await rulesAtAdd({ engine }, rules, sweep).check()
    if (missing)
      throw new CniError(code.internal, missing, { details: 'was the ruleset flushed or reloaded?' })
  },

  rules({ config, args, attachment, previous, engine }) {
    const result = requirePrevious(previous, 'bridge')
    const attached = chained.namedInterface(config, result)
    const name = attached ?? hostEndName(attachment)
    const configured = attached ? configuredMac(config, args) : undefined
    // not what the container's interface has by now: that may be the container's choice
    const mac =
      (config.macspoofchk && allowedAddress(attachment, name)) ||
      chained.guestAddress(config, result, configured)
    const rules = rulesAtAdd({ engine }, rulesFor({ config, attachment, result, port: name, mac }), sweep)
    return isGateway(config)
      ? withForwarding(
          rules,
          result.ips.map(({ address }) => address),
        )
      : rules
  },

  async del({ config, attachment, netns, previous, engine, ipam, io }) {
    using host = openRoute()
    const attached = chained.namedInterface(config, previous)
    await everyStep({
      // while the interface is there: a DHCP lease is given back through it
      'release the addresses': () => ipam.remove(),
      // Rules before links: nf_tables and the link then wait for the same grace period.
      'delete the rules': () => sweepRules(engine, attachment),
      ...(attached === undefined
        ? {}
        : { [`take ${attached} off ${config.bridge}`]: () => chained.detach(host, config, attached) }),
      'delete the veth pair': () =>
        removePair(host, { attachment, io, netns: attached === undefined ? netns : undefined }),
    })
  },

  async status(request) {
    const { config, ipam } = request
    onHost(host => checkUsable(host, config))
    await requireBackend(request)
    await ipam.status()
  },

  async gc(request) {
    const { network, valid, ipam } = request
    const isOwner = isStale(network, valid)
    await everyStep({
      'delete stale rules': () => sweepStaleRules(request, sweep),
      'delete stale host ends': () => onHost(host => removeHostEnds(host, isOwner)),
      'release stale addresses': () => ipam.gc(),
    })
  },

  async move(request) {
    const { attachment } = request
    const config = { ...request.config, macspoofchk: false } // frames are nftables' affair whatever keeps the rest
    const result = requirePrevious(request.previous, 'bridge')
    const { moveMasquerade } = await import('../chain/filter/move-masquerade.ts')
    return moveMasquerade(request, rulesFor({ config, attachment, result, port: '', mac: '' }))
  },
})

/** The usual way: a veth pair of our own. */
async function attachNew(host: Transport, request: Request): Promise<Result> {
  const { config, attachment, netns } = request
  const chosen = guestMac(request)
  await clearAway(host, request)
  const { link, hostEnd } = await joinBridge(host, request, bridge =>
    plugIn(host, { request, bridge, mac: chosen }),
  )
  vlan.setPortVlans(host, hostEnd, config)
  const addressed = request.ipam.type ? await takeAddresses(request) : emptyResult()
  const described = describe(addressed, { link, hostEnd, attachment, netns })
  const result = becomeGateway(host, { request, link, hostEnd, result: described })
  const left = config.disableContainerInterface
  const containerEnd = left ? readContainerEnd(request) : bringUp(request, result)
  const mac = chosen ?? containerEnd.address
  await addRules(request, rulesFor({ config, attachment, result, port: hostEnd.name, mac }), sweep)
  const ends = { port: hostEnd.index, bridge: link.index }
  const bridge = left ? findLink(host, link.index) : port.awaitPort(host, ends)
  if (!left) announceInterface({ netns, name: attachment.ifname, result }, containerEnd)
  markFinished(host, hostEnd.index, ownerOf(attachment).comment)
  return finish(result, { config, bridge: bridge ?? link, containerEnd })
}

/** In a chain: the interface that another plugin made becomes the port. Addresses are those of prevResult. */
async function attachExisting(host: Transport, request: Request, existing: Link): Promise<Result> {
  const { config, args, attachment, undo } = request
  const previous = request.previous ?? emptyResult()
  const mac = chained.guestAddress(config, previous, configuredMac(config, args))
  const { link } = await joinBridge(host, request, bridge =>
    chained.attach(host, { config, bridge, link: existing, undo }),
  )
  vlan.setPortVlans(host, existing, config)
  const described = {
    ...previous,
    ips: isGateway(config) ? gateway.withGateways(previous.ips) : previous.ips,
    interfaces: [...previous.interfaces, { name: link.name, mac: link.address }],
  }
  const result = becomeGateway(host, { request, link, hostEnd: existing, result: described })
  await addRules(request, rulesFor({ config, attachment, result, port: existing.name, mac }), sweep)
  const dns = configuredDns(config.dns)
  return { ...result, ...(dns ? { dns } : {}) }
}

/** Finds or makes the bridge, and has a port put on it: the bridge is not taken away in between. */
async function joinBridge<Port>(
  host: Transport,
  request: Request,
  putOn: (bridge: Link) => Port,
): Promise<{ link: Link; hostEnd: Port }> {
  using _kept = await port.keepBridge(request.config.bridge)
  const link = ensureBridge(host, request)
  return { link, hostEnd: putOn(link) }
}

function ensureBridge(host: Transport, request: Request): Link {
  const { config } = request
  const filters = vlan.wantsFiltering(config)
  const { bridge: link, created } = port.ensureBridge(host, request, {
    name: config.bridge,
    mtu: config.mtu,
    promiscuous: config.promiscMode,
    vlanFiltering: filters,
  })
  if (filters) vlan.requireFiltering(link, { created })
  return link
}

function configuredMac(config: BridgeConfiguration, args: string): string | undefined {
  return chooseMac([
    macArgument(args),
    { key: 'args.cni.mac', value: config.args?.cni?.mac },
    { key: 'runtimeConfig.mac', value: config.runtimeConfig?.mac },
  ])
}

/** Where frames are guarded the host chooses the hardware address: what is read in the container may be the container's choice. */
function guestMac({ config, args }: Request): string | undefined {
  return configuredMac(config, args) ?? (config.macspoofchk ? randomMac() : undefined)
}

function plugIn(
  host: Transport,
  { request, bridge, mac }: { request: Request; bridge: Link; mac: string | undefined },
): Link {
  const { config, attachment, netns, undo } = request
  return port.createPort(host, undo, {
    attachment,
    netns,
    bridge,
    mtu: config.mtu,
    mac,
    hairpin: config.hairpinMode,
    isolated: config.portIsolation,
  })
}

/** What a killed ADD left goes, and with it its addresses and its rules: the next ones may be others'. */
async function clearAway(host: Transport, request: Request): Promise<void> {
  const { attachment, netns, ipam, engine, alone } = request
  openContainer(netns).close() // says what is wrong with the path before anything is made
  await alone(interfaceIn(netns, attachment.ifname))
  if (port.removeHalfDone(host, attachment) === 'absent') return
  await ipam.remove()
  await sweepRules(engine, attachment)
}

async function takeAddresses({ config, ipam, undo }: Request): Promise<Result> {
  const result = await ipam.add(undo)
  const complete = {
    ...result,
    ips: (isGateway(config) ? gateway.withGateways(result.ips) : result.ips).map(ip => ({
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
      { name: attachment.ifname, sandbox: netns },
    ],
  }
}

function bringUp({ config, netns, attachment }: Request, result: Result): Link {
  const setup = { netns, name: attachment.ifname, result, detectDuplicates: config.enabledad }
  return configureInterface(setup)
}

function checkPair(
  host: Transport,
  parts: { config: BridgeConfiguration; attachment: Attachment; netns: string; result: Result; link: Link },
): { port: Link; mac: string } {
  const { config, attachment, netns, result, link } = parts
  const containerEnd = checkInterface({
    netns,
    name: attachment.ifname,
    previous: result,
    kind: 'veth',
    leftDown: config.disableContainerInterface,
  })
  using container = openContainer(netns)
  const port = checkHostEnd({ host, container, netns }, { config, containerEnd, link, result })
  return { port, mac: containerEnd.address }
}

function readContainerEnd({ netns, attachment }: Request): Link {
  using container = openContainer(netns)
  const link = findLink(container, attachment.ifname)
  if (link) return link
  throw new CniError(code.internal, `${attachment.ifname} vanished from ${netns} after it was created`)
}

function finish(
  result: Result,
  { config, bridge: link, containerEnd }: { config: BridgeConfiguration; bridge: Link; containerEnd: Link },
): Result {
  const [, hostEnd, container, ...more] = result.interfaces
  const dns = configuredDns(config.dns)
  return {
    ...result,
    interfaces: [
      { name: link.name, mac: link.address },
      ...(hostEnd ? [hostEnd] : []),
      ...(container ? [{ ...container, mac: containerEnd.address }] : []),
      ...more,
    ],
    ...(dns ? { dns } : {}),
  }
}

if (import.meta.main) main(bridge)
