/** A firewall of the host that drops what containers send: its own rules are carried out on packets as containers send them. */
import { isIpv6 } from '../../ip/family.ts'
import { readSysctl } from '../../linux/sysctl.ts'
import { bare } from '../../observe/attachments.ts'
import type { Attachment, NodeModel } from '../../observe/model.ts'
import { answerTo, type Packet } from '../../observe/packet/packet.ts'
import { type Decision, passHook, type Ruleset, readRuleset } from '../../observe/packet/ruleset.ts'
import { lookupsOf } from '../../observe/packet/steps.ts'
import type { Finding } from '../finding.ts'
import { cachedOf, trouble } from './interfaces.ts'

/** Somewhere in the world: addresses that are for documentation (RFC 5737, RFC 3849). */
const WORLD = { ip: '198.51.100.7', ip6: '2001:db8::7' } as const

export function filtered(node: NodeModel): Finding[] {
  const samples = new Map<string, Attachment>()
  for (const attachment of cachedOf(node)) {
    if (attachment.host?.kind !== 'veth' || attachment.gateways.length === 0) continue
    for (const address of attachment.addresses)
      samples.set(`${attachment.network} ${isIpv6(address)}`, { ...attachment, addresses: [address] })
  }
  if (samples.size === 0) return []
  const ruleset = readRuleset()
  return [...samples.values()].flatMap(sample => [
    ...toWorld(sample, { node, ruleset }),
    ...toNeighbours(sample, { node, ruleset }),
  ])
}

interface Context {
  node: NodeModel
  ruleset: Ruleset
}

function packetOf(
  { addresses }: Attachment,
  to: { destination: string; input: string; output: string },
): Packet {
  return {
    protocol: 'tcp',
    source: bare(addresses[0] ?? ''),
    sourcePort: 40_000,
    destinationPort: 443,
    ...to,
    isAnswer: false,
    isTranslated: false,
    isSourceTranslated: false,
    mark: 0,
  }
}

/** The decision that drops a packet, or the answer to it; undefined where both go on, or one cannot tell. */
function dropped(packet: Packet, { node, ruleset }: Context): Decision | undefined {
  for (const each of [packet, answerTo(packet)]) {
    const passage = passHook(ruleset, { hook: 'forward' }, { packet: each, around: lookupsOf(node.host) })
    if (passage.outcome === 'dropped') return passage.decisions.at(-1)
  }
  return undefined
}

const linkOf = ({ host }: Attachment, { host: stack }: NodeModel) =>
  stack.links.find(({ index }) => index === (host?.master ?? host?.index))?.name ?? ''

function toWorld(sample: Attachment, context: Context): Finding[] {
  const { node } = context
  const family = isIpv6(sample.addresses[0] ?? '') ? 'ip6' : 'ip'
  const way = node.host.routes.find(
    ({ prefixLength, destination }) => prefixLength === 0 && isIpv6(destination) === (family === 'ip6'),
  )
  const output = node.host.links.find(({ index }) => index === way?.link)?.name ?? 'uplink'
  const input = linkOf(sample, node)
  const decision = dropped(packetOf(sample, { destination: WORLD[family], input, output }), context)
  if (!decision || isMeant(decision)) return []
  return [
    trouble({
      kind: 'forward-drop',
      says: `a firewall drops what containers of network ${sample.network} send through the host`,
      why: 'they reach the host and their bridge, and no other network; published ports are dead',
      evidence: [
        `a packet from ${sample.name} to ${WORLD[family]} by ${input} is dropped in forward`,
        describeDecision(decision),
      ],
      commands: accepting(decision, input),
    }),
  ]
}

/** Bridged packets are held against the rules for routed ones where br_netfilter says so. */
function toNeighbours(sample: Attachment, context: Context): Finding[] {
  const { node } = context
  const [address = ''] = sample.addresses
  const key = `net/bridge/bridge-nf-call-${isIpv6(address) ? 'ip6' : 'ip'}tables`
  if (sample.host?.master === undefined || readSysctl(key) !== '1') return []
  const bridge = linkOf(sample, node)
  const neighbour = sample.gateways.map(bare).find(gateway => isIpv6(gateway) === isIpv6(address))
  if (!neighbour) return []
  const packet = packetOf(sample, { destination: neighbour, input: bridge, output: bridge })
  const decision = dropped(packet, context)
  if (!decision || isMeant(decision)) return []
  return [
    trouble({
      kind: 'bridge-filtered',
      says: `a firewall drops what containers of network ${sample.network} send one another over ${bridge}`,
      why: 'br_netfilter has it look at bridged packets as if they were routed: neighbours do not reach each other',
      evidence: [`${key.replaceAll('/', '.')} is 1`, describeDecision(decision)],
      commands: accepting(decision, bridge),
    }),
  ]
}

/** A policy of a plugin firewall, ours or the Go plugin's, is what the network's configuration asks for. */
const isMeant = ({ table, chain }: Decision) => table === 'catena' || chain.startsWith('CNI-')

const describeDecision = ({ family, table, chain, handle, text }: Decision) =>
  `${family} ${table} ${chain}${handle === undefined ? '' : ` rule ${handle}`}: ${text}`

/** What is put before the rule that drops, in the language that its table is kept in. */
function accepting({ family, table, chain, isLegacy }: Decision, link: string): string[] {
  const isIptables =
    (family === 'ip' || family === 'ip6') && table === 'filter' && chain === chain.toUpperCase()
  if (isIptables) {
    const tool = `${family === 'ip' ? 'iptables' : 'ip6tables'}-${isLegacy ? 'legacy' : 'nft'}`
    return [`${tool} -I FORWARD -i ${link} -j ACCEPT`, `${tool} -I FORWARD -o ${link} -j ACCEPT`]
  }
  return ['iifname', 'oifname'].map(
    key => `nft insert rule ${family} ${table} ${chain} ${key} ${link} accept`,
  )
}
