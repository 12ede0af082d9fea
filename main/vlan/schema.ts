/** vlan's configuration: its keys and bounds. */
import * as z from 'zod/mini'
import { dns, flag, ipam, mtu, text } from '../../chain/plugin/schema.ts'

export const configuration = z.object({
  master: text,
  vlanId: z._default(z.int(), 0),
  mtu,
  linkInContainer: flag,
  dns,
  ipam,
})

export type Configuration = z.infer<typeof configuration>
