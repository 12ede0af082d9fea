/** portmap: publishes a container's ports on the host's addresses. */
import { errno } from '../chain/linux/libc.ts'
import { listAddresses } from '../chain/linux/netlink/address.ts'
import { type Connection, flushConnections } from '../chain/linux/netlink/conntrack.ts'
import { changeBridgePort, findLink } from '../chain/linux/netlink/link.ts'
import { openNetfilter, rulesetGeneration } from '../chain/linux/netlink/nftables.ts'
import { routeTo } from '../chain/linux/netlink/route.ts'
import { isRefusal, openRoute, request } from '../chain/linux/netlink/socket.ts'
import { NftError, translateMatches } from '../chain/linux/nft.ts'
import { type AddRequest, type Attachment, type CheckRequest, definePlugin } from '../chain/plugin/define.ts'
import { type Owned, type OwnedChain, type OwnedElement, publish } from '../chain/plugin/elements.ts'
import { requirePrevious } from '../chain/plugin/interface.ts'
import { legacyPorts } from '../chain/plugin/legacy.ts'
import { type FoundElement, listOwned } from '../chain/plugin/owned.ts'
import { isStale, ownerOf, wordsIn } from '../chain/plugin/owner.ts'
import { addOwned, localnetGuard, missingOwned, openLocalnet, removeOwned } from '../chain/plugin/ruleset.ts'
import { main } from '../chain/plugin/run.ts'
import { everyStep, type Undo } from '../chain/plugin/undo.ts'
import { formatAddress, formatCidr, networkOf, parseCidr } from '../chain/protocol/address.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import type { Result } from '../chain/protocol/result.ts'
import {
  configuration,
  type PortMapping,
  type PortmapConfiguration,
  portMappings,
} from './portmap/configuration.ts'
import { forget, isAlive, recall, recorded, remember } from './portmap/holders.ts'

const roles = ['ports'] as const

export const portmap = definePlugin({
  name: 'portmap',
  config: configuration,

  async add(call) {
    const { config, attachment, netns, previous, engine, undo } = call
    if (!previous)
      throw new CniError(code.invalidConfiguration, 'prevResult: must be called as chained plugin')
    const mappings = portMappings(config)
    if (mappings.length === 0) return previous
    const targets = targetsOf(previous, call)
    const owned = await ownedBy(call, targets)
    undo('forget the holder', () => forget(owned.owner.id))
    remember({ ...attachment, netns, addresses: targets.map(({ address }) => address) })
    undo('delete the rules', () => sweep(engine, owned.owner.id))
    const localnet = config.snat ? linkTowards(targets) : undefined
    const shared = localnet === undefined ? [] : localnetGuard(localnet)
    await addOwned(engine, { ...owned, shared }, (held, wanted) => settle(held, wanted, attachment))
    if (localnet !== undefined) openLocalnet(localnet)
    if (config.snat) letThroughSamePort(previous, undo)
    forgetConnectionsToHost(mappings)
    return previous
  },

  async check(request) {
    const result = requirePrevious(request.previous, 'portmap')
    if (portMappings(request.config).length === 0) return
    const owned = await ownedBy(request, targetsOf(result, request))
    const [missing] = missingOwned(
      owned,
      owner => recall(owner)?.containerId === request.attachment.containerId,
    )
    if (missing)
      throw new CniError(code.internal, missing, { details: 'was the ruleset flushed or reloaded?' })
  },

  async del({ attachment, engine }) {
    const { id } = ownerOf(attachment)
    const published = publishedBy(id)
    await everyStep({
      'delete the rules': () => sweep(engine, id, attachment),
      'forget connections': () => forgetConnectionsThrough(published),
      'forget the holder': () => forget(id),
    })
  },

  status() {
    try {
      using netfilter = openNetfilter()
      rulesetGeneration(netfilter)
    } catch (thrown) {
      throw new CniError(code.pluginNotAvailable, 'the kernel has no nf_tables', {
        details: `${String(thrown)}; load the module nf_tables`,
        cause: thrown,
      })
    }
  },

  async gc({ network, valid, engine }) {
    const stale = isStale(network, valid)
    await everyStep({
      'delete stale rules': () => removeOwned(engine, { roles, isOwner: stale }),
      'forget stale holders': () => recorded().filter(stale).map(forget),
    })
  },
})

function sweep(
  engine: AddRequest<unknown>['engine'],
  id: string,
  attachment?: Attachment,
): Promise<'removed' | 'absent'> {
  const extra = attachment && legacyPorts(attachment)
  return removeOwned(engine, { roles, isOwner: owner => owner === id, ...(extra ? { extra } : {}) })
}

/** Where connections are sent: the container's first address of each family, on this attachment's interface. */
interface Target {
  address: string
  /** Its network with prefix length. */
  network: string
  family: 4 | 6
}

function targetsOf({ ips, interfaces }: Result, { attachment }: { attachment: Attachment }): Target[] {
  const own = ips.filter(({ interface: index }) => {
    const on = index === undefined ? undefined : interfaces[index]
    return on === undefined || (on.name === attachment.interface && Boolean(on.sandbox))
  })
  const targets = own.flatMap(({ address }) => {
    const cidr = parseCidr(address)
    if (!cidr) return []
    const { family } = cidr.address
    return [{ family, address: formatAddress(cidr.address), network: formatCidr(networkOf(cidr)) }]
  })
  return ([4, 6] as const).flatMap(family => targets.find(target => target.family === family) ?? [])
}

/** What this attachment has in our tables: what ADD puts there and CHECK looks for. */
async function ownedBy(
  { config, attachment }: AddRequest<PortmapConfiguration> | CheckRequest<PortmapConfiguration>,
  targets: readonly Target[],
): Promise<Owned> {
  const owner = ownerOf(attachment)
  const chains = await Promise.all(targets.map(target => conditionsChain(config, target, owner.id)))
  const elements = targets.flatMap((target, index) =>
    portMappings(config)
      .filter(({ families }) => families.includes(target.family))
      .flatMap(mapping => published(mapping, { config, target, conditions: chains[index]?.name })),
  )
  const unique = new Map(elements.map(element => [JSON.stringify(element), element]))
  return { owner, elements: [...unique.values()], chains: chains.filter(chain => chain !== undefined) }
}

function published(
  { protocol, hostPort, containerPort, hostAddress }: PortMapping,
  options: { config: PortmapConfiguration; target: Target; conditions: string | undefined },
): OwnedElement[] {
  const { config, target, conditions } = options
  return publish({
    protocol,
    hostPort,
    containerPort,
    address: target.address,
    hairpin: config.snat ? masqueradedSources(config, target) : [],
    ...(hostAddress === undefined ? {} : { hostAddress }),
    ...(conditions === undefined ? {} : { conditions }),
  })
}

/**
 * Sources that would be answered directly, past the translation: the container itself and its siblings, and the host's
 * loopback. With masqAll, everyone. No packet mark is needed for it (markMasqBit, externalSetMarkChain): what was translated
 * is known to connection tracking.
 */
function masqueradedSources({ masqAll }: PortmapConfiguration, { family, network }: Target): string[] {
  if (masqAll) return [family === 4 ? '0.0.0.0/0' : '::/0']
  return family === 4 ? [network, '127.0.0.0/8'] : [network]
}

/** The chain that lets connections through to translation only under the network's conditions. */
async function conditionsChain(
  { conditionsV4, conditionsV6 }: PortmapConfiguration,
  { family }: Target,
  owner: string,
): Promise<OwnedChain | undefined> {
  const [key, conditions] = family === 4 ? ['conditionsV4', conditionsV4] : ['conditionsV6', conditionsV6]
  if (!conditions?.length) return undefined
  const table = family === 4 ? 'ip' : 'ip6'
  try {
    const matches = await translateMatches(table, conditions.join(' '))
    return {
      family: table,
      name: `conditions-${owner}`,
      rules: [[...matches, { goto: { target: 'translate' } }]],
    }
  } catch (thrown) {
    if (!(thrown instanceof NftError)) throw thrown
    throw new CniError(code.invalidConfiguration, `${key}: nft does not take ${JSON.stringify(conditions)}`, {
      details: thrown.words.trim(),
      cause: thrown,
    })
  }
}

/**
 * A host port that another holds: refused while its container lives, taken over when it is dead. Another interface of the
 * same container keeps it: runtimes hand one list of ports to each of a container's networks.
 */
function settle(held: FoundElement, wanted: OwnedElement, attachment: Attachment): 'take' | 'leave' {
  if (!/^(port|hostip)_/.test(wanted.collection)) return 'take'
  const holder = held.owner === undefined ? undefined : recall(held.owner)
  if (!holder || !isAlive(holder)) return 'take'
  if (holder.containerId === attachment.containerId) return 'leave'
  const [protocol, port] = wanted.key.slice(-2)
  const words =
    wordsIn(held.comment) || `net: ${holder.network}, if: ${holder.interface}, id: ${holder.containerId}`
  throw new CniError(
    code.internal,
    `host port ${port}/${protocol} is taken by another container (${words})`,
    {
      details: `container ${holder.containerId} on network ${holder.network} is alive in ${holder.netns}; remove it, or choose another hostPort`,
    },
  )
}

/** The link towards the container: the host's 127.0.0.1 reaches it only if that link lets loopback addresses through. */
function linkTowards(targets: readonly Target[]): string | undefined {
  const target = targets.find(({ family }) => family === 4)
  if (!target) return undefined
  using host = openRoute()
  try {
    const { link } = routeTo(host, target.address)
    return link === undefined ? undefined : findLink(host, link)?.name
  } catch (thrown) {
    if (isRefusal(thrown, errno.ENETUNREACH, errno.EHOSTUNREACH)) return undefined
    throw thrown
  }
}

/**
 * With br_netfilter, a container's connection to its own published port is translated inside the bridge and has to leave
 * through the port that it came in by: a bridge lets only hairpin ports do that.
 */
function letThroughSamePort({ interfaces }: Result, undo: Undo): void {
  using host = openRoute()
  for (const { name, sandbox } of interfaces) {
    const link = sandbox ? undefined : findLink(host, name)
    if (!link?.port || link.port.hairpin) continue
    request(host, changeBridgePort(link.index, { hairpin: true }))
    undo(`take hairpin mode from ${name}`, () => removeHairpin(link.index))
  }
}

function removeHairpin(port: number): void {
  using host = openRoute()
  if (findLink(host, port)) request(host, changeBridgePort(port, { hairpin: false }))
}

const UDP = 17

/** Without connections of its own, UDP keeps going where it went before the rules were there. */
function forgetConnectionsToHost(mappings: readonly PortMapping[]): void {
  const ports = new Map(
    mappings.filter(({ protocol }) => protocol === 'udp').map(mapping => [mapping.hostPort, mapping]),
  )
  if (ports.size === 0) return
  using host = openRoute()
  const local = new Set(listAddresses(host).map(({ address }) => address))
  flushConnections(({ original }) => {
    const mapping = original.protocol === UDP ? ports.get(original.destinationPort) : undefined
    return mapping !== undefined && local.has(mapping.hostAddress ?? original.destination)
  })
}

interface Published {
  protocol: string
  hostPort: number
  address: string
  containerPort: number
}

/** What an owner has published, read from the kernel. */
function publishedBy(owner: string): Published[] {
  using netfilter = openNetfilter()
  const own = listOwned(netfilter, ['ip', 'ip6']).filter(element => element.owner === owner)
  const ports = new Map(
    own
      .filter(({ collection }) => /^(port|hostip)_port$/.test(collection))
      .map(({ key, value }) => [JSON.stringify(key), value]),
  )
  return own
    .filter(({ collection }) => /^(port|hostip)_address$/.test(collection))
    .map(({ key, value }) => ({
      protocol: String(key.at(-2)),
      hostPort: Number(key.at(-1)),
      address: String(value),
      containerPort: Number(ports.get(JSON.stringify(key))),
    }))
}

/** After the rules have gone, UDP that went through them would still reach whoever has the address next. */
function forgetConnectionsThrough(published: readonly Published[]): void {
  const udp = published.filter(({ protocol }) => protocol === 'udp')
  if (udp.length === 0) return
  const isThrough =
    ({ original, reply }: Connection) =>
    (one: Published) =>
      original.destinationPort === one.hostPort &&
      reply.source === one.address &&
      reply.sourcePort === one.containerPort
  flushConnections(connection => connection.original.protocol === UDP && udp.some(isThrough(connection)))
}

if (import.meta.main) main(portmap)
