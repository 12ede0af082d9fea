/**
 * Results and configurations of attachments on disk, in libcni's place and format, so that a container which one runtime
 * added is deleted by the other. Unlike libcni's they are written atomically: no power cut leaves half a file.
 */
import {
  ensureFolder,
  fileNameFor,
  listFolder,
  readState,
  removeFile,
  TEMPORARY_PREFIX,
  writeAtomically,
} from '../linux/files.ts'
import { isObject, type JsonObject, lookup } from '../protocol/configuration.ts'
import { CniError, code, toCniError } from '../protocol/error.ts'
import { parseResult, printJson, resultDocument, sortKeys } from '../protocol/result.ts'
import type { CachedAttachment } from './attachment.ts'

const CACHE_FOLDER = '/var/lib/cni' // libcni's CacheDir
const KIND = 'cniCacheV1' // libcni's CNICacheV1

/** What tells attachments apart. */
export interface AttachmentKey {
  network: string
  containerId: string
  ifname: string
}

export interface CachePlace {
  cacheFolder?: string | undefined
}

function folderIn({ cacheFolder }: CachePlace): string {
  return `${cacheFolder || CACHE_FOLDER}/results`
}

function fileOf({ network, containerId, ifname }: AttachmentKey, place: CachePlace): string {
  return `${folderIn(place)}/${fileNameFor(`${network}-${containerId}-${ifname}`)}`
}

/** Keeps an attachment; it replaces what was there. Byte for byte what libcni writes. */
export function writeCached(attachment: CachedAttachment, place: CachePlace): void {
  const { network, containerId, ifname, netns, args = [], capabilityArgs = {}, configuration } = attachment
  const document = {
    kind: KIND,
    containerId,
    config: Buffer.from(configuration).toString('base64'),
    ifName: ifname,
    networkName: network,
    ...(netns ? { netns } : {}),
    ...(args.length > 0 ? { cniArgs: args } : {}),
    ...(Object.keys(capabilityArgs).length > 0 ? { capabilityArgs: sortKeys(capabilityArgs) } : {}),
    ...(attachment.result ? { result: sortKeys(attachment.result) } : {}),
  }
  ensureFolder(folderIn(place), 0o700)
  writeAtomically(fileOf(attachment, place), printJson(document, 0), { mode: 0o600 })
}

/** What is known of an attachment; undefined for nothing. Code 6 when the file cannot be understood. */
export function readCached(key: AttachmentKey, place: CachePlace): CachedAttachment | undefined {
  const file = fileOf(key, place)
  const text = readState(file)
  if (text === undefined) return undefined
  const json = parse(text)
  if (json) return decodeCached(json) ?? { ...key, configuration: '', result: json } // the oldest format: a bare result
  throw new CniError(code.decoding, `cannot read the cached result in ${file}`, {
    details: text === '' ? 'it is empty, or not a file' : 'it is not a JSON object',
  })
}

/** Forgets an attachment. */
export function removeCached(key: AttachmentKey, place: CachePlace): 'removed' | 'absent' {
  return removeFile(fileOf(key, place))
}

const LONG = 200 // characters of a name that may have been cut

/** All cached attachments, or one container's, or one network's, sorted by file name. What cannot be read is left out. */
export function listCached(
  { containerId, network }: { containerId?: string | undefined; network?: string | undefined },
  place: CachePlace,
): CachedAttachment[] {
  const folder = folderIn(place)
  return (listFolder(folder) ?? [])
    .filter(name => !name.startsWith(TEMPORARY_PREFIX))
    .filter(name => containerId === undefined || name.includes(`-${containerId}-`) || name.length > LONG)
    .sort()
    .map(name => decodeCached(parse(readState(`${folder}/${name}`) ?? '') ?? {}))
    .filter(found => found !== undefined)
    .filter(found => containerId === undefined || found.containerId === containerId)
    .filter(found => network === undefined || found.network === network)
}

/** A file of the cache, for who wants to know of broken ones too. */
export interface CacheFile {
  path: string
  /** Absent where the file cannot be understood. */
  attachment?: CachedAttachment
}

/** All files of the cache, sorted by name. */
export function listCacheFiles(place: CachePlace): CacheFile[] {
  const folder = folderIn(place)
  return (listFolder(folder) ?? [])
    .filter(name => !name.startsWith(TEMPORARY_PREFIX))
    .sort()
    .map(name => {
      const path = `${folder}/${name}`
      const attachment = decodeCached(parse(readState(path) ?? '') ?? {})
      return attachment ? { path, attachment } : { path }
    })
}

/** A cached result in the version of its network; undefined when there is none. */
export function cachedResult(
  cached: CachedAttachment | undefined,
  { name, cniVersion }: { name: string; cniVersion: string },
): JsonObject | undefined {
  if (!cached?.result) return undefined
  try {
    return resultIn(cached.result, cniVersion)
  } catch (thrown) {
    const { code: number, message } = toCniError(thrown)
    throw new CniError(number, `failed to get network "${name}" cached result`, {
      details: message,
      cause: thrown,
    })
  }
}

/** A result in a version: as it is when it is of that version (checked all the same), else converted. */
export function resultIn(result: JsonObject, cniVersion: string): JsonObject {
  const named = lookup(result, 'cniVersion')
  const own = typeof named === 'string' && named !== '' ? named : cniVersion
  const parsed = parseResult(result, own, 'result')
  if (own !== cniVersion) return resultDocument(parsed, cniVersion)
  return named === own ? result : { ...result, cniVersion }
}

function parse(text: string): JsonObject | undefined {
  try {
    const json: unknown = JSON.parse(text)
    return isObject(json) ? json : undefined
  } catch {
    return undefined
  }
}

/** A file in libcni's format; undefined for others, and for those without a name. */
function decodeCached(json: JsonObject): CachedAttachment | undefined {
  const { kind, containerId, ifName, networkName, netns, config, cniArgs, capabilityArgs, result } = json
  if (kind !== KIND || !isName(containerId) || !isName(ifName) || !isName(networkName)) return undefined
  return {
    network: networkName,
    containerId,
    ifname: ifName,
    configuration: typeof config === 'string' ? Buffer.from(config, 'base64').toString() : '',
    ...(isName(netns) ? { netns } : {}),
    ...(Array.isArray(cniArgs) ? { args: cniArgs.filter(isPair) } : {}),
    ...(isObject(capabilityArgs) ? { capabilityArgs } : {}),
    ...(isObject(result) ? { result } : {}),
  }
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

function isPair(value: unknown): value is [string, string] {
  return Array.isArray(value) && value.length === 2 && value.every(part => typeof part === 'string')
}
