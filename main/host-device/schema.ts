/** host-device's configuration: its keys. */
import * as z from 'zod/mini'
import { dns, flag, ipam } from '../../chain/plugin/schema.ts'

const textOrEmpty = z._default(z.string(), '')
export const configuration = z.object({
  device: textOrEmpty,
  hwaddr: textOrEmpty,
  kernelpath: textOrEmpty,
  pciBusID: textOrEmpty,
  DPDKMode: flag,
  runtimeConfig: z.optional(z.object({ deviceID: textOrEmpty })),
  dns,
  ipam,
})

export type Configuration = z.infer<typeof configuration>
