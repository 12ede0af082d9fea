/** static's configuration: its keys and bounds. DEL, GC and STATUS have nothing to do, and no configuration may keep them from it. */
import * as z from 'zod/mini'
import { anyIpam, dns, routes, text, texts } from '../../chain/plugin/schema.ts'

/** What the frame decodes before any verb. */
export const anyConfiguration = anyIpam

export const configuration = z.object({
  ipam: z.object({
    addresses: z._default(z.array(z.object({ address: z._default(z.string(), ''), gateway: text })), []),
    routes,
    dns,
  }),
  args: z.optional(z.object({ cni: z.optional(z.object({ ips: texts })) })),
  runtimeConfig: z.optional(z.object({ ips: texts })),
})

export type Configuration = z.infer<typeof configuration>
