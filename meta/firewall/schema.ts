/** firewall's configuration: its keys and bounds. */
import * as z from 'zod/mini'
import { chainName } from '../../chain/plugin/schema.ts'
import { ADMIN_CHAIN, isFreeChainName, isPolicyOrEmpty, type policies, ZONE } from './configuration.ts'

const freeChainName = chainName.check(
  z.refine(isFreeChainName, 'must not be a chain that has another meaning'),
)

export const configuration = z.object({
  /** One that is not known is none, as for the Go plugin: see `namedBackend`. */
  backend: z._default(z.string(), ''),
  iptablesAdminChainName: z._default(freeChainName, ADMIN_CHAIN),
  firewalldZone: z._default(z.string(), ZONE),
  ingressPolicy: z._default(
    z.custom<(typeof policies)[number]>(isPolicyOrEmpty, {
      error: ({ input }) =>
        `unknown ingress policy: ${JSON.stringify(input)}, must be open, same-bridge or isolated`,
    }),
    '',
  ),
})

export type FirewallConfiguration = z.infer<typeof configuration>
