/** `routes` of the IPAM plugins: its schema, and what becomes of it in a result. */

import * as z from 'zod/mini'
import { parseAddress, parseCidr } from '../ip/address.ts'
import { canonicalCidr } from '../ip/text.ts'
import type { Route } from '../protocol/result.ts'

const number = z.optional(z.int())

/** `routes` of the IPAM plugins: copied into the result. */
export const routes = z._default(
  z.array(
    z.object({
      dst: z.string().check(
        z.refine(text => parseCidr(text) !== undefined, {
          error: ({ input }) => `invalid CIDR address: ${input}: must be a network with prefix`,
        }),
      ),
      gw: z.optional(
        z.string().check(
          z.refine(text => text === '' || parseAddress(text) !== undefined, {
            error: ({ input }) => `invalid IP address: ${input}`,
          }),
        ),
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

/** Configured routes as a result has them; destinations keep their host bits, as the Go plugin leaves them. */
export function configuredRoutes(configured: z.infer<typeof routes>): Route[] {
  return configured.map(given => {
    const named = Object.entries(given).filter(([, value]) => value !== undefined && value !== '')
    return { ...(Object.fromEntries(named) as unknown as Route), dst: canonicalCidr(given.dst) ?? given.dst }
  })
}
