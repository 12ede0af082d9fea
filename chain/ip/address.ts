/**
 * Internet addresses and networks as numbers, for those who count with them. Own code, since each plugin call needs it and
 * a library costs more to load than this to run; the tests hold it against one. Big integers cost a plugin time at their first
 * use: who only compares texts or asks what kind an address is finds that in `text.ts`.
 */
import { addressText, parsePlainBytes } from './bytes.ts'
import { widthOf } from './family.ts'
import { parsePrefix } from './text.ts'

export interface Address {
  family: 4 | 6
  value: bigint
}

/** An address with prefix length; host bits are kept. */
export interface Cidr {
  address: Address
  prefixLength: number
}

/** An address from its text; undefined for anything else. An IPv4-mapped one counts as IPv4, as in Go. */
export function parseAddress(text: string): Address | undefined {
  const bytes = parsePlainBytes(text)
  return bytes && addressOf(bytes)
}

/** An address from its 4 or 16 bytes. */
function addressOf(bytes: Uint8Array): Address {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  if (bytes.length === 4) return { family: 4, value: BigInt(view.getUint32(0)) }
  return { family: 6, value: (view.getBigUint64(0) << 64n) | view.getBigUint64(8) }
}

/** The canonical text (RFC 5952). */
export function formatAddress({ family, value }: Address): string {
  const view = new DataView(new ArrayBuffer(family === 4 ? 4 : 16))
  if (family === 4) view.setUint32(0, Number(value))
  else {
    view.setBigUint64(0, value >> 64n)
    view.setBigUint64(8, value)
  }
  return addressText(new Uint8Array(view.buffer))
}

/** An address with prefix length from its text: "10.1.0.5/16". An IPv4-mapped one may have either family's length. */
export function parseCidr(text: string): Cidr | undefined {
  const prefix = parsePrefix(text)
  return prefix && { address: addressOf(prefix.bytes), prefixLength: prefix.prefixLength }
}

export function formatCidr({ address, prefixLength }: Cidr): string {
  return `${formatAddress(address)}/${prefixLength}`
}

function hostMask({ address, prefixLength }: Cidr): bigint {
  return (1n << BigInt(widthOf(address.family) - prefixLength)) - 1n
}

/** The network of an address: its host bits cleared. */
export function networkOf(cidr: Cidr): Cidr {
  const { address, prefixLength } = cidr
  return { address: { family: address.family, value: address.value & ~hostMask(cidr) }, prefixLength }
}

/** The last address of a network; for IPv4 its broadcast address. */
export function lastOf(cidr: Cidr): Address {
  return { family: cidr.address.family, value: cidr.address.value | hostMask(cidr) }
}

/** True when the address has no host bits set. */
export function isNetwork(cidr: Cidr): boolean {
  return (cidr.address.value & hostMask(cidr)) === 0n
}

export function sameAddress(one: Address, other: Address): boolean {
  return one.family === other.family && one.value === other.value
}

export function contains(cidr: Cidr, address: Address): boolean {
  if (cidr.address.family !== address.family) return false
  return (
    networkOf(cidr).address.value === networkOf({ address, prefixLength: cidr.prefixLength }).address.value
  )
}

export function overlaps(one: Cidr, other: Cidr): boolean {
  return contains(one, other.address) || contains(other, one.address)
}

/** The address that many after (before, when negative). May leave the family's width; the caller's ranges bound it. */
export function addressAfter({ family, value }: Address, count = 1n): Address {
  return { family, value: value + count }
}

export function isUnspecified({ value }: Address): boolean {
  return value === 0n
}
