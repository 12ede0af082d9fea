/** What is asked of a whole network: GC, STATUS, and whether its plugins are there and understand it. */
import type { JsonObject } from '../protocol/configuration.ts'
import { checkNetworkName } from '../protocol/environment.ts'
import { CniError, code, toCniError } from '../protocol/error.ts'
import { compareVersions, newestVersion } from '../protocol/version.ts'
import { del } from './attach.ts'
import {
  checkAttachment,
  type RuntimeAttachment,
  type RuntimeOptions,
  type ValidAttachment,
} from './attachment.ts'
import { listCached, readCached } from './cache.ts'
import type { NetworkList, PluginConfiguration } from './load.ts'
import { asCollection, asOperation, exclusively } from './lock.ts'
import { callPlugin, failed } from './step.ts'

/** The version that brought GC and STATUS. */
const MAINTENANCE_SINCE = '1.1.0'

/**
 * Deletes cached attachments of this network that are not among the valid ones (without a list: all of them), then runs GC
 * over the plugins from version 1.1.0 on. null is a list of none: callers that were Go say so. Everything is tried; throws all failures as one. Waits for operations on the
 * network to end, and lets none begin.
 */
export async function gcNetworkList(
  list: NetworkList,
  valid: readonly ValidAttachment[] | null | undefined,
  options: RuntimeOptions,
): Promise<void> {
  if (list.disableGC) return
  checkNetworkName(list.name) // before it becomes a part of a path
  const alive = valid === null ? [] : valid
  await asCollection(list.name, () => collectGarbage(list, alive, options), { ...options, optional: true })
}

async function collectGarbage(
  list: NetworkList,
  valid: readonly ValidAttachment[] | undefined,
  options: RuntimeOptions,
): Promise<void> {
  const failures = await deleteStale(list, valid, options)
  failures.push(...(await askPlugins(list, valid, options)))
  options.signal?.throwIfAborted()
  throwAll(failures)
}

/** GC over the plugins; answers what failed. */
async function askPlugins(
  list: NetworkList,
  valid: readonly ValidAttachment[] | undefined,
  options: RuntimeOptions,
): Promise<CniError[]> {
  const failures: CniError[] = []
  if (!hasMaintenance(list)) return failures
  for (const plugin of list.plugins) {
    const stdin = { ...headOf(list, plugin), ...validKeys(valid) }
    await collect(failures, async () => {
      await callPlugin({ verb: 'GC', plugin, stdin }, options).catch(thrown => {
        throw failed(plugin, 'gc', thrown)
      })
    })
  }
  return failures
}

/** Whether the version of a network's configuration has GC and STATUS. */
export const hasMaintenance = ({ cniVersion }: NetworkList) =>
  compareVersions(cniVersion, MAINTENANCE_SINCE) >= 0

/**
 * GC over the plugins alone, no attachment of the cache being deleted: for who is not the networks' runtime. What is valid is asked
 * when no operation on the network is under way.
 */
export async function collectGarbageOfPlugins(
  list: NetworkList,
  readValid: () => readonly ValidAttachment[],
  options: RuntimeOptions,
): Promise<void> {
  if (list.disableGC) return
  checkNetworkName(list.name) // before it becomes a part of a path
  await asCollection(list.name, async () => throwAll(await askPlugins(list, readValid(), options)), {
    ...options,
    optional: true,
  })
}

/** DEL, if that is still wanted when no other operation on the container is under way. Answers whether it was. */
export async function delIfStill(
  list: NetworkList,
  attachment: RuntimeAttachment,
  { isStill, ...options }: RuntimeOptions & { isStill(): boolean },
): Promise<boolean> {
  checkAttachment(list.name, attachment)
  const body = async () => {
    if (!isStill()) return false
    await del(list, attachment, options)
    return true
  }
  const { containerId } = attachment
  return asOperation({ network: list.name, containerId }, body, { ...options, optional: true })
}

async function deleteStale(
  list: NetworkList,
  valid: readonly ValidAttachment[] = [],
  options: RuntimeOptions,
): Promise<CniError[]> {
  const failures: CniError[] = []
  const stale = listCached({ network: list.name }, options).filter(
    cached => !valid.some(one => one.containerId === cached.containerId && one.ifname === cached.ifname),
  )
  for (const cached of stale) {
    const { containerId, ifname } = cached
    await collect(failures, async () => {
      checkAttachment(list.name, cached)
      // whoever had the container before may have deleted it
      const stillThere = async () => void (readCached(cached, options) && (await del(list, cached, options)))
      await exclusively(containerId, stillThere, { ...options, optional: true }).catch(thrown => {
        const { code: number, message, details } = toCniError(thrown)
        const what = `failed to delete stale attachment ${containerId} ${ifname}: ${message}`
        throw new CniError(number, what, { details, cause: thrown })
      })
    })
  }
  return failures
}

async function collect(failures: CniError[], step: () => Promise<void>): Promise<void> {
  try {
    await step()
  } catch (thrown) {
    failures.push(toCniError(thrown))
  }
}

/** All failures as one, with the code of the first. */
function throwAll(failures: readonly CniError[]): void {
  const [first] = failures
  if (!first) return
  if (failures.length === 1) throw first
  throw new CniError(first.code, failures.map(({ message }) => message).join('\n'), {
    details: failures.flatMap(({ details }) => details ?? []).join('\n') || undefined,
    cause: new AggregateError(failures),
  })
}

function headOf({ name, cniVersion }: NetworkList, { raw }: PluginConfiguration): JsonObject {
  return { ...raw, cniVersion, name }
}

/** Under the specification's key, and under the one that libcni's first release with GC used. Absent when nothing is known. */
function validKeys(valid: readonly ValidAttachment[] | undefined): JsonObject {
  if (!valid) return {}
  const list = valid.map(({ containerId, ifname }) => ({ containerID: containerId, ifname }))
  return { 'cni.dev/valid-attachments': list, 'cni.dev/attachments': list }
}

/** Runs STATUS over the plugins; throws the first failure with its code (50, 51). Before version 1.1.0 every network is ready. */
export async function getStatusNetworkList(list: NetworkList, options: RuntimeOptions): Promise<void> {
  if (!hasMaintenance(list)) return
  for (const plugin of list.plugins) {
    await callPlugin({ verb: 'STATUS', plugin, stdin: headOf(list, plugin) }, options)
  }
}

/** Asks each plugin for its versions; answers the capabilities that any of them declares, or throws all failures as one. */
export async function validateNetworkList(list: NetworkList, options: RuntimeOptions): Promise<string[]> {
  const failures: CniError[] = []
  const expected = list.cniVersion || '0.1.0'
  for (const plugin of list.plugins) {
    await collect(failures, async () => {
      if ((await versionsOf(plugin, options)).includes(expected)) return
      const message = `plugin ${plugin.type} does not support config version "${expected}"`
      throw new CniError(code.incompatibleVersion, message)
    })
  }
  throwAll(failures)
  const enabled = list.plugins.flatMap(({ capabilities }) =>
    Object.keys(capabilities).filter(capability => capabilities[capability]),
  )
  return [...new Set(enabled)]
}

/** As `versionsOf`, for a plugin of which only the type is known. */
export function pluginVersions(type: string, options: RuntimeOptions): Promise<readonly string[]> {
  return versionsOf({ type, name: '', capabilities: {}, raw: { type } }, options)
}

/** The versions that a plugin says it supports; those of the first releases could not say. */
async function versionsOf(plugin: PluginConfiguration, options: RuntimeOptions): Promise<readonly string[]> {
  let output: string
  try {
    const attachment = { containerId: '', netns: 'dummy', ifname: 'dummy' } // as libcni: the first releases insist on them
    const stdin = { cniVersion: newestVersion }
    output = await callPlugin({ verb: 'VERSION', plugin, attachment, stdin }, options)
  } catch (thrown) {
    if (toCniError(thrown).message === 'unknown CNI_COMMAND: VERSION') return ['0.1.0']
    throw thrown
  }
  return readVersions(plugin, output)
}

function readVersions({ type }: PluginConfiguration, output: string): readonly string[] {
  const refused = () =>
    new CniError(code.decoding, `plugin ${type} answers VERSION in no known form`, {
      details: output.slice(0, 200),
    })
  let reply: { cniVersion?: unknown; supportedVersions?: unknown } | null
  try {
    reply = JSON.parse(output)
  } catch {
    throw refused()
  }
  const { cniVersion, supportedVersions } = reply ?? {}
  if (typeof cniVersion !== 'string' || cniVersion === '') throw refused()
  if (Array.isArray(supportedVersions) && supportedVersions.length > 0) return supportedVersions.map(String)
  if (cniVersion === '0.2.0') return ['0.1.0', '0.2.0']
  throw refused()
}
