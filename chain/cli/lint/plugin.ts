/** A plugin's object held against the plugin: its schema, and what it refuses beyond that. Of another's nothing is known. */

import type { z } from 'zod/mini'
import type { Plugin } from '../../plugin/define.ts'
import { refusalsOf } from '../../protocol/by-schema.ts'
import { decode } from '../../protocol/checks.ts'
import { isObject, type JsonObject, lookup } from '../../protocol/configuration.ts'
import { CniError } from '../../protocol/error.ts'
import { newestVersion, supportedVersions } from '../../protocol/version.ts'
import type { Path } from './document.ts'
import type { Fault } from './fault.ts'
import { didYouMean, type KnownKeys, shapeOf, unknownKeys } from './keys.ts'
import { faultIn, type NetworkPlace, type PluginPlace } from './network.ts'

/** A plugin of ours, and what ADD holds its configuration against. */
export type Known = Plugin & { schema: z.ZodMiniType | undefined }

/** By type. */
export type Plugins = ReadonlyMap<string, Known>

export async function knownOf(plugin: Plugin): Promise<Known> {
  return { ...plugin, schema: await (plugin.strict ?? plugin.config)?.schema() }
}

/** What every plugin's object may have, by the specification; runtimeConfig and prevResult are the runtime's. */
const common = [
  'type',
  'name',
  'cniVersion',
  'capabilities',
  'args',
  'ipMasq',
  'ipam',
  'dns',
  'runtimeConfig',
  'prevResult',
]
const commonKeys = Object.fromEntries(common.map(key => [key, undefined]))

/** The type of a plugin's `ipam`, if it names one. */
export function ipamTypeOf({ raw, type }: Pick<PluginPlace, 'raw' | 'type'>): string | undefined {
  const ipam = lookup(raw, 'ipam')
  const named = isObject(ipam) ? lookup(ipam, 'type') : undefined
  if (typeof named === 'string' && named !== '') return named
  return type === 'flannel' ? 'host-local' : undefined
}

export const ipamOf = ({ raw }: Pick<PluginPlace, 'raw'>): JsonObject => {
  const ipam = lookup(raw, 'ipam')
  return isObject(ipam) ? ipam : {}
}

/** All that a plugin and the IPAM plugin beside it have against their configuration. */
export async function pluginFaults(
  place: PluginPlace,
  network: NetworkPlace,
  plugins: Plugins,
): Promise<Fault[]> {
  const plugin = plugins.get(place.type)
  const ipam = plugins.get(ipamTypeOf(place) ?? '')
  return [
    ...reservedFaults(place),
    ...(plugin ? keyFaults(place, plugin, ipam) : []),
    ...(plugin ? await verdictOf(place, network, plugin) : []),
    ...(ipam && place.type !== 'flannel' ? await verdictOf(place, network, ipam) : []),
    ...(plugin ? neededIpam(place, plugin) : []),
    ...(await delegateFaults(place, network, plugins)),
    ...capabilityFaults(place, [plugin, ipam]),
  ]
}

function reservedFaults({ document, path, raw }: PluginPlace): Fault[] {
  const fault = faultIn(document, 'reserved-key', 'warning')
  const why = 'the runtime puts it there with each call'
  return Object.keys(raw)
    .filter(key => ['runtimeconfig', 'prevresult'].includes(key.toLowerCase()))
    .map(key => fault([...path, key], `"${key}" is not for files`, { at: 'key', why }))
}

function keyFaults(
  { document, path, raw, type }: PluginPlace,
  plugin: Known,
  ipam: Known | undefined,
): Fault[] {
  const own = { ...(plugin.schema ? shapeOf(plugin.schema) : {}), ...commonKeys }
  const ipamSchema = ipam?.schema
  const ipamShape = ipamSchema && shapeOf(ipamSchema)?.ipam
  const ipamKeys = ipamShape ? shapeOf(ipamShape) : undefined
  const inOwn: KnownKeys = {
    owner: type,
    keys: own,
    elsewhere: Object.fromEntries(Object.keys(ipamKeys ?? {}).map(key => [key, 'ipam'])),
  }
  const inIpam: KnownKeys = {
    owner: `ipam of ${ipam?.name}`,
    keys: { type: undefined, ...ipamKeys },
    elsewhere: Object.fromEntries(Object.keys(own).map(key => [key, type])),
  }
  return [
    ...unknownKeys(document, { path, value: raw }, inOwn),
    ...(ipamKeys
      ? unknownKeys(document, { path: [...path, 'ipam'], value: lookup(raw, 'ipam') }, inIpam)
      : []),
  ]
}

/** What ADD would say of the configuration alone. */
async function verdictOf(
  { document, path, raw }: PluginPlace,
  network: NetworkPlace,
  plugin: Known,
): Promise<Fault[]> {
  const fault = faultIn(document, 'value')
  const { schema } = plugin
  if (!schema || !plugin.config) return []
  const refusals = refusalsOf(schema, raw)
  if (refusals.length > 0) {
    return refusals.map(refusal => {
      const at = refusal.path.map(step => (typeof step === 'symbol' ? String(step) : step))
      const key = at.at(-1)
      return fault([...path, ...at], `${key === undefined ? plugin.name : key}: ${refusal.says}`, {
        ...(refusal.isMissing && typeof key === 'string' ? { write: `"${key}": …` } : {}),
      })
    })
  }
  try {
    const config = await decode(plugin.config, raw)
    plugin.validate?.(config)
    // one that there is not is told of elsewhere
    const version = supportedVersions.includes(network.cniVersion) ? network.cniVersion : newestVersion
    await plugin.examine?.(config, version)
    return []
  } catch (thrown) {
    if (!(thrown instanceof CniError)) throw thrown
    const { at, says } = placeIn(raw, thrown.message)
    return [fault([...path, ...at], says, thrown.details ? { why: thrown.details } : {})]
  }
}

/** Refusals begin with the path of what is refused; its keys may have dots themselves. */
function placeIn(raw: JsonObject, message: string): { at: Path; says: string } {
  const [, text, rest] = /^([^\s:[\].]+(?:[^\s:]|:(?! ))*): ([\s\S]*)$/.exec(message) ?? []
  if (text === undefined || rest === undefined) return { at: [], says: message }
  const at: (string | number)[] = []
  let value: unknown = raw
  let left = text
  while (left !== '') {
    const index = /^\[(\d+)\]/.exec(left)
    const key = isObject(value) ? longestKey(value, left) : undefined
    const name = key ?? /^[^.[]+/.exec(left)?.[0]
    if (index) {
      at.push(Number(index[1]))
      value = Array.isArray(value) ? value[Number(index[1])] : undefined
      left = left.slice(index[0].length)
    } else if (name) {
      at.push(name)
      value = isObject(value) ? lookup(value, name) : undefined
      left = left.slice(name.length)
    } else break
    left = left.replace(/^\./, '')
  }
  return { at, says: message }
}

function longestKey(value: JsonObject, text: string): string | undefined {
  return Object.keys(value)
    .filter(
      key => text.toLowerCase().startsWith(key.toLowerCase()) && /^$|^[.[]/.test(text.slice(key.length)),
    )
    .toSorted((one, other) => other.length - one.length)[0]
}

function neededIpam(place: PluginPlace, plugin: Plugin): Fault[] {
  if (
    plugin.ipam !== 'required' ||
    ipamTypeOf(place) !== undefined ||
    lookup(place.raw, 'ipam') !== undefined
  )
    return []
  const fault = faultIn(place.document, 'value')
  const why = `${place.type} is nothing without addresses`
  return [fault([...place.path, 'ipam'], 'ipam: is missing', { why, write: '"ipam": { "type": … }' })]
}

/** flannel hands `delegate` on, to bridge where it names no plugin. */
async function delegateFaults(
  { document, path, raw, type }: PluginPlace,
  network: NetworkPlace,
  plugins: Plugins,
): Promise<Fault[]> {
  const delegate = type === 'flannel' ? lookup(raw, 'delegate') : undefined
  if (!isObject(delegate)) return []
  const named = lookup(delegate, 'type')
  const place = {
    document,
    path: [...path, 'delegate'],
    raw: delegate,
    type: typeof named === 'string' ? named : 'bridge',
  }
  const plugin = plugins.get(place.type)
  if (!plugin || plugin.name === 'flannel') return []
  return [...keyFaults(place, plugin, undefined), ...(await verdictOf(place, network, plugin))]
}

/** What runtimes hand over by the conventions of the specification, whoever takes it. */
const conventional = [
  'portMappings',
  'ipRanges',
  'bandwidth',
  'dns',
  'ips',
  'mac',
  'infinibandGUID',
  'deviceID',
  'aliases',
  'cgroupPath',
]

function capabilityFaults(
  { document, path, raw, type }: PluginPlace,
  readers: readonly (Known | undefined)[],
): Fault[] {
  const capabilities = lookup(raw, 'capabilities')
  if (!isObject(capabilities)) return []
  const taken = readers.flatMap(plugin => {
    const schema = plugin?.schema
    const runtime = schema && shapeOf(schema)?.runtimeConfig
    return Object.keys((runtime && shapeOf(runtime)) ?? {})
  })
  return Object.keys(capabilities).flatMap(name => {
    if (taken.includes(name)) return []
    const meant = didYouMean(name, [...taken, ...conventional])
    const at = [...path, 'capabilities', name]
    if (conventional.includes(name)) {
      if (!readers[0] || type === 'flannel') return [] // another's plugin, or one that hands it on
      const fault = faultIn(document, 'capability', 'warning')
      return [fault(at, `${type} makes nothing of ${name}`, { at: 'key' })]
    }
    if (meant === undefined) return []
    const says = `no runtime has a capability "${name}": did you mean "${meant}"?`
    return [faultIn(document, 'capability')(at, says, { at: 'key', write: `"${meant}"` })]
  })
}
