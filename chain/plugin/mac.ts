/** The hardware address that a configuration or a runtime asks for. */
import { parseMac } from '../ip/hardware.ts'
import { parseArguments } from '../protocol/environment.ts'
import { CniError, code } from '../protocol/error.ts'

/**
 * A hardware address from one of several places: the last that has one counts. Names the place of one that is none. `parse` is
 * for who may have to do with more than Ethernet.
 */
export function chooseMac(
  candidates: readonly { key: string; value: string | undefined }[],
  parse: (text: string) => string | undefined = parseMac,
): string | undefined {
  let chosen: { key: string; value: string } | undefined
  for (const { key, value } of candidates) if (value !== undefined && value !== '') chosen = { key, value }
  if (!chosen) return undefined
  const { key, value } = chosen
  const mac = parse(value)
  if (mac) return mac
  const bytes = parse === parseMac ? 'six' : '6, 8 or 20'
  throw new CniError(
    code.invalidConfiguration,
    `${key}: invalid args ${value} for MAC addr: address ${value}: invalid MAC address: must be a hardware address of ${bytes} bytes`,
  )
}

/** The MAC of CNI_ARGS as a candidate for `chooseMac`. */
export function macArgument(args: string): { key: string; value: string | undefined } {
  return { key: 'CNI_ARGS: MAC', value: parseArguments(args, ['MAC']).MAC }
}

/** A random hardware address: locally administered, unicast. */
export function randomMac(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(6))
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 2
  return bytes.toHex().replace(/..(?!$)/g, '$&:')
}
