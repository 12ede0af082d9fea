/** tap's configuration: its keys and bounds. */
import * as z from 'zod/mini'
import { dns, flag, ipam, mtu, text } from '../../chain/plugin/schema.ts'

/** (uid_t)-1: no user and no group, so that none is set. */
const UNSET = 0xffffffff

/** A user's or a group's number. */
const id = z.optional(z.int().check(z.minimum(0), z.maximum(UNSET)))

export const configuration = z.object({
  multiQueue: flag,
  mtu,
  mac: text,
  owner: id,
  group: id,
  selinuxContext: text,
  /** A bridge inside the container. */
  bridge: text,
  dns,
  ipam,
  runtimeConfig: z.optional(z.object({ mac: text })),
})

export type Configuration = z.infer<typeof configuration>
