/** One plugin called once on behalf of a runtime: what it is given, and what its answer means. Knows no order and no cache. */
import { failureOf } from '../invoke/failure.ts'
import { type Answer, findPlugin, invoke } from '../invoke/invoke.ts'
import type { JsonObject } from '../protocol/configuration.ts'
import { CniError, toCniError } from '../protocol/error.ts'
import type { RuntimeAttachment, RuntimeOptions, RuntimeVerb } from './attachment.ts'
import type { PluginConfiguration } from './load.ts'

export interface PluginCall {
  verb: RuntimeVerb
  plugin: PluginConfiguration
  /** Standard input. */
  stdin: JsonObject
  /** Absent for the verbs which are about a whole network. */
  attachment?: RuntimeAttachment | undefined
}

/** Runs a plugin; answers its standard output, or throws the error that it printed. */
export async function callPlugin(call: PluginCall, options: RuntimeOptions): Promise<string> {
  const started = performance.now()
  const step = { verb: call.verb, plugin: call.plugin.type }
  let answer: Answer | undefined
  const told = (stderr: string, error?: CniError) =>
    options.onStep?.({
      ...step,
      milliseconds: performance.now() - started,
      ...(answer ? { by: answer.by ?? 'a process' } : {}),
      stderr,
      ...(error ? { error } : {}),
    })
  try {
    answer = await start(call, options)
    if (answer.status !== 0 || answer.timedOut) throw failureOf(answer, options.timeout)
  } catch (thrown) {
    told(answer?.stderr ?? '', toCniError(thrown))
    throw thrown
  }
  told(answer.stderr)
  return answer.stdout
}

/** In process nothing could be ended early, so whoever wants that gets a process. */
function start({ verb, plugin, stdin, attachment }: PluginCall, options: RuntimeOptions): Promise<Answer> {
  const { builtins, path, signal, timeout } = options
  const call = {
    file: findPlugin(plugin.type, path),
    type: plugin.type,
    environment: environmentFor(verb, attachment, options),
    stdin: JSON.stringify(stdin),
  }
  return signal || timeout !== undefined ? invoke({ ...call, signal, timeout }) : invoke(call, builtins)
}

/** What the plugin is given beside standard input. */
export function environmentFor(
  verb: RuntimeVerb,
  attachment: RuntimeAttachment | undefined,
  { environment = Bun.env, path }: RuntimeOptions,
): Record<string, string> {
  const inherited = Object.entries(environment).filter(
    (entry): entry is [string, string] => entry[1] !== undefined,
  )
  return {
    ...Object.fromEntries(inherited),
    CNI_COMMAND: verb,
    CNI_CONTAINERID: attachment?.containerId ?? '',
    CNI_NETNS: attachment?.netns ?? '',
    CNI_ARGS: (attachment?.args ?? []).map(pair => pair.join('=')).join(';'),
    CNI_IFNAME: attachment?.ifname ?? '',
    CNI_PATH: path.join(':'),
  }
}

/** Arguments for the capabilities that a plugin declares and the caller has; undefined for none. */
export function runtimeConfigFor(
  { capabilities }: PluginConfiguration,
  { capabilityArgs = {} }: RuntimeAttachment,
): JsonObject | undefined {
  const requested = Object.entries(capabilityArgs).filter(
    ([capability, value]) => capabilities[capability] === true && value !== undefined && value !== null,
  )
  return requested.length > 0 ? Object.fromEntries(requested) : undefined
}

/** A failure with the plugin and the operation before it, in libcni's words; the code stays. */
export function failed({ type, name }: PluginConfiguration, operation: string, thrown: unknown): CniError {
  const { code: number, message, details } = toCniError(thrown)
  const plugin = `plugin type="${type}"${name ? ` name="${name}"` : ''}`
  return new CniError(number, `${plugin} failed (${operation}): ${message}`, { details, cause: thrown })
}
