/** Published ports as elements of our nftables tables. */

import { addOwned } from '../../chain/filter/nftables/apply.ts'
import type { Element, Owned, OwnedChain } from '../../chain/filter/nftables/elements.ts'
import { conditionsChain } from '../../chain/filter/nftables/layout.ts'
import { missingOwned } from '../../chain/filter/nftables/missing.ts'
import type { FoundElement } from '../../chain/filter/nftables/read.ts'
import { rulesetGeneration } from '../../chain/linux/nftables/list.ts'
import { openNetfilter } from '../../chain/linux/nftables/netfilter.ts'
import { NftError, translateMatches } from '../../chain/linux/nftables/nft.ts'
import type { Attachment } from '../../chain/plugin/define.ts'
import { hostEndName, ownerOf, readableOwner } from '../../chain/plugin/owner.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import { type PortMapping, portMappings } from './configuration.ts'
import { elementsOf, hairpinSources, hostPortOf } from './elements.ts'
import { linkToContainer, localnetGuard, openLocalnet } from './localnet.ts'
import { type Call, type PortBackend, portsPublishedBy, type Target } from './publication.ts'
import { recall, resolveConflict, waitForPort } from './publishers.ts'
import { registerPublisher, resolveReservations } from './reservations.ts'
import type { PortmapConfiguration } from './schema.ts'
import { sweepPorts } from './sweep.ts'

export const publish: PortBackend['publish'] = async (call, targets) => {
  const { attachment, engine } = call
  const owned = await ownedBy(call, targets)
  const place = async () => {
    const localnet = linkToContainer(call, targets)
    const guard = localnet === undefined ? [] : localnetGuard(localnet)
    await resolveReservations(call, portsPublishedBy(call, targets))
    const all = guarded(owned, guard, attachment)
    let isStandby = false
    await addOwned(engine, all, (held, element) => {
      const decision = resolve(held, element, call)
      isStandby ||= decision === 'leave'
      return decision
    })
    if (isStandby) waitForPort(call, { owned: all })
    if (localnet !== undefined) openLocalnet(localnet)
  }
  return {
    remove: () => sweepPorts(engine, attachment),
    async add(undo) {
      await registerPublisher(call, { targets, published: [], undo })
      await place()
    },
    place,
    async check() {
      const [missing] = missingOwned(owned, owner => recall(owner)?.containerId === attachment.containerId)
      return missing
    },
  }
}

/** The guard of a bridge is everybody's; that of a pair of the container's own goes with the container. */
function guarded(owned: Owned, guard: Element[], attachment: Attachment): Owned {
  const isOwn = guard.some(({ key }) => key[0] === hostEndName(attachment))
  return isOwn ? { ...owned, elements: [...owned.elements, ...guard] } : { ...owned, shared: guard }
}

export function requireReady(): void {
  try {
    using netfilter = openNetfilter()
    rulesetGeneration(netfilter)
  } catch (thrown) {
    throw new CniError(code.pluginNotAvailable, 'the kernel has no nf_tables', {
      details: `${String(thrown)}; load the module nf_tables`,
      cause: thrown,
    })
  }
}

/** What this attachment has in our tables: what ADD puts there and CHECK looks for. */
async function ownedBy({ config, attachment }: Call, targets: readonly Target[]): Promise<Owned> {
  const owner = ownerOf(attachment)
  const chains = await Promise.all(targets.map(target => ownConditions(config, target, owner.id)))
  const elements = targets.flatMap((target, index) => {
    const mappings = portMappings(config).filter(({ families }) => families.includes(target.family))
    return [
      ...mappings.flatMap(mapping => published(mapping, { config, target, conditions: chains[index]?.name })),
      ...(config.snat && mappings.length > 0
        ? hairpinSources(target.address, masqueradedSources(config, target))
        : []),
    ]
  })
  const unique = new Map(elements.map(element => [JSON.stringify(element), element]))
  return { owner, elements: [...unique.values()], chains: chains.filter(chain => chain !== undefined) }
}

function published(
  { protocol, hostPort, containerPort, hostAddress }: PortMapping,
  options: { config: PortmapConfiguration; target: Target; conditions: string | undefined },
): Element[] {
  const { config, target, conditions } = options
  return elementsOf({
    protocol,
    hostPort,
    containerPort,
    address: target.address,
    hairpin: config.snat,
    ...(hostAddress === undefined ? {} : { hostAddress }),
    ...(conditions === undefined ? {} : { conditions }),
  })
}

/**
 * Sources that would be answered directly, past the translation: the container itself and its siblings, and the host's
 * loopback. With masqAll, everyone. No packet mark is needed for it (markMasqBit): what was translated is known to connection
 * tracking.
 */
function masqueradedSources({ masqAll }: PortmapConfiguration, { family, network }: Target): string[] {
  if (masqAll) return [family === 4 ? '0.0.0.0/0' : '::/0']
  return family === 4 ? [network, '127.0.0.0/8'] : [network]
}

/** The chain that lets connections through to translation only under the network's conditions. */
async function ownConditions(
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
      name: conditionsChain(owner),
      rules: [[...matches, { goto: { target: 'translate' } }]],
    }
  } catch (thrown) {
    if (!(thrown instanceof NftError)) throw thrown
    throw new CniError(code.invalidConfiguration, `${key}: nft does not take ${JSON.stringify(conditions)}`, {
      details: thrown.said.trim(),
      cause: thrown,
    })
  }
}

function resolve(held: FoundElement, element: Element, { attachment }: Call): 'take' | 'leave' {
  const port = hostPortOf(element)
  if (!port) return 'take'
  const publisher = held.owner === undefined ? undefined : recall(held.owner)
  return resolveConflict(publisher, {
    attachment,
    port: `${port.hostPort}/${port.protocol}`,
    owner: readableOwner(held.comment),
  })
}
