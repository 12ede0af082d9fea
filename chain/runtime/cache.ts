/**
 * Results and configurations of attachments on disk, in libcni's place and format, so that a container which one runtime
 * added is deleted by the other. Unlike libcni's they are written atomically: no power cut leaves half a file.
 */
import { ensureFolder, listFolder, readFile, removeFile, writeAtomically } from '../linux/files.ts'
import { type JsonObject, lookup } from '../protocol/configuration.ts'
import { CniError, code, toCniError } from '../protocol/error.ts'
import { parseResult, printJson, type Result, resultDocument, sortKeys } from '../protocol/result.ts'

export const CACHE_FOLDER = '/var/lib/cni'
const KIND = 'cniCacheV1'

/** What tells attachments apart. */
export interface AttachmentKey {
  network: string
  containerId: string
  /** The interface's name inside the container. */
  interface: string
}

/** What the cache knows of an attachment. */
export interface CachedAttachment extends AttachmentKey {
  netns: string | undefined
  args: readonly (readonly [string, string])[] | undefined
  capabilityArgs: Readonly<Record<string, unknown>> | undefined
  /** The text of the network's configuration at the time of ADD; undefined in files of old runtimes. */
  config: string | undefined
  /** The result of the last plugin, as it was written. */
  result: JsonObject | undefined
}

export interface CachePlace {
  cacheDir?: string | undefined
}

function folderIn({ cacheDir }: CachePlace): string {
  return `${cacheDir || CACHE_FOLDER}/results`
}

function fileOf({ network, containerId, interface: name }: AttachmentKey, place: CachePlace): string {
  return `${folderIn(place)}/${network}-${containerId}-${name}`
}

/** Keeps an attachment; it replaces what was there. */
export function writeCached(attachment: CachedAttachment, place: CachePlace): void {
  const { network, containerId, interface: name, netns, args, capabilityArgs, config, result } = attachment
  const document = {
    kind: KIND,
    containerId,
    config: Buffer.from(config ?? '').toString('base64'),
    ifName: name,
    networkName: network,
    ...(netns ? { netns } : {}),
    ...(args && args.length > 0 ? { cniArgs: args } : {}),
    ...(capabilityArgs && Object.keys(capabilityArgs).length > 0
      ? { capabilityArgs: sortKeys(capabilityArgs) }
      : {}),
    ...(result ? { result: sortKeys(result) } : {}),
  }
  ensureFolder(folderIn(place), 0o700)
  writeAtomically(fileOf(attachment, place), printJson(document, 0), { mode: 0o600 })
}

/** What is known of an attachment; undefined for nothing. Throws code 6 when the file cannot be understood. */
export function readCached(key: AttachmentKey, place: CachePlace): CachedAttachment | undefined {
  const file = fileOf(key, place)
  const text = readFile(file)
  if (text === undefined) return undefined
  const json = parse(text)
  if (!json) {
    const details = text === '' ? 'it is empty' : 'it is not JSON'
    throw new CniError(code.decoding, `cannot read the cached result in ${file}`, { details })
  }
  return decodeCached(json) ?? { ...key, ...nothingElse, result: json } // the oldest format: a result by itself
}

const nothingElse = { netns: undefined, args: undefined, capabilityArgs: undefined, config: undefined }

/** Forgets an attachment. */
export function removeCached(key: AttachmentKey, place: CachePlace): 'removed' | 'absent' {
  return removeFile(fileOf(key, place))
}

/** All attachments that the cache knows, or those of one container, sorted by file name. What cannot be read is left out. */
export function listCached(place: CachePlace, containerId?: string): CachedAttachment[] {
  const folder = folderIn(place)
  return (listFolder(folder) ?? [])
    .filter(name => containerId === undefined || name.includes(`-${containerId}-`, 1))
    .sort()
    .map(name => decodeCached(parse(readFile(`${folder}/${name}`) ?? '') ?? {}))
    .filter(found => found !== undefined)
    .filter(found => containerId === undefined || found.containerId === containerId)
}

/** A cached result in the newest shape; undefined when there is none. */
export function cachedResult(cached: CachedAttachment | undefined, cniVersion: string): Result | undefined {
  if (!cached?.result) return undefined
  try {
    return parseResult(cached.result, versionOf(cached.result, cniVersion), 'cached result')
  } catch (thrown) {
    throw new CniError(toCniError(thrown).code, `failed to get network "${cached.network}" cached result`, {
      details: toCniError(thrown).message,
      cause: thrown,
    })
  }
}

/** A result's document in a version: as it is when it is of that version, else converted. */
export function documentIn(result: JsonObject, cniVersion: string): JsonObject {
  const own = versionOf(result, cniVersion)
  if (own !== cniVersion) return resultDocument(parseResult(result, own), cniVersion)
  return lookup(result, 'cniVersion') ? result : { ...result, cniVersion }
}

/** The version that a result names, or that of its configuration. */
export function versionOf(result: JsonObject, cniVersion: string): string {
  const own = lookup(result, 'cniVersion')
  return typeof own === 'string' && own !== '' ? own : cniVersion
}

function parse(text: string): JsonObject | undefined {
  try {
    const json: unknown = JSON.parse(text)
    return typeof json === 'object' && json !== null && !Array.isArray(json)
      ? (json as JsonObject)
      : undefined
  } catch {
    return undefined
  }
}

/** A file in libcni's format; undefined for others, and for those without a key. */
function decodeCached(json: JsonObject): CachedAttachment | undefined {
  const { kind, containerId, ifName, networkName, netns, config, cniArgs, capabilityArgs, result } = json
  if (kind !== KIND || typeof containerId !== 'string') return undefined
  if (typeof ifName !== 'string' || typeof networkName !== 'string' || !ifName || !networkName)
    return undefined
  return {
    network: networkName,
    containerId,
    interface: ifName,
    netns: typeof netns === 'string' && netns ? netns : undefined,
    args: Array.isArray(cniArgs) ? cniArgs.filter(isPair) : undefined,
    capabilityArgs: isObject(capabilityArgs) ? capabilityArgs : undefined,
    config: typeof config === 'string' ? Buffer.from(config, 'base64').toString() : undefined,
    result: isObject(result) ? result : undefined,
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isPair(value: unknown): value is [string, string] {
  return Array.isArray(value) && value.length === 2 && value.every(part => typeof part === 'string')
}
