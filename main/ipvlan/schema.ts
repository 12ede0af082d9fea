/** ipvlan's configuration: its keys and bounds. */
import * as z from 'zod/mini'
import { dns, flag, ipam, mtu, text } from '../../chain/plugin/schema.ts'

export const configuration = z.object({
  master: text,
  mode: z._default(z.string(), ''),
  mtu,
  linkInContainer: flag,
  dns,
  ipam,
})

export type Configuration = z.infer<typeof configuration>
