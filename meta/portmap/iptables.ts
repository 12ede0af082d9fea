/** Published ports as chains of iptables: names, comments and order are those of the Go plugin. */

import { LOOPBACK_GUARD } from '../../chain/filter/backend.ts'
import {
  addChain,
  type ChainSpec,
  chainName,
  missingFromChain,
  ownershipComment,
  type Part,
  PORTS_PREFIX,
  requireIptables,
  type SharedRules,
} from '../../chain/filter/iptables/chains.ts'
import { tableFamilyOf } from '../../chain/ip/family.ts'
import { IptablesError } from '../../chain/linux/iptables/apply.ts'
import type { Args } from '../../chain/linux/iptables/plan.ts'
import type { Family } from '../../chain/linux/iptables/tools.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import { type PortMapping, portMappings } from './configuration.ts'
import { keepLocalnetOpen, linkToContainer, openLocalnet } from './localnet.ts'
import { type Call, type PortBackend, portsPublishedBy, type Target } from './publication.ts'
import { registerPublisher, reserve } from './reservations.ts'
import type { PortmapConfiguration } from './schema.ts'
import { sweepPorts } from './sweep.ts'

const DNAT = 'CNI-HOSTPORT-DNAT'
const SETMARK = 'CNI-HOSTPORT-SETMARK'
const MASQ = 'CNI-HOSTPORT-MASQ'

export const publish: PortBackend['publish'] = async (call, targets, variant) => {
  const spec = { ...chainFor(call, targets), variant }
  const published = portsPublishedBy(call, targets)
  const place = async () => {
    await reserve(call, published)
    await addChain(spec).catch(thrown => {
      throw explainConditions(thrown, call.config)
    })
    const localnet = linkToContainer(call, targets)
    if (localnet === undefined) return
    keepLocalnetOpen(localnet)
    openLocalnet(localnet)
  }
  return {
    remove: () => sweepPorts(call.engine, call.attachment),
    async add(undo) {
      await registerPublisher(call, { targets, published, undo })
      await place()
    },
    place,
    check: () => missingFromChain(spec),
  }
}

export const requireReady = requireIptables

/** Pure: the chain of a container, with everything that leads there. */
export function chainFor(
  { config, attachment }: Pick<Call, 'config' | 'attachment'>,
  targets: readonly Target[],
): ChainSpec {
  const parts = targets.map(
    target => [tableFamilyOf(target.address), partFor(config, attachment, target)] as const,
  )
  return {
    attachment,
    prefix: PORTS_PREFIX,
    shared: family => sharedRules(config, family),
    parts: Object.fromEntries(parts),
  }
}

const comment = (text: string): Args => ['-m', 'comment', '--comment', text]

/** Made by the first container, and left to all others. */
function sharedRules(config: PortmapConfiguration, family: Family): SharedRules {
  const { snat, markMasqBit = 13, externalSetMarkChain } = config
  const local = ['-m', 'addrtype', '--dst-type', 'LOCAL', '-j', DNAT]
  const guarded = snat && family === 'ip'
  const entry: SharedRules = {
    ...(guarded ? { first: [{ family, table: 'filter', ensure: guard }] } : {}),
    chains: [DNAT],
    ensure: [
      { chain: 'PREROUTING', args: local },
      { chain: 'OUTPUT', args: local },
    ],
  }
  if (!snat || externalSetMarkChain) return entry
  const mark = `0x${((1 << markMasqBit) >>> 0).toString(16)}`
  const bit = `${mark}/${mark}`
  return {
    ...entry,
    chains: [SETMARK, MASQ, ...entry.chains],
    ensure: [
      {
        chain: SETMARK,
        args: [...comment('CNI portfwd masquerade mark'), '-j', 'MARK', '--set-xmark', bit],
      },
      { chain: MASQ, args: ['-m', 'mark', '--mark', bit, '-j', 'MASQUERADE'] },
      {
        chain: 'POSTROUTING',
        args: [...comment('CNI portfwd requiring masquerade'), '-j', MASQ],
        at: 'start',
      },
      ...entry.ensure,
    ],
  }
}

const PORTS_IN_RULE = 15 // what -m multiport takes

function partFor(config: PortmapConfiguration, attachment: Call['attachment'], target: Target): Part {
  const mappings = portMappings(config)
  const conditions = (target.family === 4 ? config.conditionsV4 : config.conditionsV6) ?? []
  const chain = chainName(PORTS_PREFIX, attachment)
  const protocols = [...new Set(mappings.map(({ protocol }) => protocol))].sort()
  const chunks = protocols.flatMap(protocol => {
    // As in the Go plugin, ports that are for an address of the other family stand here as well: the chain ignores them.
    const ports = mappings.filter(mapping => mapping.protocol === protocol).map(({ hostPort }) => hostPort)
    return Array.from({ length: Math.ceil(ports.length / PORTS_IN_RULE) }, (_, at) => ({
      protocol,
      ports: ports.slice(at * PORTS_IN_RULE, (at + 1) * PORTS_IN_RULE).join(','),
    }))
  })
  const args = comment(cut(ownershipComment('dnat ', attachment)))
  return {
    rules: mappings
      .filter(({ families }) => families.includes(target.family))
      .flatMap(mapping => rulesFor(config, mapping, target)),
    enter: chunks.map(({ protocol, ports }) => ({
      chain: DNAT,
      args: [
        ...args,
        ...['-m', 'multiport', '-p', protocol, '--destination-ports', ports],
        ...conditions,
        ...['-j', chain],
      ],
    })),
  }
}

/** iptables takes comments of 255 bytes; longer ones end as the Go plugin ends them. */
function cut(text: string): string {
  return text.length > 255 ? `${text.slice(0, 253)}...` : text
}

function rulesFor(
  { snat, masqAll, externalSetMarkChain }: PortmapConfiguration,
  { protocol, hostPort, containerPort, hostAddress }: PortMapping,
  { family, address, network }: Target,
): Args[] {
  const match = [
    ...['-p', protocol, '--dport', String(hostPort)],
    ...(hostAddress === undefined ? [] : ['-d', hostAddress]),
  ]
  const everyone = family === 4 ? '0.0.0.0/0' : '::/0'
  const sources = masqAll ? [everyone] : family === 4 ? [network, '127.0.0.1'] : [network]
  const destination = `${family === 4 ? address : `[${address}]`}:${containerPort}`
  return [
    ...(snat ? sources : []).map(source => [...match, '-s', source, '-j', externalSetMarkChain || SETMARK]),
    [...match, '-j', 'DNAT', '--to-destination', destination],
  ]
}

/**
 * What arrives from outside for 127.0.0.0/8, or from there, is dropped but for what was translated: route_localnet lets it in.
 * The Go plugin has no such rule; kubelet has one that is alike. It stays, as the other shared rules do.
 */
const localhost = ['127.0.0.0/8', ...comment(LOOPBACK_GUARD)]
const translated = ['-m', 'conntrack', '!', '--ctstate', 'RELATED,ESTABLISHED,DNAT']
const guard = ['-d', '-s'].map(side => ({
  chain: 'INPUT',
  args: ['!', '-i', 'lo', side, ...localhost, ...translated, '-j', 'DROP'],
  at: 'start' as const,
}))

/** Conditions go to iptables as they are written: what it says of their rule is about them. */
function explainConditions(thrown: unknown, { conditionsV4, conditionsV6 }: PortmapConfiguration): unknown {
  if (!(thrown instanceof CniError) || !(thrown.cause instanceof IptablesError)) return thrown
  const { family, line, said } = thrown.cause
  const [key, conditions] = family === 'ip' ? ['conditionsV4', conditionsV4] : ['conditionsV6', conditionsV6]
  if (line?.adds?.chain !== DNAT || !conditions?.length) return thrown
  return new CniError(
    code.invalidConfiguration,
    `${key}: iptables does not take ${JSON.stringify(conditions)}`,
    {
      details: said.trim(),
      cause: thrown,
    },
  )
}
