/** What every rule of ip_tables matches by: addresses, links and protocol (struct ipt_ip, struct ip6t_ip). Pure. */
import { addressBytes, addressText } from '../../ip/bytes.ts'
import { isIpv6 } from '../../ip/family.ts'
import { encodeText } from '../../linux/bytes.ts'
import { readText } from '../../linux/netlink/codec.ts'
import { familyOfPacket, type Packet, protocolNumber, protocols } from './packet.ts'

/** IPT_INV_* */
const [NOT_INPUT, NOT_OUTPUT, NOT_SOURCE, NOT_DESTINATION, NOT_PROTOCOL] = [1, 2, 8, 0x10, 0x40]

/** Where the parts are: addresses with masks, names of links with masks, protocol, inverted bits. */
const layouts = {
  ip: { width: 4, links: 16, protocol: 80, inverted: 83 },
  ip6: { width: 16, links: 64, protocol: 128, inverted: 132 },
} as const

export function matchHead(head: Uint8Array, packet: Packet): { isMatch: boolean; words: string } {
  const { width, links, protocol, inverted } = layouts[familyOfPacket(packet)]
  const part = (at: number, length: number) => head.subarray(at, at + length)
  const flags = head[inverted] ?? 0
  const words: string[] = []
  let isMatch = true
  const hold = (holds: boolean, not: number, text: string) => {
    if (text !== '') words.push(`${(flags & not) !== 0 ? '! ' : ''}${text}`)
    if (holds === ((flags & not) !== 0)) isMatch = false
  }
  const [source, destination] = [part(0, width), part(width, width)]
  const [sourceMask, destinationMask] = [part(2 * width, width), part(3 * width, width)]
  hold(isIn(packet.source, source, sourceMask), NOT_SOURCE, prefixText('-s', source, sourceMask))
  hold(
    isIn(packet.destination, destination, destinationMask),
    NOT_DESTINATION,
    prefixText('-d', destination, destinationMask),
  )
  const [input, output] = [part(links, 16), part(links + 16, 16)]
  const [inputMask, outputMask] = [part(links + 32, 16), part(links + 48, 16)]
  hold(isNamed(packet.input, input, inputMask), NOT_INPUT, linkText('-i', input, inputMask))
  hold(isNamed(packet.output, output, outputMask), NOT_OUTPUT, linkText('-o', output, outputMask))
  const asked = new DataView(head.buffer, head.byteOffset).getUint16(protocol, true)
  const called = Object.keys(protocols).find(name => protocols[name] === asked) ?? String(asked)
  hold(asked === 0 || asked === protocolNumber(packet), NOT_PROTOCOL, asked === 0 ? '' : `-p ${called}`)
  return { isMatch, words: words.join(' ') }
}

const isNothing = (bytes: Uint8Array) => bytes.every(byte => byte === 0)

function isIn(address: string, network: Uint8Array, mask: Uint8Array): boolean {
  const bytes = addressBytes(address)
  return (
    bytes.length === network.length && bytes.every((byte, at) => (byte & (mask[at] ?? 0)) === network[at])
  )
}

function prefixText(option: string, network: Uint8Array, mask: Uint8Array): string {
  if (isNothing(mask)) return ''
  const bits = mask.reduce((sum, byte) => sum + byte.toString(2).replaceAll('0', '').length, 0)
  const whole = isIpv6(addressText(network)) ? 128 : 32
  return `${option} ${addressText(network)}${bits === whole ? '' : `/${bits}`}`
}

/** Compared as far as the mask has ones: a name with a plus sign ends before its zero. */
function isNamed(name: string | undefined, asked: Uint8Array, mask: Uint8Array): boolean {
  const bytes = new Uint8Array(16)
  bytes.set(encodeText(name ?? ''))
  return bytes.every((byte, at) => (byte & (mask[at] ?? 0)) === ((asked[at] ?? 0) & (mask[at] ?? 0)))
}

function linkText(option: string, asked: Uint8Array, mask: Uint8Array): string {
  if (isNothing(mask)) return ''
  const name = readText(asked)
  return `${option} ${name}${mask[name.length] === 0 ? '+' : ''}`
}
