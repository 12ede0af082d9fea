/** Hardware addresses: in the forms that people write, in ours (lower-case pairs between colons), and as bytes. */

/** Their bytes: of Ethernet, of EUI-64 (Firewire, IEEE 802.15.4), of InfiniBand. */
const LENGTHS = [6, 8, 20]

/** A hardware address in colon, dash or dot form, as lower-case colon form; undefined for anything else. */
export function parseHardwareAddress(text: string): string | undefined {
  const pairs =
    /^([0-9a-f]{2}[:-])+[0-9a-f]{2}$/i.test(text) && !(text.includes(':') && text.includes('-'))
      ? text.split(/[:-]/)
      : /^([0-9a-f]{4}\.)+[0-9a-f]{4}$/i.test(text)
        ? text.replaceAll('.', '').match(/../g)
        : undefined
  return pairs && LENGTHS.includes(pairs.length) ? pairs.join(':').toLowerCase() : undefined
}

/** As `parseHardwareAddress`, for Ethernet: six bytes. */
export function parseMac(text: string): string | undefined {
  const address = parseHardwareAddress(text)
  return address?.length === 17 ? address : undefined
}

/** The bytes of a hardware address in its colon form. */
export function hardwareAddressBytes(address: string): Uint8Array {
  const parts = address.split(':')
  const bytes = new Uint8Array(parts.length)
  let isAddress = LENGTHS.includes(parts.length)
  for (let at = 0; at < parts.length; at++) {
    const pair = parts[at] ?? ''
    isAddress &&= pair.length === 2 && isHexadecimal(pair.charCodeAt(0)) && isHexadecimal(pair.charCodeAt(1))
    bytes[at] = Number.parseInt(pair, 16)
  }
  if (isAddress) return bytes
  throw new RangeError(`${JSON.stringify(address)} is not a hardware address`)
}

/** Of a character's code; a regular expression, or a method that a list is mapped by, would cost a call more than all else here. */
function isHexadecimal(code: number): boolean {
  const letter = code | 0x20
  return (code >= 0x30 && code <= 0x39) || (letter >= 0x61 && letter <= 0x66)
}

/** A hardware address as lower-case hexadecimal pairs. */
export function hardwareAddressText(bytes: Uint8Array): string {
  const pairs: string[] = []
  for (let at = 0; at < bytes.length; at++) pairs.push((bytes[at] ?? 0).toString(16).padStart(2, '0'))
  return pairs.join(':')
}
