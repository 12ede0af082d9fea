/** vrf's configuration: its keys and bounds. */
import * as z from 'zod/mini'
import { tableNumber } from '../../chain/interface/schema.ts'

export const configuration = z.object({
  vrfname: z._default(z.string(), ''),
  /** 0: the first that is free. */
  table: tableNumber(0),
})

export type Configuration = z.infer<typeof configuration>
