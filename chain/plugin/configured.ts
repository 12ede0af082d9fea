/** What is derived from pieces of configuration that several plugins have. */

import type { z } from 'zod/mini'
import { canonicalCidr } from '../ip/text.ts'
import { CniError, code } from '../protocol/error.ts'
import type { Dns, Route } from '../protocol/result.ts'
import type { dns, routes } from './schema.ts'

/**
 * The `dns` that a configuration names; undefined when it names nothing. A list that is empty is named: what a plugin takes
 * instead of the IPAM plugin's answer may be nothing.
 */
export function configuredDns(configured: z.infer<typeof dns>): Dns | undefined {
  const named = Object.entries(configured ?? {}).filter(([, value]) => value !== undefined && value !== '')
  return named.length > 0
    ? (Object.fromEntries(named.filter(([, value]) => value?.length)) as Dns)
    : undefined
}

/** Configured routes as a result has them; destinations keep their host bits, as the Go plugin leaves them. */
export function configuredRoutes(configured: z.infer<typeof routes>): Route[] {
  return configured.map(given => {
    const named = Object.entries(given).filter(([, value]) => value !== undefined && value !== '')
    return { ...(Object.fromEntries(named) as unknown as Route), dst: canonicalCidr(given.dst) ?? given.dst }
  })
}

/** The kernel's number of a mode. Not part of the schema: DEL must not stumble over a mode that ADD has refused. */
export function modeNumber(
  mode: string,
  { modes, kind }: { modes: Readonly<Record<string, number>>; kind: string },
): number {
  const number = Object.hasOwn(modes, mode) ? modes[mode] : undefined
  if (number !== undefined) return number
  throw new CniError(code.invalidConfiguration, `mode: unknown ${kind} mode: ${JSON.stringify(mode)}`, {
    details: `it must be one of ${Object.keys(modes).join(', ')}`,
  })
}
