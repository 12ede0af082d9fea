/** Pieces of configuration that several plugins have, as schemas. */
import * as z from 'zod/mini'
import { isAddressOrEmpty, isChainName, isCidr, isKnownMasqueradeBackend, isText } from './rules.ts'
import { isStateFolder } from './state.ts'

export const text = z.optional(z.string())
export const texts = z.optional(z.array(z.string()))
export const flag = z._default(z.boolean(), false)
export const number = z.optional(z.int())

/** `ipam`: only its type concerns the plugin that delegates. */
export const ipam = z.optional(z.object({ type: text }))

export const dns = z.optional(z.object({ nameservers: texts, domain: text, search: texts, options: texts }))

/** 0 leaves the kernel's choice; below it too, or it is refused, as the plugin's interface stands alone or on a master. */
export const mtu = z._default(z.int().check(z.maximum(0x7fffffff)), 0)

/** `ipMasqBackend`, for `knownMasqueradeBackend` to look at. */
export const masqueradeBackend = z.optional(
  z.custom<'' | 'iptables' | 'nftables'>(isText, 'must be a string'),
)

export const knownMasqueradeBackend = z.refine<{
  ipMasq: boolean
  ipMasqBackend?: '' | 'iptables' | 'nftables' | undefined
}>(isKnownMasqueradeBackend, {
  path: ['ipMasqBackend'],
  error: ({ input }) =>
    `unknown ipmasq backend ${JSON.stringify((input as { ipMasqBackend: string }).ipMasqBackend)}, must be iptables or nftables`,
})

export const chainName = z
  .string()
  .check(
    z.refine(
      isChainName,
      'must be the name of a chain: 28 printable characters of ASCII at most, not beginning with ! or -',
    ),
  )

/** A folder for state. */
export const folder = z.string().check(z.refine(isStateFolder, 'must be an absolute path'))

/** `routes` of the IPAM plugins: copied into the result. */
export const routes = z._default(
  z.array(
    z.object({
      dst: z.string().check(
        z.refine(isCidr, {
          error: ({ input }) => `invalid CIDR address: ${input}: must be a network with prefix`,
        }),
      ),
      gw: z.optional(
        z
          .string()
          .check(z.refine(isAddressOrEmpty, { error: ({ input }) => `invalid IP address: ${input}` })),
      ),
      mtu: number,
      advmss: number,
      priority: number,
      table: number,
      scope: number,
    }),
  ),
  [],
)

/** An IPAM plugin's, before any verb: everything passes, so that no configuration keeps DEL from freeing. */
export const anyIpam = z.object({
  ipam: z.optional(z.unknown()),
  args: z.optional(z.unknown()),
  runtimeConfig: z.optional(z.unknown()),
})
