/** Network configuration lists as data: what a .conflist or .conf says, held against the specification. Pure: knows no files. */
import { type JsonObject, lookup } from '../protocol/configuration.ts'
import { CniError, code } from '../protocol/error.ts'
import { compareVersions, newestVersion } from '../protocol/version.ts'

/** A plugin of a list. */
export interface PluginConfiguration {
  /** The name of its executable. */
  type: string
  /** Its own name, which lists need not give. */
  name: string | undefined
  /** Capabilities that it declares; the runtime's arguments for those which are true reach it as `runtimeConfig`. */
  capabilities: Readonly<Record<string, boolean>>
  /** Everything that its object says, unknown keys included. */
  json: JsonObject
}

/** A network: plugins that run one after the other. */
export interface NetworkList {
  name: string
  /** The version that plugins are called with: the highest of `cniVersions` that this runtime has. */
  cniVersion: string
  disableCheck: boolean
  disableGC: boolean
  loadOnlyInlinedPlugins: boolean
  plugins: readonly PluginConfiguration[]
  /** The text that it was read from; the cache keeps it. */
  source: string
}

/** A single plugin that is a network by itself, as a .conf file holds it. */
export interface Network {
  name: string
  cniVersion: string
  plugin: PluginConfiguration
  source: string
}

const LIST = 'error parsing configuration list'
const SINGLE = 'error parsing configuration'

/** Reads the text of a .conflist. Code 6 for what is no JSON, 7 for what the specification does not allow. */
export function parseNetworkList(text: string): NetworkList {
  const json = parseObject(text, LIST)
  const name = json.name
  if (name === undefined || name === '') throw refused(`${LIST}: no name`)
  if (typeof name !== 'string') throw refused(`${LIST}: name: must be a string: got ${inJson(name)}`)
  const loadOnlyInlinedPlugins = readFlag(json, 'loadOnlyInlinedPlugins')
  return {
    name,
    cniVersion: chooseVersion(json),
    disableCheck: readFlag(json, 'disableCheck'),
    disableGC: readFlag(json, 'disableGC'),
    loadOnlyInlinedPlugins,
    plugins: readPlugins(json.plugins, loadOnlyInlinedPlugins),
    source: text,
  }
}

/** Reads the text of a .conf: one plugin. */
export function parseNetwork(text: string): Network {
  const json = parseObject(text, SINGLE)
  const plugin = pluginOf(json, SINGLE)
  const version = lookup(json, 'cniVersion') ?? ''
  if (typeof version !== 'string')
    throw refused(`${SINGLE}: cniVersion: must be a string: got ${inJson(version)}`)
  return { name: plugin.name ?? '', cniVersion: version || '0.1.0', plugin, source: text }
}

/** A single plugin as a list of one. */
export function listOf({ name, cniVersion, plugin, source }: Network): NetworkList {
  const flags = { disableCheck: false, disableGC: false, loadOnlyInlinedPlugins: false }
  return { name, cniVersion, ...flags, plugins: [plugin], source }
}

/** An object of a list's `plugins`, or of a file in a list's plugin folder. */
export function pluginOf(json: JsonObject, where: string): PluginConfiguration {
  const type = lookup(json, 'type')
  if (type === undefined || type === '') throw refused(`${where}: missing 'type'`)
  if (typeof type !== 'string') throw refused(`${where}: type: must be a string: got ${inJson(type)}`)
  const name = lookup(json, 'name')
  if (name !== undefined && typeof name !== 'string') {
    throw refused(`${where}: name: must be a string: got ${inJson(name)}`)
  }
  return { type, name: name || undefined, capabilities: readCapabilities(json, where), json }
}

/** Text as a JSON object; `where` begins the sentence that refuses it. */
export function parseObject(text: string, where: string): JsonObject {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (thrown) {
    const reason = text.trim() === '' ? 'it is empty' : String(thrown).replace(/^SyntaxError: /, '')
    throw new CniError(code.decoding, `${where}: it is not JSON: ${reason}`, { cause: thrown })
  }
  if (isObject(json)) return json
  throw new CniError(code.decoding, `${where}: it is not a JSON object`)
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function refused(message: string): CniError {
  return new CniError(code.invalidConfiguration, message)
}

function inJson(value: unknown): string {
  return JSON.stringify(value) ?? 'nothing'
}

/** The highest version of `cniVersions` and `cniVersion` that this runtime has; where it has none, what the list says. */
function chooseVersion(json: JsonObject): string {
  const single = json.cniVersion ?? ''
  if (typeof single !== 'string')
    throw refused(`${LIST}: cniVersion: must be a string: got ${inJson(single)}`)
  const several = json.cniVersions
  if (several === undefined || several === null) return single || '0.1.0'
  if (!Array.isArray(several) || !several.every(version => typeof version === 'string')) {
    throw refused(`${LIST}: cniVersions: must be a list of strings: got ${inJson(several)}`)
  }
  const candidates: string[] = [...several, ...(single === '' ? [] : [single])]
  const ours = candidates.filter(version => compareVersions(version, newestVersion) <= 0)
  return ours.sort(compareVersions).at(-1) ?? (single || '0.1.0')
}

/** true, false, or either as text, as libcni takes them. */
function readFlag(json: JsonObject, key: string): boolean {
  const value = json[key]
  if (value === undefined) return false
  if (typeof value === 'boolean') return value
  const text = typeof value === 'string' ? value.toLowerCase() : ''
  if (text === 'true' || text === 'false') return text === 'true'
  throw refused(`${LIST}: ${key}: must be true or false: got ${inJson(value)}`)
}

function readPlugins(value: unknown, required: boolean): PluginConfiguration[] {
  if (value === undefined && !required) return [] // the plugin folder may hold them
  if (value === undefined)
    throw refused(`${LIST}: no 'plugins' key, and loadOnlyInlinedPlugins forbids others`)
  if (!Array.isArray(value)) throw refused(`${LIST}: plugins: must be a list: got ${inJson(value)}`)
  if (value.length === 0) throw refused(`${LIST}: plugins: no plugins in list`)
  return value.map((item, index) => {
    if (!isObject(item)) throw refused(`${LIST}: plugins[${index}]: must be an object: got ${inJson(item)}`)
    return pluginOf(item, `${LIST}: plugins[${index}]`)
  })
}

function readCapabilities(json: JsonObject, where: string): Record<string, boolean> {
  const value = lookup(json, 'capabilities') ?? {}
  if (!isObject(value) || !Object.values(value).every(one => typeof one === 'boolean')) {
    throw refused(`${where}: capabilities: must be an object of true and false: got ${inJson(value)}`)
  }
  return value as Record<string, boolean>
}
