/** Finds network configurations in a folder, as libcni does: .conflist first, then .conf and .json. Knows no plugin. */
import { folderOf, listFolder, readFile } from '../linux/files.ts'
import { CniError, code, toCniError } from '../protocol/error.ts'
import {
  listOf,
  type Network,
  type NetworkList,
  type PluginConfiguration,
  parseNetwork,
  parseNetworkList,
  parseObject,
  pluginOf,
} from './list.ts'

/** Where runtimes look for network configurations. */
export const CONFIGURATION_FOLDER = '/etc/cni/net.d'

/** The paths of a folder's files with one of these extensions (".conflist"), sorted; none when there is no folder. */
export function configurationFiles(folder: string, extensions: readonly string[]): string[] {
  return (listFolder(folder) ?? [])
    .filter(name => extensions.some(extension => name.endsWith(extension) && name.length > extension.length))
    .sort()
    .map(name => `${folder}/${name}`)
}

/**
 * The network of that name. As with libcni the first file that names it wins, a .conflist before a .conf or .json, and
 * a file before it which cannot be read ends the search, whatever network it is of.
 */
export function loadNetworkList(folder: string, name: string): NetworkList {
  const lists = configurationFiles(folder, ['.conflist'])
  for (const file of lists) {
    const list = loadNetworkListFile(file)
    if (list.name === name) return list
  }
  const singles = configurationFiles(folder, ['.conf', '.json'])
  for (const file of singles) {
    const network = loadNetworkFile(file)
    if (network.name === name) return upconverted(network)
  }
  if (lists.length + singles.length === 0) {
    throw new CniError(code.invalidConfiguration, `no net configurations found in ${folder}`)
  }
  throw new CniError(code.invalidConfiguration, `no net configuration with name "${name}" in ${folder}`)
}

/** A .conflist file, with the plugins of the folder that has the network's name beside it. */
export function loadNetworkListFile(file: string): NetworkList {
  const list = inFile(file, () => parseNetworkList(textOf(file)))
  const more = list.loadOnlyInlinedPlugins ? [] : folderPlugins(`${folderOf(file)}/${list.name}`)
  const plugins = [...list.plugins, ...more]
  if (plugins.length > 0) return { ...list, plugins }
  throw new CniError(code.invalidConfiguration, `${file}: no plugin configs found`, {
    details: `neither under "plugins" nor as *.conf in ${folderOf(file)}/${list.name}`,
  })
}

/** A .conf or .json file: one plugin, by itself. */
export function loadNetworkFile(file: string): Network {
  return inFile(file, () => parseNetwork(textOf(file)))
}

/** A single plugin as the list that libcni makes of it, whose text is the list's. */
function upconverted(network: Network): NetworkList {
  const { name, cniVersion, plugin } = network
  return { ...listOf(network), source: JSON.stringify({ cniVersion, name, plugins: [plugin.json] }) }
}

function folderPlugins(folder: string): PluginConfiguration[] {
  return configurationFiles(folder, ['.conf']).map(file =>
    inFile(file, () => pluginOf(parseObject(textOf(file), 'error parsing configuration'), 'plugin')),
  )
}

function textOf(file: string): string {
  const text = readFile(file)
  if (text === undefined) throw new CniError(code.io, 'there is no such file')
  return text
}

/** Whatever is wrong is wrong in a file, which the person on call wants to know first. */
function inFile<T>(file: string, body: () => T): T {
  try {
    return body()
  } catch (thrown) {
    const { code: number, details, message } = toCniError(thrown)
    throw new CniError(number, `${file}: ${message}`, { details, cause: thrown })
  }
}
