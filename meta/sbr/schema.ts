/** sbr's configuration: its keys and bounds. */
import * as z from 'zod/mini'
import { tableNumber } from '../../chain/interface/schema.ts'
import { flag, texts } from '../../chain/plugin/schema.ts'

export const configuration = z.object({
  /** A table that is filled already, for instance by the IPAM plugin's routes; absent: one for each address, filled from the main table. */
  table: tableNumber(1),
  /** Instead of prevResult's: at most one of each family. */
  gateways: texts,
  /** Leaves the routes to the interface's own networks in the main table as well, with its addresses as source. */
  addSourceHints: flag,
})

export type Configuration = z.infer<typeof configuration>
