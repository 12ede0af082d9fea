/** dhcp's configuration: its keys and bounds. */
import * as z from 'zod/mini'
import { text } from '../../chain/plugin/schema.ts'

/** auto: as the routers' advertisements say. dhcp: by DHCPv6. slaac: made of the prefixes that routers advertise. */
const modes = ['auto', 'dhcp', 'slaac'] as const
export type Mode = (typeof modes)[number]

/** The configuration of the IPAM type dhcp, as plugin and daemon read it. */
export const configuration = z.object({
  name: text,
  prevResult: z.optional(z.unknown()),
  ipam: z.object({
    daemonSocketPath: text,
    /** Metric of the routes; 0 and less say none. */
    priority: z.optional(z.int().check(z.maximum(0xffffffff))),
    provide: z.optional(
      z.array(
        z.object({
          option: z.string(),
          value: text,
          /** A key of CNI_ARGS whose value is sent. */
          fromArg: text,
        }),
      ),
    ),
    request: z.optional(z.array(z.object({ option: text, skipDefault: z.optional(z.boolean()) }))),
    /** An IPv4 address is asked for unless this says false. */
    ipv4: z.optional(z.boolean()),
    /** How IPv6 addresses come to be, if they are asked for. */
    ipv6: z.optional(z.literal([false, ...modes])),
  }),
})

export type Configuration = z.infer<typeof configuration>
