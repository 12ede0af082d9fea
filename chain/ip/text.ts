/** Internet addresses that come as text and stay text: their canonical form, and of what kind they are. An IPv4-mapped one counts as IPv4, as in Go, unless said otherwise. */
import { addressText, coveredBits, parseBytes, parseDecimal, parsePlainBytes } from './bytes.ts'
import { isIpv6, widthOf } from './family.ts'

/** An address in its canonical text (RFC 5952); undefined for anything else. */
export function canonicalAddress(text: string): string | undefined {
  const bytes = parsePlainBytes(text)
  return bytes && addressText(bytes)
}

/** An address's bytes with prefix length; host bits are kept. */
export interface Prefix {
  bytes: Uint8Array
  prefixLength: number
}

/** From its text: "10.1.0.5/16". An IPv4-mapped one may have either family's length. */
export function parsePrefix(text: string): Prefix | undefined {
  const slash = text.indexOf('/')
  if (slash < 0) return undefined
  const bytes = parsePlainBytes(text.slice(0, slash))
  const written = parsePrefixLength(text.slice(slash + 1))
  if (!bytes || written === undefined) return undefined
  const isMapped = bytes.length === 4 && isIpv6(text)
  const prefixLength = isMapped && written > 32 ? written - MAPPED_BITS : written
  const isWithin = prefixLength >= 0 && prefixLength <= widthOf(bytes.length === 4 ? 4 : 6)
  return isWithin ? { bytes, prefixLength } : undefined
}

const MAPPED_BITS = 96 // RFC 4291, 2.5.5.2

/** Zeros may lead here, as in Go: a prefix length is never octal. */
function parsePrefixLength(text: string): number | undefined {
  let first = 0
  while (first < text.length - 1 && text[first] === '0') first++
  return parseDecimal(first === 0 ? text : text.slice(first))
}

/** An address with prefix length in its canonical text, host bits kept; undefined for anything else. */
export function canonicalCidr(text: string): string | undefined {
  const prefix = parsePrefix(text)
  return prefix && `${addressText(prefix.bytes)}/${prefix.prefixLength}`
}

/** An address and its prefix length apart, as the kernel has them. */
export interface SplitCidr {
  address: string
  prefixLength: number
}

/** "10.1.0.5/16" is 10.1.0.5 and 16, in canonical text; undefined for anything else. */
export function splitCidr(text: string): SplitCidr | undefined {
  const prefix = parsePrefix(text)
  return prefix && { address: addressText(prefix.bytes), prefixLength: prefix.prefixLength }
}

/** The network of it: "10.1.0.5/16" is in 10.1.0.0 and 16. */
export function splitNetwork(text: string): SplitCidr | undefined {
  const prefix = parsePrefix(text)
  return prefix && { address: addressText(networkBytes(prefix)), prefixLength: prefix.prefixLength }
}

/** "10.1.0.5/16" is in "10.1.0.0/16"; undefined for what is no address with prefix length. */
export function networkText(text: string): string | undefined {
  const network = splitNetwork(text)
  return network && `${network.address}/${network.prefixLength}`
}

/** Host bits cleared. */
function networkBytes({ bytes, prefixLength }: Prefix): Uint8Array {
  const network = new Uint8Array(bytes.length)
  for (let at = 0; at < bytes.length; at++) network[at] = (bytes[at] ?? 0) & coveredBits(prefixLength, at)
  return network
}

/** A gateway in its canonical text; undefined where there is none, which 0.0.0.0 and :: mean as well. */
export function realGateway(text: string | undefined): string | undefined {
  const bytes = text === undefined ? undefined : parsePlainBytes(text)
  return bytes && !isZero(bytes) ? addressText(bytes) : undefined
}

function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at++) if (bytes[at] !== 0) return false
  return true
}

/** 127.0.0.0/8 and ::1 */
export function isLoopback(text: string): boolean {
  const bytes = parsePlainBytes(text)
  if (!bytes) return false
  return bytes.length === 4 ? bytes[0] === 127 : bytes[15] === 1 && isZero(bytes.subarray(0, 15))
}

/** 169.254.0.0/16 and fe80::/10: packets to and from these stay within a link. No IPv4-mapped one. */
export function isLinkLocal(text: string): boolean {
  const bytes = parseBytes(text)
  const [first, second] = [bytes?.[0] ?? 0, bytes?.[1] ?? 0]
  return bytes?.length === 4 ? first === 169 && second === 254 : first === 0xfe && second >> 6 === 2
}

/** 224.0.0.0/4 and ff00::/8; no IPv4-mapped one. */
export function isMulticast(text: string): boolean {
  const bytes = parseBytes(text)
  const first = bytes?.[0] ?? 0
  return bytes?.length === 4 ? first >> 4 === 0xe : first === 0xff
}

/** Neither unspecified, loopback, link-local, multicast nor broadcast. Private ones are global unicast, as in Go. */
export function isGlobalUnicast(text: string): boolean {
  const canonical = canonicalAddress(text)
  if (canonical === undefined || canonical === '255.255.255.255') return false
  const isSpecial = realGateway(canonical) === undefined || isLoopback(canonical)
  return !isSpecial && !isLinkLocal(canonical) && !isMulticast(canonical)
}
