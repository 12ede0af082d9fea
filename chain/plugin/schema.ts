/** Pieces of configuration that several plugins have, as schemas; and what is derived from them. */
import * as z from 'zod/mini'
import { formatCidr, parseAddress, parseCidr, parseMac } from '../protocol/address.ts'
import { parseArguments } from '../protocol/environment.ts'
import { CniError, code } from '../protocol/error.ts'
import type { Dns, Route } from '../protocol/result.ts'

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

/** `routes` of the IPAM plugins: copied into the result. */
export const routes = z._default(
  z.array(
    z.object({
      dst: z.string().check(z.refine(text => parseCidr(text) !== undefined, 'must be a network with prefix')),
      gw: z.optional(
        z
          .string()
          .check(z.refine(text => text === '' || parseAddress(text) !== undefined, 'must be an address')),
      ),
      mtu: z.optional(z.int()),
      advmss: z.optional(z.int()),
      priority: z.optional(z.int()),
      table: z.optional(z.int()),
      scope: z.optional(z.int()),
    }),
  ),
  [],
)

/** Configured routes as a result has them; destinations keep their host bits, as the reference leaves them. */
export function configuredRoutes(configured: z.infer<typeof routes>): Route[] {
  return configured.map(given => {
    const dst = parseCidr(given.dst)
    const named = Object.entries(given).filter(([, value]) => value !== undefined && value !== '')
    return { ...(Object.fromEntries(named) as unknown as Route), dst: dst ? formatCidr(dst) : given.dst }
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
