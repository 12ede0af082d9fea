/** tuning's configuration: its keys and bounds. */
import * as z from 'zod/mini'
import { folder, number, text } from '../../chain/plugin/schema.ts'

const yesOrNo = z.optional(z.boolean())
const size = z.optional(z.int().check(z.minimum(0), z.maximum(0x7fffffff)))
const attributeKeys = {
  sysctl: z.optional(z.record(z.string(), z.string())),
  mac: text,
  promisc: yesOrNo,
  mtu: size,
  allmulti: yesOrNo,
  /** Counts modulo 2^32, as in the Go plugin: -1 is the longest queue. */
  txQLen: number,
}

export const configuration = z.object({
  ...attributeKeys,
  /** Where backups are kept. */
  dataDir: z._default(folder, ''),
  runtimeConfig: z.optional(z.object({ mac: text })),
  args: z.optional(z.object({ cni: z.optional(z.object(attributeKeys)) })),
})

export type Configuration = z.infer<typeof configuration>
