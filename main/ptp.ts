/** ptp: a veth pair between container and host; the host's end is the container's gateway. */
import {
  addRules,
  type MasqueradeSpec,
  requireBackend,
  rulesAtAdd,
  sweepRules,
  sweepStaleRules,
} from '../chain/filter/masquerade.ts'
import { checkInterface, configureInterface, onHost, openContainer } from '../chain/interface/configure.ts'
import { createOnce, markFinished } from '../chain/interface/create.ts'
import { expectedMtu } from '../chain/interface/finish.ts'
import { enableForwarding, prepareHostLink, withForwarding } from '../chain/interface/forwarding.ts'
import { checkLinkMtu, requireReady } from '../chain/interface/master.ts'
import { type Ends, findPeer } from '../chain/interface/owner.ts'
import { createPair, removeHostEnds, removePair, removePendingPair } from '../chain/interface/pair.ts'
import { awaitLink } from '../chain/interface/ready.ts'
import type { Link } from '../chain/linux/netlink/link.ts'
import { openRoute, type Transport } from '../chain/linux/netlink/socket.ts'
import { configuredDns } from '../chain/plugin/configured.ts'
import { type AddRequest, type Attachment, definePlugin, requirePrevious } from '../chain/plugin/define.ts'
import { hostEndName, isStale, ownerOf } from '../chain/plugin/owner.ts'
import { main } from '../chain/plugin/run.ts'
import { everyStep } from '../chain/plugin/undo.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import type { Result } from '../chain/protocol/result.ts'
import { configuration } from './ptp/checks.ts'
import { missingOnHost, routeToContainer } from './ptp/host-end.ts'
import {
  leaveByGateways,
  missingRoutes,
  networkText,
  type RoutedAddress,
  routedAddressesOf,
} from './ptp/routes.ts'
import type { Configuration } from './ptp/schema.ts'

/** Position of the container's end in the result, as the Go plugin has it. */
const CONTAINER = 1

const sweep = { roles: ['masquerade'] } as const

export const ptp = definePlugin({
  name: 'ptp',
  ipam: 'required',
  config: configuration,

  async add(request) {
    const { config, attachment, netns, undo, keep } = request
    const host = keep(openRoute())
    const hostEnd = await plugIn(host, request)
    const addresses = await request.ipam.add(undo)
    const routed = routedAddressesOf(addresses)
    enableForwarding(routed.map(({ address }) => address))
    const { result, containerEnd } = bringUp(addresses, { hostEnd, attachment, netns, routed })
    routeToContainer(host, hostEnd, routed)
    await addRules(request, rulesFor({ config, attachment, routed }), sweep)
    awaitLink(host, hostEnd.index)
    markFinished(host, hostEnd.index, ownerOf(attachment).comment)
    return {
      ...result,
      dns: configuredDns(config.dns) ?? addresses.dns,
      interfaces: describe({ hostEnd, containerEnd, netns }),
    }
  },

  async check({ config, attachment, netns, previous, ipam, engine }) {
    await ipam.check()
    const result = requirePrevious(previous, 'ptp')
    const name = attachment.ifname
    const containerEnd = checkInterface({ netns, name, previous, kind: 'veth' })
    checkLinkMtu(containerEnd, expectedMtu(result, { netns, name, configured: config.mtu }))
    using host = openRoute()
    using container = openContainer(netns)
    const hostEnd = findHostEnd({ host, container, netns }, { containerEnd, result })
    const routed = routedIn(result)
    const [missing] = [
      ...missingRoutes(container, { routed, link: containerEnd.index }).map(
        route => `Expected Route ${route} not found in routing table`,
      ),
      ...missingOnHost(host, hostEnd, routed),
    ]
    const absent =
      missing ?? (await rulesAtAdd({ engine }, rulesFor({ config, attachment, routed }), sweep).check())
    if (absent) throw new CniError(code.internal, absent, { details: 'no longer as ADD left it' })
  },

  rules({ config, attachment, previous, engine }) {
    const routed = routedIn(requirePrevious(previous, 'ptp'))
    return withForwarding(
      rulesAtAdd({ engine }, rulesFor({ config, attachment, routed }), sweep),
      routed.map(({ address }) => address),
    )
  },

  async del({ attachment, netns, engine, ipam, io }) {
    using host = openRoute()
    await everyStep({
      // while the interface is there: a DHCP lease is given back through it
      'release the addresses': () => ipam.remove(),
      // Rules before links: nf_tables and the link then wait for the same grace period.
      'delete the rules': () => sweepRules(engine, attachment, sweep),
      'delete the veth pair': () => removePair(host, { attachment, netns, io }),
    })
  },

  async status(request) {
    const { ipam } = request
    requireReady('veth')
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
    const { config, attachment } = request
    const result = requirePrevious(request.previous, 'ptp')
    const { moveMasquerade } = await import('../chain/filter/move-masquerade.ts')
    return moveMasquerade(request, rulesFor({ config, attachment, routed: routedIn(result) }))
  },
})

async function plugIn(host: Transport, request: AddRequest<Configuration>): Promise<Link> {
  const { config, attachment, netns, engine } = request
  let hostEnd: Link | undefined
  await createOnce(request, {
    create: () => {
      hostEnd = createPair(host, { attachment, netns, mtu: config.mtu })
      prepareHostLink(hostEnd.name)
    },
    clear: () => removePendingPair(host, attachment),
    sweep: () => sweepRules(engine, attachment, sweep),
    other: `${hostEndName(attachment)} on the host`,
  })
  if (!hostEnd) throw new CniError(code.internal, `no veth pair was created for ${attachment.ifname}`)
  return hostEnd
}

function describe(ends: { hostEnd: Link; containerEnd: Link; netns: string }): Result['interfaces'] {
  const { hostEnd, containerEnd, netns } = ends
  return [
    { name: hostEnd.name, mac: hostEnd.address },
    { name: containerEnd.name, mac: containerEnd.address, sandbox: netns },
  ]
}

function bringUp(
  addresses: Result,
  parts: { hostEnd: Link; attachment: Attachment; netns: string; routed: readonly RoutedAddress[] },
): { result: Result; containerEnd: Link } {
  const { hostEnd, attachment, netns, routed } = parts
  const name = attachment.ifname
  const result = {
    ...addresses,
    interfaces: [{ name: hostEnd.name }, { name, sandbox: netns }],
    ips: addresses.ips.map(ip => ({ ...ip, interface: CONTAINER })),
  }
  const containerEnd = configureInterface({ netns, name, result })
  using container = openContainer(netns)
  leaveByGateways(container, { routed, link: containerEnd.index })
  return { result, containerEnd }
}

/** The container's addresses, in the result of the whole chain. */
const routedIn = (result: Result) =>
  routedAddressesOf({ ...result, ips: result.ips.filter(ip => ip.interface === CONTAINER) })

/** What this attachment has in packet filters: what ADD puts there and CHECK looks for. */
function rulesFor(parts: {
  config: Configuration
  attachment: Attachment
  routed: readonly RoutedAddress[]
}): MasqueradeSpec {
  const { config, attachment, routed } = parts
  const sources = routed.map(each => ({ address: each.address, network: networkText(each) }))
  return { attachment, sources: config.ipMasq ? sources : [], backend: config.ipMasqBackend }
}

/** CHECK: the host's end of the pair, which is the one of prevResult. */
function findHostEnd(places: Ends, { containerEnd, result }: { containerEnd: Link; result: Result }): Link {
  const hostEnd = findPeer(places, containerEnd)
  const expected = hostEnd && result.interfaces.find(({ name, sandbox }) => name === hostEnd.name && !sandbox)
  if (!hostEnd || !expected) {
    throw new CniError(code.internal, `the host end of ${containerEnd.name} is not the one in prevResult`, {
      details: `the host has ${hostEnd?.name ?? 'none'}; prevResult lists ${JSON.stringify(result.interfaces)}`,
    })
  }
  if (expected.mac && expected.mac.toLowerCase() !== hostEnd.address) {
    throw new CniError(
      code.internal,
      `${hostEnd.name} has hardware address ${hostEnd.address}, not ${expected.mac}`,
    )
  }
  if (!hostEnd.up) throw new CniError(code.internal, `host end ${hostEnd.name} is down`)
  return hostEnd
}

if (import.meta.main) main(ptp)
