/** Network configurations from disk, found and read as libcni finds and reads them. Knows files and JSON; runs nothing. */
import { listFolder, readFile } from '../linux/files.ts'
import { SystemError } from '../linux/libc/errno.ts'
import { status } from '../linux/libc/status.ts'
import { isObject, type JsonObject, lookup } from '../protocol/configuration.ts'
import { CniError, code, toCniError } from '../protocol/error.ts'
import { compareVersions, newestVersion } from '../protocol/version.ts'

/** One plugin of a network, as the configuration has it. */
export interface PluginConfiguration {
  type: string
  /** The plugin's own name in a list, which hardly anybody sets; "" when absent. */
  name: string
  /** Which capability arguments it takes. */
  capabilities: Readonly<Record<string, boolean>>
  /** The whole object, with the keys that are unknown here. */
  raw: Readonly<JsonObject>
}

/** A network of several plugins (.conflist). */
export interface NetworkList {
  name: string
  /** The version that plugins are spoken to in; "" counts as 0.1.0. */
  cniVersion: string
  disableCheck: boolean
  disableGC: boolean
  /** No plugins from the folder beside the file. */
  loadOnlyInlinedPlugins: boolean
  plugins: readonly PluginConfiguration[]
  /** The configuration as it came: kept with results. */
  text: string
}

/** A network of a single plugin (.conf). */
export interface Network {
  name: string
  cniVersion: string
  plugin: PluginConfiguration
  text: string
}

/** The network of that name in a folder: .conflist files first, then .conf and .json. Any broken file on the way is an error. */
export function loadNetworkList(folder: string, name: string): NetworkList {
  const lists = listNetworkFiles(folder, ['.conflist'])
  for (const file of lists) {
    const list = loadNetworkFile(file)
    if (list.name === name) return list
  }
  const single = listNetworkFiles(folder, ['.conf', '.json'])
  for (const file of single) {
    const list = loadNetworkFile(file)
    if (list.name === name) return list
  }
  throw new CniError(
    code.invalidConfiguration,
    lists.length + single.length === 0
      ? `no net configurations found in ${folder}`
      : `no net configuration with name "${name}" in ${folder}`,
    { details: 'networks are .conflist, .conf and .json files there, found by the "name" inside' },
  )
}

/** Paths of files in a folder with one of these endings, sorted; none when there is no folder. */
export function listNetworkFiles(
  folder: string,
  endings: readonly string[] = ['.conflist', '.conf', '.json'],
): string[] {
  return (listFolder(folder) ?? [])
    .filter(name => endings.includes(endingOf(name)))
    .map(name => `${folder.replace(/\/+$/, '')}/${name}`)
    .filter(path => !isFolder(path))
    .sort()
}

function endingOf(name: string): string {
  const dot = name.lastIndexOf('.')
  return dot < 0 ? '' : name.slice(dot)
}

/** What cannot be looked at, such as a link to itself, is a file that cannot be read: whoever needs it is told so. */
function isFolder(path: string): boolean {
  try {
    return status(path)?.kind === 'folder'
  } catch (thrown) {
    if (thrown instanceof SystemError) return false
    throw thrown
  }
}

/** A network from a file: a list with the plugins of the folder beside it, or a single plugin made a list. Errors name the file. */
export function loadNetworkFile(file: string): NetworkList {
  try {
    const text = readFile(file)
    if (text === undefined) throw new CniError(code.io, 'there is no such file')
    if (endingOf(file) !== '.conflist') return listFromNetwork(parseNetwork(text))
    return withFolderPlugins(file, readNetworkList(text))
  } catch (thrown) {
    const error = toCniError(thrown)
    throw new CniError(error.code, `${file}: ${error.message}`, { details: error.details, cause: thrown })
  }
}

/** Appends `<folder of the file>/<network>/*.conf`, unless the list says that it is complete. */
function withFolderPlugins(file: string, list: NetworkList): NetworkList {
  if (list.loadOnlyInlinedPlugins) return requirePlugins(list)
  const folder = `${file.slice(0, file.lastIndexOf('/') + 1)}${list.name}`
  const more = listNetworkFiles(folder, ['.conf']).map(loadFolderPlugin)
  return requirePlugins({ ...list, plugins: [...list.plugins, ...more] })
}

function loadFolderPlugin(file: string): PluginConfiguration {
  try {
    return readPlugin(parseObject(readFile(file) ?? ''), '')
  } catch (thrown) {
    const error = toCniError(thrown)
    throw new CniError(error.code, `${file}: ${error.message}`, { details: error.details, cause: thrown })
  }
}

function requirePlugins(list: NetworkList): NetworkList {
  if (list.plugins.length > 0) return list
  throw new CniError(code.invalidConfiguration, `plugins: no plugin configs found for network ${list.name}`)
}

/** A list from its text alone. Codes 6 and 7; messages start with the key. */
export function parseNetworkList(text: string): NetworkList {
  return requirePlugins(readNetworkList(text))
}

/** A list from its text; without plugins where a folder may hold them. */
function readNetworkList(text: string): NetworkList {
  const json = parseObject(text)
  const name = requireString(json, 'name')
  if (name === '') throw new CniError(code.invalidConfiguration, 'name: is missing')
  const loadOnlyInlinedPlugins = readFlag(json, 'loadOnlyInlinedPlugins')
  return {
    name,
    cniVersion: selectVersion(json),
    disableCheck: readFlag(json, 'disableCheck'),
    disableGC: readFlag(json, 'disableGC'),
    loadOnlyInlinedPlugins,
    plugins: readPlugins(json.plugins, { isRequired: loadOnlyInlinedPlugins }),
    text,
  }
}

/** A single plugin's configuration from its text. */
export function parseNetwork(text: string): Network {
  const raw = parseObject(text)
  const plugin = readPlugin(raw, '')
  const cniVersion = lookup(raw, 'cniVersion') ?? ''
  if (typeof cniVersion !== 'string') throw wrong('cniVersion', 'must be a string', cniVersion)
  return { name: plugin.name, cniVersion, plugin, text }
}

/** A single plugin's configuration as a list of one. */
export function listFromNetwork({ name, cniVersion, plugin }: Network): NetworkList {
  const flags = { disableCheck: false, disableGC: false, loadOnlyInlinedPlugins: false }
  const text = JSON.stringify({ cniVersion, name, plugins: [plugin.raw] })
  return { name, cniVersion, ...flags, plugins: [plugin], text }
}

function wrong(path: string, requirement: string, value: unknown): CniError {
  return new CniError(code.invalidConfiguration, `${path}: ${requirement}: got ${JSON.stringify(value)}`)
}

function parseObject(text: string): JsonObject {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (thrown) {
    throw new CniError(code.decoding, 'error parsing configuration: it is not JSON', {
      details: text.trim() === '' ? 'the file is empty' : toCniError(thrown).message,
      cause: thrown,
    })
  }
  if (isObject(json)) return json
  throw new CniError(code.decoding, 'error parsing configuration: it is not a JSON object')
}

function requireString(json: JsonObject, key: string): string {
  const value = json[key] ?? ''
  if (typeof value !== 'string') throw wrong(key, 'must be a string', value)
  return value
}

/** The highest of `cniVersion` and `cniVersions` that this runtime speaks; `cniVersion` itself when it speaks none. */
function selectVersion(json: JsonObject): string {
  const given = requireString(json, 'cniVersion')
  const listed = json.cniVersions ?? []
  if (!Array.isArray(listed)) throw wrong('cniVersions', 'must be a list of strings', listed)
  if (listed.length === 0) return given
  const spoken = [...listed.map(readVersion), given].filter(
    version => compareVersions(version, newestVersion) <= 0,
  )
  return spoken.sort(compareVersions).at(-1) ?? given
}

function readVersion(version: unknown, index: number): string {
  if (typeof version === 'string') return version
  throw wrong(`cniVersions[${index}]`, 'must be a string', version)
}

/** true and false, also as text in any case: earlier documents of the specification had them so. */
function readFlag(json: JsonObject, key: string): boolean {
  const value = json[key] ?? false
  if (typeof value === 'boolean') return value
  const text = typeof value === 'string' ? value.toLowerCase() : ''
  if (text === 'true' || text === 'false') return text === 'true'
  throw wrong(key, 'must be true or false', value)
}

function readPlugins(list: unknown, { isRequired }: { isRequired: boolean }): PluginConfiguration[] {
  if (list === undefined) {
    if (!isRequired) return []
    throw new CniError(code.invalidConfiguration, 'plugins: is missing, and loadOnlyInlinedPlugins is true')
  }
  if (!Array.isArray(list)) throw wrong('plugins', 'must be a list', list)
  if (list.length === 0) throw new CniError(code.invalidConfiguration, 'plugins: must not be empty')
  return list.map((plugin, index) => {
    if (!isObject(plugin)) throw wrong(`plugins[${index}]`, 'must be an object', plugin)
    return readPlugin(plugin, `plugins[${index}].`)
  })
}

function readPlugin(raw: JsonObject, path: string): PluginConfiguration {
  const text = (key: string): string => {
    const value = lookup(raw, key) ?? ''
    if (typeof value !== 'string') throw wrong(`${path}${key}`, 'must be a string', value)
    return value
  }
  const type = text('type')
  if (type === '') throw new CniError(code.invalidConfiguration, `${path}type: is missing`)
  return { type, name: text('name'), capabilities: readCapabilities(raw, path), raw }
}

function readCapabilities(raw: JsonObject, path: string): Record<string, boolean> {
  const value = lookup(raw, 'capabilities') ?? {}
  if (!isObject(value)) throw wrong(`${path}capabilities`, 'must be an object', value)
  const capabilities: Record<string, boolean> = {}
  for (const [capability, enabled] of Object.entries(value)) {
    if (typeof enabled !== 'boolean' && enabled !== null) {
      throw wrong(`${path}capabilities.${capability}`, 'must be true or false', enabled)
    }
    capabilities[capability] = enabled ?? false
  }
  return capabilities
}
