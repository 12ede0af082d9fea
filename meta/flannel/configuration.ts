/** flannel's configuration, and the places of its files. DEL and GC need the folder alone, and take any other nonsense. */
import type { z } from 'zod/mini'
import type { BaseRequest } from '../../chain/plugin/define.ts'
import type { routes } from '../../chain/plugin/schema.ts'
import { isStateFolder } from '../../chain/plugin/state.ts'
import { decode } from '../../chain/protocol/checks.ts'
import type { JsonObject } from '../../chain/protocol/configuration.ts'
import { strict } from './checks.ts'
import type { anyConfiguration } from './schema.ts'

/** A request of whatever verb. */
export type Given = BaseRequest<z.infer<typeof anyConfiguration>>

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
export async function configurationOf({ config }: Given): Promise<FlannelConfiguration> {
  const { subnetFile, delegate, ipam, runtimeConfig } = await decode(strict, config)
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
