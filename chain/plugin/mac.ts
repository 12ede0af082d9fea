/** The hardware address that a configuration or a runtime asks for. */
import { parseMac } from '../protocol/address.ts'
import { parseArguments } from '../protocol/environment.ts'
import { CniError, code } from '../protocol/error.ts'

/** A hardware address from one of several places: the last that has one counts. Names the place of one that is none. */
export function chooseMac(
  candidates: readonly { key: string; value: string | undefined }[],
): string | undefined {
  const chosen = candidates.findLast(({ value }) => value !== undefined && value !== '')
  if (chosen?.value === undefined) return undefined
  const mac = parseMac(chosen.value)
  if (mac) return mac
  throw new CniError(
    code.invalidConfiguration,
    `${chosen.key}: must be a hardware address of six bytes: got ${JSON.stringify(chosen.value)}`,
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
