/** ADD, CHECK and DEL of a network list for one attachment: forwards, forwards and backwards, with the cache. */
import { findPlugin } from '../invoke/invoke.ts'
import { findLink, type Link } from '../linux/netlink/link.ts'
import { openRoute } from '../linux/netlink/socket.ts'
import { inNamespace, namespaceState } from '../linux/netns.ts'
import { isObject, type JsonObject, lookup } from '../protocol/configuration.ts'
import { CniError, code, toCniError } from '../protocol/error.ts'
import { compareVersions } from '../protocol/version.ts'
import {
  type AddOptions,
  type CachedAttachment,
  checkAttachment,
  type RuntimeAttachment,
  type RuntimeOptions,
} from './attachment.ts'
import { cachedResult, readCached, removeCached, resultIn, writeCached } from './cache.ts'
import type { NetworkList, PluginConfiguration } from './load.ts'
import { asOperation, type LockPlace } from './lock.ts'
import { callPlugin, failed, runtimeConfigFor } from './step.ts'

/** The version that brought CHECK, and the cached result for DEL. */
const RESULTS_SINCE = '0.4.0'

/**
 * Runs ADD over the plugins and answers the last one's result, as it printed it; `parseResult(result, result.cniVersion)`
 * gives it in one shape for all versions. An attachment that is alive already is refused.
 */
export function addNetworkList(
  list: NetworkList,
  attachment: RuntimeAttachment,
  options: AddOptions,
): Promise<JsonObject> {
  return alone({ list, attachment }, options, () => add(list, attachment, options))
}

/** Runs CHECK over the plugins with the cached result; throws the first failure. Versions before 0.4.0 have no CHECK: code 1. */
export function checkNetworkList(
  list: NetworkList,
  attachment: RuntimeAttachment,
  options: RuntimeOptions,
): Promise<void> {
  return alone({ list, attachment }, { ...options, optional: true }, () => check(list, attachment, options))
}

/** Runs DEL over the plugins backwards and forgets the result; throws the first failure, and keeps the result then. */
export function delNetworkList(
  list: NetworkList,
  attachment: RuntimeAttachment,
  options: RuntimeOptions,
): Promise<void> {
  return alone({ list, attachment }, { ...options, optional: true }, () => del(list, attachment, options))
}

/** Names are checked before they become parts of a path. */
async function alone<T>(
  { list, attachment }: { list: NetworkList; attachment: RuntimeAttachment },
  place: LockPlace,
  body: () => Promise<T>,
): Promise<T> {
  checkAttachment(list.name, attachment)
  return asOperation({ network: list.name, containerId: attachment.containerId }, body, place)
}

async function add(
  list: NetworkList,
  attachment: RuntimeAttachment,
  options: AddOptions,
): Promise<JsonObject> {
  refuseMissing(list, options)
  refuseLiving(list, attachment, options)
  const undo = options.undo === true && !linkOf(attachment)
  let previous: JsonObject | undefined
  try {
    for (const plugin of list.plugins) {
      previous = await addOne({ list, plugin, attachment, previous }, options)
    }
    const result = previous ?? { cniVersion: list.cniVersion }
    writeCached({ ...attachment, network: list.name, configuration: list.text, result }, options)
    return result
  } catch (thrown) {
    const left = undo ? await takeBack({ list, attachment, previous }, options) : undefined
    throw left ? withDetails(thrown, `could not take back what was added: ${left}`) : thrown
  }
}

/** A plugin that is not there is found missing before the first one leaves something behind. */
function refuseMissing(list: NetworkList, { path }: RuntimeOptions): void {
  for (const plugin of list.plugins) {
    try {
      findPlugin(plugin.type, path)
    } catch (thrown) {
      throw failed(plugin, 'add', thrown)
    }
  }
}

/** SPEC.md, section "Lifecycle & Ordering": no second ADD without a DEL, for one network, container and interface. */
function refuseLiving(list: NetworkList, attachment: RuntimeAttachment, options: RuntimeOptions): void {
  const { containerId, ifname } = attachment
  const cached = readable(list, attachment, options)
  const link = cached && linkOf(cached)
  if (!link || !isResultOf(cached, link)) return
  throw new CniError(
    code.internal,
    `container ${containerId} is attached to network ${list.name} by ${ifname} already`,
    { details: `${ifname} exists in ${cached.netns}; run DEL before another ADD` },
  )
}

/** Whether a link is the one that a result speaks of: a namespace's path may lead to another one by now. */
function isResultOf({ result = {}, ifname }: CachedAttachment, link: Link): boolean {
  const interfaces = lookup(result, 'interfaces')
  const known = Array.isArray(interfaces) ? (interfaces as Partial<Record<string, string>>[]) : []
  const own = known.find(({ name, sandbox }) => name === ifname && sandbox)
  return !own?.mac || own.mac.toLowerCase() === link.address
}

/** The link of an attachment; undefined when it, or its namespace, is not there. */
export function linkOf({ netns = '', ifname }: RuntimeAttachment): Link | undefined {
  if (namespaceState(netns) !== 'present') return undefined
  using route = inNamespace(netns, openRoute)
  return findLink(route, ifname)
}

/** What the cache has, where what cannot be read counts as nothing. */
function readable(
  list: NetworkList,
  attachment: RuntimeAttachment,
  options: RuntimeOptions,
): CachedAttachment | undefined {
  try {
    return readCached({ ...attachment, network: list.name }, options)
  } catch {
    return undefined
  }
}

/** A plugin's turn in an operation on an attachment. */
export interface Turn {
  list: NetworkList
  plugin: PluginConfiguration
  attachment: RuntimeAttachment
  previous: JsonObject | undefined
}

/** What the plugin is given on standard input. */
export function inputFor({ list, plugin, attachment, previous }: Turn): JsonObject {
  const runtimeConfig = runtimeConfigFor(plugin, attachment)
  return {
    ...plugin.raw,
    cniVersion: list.cniVersion,
    name: list.name,
    ...(previous ? { prevResult: previous } : {}),
    ...(runtimeConfig ? { runtimeConfig } : {}),
  }
}

async function addOne(turn: Turn, options: RuntimeOptions): Promise<JsonObject> {
  const { attachment, list, plugin } = turn
  try {
    const output = await callPlugin({ verb: 'ADD', plugin, attachment, stdin: inputFor(turn) }, options)
    return readResult(output, list.cniVersion)
  } catch (thrown) {
    throw isAbort(thrown, options) ? thrown : failed(plugin, 'add', thrown)
  }
}

function readResult(output: string, cniVersion: string): JsonObject {
  let json: unknown
  try {
    json = JSON.parse(output)
  } catch (thrown) {
    const details =
      output === '' ? 'it printed nothing' : `it printed ${JSON.stringify(output.slice(0, 200))}`
    throw new CniError(code.decoding, 'its result is not JSON', { details, cause: thrown })
  }
  if (isObject(json)) {
    return resultIn(json as JsonObject, cniVersion)
  }
  throw new CniError(code.decoding, `its result is not an object: ${output.slice(0, 200)}`)
}

/** The caller's own reason comes out as the caller gave it. */
function isAbort(thrown: unknown, { signal }: RuntimeOptions): boolean {
  return signal?.aborted === true && thrown === signal.reason
}

/** DEL after a failed ADD, also when that was aborted: over all plugins, whatever became of the others. Answers what went wrong. */
async function takeBack(
  given: { list: NetworkList; attachment: RuntimeAttachment; previous: JsonObject | undefined },
  options: RuntimeOptions,
): Promise<string | undefined> {
  const failures: string[] = []
  for (const plugin of given.list.plugins.toReversed()) {
    try {
      await delOne({ ...given, plugin }, { ...options, signal: undefined })
    } catch (thrown) {
      failures.push(toCniError(thrown).message)
    }
  }
  return failures.join('; ') || undefined
}

function withDetails(thrown: unknown, more: string): CniError {
  const { code: number, message, details } = toCniError(thrown)
  return new CniError(number, message, {
    details: [details, more].filter(Boolean).join('; '),
    cause: thrown,
  })
}

async function check(
  list: NetworkList,
  attachment: RuntimeAttachment,
  options: RuntimeOptions,
): Promise<void> {
  if (compareVersions(list.cniVersion, RESULTS_SINCE) < 0) {
    throw new CniError(
      code.incompatibleVersion,
      `configuration version "${list.cniVersion}" does not support the CHECK command`,
    )
  }
  if (list.disableCheck) return
  const cached = readCached({ ...attachment, network: list.name }, options)
  const previous = cachedResult(cached, list)
  const complete = completed(attachment, cached)
  for (const plugin of list.plugins) {
    const stdin = inputFor({ list, plugin, attachment: complete, previous })
    await callPlugin({ verb: 'CHECK', plugin, attachment: complete, stdin }, options)
  }
}

/** Arguments that the caller does not repeat are those of the ADD. */
function completed(attachment: RuntimeAttachment, cached: CachedAttachment | undefined): RuntimeAttachment {
  return {
    ...attachment,
    args: attachment.args ?? cached?.args,
    capabilityArgs: attachment.capabilityArgs ?? cached?.capabilityArgs,
  }
}

/** DEL without a lock, for whoever holds it. */
export async function del(
  list: NetworkList,
  attachment: RuntimeAttachment,
  options: RuntimeOptions,
): Promise<void> {
  const key = { ...attachment, network: list.name }
  const cached = readable(list, attachment, options)
  const turn = {
    list,
    attachment: completed(attachment, cached),
    previous: previousForDel(cached, list),
  }
  for (const plugin of list.plugins.toReversed()) await delOne({ ...turn, plugin }, options)
  removeCached(key, options)
}

/** A result that cannot be converted is no reason to keep a container from being deleted. */
function previousForDel(cached: CachedAttachment | undefined, list: NetworkList): JsonObject | undefined {
  if (compareVersions(list.cniVersion, RESULTS_SINCE) < 0) return undefined
  try {
    return cachedResult(cached, list)
  } catch {
    return undefined
  }
}

async function delOne(turn: Turn, options: RuntimeOptions): Promise<void> {
  const { attachment, plugin } = turn
  try {
    await callPlugin({ verb: 'DEL', plugin, attachment, stdin: inputFor(turn) }, options)
  } catch (thrown) {
    throw isAbort(thrown, options) ? thrown : failed(plugin, 'delete', thrown)
  }
}
