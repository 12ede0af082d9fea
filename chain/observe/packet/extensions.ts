/** Matches and targets of iptables that nf_tables and ip_tables keep as structures of their own (linux/netfilter/xt_*.h). Pure. */
import { addressText } from '../../ip/bytes.ts'
import { isIpv6 } from '../../ip/family.ts'
import { goesOn } from '../../linux/nftables/expression.ts'
import type { Lookups, Verdict } from './outcome.ts'
import type { Packet } from './packet.ts'

export interface Extension {
  name: string
  revision: number
  info: Uint8Array
}

interface Matched {
  isMatch: boolean | 'unknown'
  words: string
}

type Match = (view: DataView, packet: Packet, context: { around: Lookups; revision: number }) => Matched

const isBetween = (value: number, from: number, to: number) => value >= from && value <= to

/** struct xt_tcp and xt_udp begin alike: source ports, destination ports; then how they are inverted. */
function matchPorts(
  view: DataView,
  packet: Packet,
  { name, inverted }: { name: string; inverted: number },
): Matched {
  if (packet.protocol !== name) return { isMatch: false, words: name }
  const [fromSource, toSource, from, to] = [0, 2, 4, 6].map(at => view.getUint16(at, true)) as [
    number,
    number,
    number,
    number,
  ]
  const invert = view.getUint8(inverted)
  const isSource = isBetween(packet.sourcePort, fromSource, toSource) !== ((invert & 1) !== 0)
  const isDestination = isBetween(packet.destinationPort, from, to) !== ((invert & 2) !== 0)
  const ports = from === 0 && to === 65535 ? '' : ` dport ${from}${to === from ? '' : `-${to}`}`
  return { isMatch: isSource && isDestination, words: `${name}${ports}` }
}

/** XT_CONNTRACK_*: which parts are looked at, and the bits of states. */
function matchConnection(view: DataView, packet: Packet, { revision }: { revision: number }): Matched {
  const [flags, inverted] = [view.getUint16(146, true), view.getUint16(148, true)]
  const mask = revision === 1 ? view.getUint8(150) : view.getUint16(150, true)
  if ((flags & ~(1 | 0x2000)) !== 0) return { isMatch: 'unknown', words: 'conntrack' } // more than states
  const state =
    (packet.isAnswer ? 2 : 8) | (packet.isTranslated ? 128 : 0) | (packet.isSourceTranslated ? 64 : 0)
  const names = ['INVALID', 'ESTABLISHED', 'RELATED', 'NEW', '', '', 'SNAT', 'DNAT', 'UNTRACKED']
  const words = names.filter((name, bit) => name && (mask & (1 << bit)) !== 0).join(',')
  return { isMatch: ((state & mask) !== 0) !== ((inverted & 1) !== 0), words: `ctstate ${words}` }
}

/** struct xt_addrtype_info_v1: types of source and destination as bits of RTN_*, then flags. */
function matchAddressType(
  view: DataView,
  packet: Packet,
  { around, revision }: { around: Lookups; revision: number },
): Matched {
  const [source, destination] = [view.getUint16(0, true), view.getUint16(2, true)]
  const flags = view.getUint32(4, true)
  const isInverted = (bit: number, at: number) =>
    revision === 0 ? view.getUint32(at, true) !== 0 : (flags & bit) !== 0
  const holds = (mask: number, address: string) => (mask & (1 << around.addressType(address))) !== 0
  const isSource = source === 0 || holds(source, packet.source) !== isInverted(1, 4)
  const isDestination = destination === 0 || holds(destination, packet.destination) !== isInverted(2, 8)
  const not = isInverted(2, 8) ? '! ' : ''
  return {
    isMatch: isSource && isDestination,
    words: destination ? `${not}dst-type ${destination === 4 ? 'LOCAL' : destination}` : 'addrtype',
  }
}

/** struct xt_multiport_v1: which end, how many, the ports, which of them begin a range. */
function matchMultiport(view: DataView, packet: Packet): Matched {
  const [flags, count] = [view.getUint8(0), view.getUint8(1)]
  const ports = Array.from({ length: count }, (_, at) => view.getUint16(2 + 2 * at, true))
  const isRange = Array.from({ length: count }, (_, at) => view.getUint8(32 + at) !== 0)
  const isInverted = view.getUint8(47) !== 0
  const holds = (port: number) =>
    ports.some((first, at) => (isRange[at] ? isBetween(port, first, ports[at + 1] ?? first) : port === first))
  const { sourcePort, destinationPort, protocol } = packet
  const found =
    [holds(sourcePort), holds(destinationPort), holds(sourcePort) || holds(destinationPort)][flags] ?? false
  return { isMatch: protocol !== 'icmp' && found !== isInverted, words: `multiport ${ports.join(',')}` }
}

const matches: Readonly<Record<string, Match>> = {
  comment: () => ({ isMatch: true, words: '' }),
  tcp: (view, packet) => matchPorts(view, packet, { name: 'tcp', inverted: 11 }),
  udp: (view, packet) => matchPorts(view, packet, { name: 'udp', inverted: 8 }),
  conntrack: matchConnection,
  state(view, { isAnswer }) {
    return { isMatch: (view.getUint32(0, true) & (isAnswer ? 2 : 8)) !== 0, words: 'state' }
  },
  addrtype: matchAddressType,
  multiport: matchMultiport,
  mark(view, { mark }) {
    const [value, mask] = [view.getUint32(0, true), view.getUint32(4, true)]
    const isInverted = view.getUint8(8) !== 0
    return { isMatch: ((mark & mask) >>> 0 === value) !== isInverted, words: `mark 0x${value.toString(16)}` }
  },
  limit: () => ({ isMatch: true, words: 'limit' }),
}

export function matchExtension(
  { name, revision, info }: Extension,
  packet: Packet,
  around: Lookups,
): Matched {
  const match = Object.hasOwn(matches, name) ? matches[name] : undefined
  const padded = new Uint8Array(Math.max(192, info.length))
  padded.set(info)
  return (
    match?.(new DataView(padded.buffer), packet, { around, revision }) ?? { isMatch: 'unknown', words: name }
  )
}

const [MAP_ADDRESSES, MAP_PORTS] = [1, 2] // NF_NAT_RANGE_*

/** struct nf_nat_range(2), or nf_nat_ipv4_multi_range_compat of old. */
function rangeIn({ revision, info }: Extension, packet: Packet): { address?: string; port?: number } {
  const padded = new Uint8Array(64)
  padded.set(info.subarray(0, 64))
  const view = new DataView(padded.buffer)
  const isOld = revision === 0 && !isIpv6(packet.destination)
  const flags = view.getUint32(isOld ? 4 : 0, true)
  const width = isIpv6(packet.destination) ? 16 : 4
  const at = isOld ? 8 : 4
  const port = view.getUint16(isOld ? 16 : 36)
  return {
    ...((flags & MAP_ADDRESSES) !== 0 ? { address: addressText(padded.slice(at, at + width)) } : {}),
    ...((flags & MAP_PORTS) !== 0 ? { port } : {}),
  }
}

/** What a target does; those after which a packet goes on are known by name. */
export function targetExtension(extension: Extension, packet: Packet): Verdict | 'unknown' {
  switch (extension.name) {
    case 'DNAT':
      return { kind: 'translate', what: 'destination', ...rangeIn(extension, packet) }
    case 'SNAT':
      return { kind: 'translate', what: 'source', ...rangeIn(extension, packet) }
    case 'MASQUERADE':
      return { kind: 'translate', what: 'masquerade' }
    case 'REDIRECT':
      return { kind: 'translate', what: 'redirect', ...rangeIn(extension, packet) }
    case 'REJECT':
      return { kind: 'reject' }
    case 'NFQUEUE':
      return { kind: 'queue' }
  }
  return goesOn.has(extension.name) ? { kind: 'continue' } : 'unknown'
}
