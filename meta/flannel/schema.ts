/** flannel's configuration: its keys and bounds. DEL and GC need the folder alone, and take any other nonsense. */
import * as z from 'zod/mini'
import { folder, routes, text } from '../../chain/plugin/schema.ts'
import { isOfAnotherType, leavesNameAndIpam } from './delegate-rules.ts'

/** What the frame decodes before any verb: everything passes, so that no configuration keeps DEL from deleting. */
export const anyConfiguration = z.object({
  subnetFile: z.optional(z.unknown()),
  dataDir: z.optional(z.unknown()),
  delegate: z.optional(z.unknown()),
  ipam: z.optional(z.unknown()),
  runtimeConfig: z.optional(z.unknown()),
})

const anyObject = z.record(z.string(), z.unknown())

const delegate = z._default(anyObject, {}).check(
  z.refine(leavesNameAndIpam, {
    message: "must have neither 'name' nor 'ipam', which flannel sets itself",
  }),
  z.refine(isOfAnotherType, {
    path: ['type'],
    message: 'must be the name of a plugin other than flannel',
  }),
)

export const strict = z.object({
  subnetFile: text,
  dataDir: z.optional(folder),
  delegate,
  ipam: z.optional(z.object({ type: text, routes })),
  runtimeConfig: z.optional(anyObject),
})
