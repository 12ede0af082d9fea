/** `catena path`: the way of a packet from one place to another, and where it ends. */

import { addressAfter, formatAddress, parseAddress, parseCidr } from '../ip/address.ts'
import { familyOf, isIpv6 } from '../ip/family.ts'
import { canonicalAddress } from '../ip/text.ts'
import { routeTo } from '../linux/netlink/route.ts'
import { openRoute } from '../linux/netlink/socket.ts'
import { bare } from '../observe/attachments.ts'
import type { Attachment, NodeModel } from '../observe/model.ts'
import type { Packet } from '../observe/packet/packet.ts'
import { readRuleset } from '../observe/packet/ruleset.ts'
import type { Origin, Way, WayStep } from '../observe/packet/steps.ts'
import { walk } from '../observe/packet/walk.ts'
import { readableOwner } from '../plugin/owner.ts'
import { CniError, code } from '../protocol/error.ts'
import type { Output } from './output.ts'
import { harmless, type Style, wrapped } from './render.ts'

/** A place as a person names it: ":8080", "10.22.0.7:80", "[fd00::1]:53/udp", "web", "web:80", "1.1.1.1". */
interface Place {
  /** '' for the host's own address. */
  host: string
  port?: number
  protocol: 'tcp' | 'udp' | 'sctp' | undefined
}

/** Pure. */
export function parsePlace(text: string): Place {
  const [, rest = '', protocol] = /^(.*?)(?:\/(tcp|udp|sctp))?$/.exec(text) ?? []
  const isAddress = parseAddress(rest) !== undefined // whose colons lead to no port
  const [, host = '', port] = (!isAddress && /^(.*):(\d+)$/.exec(rest)) || ['', rest]
  const plain = host.replace(/^\[(.*)\]$/, '$1')
  const number = port === undefined ? undefined : Number(port)
  const isPort = number === undefined || (number > 0 && number < 65536)
  const isHost =
    plain === '' ? number !== undefined : /^[\w./-]+$/.test(plain) || parseAddress(plain) !== undefined
  if (!isPort || !isHost)
    throw new CniError(code.invalidEnvironment, `${text || '""'} is no place`, {
      details:
        'places are :8080, 10.22.0.7:80, [fd00::1]:53/udp, a container or a pod, with a port or without',
    })
  return {
    host: plain,
    ...(number === undefined ? {} : { port: number }),
    protocol: protocol as Place['protocol'],
  }
}

/** Containers that are called so: by pod, name or the beginning of an ID. The first interface of one is meant. */
function findContainer({ attachments }: NodeModel, name: string): Attachment | undefined {
  const alive = attachments.filter(({ label }) => label !== 'orphan')
  const exact = alive.find(each => [each.name, each.containerId, each.identity?.pod].includes(name))
  return (
    exact ?? (name.length >= 6 ? alive.find(({ containerId }) => containerId.startsWith(name)) : undefined)
  )
}

function requireContainer(node: NodeModel, name: string): Attachment {
  const found = findContainer(node, name)
  if (found) return found
  const names = [...new Set(node.attachments.map(each => each.name))]
  throw new CniError(code.invalidEnvironment, `no container is called ${name}`, {
    details: `there are ${names.slice(0, 10).join(', ') || 'none'}${names.length > 10 ? ` and ${names.length - 10} more` : ''}`,
  })
}

const EPHEMERAL = 40_000

interface Question {
  origin: Origin
  packet: Packet
}

/** The packet that is asked about. `from` undefined: from outside to a port of the host, from the host to all else. */
export function questionFor(node: NodeModel, from: string | undefined, to: string): Question {
  const place = parsePlace(to)
  const origin = originOf(node, from ?? (place.host === '' ? 'outside' : 'host'))
  const destination = destinationOf(node, place, origin)
  const protocol = place.protocol ?? (place.port === undefined ? 'icmp' : 'tcp')
  const { source, input } = sourceOf(node, origin, destination)
  const packet: Packet = {
    protocol,
    source,
    destination,
    sourcePort: protocol === 'icmp' ? 0 : EPHEMERAL,
    destinationPort: place.port ?? 0,
    ...(input === undefined ? {} : { input }),
    isAnswer: false,
    isTranslated: false,
    isSourceTranslated: false,
    mark: 0,
  }
  return { origin, packet }
}

function originOf(node: NodeModel, from: string): Origin {
  if (from === 'host' || from === 'outside') return { kind: from }
  const address = canonicalAddress(from)
  const attachment = address
    ? node.attachments.find(({ addresses }) => addresses.some(each => bare(each) === address))
    : requireContainer(node, from)
  if (attachment) return { kind: 'container', attachment }
  return { kind: 'outside', ...(address ? { source: address } : {}) }
}

function destinationOf(node: NodeModel, { host }: Place, origin: Origin): string {
  const address = parseAddress(host) ? canonicalAddress(host) : undefined
  if (address) return address
  if (host === '' || host === 'host') return hostAddress(node, origin)
  const found = requireContainer(node, host).addresses[0]
  if (found) return bare(found)
  throw new CniError(code.invalidEnvironment, `${host} has no address`, {
    details: '`catena doctor` says why',
  })
}

/** The link by which the world comes in: that of the default route, else one with an address that is no network's. */
function uplinkOf({ host, links }: NodeModel) {
  const way = host.routes.find(({ prefixLength }) => prefixLength === 0)
  const own = links.filter(({ role, addresses, link }) => role === 'other' && addresses.length > 0 && link.up)
  return own.find(({ link }) => link.index === way?.link) ?? own[0]
}

function hostAddress(node: NodeModel, origin: Origin): string {
  const gateway = origin.kind === 'container' ? origin.attachment.gateways[0] : undefined
  if (gateway) return bare(gateway)
  const uplink = uplinkOf(node)?.addresses[0] ?? node.links.flatMap(({ addresses }) => addresses)[0]
  return uplink ? bare(uplink) : '127.0.0.1'
}

function sourceOf(node: NodeModel, origin: Origin, destination: string): { source: string; input?: string } {
  const isSix = isIpv6(destination)
  if (origin.kind === 'container') {
    const found = origin.attachment.addresses.find(each => isIpv6(each) === isSix)
    if (found) return { source: bare(found) }
    throw new CniError(
      code.invalidEnvironment,
      `${origin.attachment.name} has no address of IPv${isSix ? 6 : 4}`,
    )
  }
  if (origin.kind === 'outside') {
    const uplink = uplinkOf(node)
    if (!uplink)
      throw new CniError(code.invalidEnvironment, 'no link of the host leads outside', {
        details: 'name a place to start from: `catena path host :8080`',
      })
    const gateway = node.host.routes.find(
      ({ prefixLength, gateway, destination: to }) => prefixLength === 0 && gateway && isIpv6(to) === isSix,
    )?.gateway
    const source = origin.source ?? gateway ?? neighbourOf(uplink.addresses, isSix ? 6 : 4)
    // without any, an address that is for documentation (RFC 5737, RFC 3849)
    return { source: source ?? (isSix ? '2001:db8::7' : '198.51.100.7'), input: uplink.link.name }
  }
  return { source: ownSource(destination) ?? (isSix ? '::1' : '127.0.0.1') }
}

/** An address beside the host's own, in one of its networks. */
function neighbourOf(addresses: readonly string[], family: 4 | 6): string | undefined {
  const own = parseCidr(addresses.find(each => familyOf(each) === family) ?? '')
  return own && formatAddress(addressAfter(own.address))
}

/** As the kernel would choose it. */
function ownSource(destination: string): string | undefined {
  try {
    using route = openRoute()
    return routeTo(route, destination).source
  } catch {
    return undefined
  }
}

export interface PathFlags {
  probe?: boolean
}

export async function showPath(
  node: NodeModel,
  { from, to, flags }: { from: string | undefined; to: string; flags: PathFlags },
  output: Output,
): Promise<number> {
  const { origin, packet } = questionFor(node, from, to)
  const way = walk(node, readRuleset(), { origin, packet })
  const probe = flags.probe
    ? (await import('../observe/packet/probe.ts')).probe(node, way, origin)
    : undefined
  const document = {
    version: 1,
    reaches: way.reaches,
    steps: way.steps.map(stepDocument),
    ...(probe ? { probe } : {}),
  }
  output.answer(document, () => {
    const lines = way.steps.map((step, at) => describeStep(step, way.steps[at - 1], output))
    const end = conclusion(way, output.style)
    const seen = probe
      ? ['', ...probe.sights.map(sight => describeSight(sight, output.style)), probe.says]
      : []
    return [...lines, end, ...seen].join('\n')
  })
  return way.reaches === 'no' ? 1 : 0
}

/** Without what only the walk needs. */
function stepDocument({ by, ...step }: WayStep): object {
  if (!by) return step
  const { hook, family, table, chain, handle, text, comment, counters, element, owner } = by
  return {
    ...step,
    by: { hook, family, table, chain, handle, rule: text, comment, counters, element, owner },
  }
}

function conclusion({ reaches, steps }: Way, style: Style): string {
  if (reaches === 'yes') return style.good('✓ it gets there')
  if (reaches === 'unknown') return style.notice('? it gets there, if what cannot be told lets it')
  return style.bad(`✗ it ends here: ${harmless(steps.at(-1)?.says ?? '')}`)
}

function describeStep(
  step: WayStep,
  before: WayStep | undefined,
  { style, width }: Pick<Output, 'style' | 'width'>,
): string {
  const { place, about, says, outcome, by, commands = [] } = step
  const mark = { on: style.dim('│'), stop: style.bad('✗'), unknown: style.notice('?') }[outcome]
  const head = place === before?.place ? [] : [style.bold(harmless(place))]
  const column = 12
  const line = `${mark} ${style.dim(about.padEnd(column - 1))} ${wrapped(harmless(says), width - column - 3, `${' '.repeat(column + 2)}`)}`
  const indent = `${style.dim(outcome === 'stop' ? ' ' : '│')} ${' '.repeat(column)}`
  const rule = by
    ? describeRule(by).map(
        text => `${indent}${style.dim(wrapped(harmless(text), width - column - 3, indent))}`,
      )
    : []
  const mending = commands.map(command => `${indent}${style.accent(`$ ${harmless(command)}`)}`)
  return [...head, line, ...rule, ...mending].join('\n')
}

function describeRule({
  family,
  isLegacy,
  table,
  chain,
  handle,
  text,
  counters,
  element,
  owner,
}: NonNullable<WayStep['by']>): string[] {
  const where = `${family} ${table}${isLegacy ? ' (legacy)' : ''} ${chain}${handle === undefined ? '' : ` rule ${handle}`}`
  const counted = counters ? ` (${counters.packets} packets, ${counters.bytes} bytes so far)` : ''
  const whose = owner ? [`of container ${owner}`] : []
  const looked = element
    ? [
        `element in @${element.set}${element.comment ? `: ${readableOwner(element.comment) || element.comment}` : ''}`,
      ]
    : []
  return [`${where}: ${text}${counted}`, ...looked, ...(looked.length > 0 ? [] : whose)]
}

function describeSight(
  { place, link, isSeen }: { place: string; link: string; isSeen: boolean },
  style: Style,
): string {
  return `${isSeen ? style.good('✓') : style.bad('✗')} ${place.padEnd(16)} ${link}`
}
