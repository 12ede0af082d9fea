/** macvlan's configuration: its keys and bounds. */
import * as z from 'zod/mini'
import { dns, flag, ipam, mtu, text } from '../../chain/plugin/schema.ts'

export const configuration = z.object({
  master: text,
  mode: z._default(z.string(), ''),
  mtu,
  mac: text,
  linkInContainer: flag,
  /** Packets of broadcasts that wait in the kernel; 0: its choice. */
  bcqueuelen: z._default(z.int().check(z.minimum(0), z.maximum(0xffffffff)), 0),
  dns,
  ipam,
  runtimeConfig: z.optional(z.object({ mac: text })),
})

export type Configuration = z.infer<typeof configuration>
