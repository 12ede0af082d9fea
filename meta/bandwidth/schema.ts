/** bandwidth's configuration: its keys and bounds. */
import * as z from 'zod/mini'
import { isNetwork, isWhole } from './rules.ts'

/** Bits. Up to 64 of them, which is more than a number tells apart: what counts is that it is a whole one. */
const bits = z.optional(
  z.number().check(z.minimum(0), z.maximum(2 ** 64), z.refine(isWhole, 'must be an integer')),
)
const subnets = z.optional(
  z.array(z.string().check(z.refine(isNetwork, 'must be an address with prefix length'))),
)

/** Bits per second and bits. Ingress is traffic to the container. */
const entry = {
  ingressRate: bits,
  ingressBurst: bits,
  egressRate: bits,
  egressBurst: bits,
  /** Traffic from and to these is not limited. */
  unshapedSubnets: subnets,
  /** Only traffic from and to these is. */
  shapedSubnets: subnets,
}

export const configuration = z.object({
  ...entry,
  runtimeConfig: z.optional(z.object({ bandwidth: z.optional(z.object(entry)) })),
})

export type Entry = z.infer<z.ZodMiniObject<typeof entry>>
export type Configuration = z.infer<typeof configuration>
