/** A network as its file has it, held against what the specification says of lists, plugins and their common keys. */
import { isObject, type JsonObject, lookup } from '../../protocol/configuration.ts'
import { checkNetworkName } from '../../protocol/environment.ts'
import { toCniError } from '../../protocol/error.ts'
import { supportedVersions } from '../../protocol/version.ts'
import type { Document, Path } from './document.ts'
import type { Fault, Level, Rule } from './fault.ts'
import { didYouMean } from './keys.ts'

/** One plugin of a network, where it stands. */
export interface PluginPlace {
  document: Document
  path: Path
  type: string
  raw: JsonObject
}

export interface NetworkPlace {
  document: Document
  name: string
  /** "0.1.0" where the file names none. */
  cniVersion: string
  isList: boolean
  plugins: PluginPlace[]
}

/** The keys that libcni reads of a list: spelt exactly. */
const listKeys = [
  'cniVersion',
  'cniVersions',
  'name',
  'disableCheck',
  'disableGC',
  'loadOnlyInlinedPlugins',
  'plugins',
]

type More = Partial<Pick<Fault, 'why' | 'write' | 'at'>>

/** Makes faults of one rule in a document short to write. */
export const faultIn =
  (document: Document, rule: Rule, level: Level = 'error') =>
  (path: Path, says: string, more: More = {}): Fault => ({ document, rule, level, path, says, ...more })

/** What can be read of a network, and what the specification has against it. */
export function readNetwork(document: Document): { network?: NetworkPlace; faults: Fault[] } {
  const { value } = document
  const fault = faultIn(document, 'specification')
  if (!isObject(value)) return { faults: [fault([], 'a network is an object', { write: '{ … }' })] }
  const isList =
    value.plugins !== undefined || (document.file.endsWith('.conflist') && value.type === undefined)
  const { plugins, faults } = isList ? readPlugins(document, value) : readPlugin(document, [], value)
  const network = {
    document,
    name: typeof value.name === 'string' ? value.name : '',
    cniVersion: versionOf(value),
    isList,
    plugins,
  }
  return {
    network,
    faults: [...fileNameFaults(document, { isList }), ...headFaults(document, value, { isList }), ...faults],
  }
}

function fileNameFaults(document: Document, { isList }: { isList: boolean }): Fault[] {
  const fault = faultIn(document, 'file-name')
  if (isList && /\.(conf|json)$/.test(document.file)) {
    const why = 'of a .conf runtimes read one plugin, whose type would have to stand beside the name'
    return [
      fault(['plugins'], 'a list of plugins in a .conf', { at: 'key', why, write: 'a file NAME.conflist' }),
    ]
  }
  if (!isList && document.file.endsWith('.conflist')) {
    const why = 'of a .conflist runtimes read plugins, and there are none'
    return [
      fault(['type'], 'a single plugin in a .conflist', {
        at: 'key',
        why,
        write: '"plugins": [{ "type": … }]',
      }),
    ]
  }
  return []
}

/** As libcni chooses it of cniVersion and cniVersions. */
function versionOf(value: JsonObject): string {
  const listed = Array.isArray(value.cniVersions) ? value.cniVersions : []
  const spoken = [...listed, value.cniVersion].filter(each => supportedVersions.includes(String(each)))
  const newest = supportedVersions.findLast(each => spoken.includes(each))
  return newest ?? (typeof value.cniVersion === 'string' && value.cniVersion ? value.cniVersion : '0.1.0')
}

function headFaults(document: Document, value: JsonObject, { isList }: { isList: boolean }): Fault[] {
  return [
    ...nameFaults(document, value),
    ...versionFaults(document, value, { isList }),
    ...(isList ? listFaults(document, value) : []),
  ]
}

/** A key in other letters' case, of which `spelling` tells. */
const isMisspelt = (value: JsonObject, key: string) =>
  Object.keys(value).some(each => each.toLowerCase() === key.toLowerCase())

function nameFaults(document: Document, value: JsonObject): Fault[] {
  const fault = faultIn(document, 'specification')
  const { name } = value
  if (name === undefined && isMisspelt(value, 'name')) return []
  if (name === undefined || name === '')
    return [
      fault(['name'], 'the network has no name', { why: 'runtimes know it by that', write: '"name": "…"' }),
    ]
  if (typeof name !== 'string') return [fault(['name'], 'name: must be a string')]
  try {
    checkNetworkName(name)
    return []
  } catch (thrown) {
    const why = 'a letter or digit, then letters, digits, "_", "." and "-"'
    return [fault(['name'], `name: ${toCniError(thrown).message}`, { why })]
  }
}

function versionFaults(document: Document, value: JsonObject, { isList }: { isList: boolean }): Fault[] {
  const fault = faultIn(document, 'version')
  const { cniVersion, cniVersions } = value
  if (cniVersion === undefined && isMisspelt(value, 'cniVersion')) return []
  const newest = supportedVersions.at(-1)
  const listed = isList && cniVersions !== undefined ? cniVersions : []
  if (!Array.isArray(listed)) return [fault(['cniVersions'], 'cniVersions: must be a list of versions')]
  const inList = listed.flatMap((version, index) => faultOfVersion(fault, ['cniVersions', index], version))
  if (cniVersion !== undefined) return [...faultOfVersion(fault, ['cniVersion'], cniVersion), ...inList]
  if (listed.length > 0) return inList
  const why = 'without one it is 0.1.0: no CHECK, no GC, and some plugins refuse it'
  const warn = faultIn(document, 'version', 'warning')
  return [warn(['cniVersion'], 'there is no cniVersion', { why, write: `"cniVersion": "${newest}"` })]
}

function faultOfVersion(fault: ReturnType<typeof faultIn>, path: Path, version: unknown): Fault[] {
  const key = String(path[0])
  if (typeof version !== 'string') return [fault(path, `${key}: must be a string`, { write: `"${version}"` })]
  if (version === '' || supportedVersions.includes(version)) return []
  const padded = supportedVersions.find(each => each === `${version}.0`)
  const nearest = padded ?? didYouMean(version, supportedVersions)
  return [
    fault(path, `there is no version ${version}`, {
      why: `plugins compare letter by letter: ${supportedVersions.join(', ')}`,
      ...(nearest ? { write: `"${nearest}"` } : {}),
    }),
  ]
}

function listFaults(document: Document, value: JsonObject): Fault[] {
  const fault = faultIn(document, 'specification')
  const flags = ['disableCheck', 'disableGC', 'loadOnlyInlinedPlugins'].flatMap(key => {
    const flag = value[key]
    if (
      flag === undefined ||
      flag === null ||
      typeof flag === 'boolean' ||
      /^(true|false)$/i.test(String(flag))
    )
      return []
    return [fault([key], `${key}: must be true or false`)]
  })
  return [...flags, ...Object.keys(value).flatMap(key => spelling(document, value, key))]
}

/** What tools put beside their networks is theirs; what looks like a key of the specification is not read. */
function spelling(document: Document, value: JsonObject, key: string): Fault[] {
  if (listKeys.includes(key)) return []
  const meant = didYouMean(key, listKeys)
  if (meant === undefined || value[meant] !== undefined) return []
  const isCase = meant.toLowerCase() === key.toLowerCase()
  const says = `lists have no key "${key}": did you mean "${meant}"?`
  const why = isCase
    ? 'the keys of a list are read as they are spelt, unlike those of plugins'
    : 'it is not read'
  const fault = faultIn(document, 'unknown-key')
  return [fault([key], says, { at: 'key', why, write: `"${meant}"` })]
}

interface Read {
  plugins: PluginPlace[]
  faults: Fault[]
}

function readPlugins(document: Document, value: JsonObject): Read {
  const fault = faultIn(document, 'specification')
  const list = value.plugins
  if (list === undefined) {
    // the folder beside the file may have some
    if (value.loadOnlyInlinedPlugins !== true) return { plugins: [], faults: [] }
    return {
      plugins: [],
      faults: [fault(['plugins'], 'there are no plugins', { write: '"plugins": [ … ]' })],
    }
  }
  if (!Array.isArray(list)) return { plugins: [], faults: [fault(['plugins'], 'plugins: must be a list')] }
  if (list.length === 0) return { plugins: [], faults: [fault(['plugins'], 'plugins: must not be empty')] }
  const read = list.map((raw, index) => readPlugin(document, ['plugins', index], raw))
  return { plugins: read.flatMap(({ plugins }) => plugins), faults: read.flatMap(({ faults }) => faults) }
}

/** A plugin's object, with the keys that the specification knows. */
export function readPlugin(document: Document, path: Path, raw: unknown): Read {
  const fault = faultIn(document, 'specification')
  if (!isObject(raw))
    return { plugins: [], faults: [fault(path, 'a plugin is an object', { write: '{ "type": … }' })] }
  const type = lookup(raw, 'type')
  const common = [...capabilityFaults(document, path, raw), ...ipamFaults(document, path, raw)]
  if (type === undefined || type === '') {
    const why = 'it is the name of the plugin’s executable'
    return {
      plugins: [],
      faults: [fault([...path, 'type'], 'the plugin has no type', { why, write: '"type": "…"' }), ...common],
    }
  }
  if (typeof type !== 'string')
    return { plugins: [], faults: [fault([...path, 'type'], 'type: must be a string'), ...common] }
  if (type.includes('/')) {
    const why = 'plugins are looked for by their name in the folders of CNI_PATH'
    const write = `"${type.slice(type.lastIndexOf('/') + 1)}"`
    return {
      plugins: [],
      faults: [fault([...path, 'type'], 'type: must be a name, not a path', { why, write }), ...common],
    }
  }
  return { plugins: [{ document, path, type, raw }], faults: common }
}

function capabilityFaults(document: Document, path: Path, raw: JsonObject): Fault[] {
  const fault = faultIn(document, 'specification')
  const capabilities = lookup(raw, 'capabilities')
  const at = [...path, 'capabilities']
  if (capabilities === undefined) return []
  if (!isObject(capabilities))
    return [fault(at, 'capabilities: must be an object', { write: '{ "portMappings": true }' })]
  return Object.entries(capabilities).flatMap(([name, flag]) =>
    typeof flag === 'boolean' || flag === null
      ? []
      : [fault([...at, name], `capabilities.${name}: must be true or false`, { write: 'true' })],
  )
}

function ipamFaults(document: Document, path: Path, raw: JsonObject): Fault[] {
  const fault = faultIn(document, 'specification')
  const ipam = lookup(raw, 'ipam')
  if (ipam === undefined) return []
  const at = [...path, 'ipam']
  if (!isObject(ipam)) return [fault(at, 'ipam: must be an object', { write: '{ "type": "host-local", … }' })]
  const type = lookup(ipam, 'type')
  const hasKeys = Object.keys(ipam).length > 0
  if (type === undefined && hasKeys && lookup(raw, 'type') !== 'flannel') {
    const why = 'without one no plugin is asked for addresses'
    return [fault([...at, 'type'], 'ipam: the type is missing', { why, write: '"type": "host-local"' })]
  }
  return type === undefined || typeof type === 'string'
    ? []
    : [fault([...at, 'type'], 'ipam.type: must be a string')]
}
