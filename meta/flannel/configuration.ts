/** flannel's configuration: its schema, and the places of its files. DEL and GC need the folder alone, and take any other nonsense. */
import * as z from 'zod/mini'
import type { BaseRequest } from '../../chain/plugin/define.ts'
import { routes } from '../../chain/plugin/routes.ts'
import { isStateFolder, stateFolder } from '../../chain/plugin/state.ts'
import { decode, type JsonObject, lookup } from '../../chain/protocol/configuration.ts'

/** What the frame decodes before any verb: everything passes, so that no configuration keeps DEL from deleting. */
export const anyConfiguration = z.object({
  subnetFile: z.optional(z.unknown()),
  dataDir: z.optional(z.unknown()),
  delegate: z.optional(z.unknown()),
  ipam: z.optional(z.unknown()),
  runtimeConfig: z.optional(z.unknown()),
})

/** A request of whatever verb. */
export type Given = BaseRequest<z.infer<typeof anyConfiguration>>

const anyObject = z.record(z.string(), z.unknown())

const delegate = z._default(anyObject, {}).check(
  z.refine(given => ['name', 'ipam'].every(key => lookup(given, key) === undefined), {
    message: "must have neither 'name' nor 'ipam', which flannel sets itself",
  }),
  z.refine(given => isType(lookup(given, 'type')), {
    path: ['type'],
    message: 'must be the name of a plugin other than flannel',
  }),
)

function isType(type: unknown): boolean {
  return type === undefined || (typeof type === 'string' && type !== '' && type !== 'flannel')
}

export const strict = z.object({
  subnetFile: z.optional(z.string()),
  dataDir: z.optional(z.string().check(z.refine(...stateFolder))),
  delegate,
  ipam: z.optional(z.object({ type: z.optional(z.string()), routes })),
  runtimeConfig: z.optional(anyObject),
})

export interface FlannelConfiguration {
  subnetFile: string
  /** As the user wrote it: all of it goes to the delegate. */
  delegate: JsonObject
  ipam: JsonObject
  /** The routes among `ipam`, checked. */
  routes: z.infer<typeof routes>
  runtimeConfig: JsonObject | undefined
}

const SUBNET_FILE = '/run/flannel/subnet.env' // flanneld's default, and the Go plugin's
const DATA_DIR = '/var/lib/cni/flannel' // the Go plugin's

/** The whole configuration. Code 7 for what it must not be. */
export function configurationOf({ config }: Given): FlannelConfiguration {
  const { subnetFile, delegate, ipam, runtimeConfig } = decode(strict, config)
  return {
    subnetFile: subnetFile || SUBNET_FILE,
    delegate,
    ipam: ipam ? (config.ipam as JsonObject) : {},
    routes: ipam?.routes ?? [],
    runtimeConfig,
  }
}

/** Where delegates' configurations are kept, whatever the rest of the configuration is. */
export function folderOf({ config: { dataDir } }: Given): string {
  return (typeof dataDir === 'string' && isStateFolder(dataDir) && dataDir) || DATA_DIR
}
