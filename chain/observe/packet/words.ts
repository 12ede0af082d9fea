/** Words of nft for what a rule looks at, so that a rule reads as it was written. Pure. */
import { addressText } from '../../ip/bytes.ts'
import { isIpv6 } from '../../ip/family.ts'
import { hardwareAddressText } from '../../ip/hardware.ts'
import { readText } from '../../linux/netlink/codec.ts'
import { type Packet, protocols } from './packet.ts'

/** What a register holds. */
export interface Field {
  name: string
  length: number
  kind:
    | 'address'
    | 'port'
    | 'protocol'
    | 'link'
    | 'hardware'
    | 'state'
    | 'address type'
    | 'native'
    | 'number'
    | 'value'
  mask?: Uint8Array
}

const metas: Readonly<Record<number, string>> = {
  1: 'meta protocol',
  3: 'meta mark',
  4: 'iif',
  5: 'oif',
  6: 'iifname',
  7: 'oifname',
  15: 'meta nfproto',
  16: 'meta l4proto',
}

export const metaName = (key: number) => metas[key] ?? `meta ${key}`

const [LINK, NETWORK] = [0, 1] // NFT_PAYLOAD_*_HEADER

export function fieldAt(base: number, offset: number, { destination, protocol }: Packet): Field {
  if (base === LINK)
    return { name: offset === 0 ? 'ether daddr' : 'ether saddr', length: 0, kind: 'hardware' }
  if (base === NETWORK) {
    const family = isIpv6(destination) ? 'ip6' : 'ip'
    const [source, target] = family === 'ip6' ? [8, 24] : [12, 16]
    if (offset >= target) return { name: `${family} daddr`, length: 0, kind: 'address' }
    if (offset >= source) return { name: `${family} saddr`, length: 0, kind: 'address' }
    return {
      name: offset === 9 || offset === 6 ? `${family} protocol` : `${family} header`,
      length: 0,
      kind: 'number',
    }
  }
  if (offset === 0) return { name: `${protocol} sport`, length: 0, kind: 'port' }
  if (offset === 2) return { name: `${protocol} dport`, length: 0, kind: 'port' }
  return {
    name: protocol === 'tcp' && offset === 13 ? 'tcp flags' : `${protocol} header`,
    length: 0,
    kind: 'number',
  }
}

const STATES: readonly [number, string][] = [
  [1, 'invalid'],
  [2, 'established'],
  [4, 'related'],
  [8, 'new'],
  [64, 'untracked'],
]
const ADDRESS_TYPES: Readonly<Record<number, string>> = {
  1: 'unicast',
  2: 'local',
  3: 'broadcast',
  5: 'multicast',
}

/** A value as the field that it is compared with has it. */
export function describeValue(value: Uint8Array, field: Field | undefined): string {
  const native = value.length >= 4 ? new DataView(value.slice().buffer).getUint32(0, true) : (value[0] ?? 0)
  switch (field?.kind) {
    case 'address': {
      const width = value.length > 4 || field.name.startsWith('ip6') ? 16 : 4
      const whole = new Uint8Array(width)
      whole.set(value.subarray(0, width))
      const bits = field.mask ? onesIn(field.mask) : value.length * 8
      return `${addressText(whole)}${bits === width * 8 ? '' : `/${bits}`}`
    }
    case 'port':
      return String(((value[0] ?? 0) << 8) | (value[1] ?? 0))
    case 'protocol':
      return Object.keys(protocols).find(name => protocols[name] === value[0]) ?? String(value[0])
    case 'link': {
      const name = readText(value)
      return `"${name}${value.includes(0) ? '' : '*'}"` // a name without an end is the beginning of one
    }
    case 'hardware':
      return hardwareAddressText(value)
    case 'state': {
      const mask = field.mask ? new DataView(field.mask.slice().buffer).getUint32(0, true) : native
      return STATES.flatMap(([bit, word]) => ((mask & bit) !== 0 ? [word] : [])).join(',')
    }
    case 'address type':
      return ADDRESS_TYPES[native] ?? String(native)
    default:
      return value.length <= 2
        ? String(value.reduce((sum, byte) => sum * 256 + byte, 0))
        : `0x${field?.kind === 'native' ? native.toString(16) : value.toHex()}`
  }
}

const onesIn = (mask: Uint8Array) =>
  mask.reduce((sum, byte) => sum + byte.toString(2).replaceAll('0', '').length, 0)
