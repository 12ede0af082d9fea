/** ptp's configuration: its keys and bounds. */
import * as z from 'zod/mini'
import { dns, flag, ipam, knownMasqueradeBackend, masqueradeBackend, mtu } from '../../chain/plugin/schema.ts'

export const configuration = z
  .object({ ipMasq: flag, ipMasqBackend: masqueradeBackend, mtu, dns, ipam })
  .check(knownMasqueradeBackend)

export type Configuration = z.infer<typeof configuration>
