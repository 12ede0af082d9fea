/**
 * The public interface of the runtime: what libcni's CNI interface is in Go. A network list (or a single network) is run
 * forwards and backwards over an attachment; results are kept where libcni keeps them.
 */
import type { JsonObject } from '../protocol/configuration.ts'
import { addNetworkList, checkNetworkList, delNetworkList } from './attach.ts'
import type { AddOptions, CachedAttachment, RuntimeAttachment, RuntimeOptions } from './attachment.ts'
import { type CacheFile, cachedResult, listCached, listCacheFiles, readCached } from './cache.ts'
import { listFromNetwork, type Network, type NetworkList } from './load.ts'

export { type Builtins, findPlugin, isSameFile } from '../invoke/invoke.ts'
export { CniError } from '../protocol/error.ts'
export { parseResult, type Result } from '../protocol/result.ts'
export { addNetworkList, checkNetworkList, delNetworkList } from './attach.ts'
export type * from './attachment.ts'
export {
  listFromNetwork,
  listNetworkFiles,
  loadNetworkFile,
  loadNetworkList,
  type Network,
  type NetworkList,
  parseNetwork,
  parseNetworkList,
} from './load.ts'
export {
  collectGarbageOfPlugins,
  delIfStill,
  gcNetworkList,
  getStatusNetworkList,
  hasMaintenance,
  pluginVersions,
  validateNetworkList,
} from './maintain.ts'
export type { CacheFile }

/** The cache keeps the text that the caller has. */
function listFor(network: Network): NetworkList {
  return { ...listFromNetwork(network), text: network.text }
}

/** As addNetworkList, for a single plugin's configuration. */
export async function addNetwork(
  network: Network,
  attachment: RuntimeAttachment,
  options: AddOptions,
): Promise<JsonObject> {
  return addNetworkList(listFor(network), attachment, options)
}

/** As checkNetworkList, for a single plugin's configuration. */
export async function checkNetwork(
  network: Network,
  attachment: RuntimeAttachment,
  options: RuntimeOptions,
): Promise<void> {
  return checkNetworkList(listFor(network), attachment, options)
}

/** As delNetworkList, for a single plugin's configuration. */
export async function delNetwork(
  network: Network,
  attachment: RuntimeAttachment,
  options: RuntimeOptions,
): Promise<void> {
  return delNetworkList(listFor(network), attachment, options)
}

/** The cached result of an attachment in the network's version; undefined when there is none. */
export function getCachedResult(
  network: { name: string; cniVersion: string },
  attachment: RuntimeAttachment,
  options: { cacheFolder?: string | undefined } = {},
): JsonObject | undefined {
  return cachedResult(readCached({ ...attachment, network: network.name }, options), network)
}

/** All cached attachments, or one container's or network's, sorted by file name. */
export function listAttachments(
  filter: { containerId?: string | undefined; network?: string | undefined } = {},
  options: { cacheFolder?: string | undefined } = {},
): CachedAttachment[] {
  return listCached(filter, options)
}

/** The files that attachments are kept in, with those that cannot be understood. */
export function listAttachmentFiles(options: { cacheFolder?: string | undefined } = {}): CacheFile[] {
  return listCacheFiles(options)
}
