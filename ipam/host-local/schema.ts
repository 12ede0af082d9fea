/** host-local's configuration: its keys and bounds. DEL and GC need the folder alone, and take any other nonsense. */
import * as z from 'zod/mini'
import { anyIpam, folder, routes, text, texts } from '../../chain/plugin/schema.ts'

/** What the frame decodes before any verb. */
export const anyConfiguration = anyIpam

const rangeKeys = { subnet: text, rangeStart: text, rangeEnd: text, gateway: text }
const rangeSets = z.optional(z.array(z.array(z.object(rangeKeys))))

/** What ADD, CHECK and STATUS hold it against. */
export const configuration = z.object({
  ipam: z.object({
    ...rangeKeys,
    ranges: rangeSets,
    routes,
    dataDir: z.optional(folder),
    resolvConf: text,
  }),
  args: z.optional(z.object({ cni: z.optional(z.object({ ips: texts })) })),
  runtimeConfig: z.optional(z.object({ ips: texts, ipRanges: rangeSets })),
})

export type Configuration = z.infer<typeof configuration>
