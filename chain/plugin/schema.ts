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

/** 0 leaves the kernel's choice; below it too, or it is refused, as the plugin's interface stands alone or on a master. */
export const mtu = z._default(z.int().check(z.maximum(0x7fffffff)), 0)

/** `ipMasqBackend`, for `knownMasqueradeBackend` to look at. */
export const masqueradeBackend = z.optional(
  z.custom<'' | 'iptables' | 'nftables'>(value => typeof value === 'string', 'must be a string'),
)

/** What is no backend is refused where addresses are to be masqueraded; elsewhere nobody looks. */
export const knownMasqueradeBackend = z.refine<{
  ipMasq: boolean
  ipMasqBackend?: '' | 'iptables' | 'nftables' | undefined
}>(({ ipMasq, ipMasqBackend = '' }) => !ipMasq || ['', 'iptables', 'nftables'].includes(ipMasqBackend), {
  path: ['ipMasqBackend'],
  error: ({ input }) =>
    `unknown ipmasq backend ${JSON.stringify((input as { ipMasqBackend: string }).ipMasqBackend)}, must be iptables or nftables`,
})

export const flag = z._default(z.boolean(), false)

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
