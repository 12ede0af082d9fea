/**
 * The public interface of the runtime: what libcni's CNI interface is in Go. A network list (or a single network) is run
 * forwards and backwards over an attachment; results are kept where libcni keeps them.
 */
import type { JsonObject } from '../protocol/configuration.ts'
import type {
  AddOptions,
  Attachment,
  CachedAttachment,
  RuntimeOptions,
  ValidAttachment,
} from './attachment.ts'
import type { Network, NetworkList } from './load.ts'

export { CniError } from '../protocol/error.ts'
export { parseResult, type Result } from '../protocol/result.ts'
export type * from './attachment.ts'
export {
  listNetworkFiles,
  loadNetworkFile,
  loadNetworkList,
  type Network,
  type NetworkList,
  parseNetwork,
  parseNetworkList,
} from './load.ts'

const later = (): never => {
  throw new Error('not there yet')
}

/**
 * Runs ADD over the plugins and answers the last one's result, as it printed it; `parseResult(result, result.cniVersion)`
 * gives it in one shape for all versions. An attachment that is alive already is refused.
 */
export async function addNetworkList(
  _list: NetworkList,
  _attachment: Attachment,
  _options: AddOptions,
): Promise<JsonObject> {
  return later()
}

/** Runs CHECK over the plugins with the cached result; throws the first failure. Versions before 0.4.0 have no CHECK: code 1. */
export async function checkNetworkList(
  _list: NetworkList,
  _attachment: Attachment,
  _options: RuntimeOptions,
): Promise<void> {
  return later()
}

/** Runs DEL over the plugins backwards and forgets the result; throws the first failure, and keeps the result then. */
export async function delNetworkList(
  _list: NetworkList,
  _attachment: Attachment,
  _options: RuntimeOptions,
): Promise<void> {
  return later()
}

/**
 * Deletes cached attachments of this network that are not among the valid ones (without a list: all of them), then runs GC
 * over the plugins from version 1.1.0 on. Everything is tried; throws all failures as one.
 */
export async function gcNetworkList(
  _list: NetworkList,
  _valid: readonly ValidAttachment[] | undefined,
  _options: RuntimeOptions,
): Promise<void> {
  return later()
}

/** Runs STATUS over the plugins; throws the first failure with its code (50, 51). Before version 1.1.0 every network is ready. */
export async function getStatusNetworkList(_list: NetworkList, _options: RuntimeOptions): Promise<void> {
  return later()
}

/** Asks each plugin for its versions; answers the capabilities that any of them declares, or throws all failures as one. */
export async function validateNetworkList(_list: NetworkList, _options: RuntimeOptions): Promise<string[]> {
  return later()
}

/** As addNetworkList, for a single plugin's configuration. */
export async function addNetwork(
  _network: Network,
  _attachment: Attachment,
  _options: AddOptions,
): Promise<JsonObject> {
  return later()
}

/** As checkNetworkList, for a single plugin's configuration. */
export async function checkNetwork(
  _network: Network,
  _attachment: Attachment,
  _options: RuntimeOptions,
): Promise<void> {
  return later()
}

/** As delNetworkList, for a single plugin's configuration. */
export async function delNetwork(
  _network: Network,
  _attachment: Attachment,
  _options: RuntimeOptions,
): Promise<void> {
  return later()
}

/** The cached result of an attachment in the network's version; undefined when there is none. */
export function getCachedResult(
  _network: { name: string; cniVersion: string },
  _attachment: Attachment,
  _options: { cacheFolder?: string | undefined } = {},
): JsonObject | undefined {
  return later()
}

/** All cached attachments, or one container's, sorted by file name. */
export function listAttachments(
  _filter: { containerId?: string | undefined; network?: string | undefined } = {},
  _options: { cacheFolder?: string | undefined } = {},
): CachedAttachment[] {
  return later()
}
