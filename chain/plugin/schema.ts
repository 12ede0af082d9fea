/** Pieces of configuration that several plugins have, as schemas; and what is derived from them. */
import * as z from 'zod/mini'
import { CniError, code } from '../protocol/error.ts'
import type { Dns } from '../protocol/result.ts'

export { chooseMac, macArgument } from './mac.ts'

/** Text that may be absent, and a list of texts. Each schema costs every call 0.02 ms: keys that are alike share one. */
export const text = z.optional(z.string())
export const texts = z.optional(z.array(z.string()))

/** `ipam`: only its type concerns the plugin that delegates. */
export const ipam = z.optional(z.object({ type: text }))

export const dns = z.optional(z.object({ nameservers: texts, domain: text, search: texts, options: texts }))

/** 0 leaves the kernel's choice. */
export const mtu = z._default(z.int().check(z.minimum(0), z.maximum(0x7fffffff)), 0)

export const flag = z._default(z.boolean(), false)

/** The `dns` that a configuration names; undefined when it names nothing. */
export function configuredDns(configured: z.infer<typeof dns>): Dns | undefined {
  const named = Object.entries(configured ?? {}).filter(
    ([, value]) => value !== undefined && value.length > 0,
  )
  return named.length > 0 ? (Object.fromEntries(named) as Dns) : undefined
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
