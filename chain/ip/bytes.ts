/** Internet addresses between text and bytes, as the kernel's structures hold them. The text form is RFC 5952's. */

export const AF_INET = 2
export const AF_INET6 = 10

/** The address family of an address in text. */
export function familyOf(address: string): typeof AF_INET | typeof AF_INET6 {
  return address.includes(':') ? AF_INET6 : AF_INET
}

/** The bytes of a textual address: 4 or 16. Throws RangeError for what is not one. */
export function addressBytes(address: string): Uint8Array {
  const bytes = address.includes(':') ? ipv6Bytes(address) : ipv4Bytes(address)
  if (bytes === undefined) throw new RangeError(`${JSON.stringify(address)} is not an internet address`)
  return bytes
}

function ipv4Bytes(text: string): Uint8Array | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  const bytes = new Uint8Array(4)
  for (let index = 0; index < 4; index++) {
    const byte = Number(parts[index])
    // as it is written: no leading zeros, which may mean octal, no signs, no blanks
    if (!(byte >= 0 && byte < 256) || String(byte) !== parts[index]) return undefined
    bytes[index] = byte
  }
  return bytes
}

function ipv6Bytes(text: string): Uint8Array | undefined {
  const halves = text.split('::')
  if (halves.length > 2 || /\..*:/.test(text)) return undefined // an IPv4 part comes last
  const [head, tail] = halves.map(half => (half === '' ? [] : half.split(':')).flatMap(groupBytes))
  if (head === undefined || [...head, ...(tail ?? [])].includes(Number.NaN)) return undefined
  const missing = 16 - head.length - (tail?.length ?? 0)
  if (tail === undefined ? missing !== 0 : missing < 2) return undefined
  return Uint8Array.from([...head, ...new Array<number>(missing).fill(0), ...(tail ?? [])])
}

function groupBytes(group: string): number[] {
  if (group.includes('.')) return Array.from(ipv4Bytes(group) ?? [Number.NaN])
  if (!/^[0-9a-f]{1,4}$/i.test(group)) return [Number.NaN]
  const value = Number.parseInt(group, 16)
  return [value >> 8, value & 0xff]
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

/** The bytes of a hardware address in its colon form. */
export function hardwareAddressBytes(address: string): Uint8Array {
  const parts = address.split(':')
  const isLength = [6, 8, 20].includes(parts.length) // Ethernet, EUI-64, InfiniBand
  if (!isLength || !parts.every(part => /^[0-9a-f]{2}$/i.test(part))) {
    throw new RangeError(`${JSON.stringify(address)} is not a hardware address`)
  }
  return Uint8Array.from(parts, part => Number.parseInt(part, 16))
}

/** A hardware address as lower-case hexadecimal pairs. */
export function hardwareAddressText(bytes: Uint8Array): string {
  const pairs: string[] = []
  for (let at = 0; at < bytes.length; at++) pairs.push((bytes[at] ?? 0).toString(16).padStart(2, '0'))
  return pairs.join(':')
}
