/**
 * Internet addresses, networks and hardware addresses in text and as numbers. Own code, since each plugin call needs it
 * and a library costs more to load than this to run; the tests hold it against one. Pure.
 */

export interface Address {
  family: 4 | 6
  value: bigint
}

/** An address with prefix length; host bits are kept. */
export interface Cidr {
  address: Address
  prefixLength: number
}

/** The number of bits of a family's addresses. */
export function widthOf(family: 4 | 6): 32 | 128 {
  return family === 4 ? 32 : 128
}

/** An address from its text; undefined for anything else. An IPv4-mapped one counts as IPv4, as in Go. */
export function parseAddress(text: string): Address | undefined {
  if (!text.includes(':')) {
    const value = parseIpv4(text)
    return value === undefined ? undefined : { family: 4, value }
  }
  const value = parseIpv6(text)
  if (value === undefined) return undefined
  return value >> 32n === 0xffffn ? { family: 4, value: value & 0xffffffffn } : { family: 6, value }
}

/** A number of up to three digits. Not with leading zeros, which may mean octal. */
function parseDecimal(text: string): number | undefined {
  if (text === '' || text.length > 3 || (text.length > 1 && text.startsWith('0'))) return undefined
  let value = 0
  for (let at = 0; at < text.length; at++) {
    const digit = text.charCodeAt(at) - 0x30
    if (digit < 0 || digit > 9) return undefined
    value = value * 10 + digit
  }
  return value
}

function parseIpv4(text: string): bigint | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  let value = 0n
  for (const part of parts) {
    const byte = parseDecimal(part)
    if (byte === undefined || byte > 255) return undefined
    value = (value << 8n) | BigInt(byte)
  }
  return value
}

function parseIpv6(text: string): bigint | undefined {
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const head = parseGroups(halves[0] ?? '', halves.length === 1)
  const tail = parseGroups(halves[1] ?? '', true)
  if (!head || !tail) return undefined
  const missing = 8 - head.length - tail.length
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined
  let value = 0n
  for (const group of head) value = (value << 16n) | group
  value <<= BigInt(16 * missing)
  for (const group of tail) value = (value << 16n) | group
  return value
}

function isHexGroup(text: string): boolean {
  for (let at = 0; at < text.length; at++)
    if (!'0123456789abcdefABCDEF'.includes(text[at] ?? '')) return false
  return text.length >= 1 && text.length <= 4
}

/** Groups between colons; the last may be an IPv4 address where `atEnd`. */
function parseGroups(text: string, atEnd: boolean): bigint[] | undefined {
  if (text === '') return []
  const groups: bigint[] = []
  const parts = text.split(':')
  const last = atEnd ? parts.length - 1 : -1
  for (let index = 0; index < parts.length; index++) {
    const part = parts[index] ?? ''
    if (index === last && part.includes('.')) {
      const value = parseIpv4(part)
      if (value === undefined) return undefined
      groups.push(value >> 16n, value & 0xffffn)
    } else if (isHexGroup(part)) groups.push(BigInt(`0x${part}`))
    else return undefined
  }
  return groups
}

/** The canonical text (RFC 5952). */
export function formatAddress({ family, value }: Address): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map(shift => (value >> shift) & 0xffn).join('.')
  const groups: number[] = []
  for (let shift = 112; shift >= 0; shift -= 16) groups.push(Number((value >> BigInt(shift)) & 0xffffn))
  const [start, length] = longestZeros(groups)
  const hex = (part: number[]) => part.map(group => group.toString(16)).join(':')
  return length < 2 ? hex(groups) : `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`
}

function longestZeros(groups: number[]): [start: number, length: number] {
  let best: [number, number] = [0, 0]
  for (let start = 0; start < groups.length; start++) {
    let length = 0
    while (groups[start + length] === 0) length++
    if (length > best[1]) best = [start, length]
  }
  return best
}

/** An address with prefix length from its text: "10.1.0.5/16". An IPv4-mapped one may have either family's length. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf('/')
  if (slash < 0) return undefined
  const address = parseAddress(text.slice(0, slash))
  const written = parsePrefixLength(text.slice(slash + 1))
  if (!address || written === undefined) return undefined
  const isMapped = address.family === 4 && text.includes(':')
  const prefixLength = isMapped && written > 32 ? written - MAPPED_BITS : written
  return prefixLength >= 0 && prefixLength <= widthOf(address.family) ? { address, prefixLength } : undefined
}

const MAPPED_BITS = 96 // RFC 4291, 2.5.5.2

/** Zeros may lead here, as in Go: a prefix length is never octal. */
function parsePrefixLength(text: string): number | undefined {
  let first = 0
  while (first < text.length - 1 && text[first] === '0') first++
  return parseDecimal(first === 0 ? text : text.slice(first))
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

export function compareAddresses(one: Address, other: Address): number {
  if (one.family !== other.family) return one.family - other.family
  return one.value < other.value ? -1 : one.value > other.value ? 1 : 0
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

/** Neither unspecified, loopback, link-local, multicast nor broadcast. Private ones are global unicast, as in Go. */
export function isGlobalUnicast({ family, value }: Address): boolean {
  if (value === 0n) return false
  if (family === 4) {
    const first = value >> 24n
    return first !== 127n && first >> 4n !== 0xen && value >> 16n !== 0xa9fen && value !== 0xffffffffn
  }
  return value !== 1n && value >> 120n !== 0xffn && value >> 118n !== 0x3fan
}

/** True for 127.0.0.0/8 and ::1, in text. */
export function isLoopback(text: string): boolean {
  const address = parseAddress(text)
  return (
    address !== undefined && (address.family === 4 ? address.value >> 24n === 127n : address.value === 1n)
  )
}

export function isUnspecified({ value }: Address): boolean {
  return value === 0n
}

/** A gateway in its canonical text; undefined where there is none, which 0.0.0.0 and :: mean as well. */
export function realGateway(text: string | undefined): string | undefined {
  const address = text === undefined ? undefined : parseAddress(text)
  return address && !isUnspecified(address) ? formatAddress(address) : undefined
}

/** Bytes of a hardware address: of Ethernet, of EUI-64 (Firewire, IEEE 802.15.4), of Infiniband. */
const HARDWARE_BYTES = [6, 8, 20]

/** A hardware address in colon, dash or dot form, as lower-case colon form; undefined for anything else. */
export function parseHardwareAddress(text: string): string | undefined {
  const pairs =
    /^([0-9a-f]{2}[:-])+[0-9a-f]{2}$/i.test(text) && !(text.includes(':') && text.includes('-'))
      ? text.split(/[:-]/)
      : /^([0-9a-f]{4}\.)+[0-9a-f]{4}$/i.test(text)
        ? text.replaceAll('.', '').match(/../g)
        : undefined
  return pairs && HARDWARE_BYTES.includes(pairs.length) ? pairs.join(':').toLowerCase() : undefined
}

/** As `parseHardwareAddress`, for Ethernet: six bytes. */
export function parseMac(text: string): string | undefined {
  const address = parseHardwareAddress(text)
  return address?.length === 17 ? address : undefined
}
