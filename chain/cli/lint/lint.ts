/** `catena lint`: network configurations held against the specification, our plugins, one another, and the node. */
import { readFile } from '../../linux/files.ts'
import type { Plugin } from '../../plugin/define.ts'
import { isObject, lookup } from '../../protocol/configuration.ts'
import { CniError, code } from '../../protocol/error.ts'
import { listNetworkFiles, type RuntimeOptions } from '../../runtime/network.ts'
import { addressFaults } from './addresses.ts'
import { chainFaults, type Needs } from './chain.ts'
import { type Document, parseDocument, placeOf, spanOf } from './document.ts'
import type { Fault, Level, Rule } from './fault.ts'
import { crossFaults } from './files.ts'
import { duplicateFaults } from './keys.ts'
import { type NetworkPlace, readNetwork, readPlugin } from './network.ts'
import { ipamTypeOf, knownOf, type Plugins, pluginFaults } from './plugin.ts'
import { syntaxFault } from './syntax.ts'

/** What is found, where it stands. Part of the JSON that the command prints: see docs/command/lint.md. */
export interface Finding {
  file: string
  /** From 1; columns count UTF-16 units. */
  line: number
  column: number
  endColumn: number
  level: Level
  rule: Rule
  /** "plugins[0].isGatewya"; empty for the document as a whole. */
  path: string
  says: string
  why?: string
  write?: string
  source: string
}

export interface Report {
  shape: 'catena-lint-1'
  files: string[]
  errors: number
  warnings: number
  findings: Finding[]
}

export interface Examination extends Needs {
  files: readonly string[]
  load(type: string): Promise<Plugin> | undefined
  /** How the node's plugins are found and asked; undefined where the files are for another one. */
  node: RuntimeOptions | undefined
}

/** Reads files and says what is wrong with them. Throws where one cannot be read. */
export async function lint({ files, load, node, verbs }: Examination): Promise<Report> {
  const documents = files.map(readDocument)
  const read = documents.map(readWhole)
  const networks = read.flatMap(({ network }) => network ?? [])
  const plugins = await loadPlugins(networks, load)
  const faults = [
    ...read.flatMap(({ faults }) => faults),
    ...(await Promise.all(networks.map(network => networkFaults(network, plugins, { verbs })))).flat(),
    ...crossFaults(networks),
    ...(node ? await (await import('./node.ts')).nodeFaults(networks, node) : []),
  ]
  const order = [...files, ...faults.map(({ document }) => document.file)]
  const findings = unique(faults.map(findingOf)).toSorted(
    (one, other) =>
      order.indexOf(one.file) - order.indexOf(other.file) ||
      one.line - other.line ||
      one.column - other.column,
  )
  const errors = findings.filter(({ level }) => level === 'error').length
  return { shape: 'catena-lint-1', files: [...files], errors, warnings: findings.length - errors, findings }
}

function readDocument(file: string): Document {
  const text = readFile(file)
  if (text === undefined) throw new CniError(code.io, `${file}: there is no such file`)
  return parseDocument(file, text)
}

/** A file that is no JSON is told of once: what can be read of it means nothing. */
function readWhole(document: Document): { network?: NetworkPlace; faults: Fault[] } {
  const broken = syntaxFault(document)
  if (broken) return { faults: [broken] }
  const { network, faults } = readNetwork(document)
  const beside = network ? pluginsBeside(network) : []
  for (const { plugins } of beside) network?.plugins.push(...plugins)
  return {
    ...(network ? { network } : {}),
    faults: [...duplicateFaults(document), ...faults, ...beside.flatMap(each => each.faults)],
  }
}

/** The plugins of the folder that has the network's name, as libcni appends them. */
function pluginsBeside({ document, name, isList }: NetworkPlace): ReturnType<typeof readPlugin>[] {
  const alone = isObject(document.value) && document.value.loadOnlyInlinedPlugins === true
  if (!isList || alone || !/^[\w.-]+$/.test(name)) return []
  const folder = `${document.file.slice(0, document.file.lastIndexOf('/') + 1)}${name}`
  return listNetworkFiles(folder, ['.conf']).map(file => {
    const part = readDocument(file)
    const broken = syntaxFault(part)
    return broken ? { plugins: [], faults: [broken] } : readPlugin(part, [], part.value)
  })
}

async function loadPlugins(networks: readonly NetworkPlace[], load: Examination['load']): Promise<Plugins> {
  const types = networks.flatMap(({ plugins }) =>
    plugins.flatMap(place => [place.type, ipamTypeOf(place) ?? '', delegateOf(place.raw)]),
  )
  const loaded = await Promise.all(
    [...new Set(types)].map(async type => {
      const plugin = await load(type)
      return [type, plugin && (await knownOf(plugin))] as const
    }),
  )
  return new Map(loaded.flatMap(([type, known]) => (known ? [[type, known] as const] : [])))
}

function delegateOf(raw: NetworkPlace['plugins'][number]['raw']): string {
  const delegate = lookup(raw, 'delegate')
  const type = isObject(delegate) ? lookup(delegate, 'type') : undefined
  return typeof type === 'string' ? type : 'bridge'
}

async function networkFaults(network: NetworkPlace, plugins: Plugins, needs: Needs): Promise<Fault[]> {
  const byPlugin = await Promise.all(
    network.plugins.map(async place => [
      ...(await pluginFaults(place, network, plugins)),
      ...addressFaults(place),
    ]),
  )
  return [...byPlugin.flat(), ...chainFaults(network, plugins, needs)]
}

function findingOf({ document, rule, level, path, at, span, says, why, write }: Fault): Finding {
  const { line, column, endColumn, source } = placeOf(document.text, span ?? spanOf(document, path, at))
  const where = path
    .map((step, index) => (typeof step === 'number' ? `[${step}]` : `${index > 0 ? '.' : ''}${step}`))
    .join('')
  return {
    file: document.file,
    line,
    column,
    endColumn,
    level,
    rule,
    path: where,
    says,
    ...(why ? { why } : {}),
    ...(write ? { write } : {}),
    source,
  }
}

/** A plugin and its IPAM plugin may say the same. */
function unique(findings: readonly Finding[]): Finding[] {
  const keyOf = ({ file, line, column, says }: Finding) => [file, line, column, says].join('\n')
  return [...new Map(findings.map(finding => [keyOf(finding), finding])).values()]
}
