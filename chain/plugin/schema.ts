/** Pieces of configuration that several plugins have, as schemas; and what is derived from them. */
import * as z from 'zod/mini'
import { parseMac } from '../protocol/address.ts'
import { parseArguments } from '../protocol/environment.ts'
import { CniError, code } from '../protocol/error.ts'
import type { Dns } from '../protocol/result.ts'

/** `ipam`: only its type concerns the plugin that delegates. */
export const ipam = z.optional(z.object({ type: z.optional(z.string()) }))

export const dns = z.optional(
  z.object({
    nameservers: z.optional(z.array(z.string())),
    domain: z.optional(z.string()),
    search: z.optional(z.array(z.string())),
    options: z.optional(z.array(z.string())),
  }),
)

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
