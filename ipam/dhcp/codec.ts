/** What the bytes of DHCPv4, DHCPv6 and router advertisements have in common: domain names, and being malformed. Pure. */

/** What is no message of its protocol: cut off, of another one, or contradicting itself. */
export class PacketError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'PacketError'
  }
}

const LONGEST_NAME = 253
const MOST_NAMES = 64

/** Domain names with compression inside the option (RFC 3397, RFC 1035 4.1.4). A malformed one ends the list. */
export function namesIn(value: Uint8Array | undefined): string[] {
  const names: string[] = []
  for (let at = 0; value && at < value.length && names.length < MOST_NAMES; ) {
    const read = nameAt(value, at)
    if (!read) return names
    if (read.name !== '') names.push(read.name)
    at = read.next
  }
  return names
}

function nameAt(value: Uint8Array, start: number): { name: string; next: number } | undefined {
  const labels: string[] = []
  let next: number | undefined
  for (let at = start, total = 0; total <= LONGEST_NAME; ) {
    const length = value[at]
    if (length === undefined) return undefined
    if (length === 0) return { name: labels.join('.'), next: next ?? at + 1 }
    if (length >= 0xc0) {
      const low = value[at + 1]
      const target = ((length & 0x3f) << 8) | (low ?? 0)
      if (low === undefined || target >= at) return undefined // only backwards: no loops
      next ??= at + 2
      at = target
      continue
    }
    if (length > 63 || at + 1 + length > value.length) return undefined
    const label = textIn(value.subarray(at + 1, at + 1 + length))
    if (label === undefined) return undefined
    labels.push(label)
    total += length + 1
    at += 1 + length
  }
  return undefined
}

/** Printable text; undefined for anything else. */
export function textIn(value: Uint8Array | undefined): string | undefined {
  const text = value && Buffer.from(value).toString('latin1').replace(/\0+$/, '')
  return text && /^[\x21-\x7e]+$/.test(text) ? text : undefined
}
