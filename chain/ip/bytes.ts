/** Internet addresses between text and bytes, as the kernel's structures hold them: the one parser and the one printer. The text form is RFC 5952's. Loops, since each array method is compiled again in every process. */
import { isIpv6 } from './family.ts'

/** The bytes of a textual address: 4 or 16. Throws RangeError for what is not one. */
export function addressBytes(address: string): Uint8Array {
  const bytes = parseBytes(address)
  if (bytes === undefined) throw new RangeError(`${JSON.stringify(address)} is not an internet address`)
  return bytes
}

/** The bytes of a textual address, 4 or 16; undefined for anything else. */
export function parseBytes(text: string): Uint8Array | undefined {
  if (isIpv6(text)) return parseIpv6(text)
  const bytes = new Uint8Array(4)
  return putIpv4(text, bytes, 0) ? bytes : undefined
}

/** As `parseBytes`, but an IPv4-mapped address counts as IPv4, as in Go. */
export function parsePlainBytes(text: string): Uint8Array | undefined {
  const bytes = parseBytes(text)
  return bytes && isMapped(bytes) ? bytes.subarray(12) : bytes
}

/** ::ffff:0:0/96 (RFC 4291, 2.5.5.2) */
function isMapped(bytes: Uint8Array): boolean {
  if (bytes.length !== 16 || bytes[10] !== 0xff || bytes[11] !== 0xff) return false
  for (let at = 0; at < 10; at++) if (bytes[at] !== 0) return false
  return true
}

/** A number of up to three digits. Not with leading zeros, which may mean octal. */
export function parseDecimal(text: string): number | undefined {
  if (text === '' || text.length > 3 || (text.length > 1 && text.startsWith('0'))) return undefined
  let value = 0
  for (let at = 0; at < text.length; at++) {
    const digit = text.charCodeAt(at) - 0x30
    if (digit < 0 || digit > 9) return undefined
    value = value * 10 + digit
  }
  return value
}

/** Puts four numbers between dots in their place; false for anything else. */
function putIpv4(text: string, bytes: Uint8Array, place: number): boolean {
  const parts = text.split('.')
  if (parts.length !== 4 || place + 4 > bytes.length) return false
  for (let index = 0; index < 4; index++) {
    const byte = parseDecimal(parts[index] ?? '')
    if (byte === undefined || byte > 255) return false
    bytes[place + index] = byte
  }
  return true
}

function parseIpv6(text: string): Uint8Array | undefined {
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const isWhole = halves.length === 1
  const bytes = new Uint8Array(16)
  const tail = new Uint8Array(16)
  const length = putGroups(halves[0] ?? '', bytes, isWhole ? 'end' : 'beginning')
  const tailLength = putGroups(halves[1] ?? '', tail, 'end')
  if (length === undefined || tailLength === undefined) return undefined
  if (isWhole ? length !== 16 : length + tailLength > 14) return undefined
  bytes.set(tail.subarray(0, tailLength), 16 - tailLength)
  return bytes
}

/** Puts groups between colons, and says how many bytes they are; the last may be an IPv4 address at the end of the text. */
function putGroups(text: string, bytes: Uint8Array, at: 'beginning' | 'end'): number | undefined {
  if (text === '') return 0
  const parts = text.split(':')
  let place = 0
  for (let index = 0; index < parts.length; index++) {
    const part = parts[index] ?? ''
    if (at === 'end' && index === parts.length - 1 && part.includes('.')) {
      return putIpv4(part, bytes, place) ? place + 4 : undefined
    }
    if (!isHexGroup(part) || place > 14) return undefined
    const group = Number.parseInt(part, 16)
    bytes[place] = group >> 8
    bytes[place + 1] = group & 0xff
    place += 2
  }
  return place
}

function isHexGroup(text: string): boolean {
  for (let at = 0; at < text.length; at++)
    if (!'0123456789abcdefABCDEF'.includes(text[at] ?? '')) return false
  return text.length >= 1 && text.length <= 4
}

/** The text of an address of 4 or 16 bytes. */
export function addressText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.')
  if (bytes.length !== 16) throw new RangeError(`an internet address has 4 or 16 bytes, not ${bytes.length}`)
  const groups: number[] = []
  for (let at = 0; at < 16; at += 2) groups.push(((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0))
  const run = longestZeroRun(groups)
  const hex = (part: number[]) => part.map(group => group.toString(16)).join(':')
  if (run === undefined) return hex(groups)
  return `${hex(groups.slice(0, run.start))}::${hex(groups.slice(run.start + run.length))}`
}

/** The first longest run of at least two zero groups (RFC 5952, 4.2). */
function longestZeroRun(groups: number[]): { start: number; length: number } | undefined {
  let best: { start: number; length: number } | undefined
  for (let start = 0; start < groups.length; start++) {
    let length = 0
    while (groups[start + length] === 0) length++
    if (length > (best?.length ?? 1)) best = { start, length }
  }
  return best
}

/** Of a byte of an address, the bits that a prefix of that length covers. */
export function coveredBits(prefixLength: number, at: number): number {
  const left = prefixLength - 8 * at
  return left >= 8 ? 0xff : left <= 0 ? 0 : (0xff << (8 - left)) & 0xff
}
