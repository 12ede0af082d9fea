/** What ADD would do: the plugins themselves do it in a twin of the node, and what they ask of the system is written down. */
import { listFolder, readFile } from '../../linux/files.ts'
import { type Link, listLinks } from '../../linux/netlink/link.ts'
import { openRoute } from '../../linux/netlink/socket.ts'
import { inNamespace } from '../../linux/netns.ts'
import { applyRuleset } from '../../linux/nftables/engine.ts'
import type { Plugin } from '../../plugin/define.ts'
import { keptOutput } from '../../plugin/io.ts'
import { run } from '../../plugin/run.ts'
import { isObject, type JsonObject, lookup } from '../../protocol/configuration.ts'
import { CniError, code, toCniError } from '../../protocol/error.ts'
import {
  addNetworkList,
  type Builtins,
  findPlugin,
  isSameFile,
  type NetworkList,
  type RuntimeAttachment,
} from '../../runtime/network.ts'
import { type Recorder, recordCalls, type Where } from './calls.ts'
import type { Names, Step } from './step.ts'
import { type Event, stepsOf } from './steps.ts'
import { enterTwin, type Twin, type Without } from './twin.ts'

export interface Planned {
  shape: 'catena-plan-1'
  network: string
  containerId: string
  ifname: string
  netns: string
  steps: Step[]
  /** The result that ADD would print; absent where it would fail. */
  result?: JsonObject
  /** Why it would fail; what it had done by then, and has undone, is among the steps. */
  error?: { code: number; message: string; details?: string }
  /** The messages over netlink that change something, as they are sent; for who compares. */
  messages?: SentMessage[]
  /** What is not known, in sentences: what of the node could not be copied, plugins of others. */
  notes: string[]
}

export interface SentMessage {
  where: Where
  protocol: number
  type: number
  flags: number
  /** Hexadecimal. */
  payload: string
}

export interface Plan {
  list: NetworkList
  attachment: RuntimeAttachment & { netns: string }
  path: readonly string[]
  executable: string
  load(type: string): Promise<Plugin> | undefined
  /** Whether messages are shown as they are sent. */
  isRaw?: boolean
}

/** A twin that has been entered, and what is to be done in it. */
export interface Prepared {
  given: Plan
  /** The list without plugins of others. */
  own: NetworkList
  twin: Twin
  /** What has happened in the twin so far. */
  events: Event[]
  options: { path: readonly string[]; builtins: Builtins }
  notes: string[]
}

/** Enters the twin: this process never comes back, and can only print, and end. */
export function prepare(given: Plan, without: Without): Prepared {
  const { list, attachment, path, executable, load } = given
  refuseDaemons(list)
  const { own, notes } = ownPlugins(list, { path, executable })
  const twin = enterTwin(attachment.netns, foldersIn(list), without)
  if (!twin.isThere)
    notes.push(`there is no namespace ${attachment.netns}: planned as if it were there, and empty`)
  const events: Event[] = []
  const recorder = recordCalls(
    opened => opened === twin.netns,
    call => void events.push(call),
  )
  recordPrograms(recorder)
  const builtins = recordedPlugins({ executable, load, recorder, events })
  return {
    given,
    own: { ...list, plugins: own },
    twin,
    events,
    options: { path, builtins },
    notes: [...notes, ...twin.lacking.map(what => `not copied: ${what}`)],
  }
}

export const plan = (given: Plan): Promise<Planned> =>
  planWithin(prepare(given, { host: [], container: [] })).then(({ planned }) => planned)

/** ADD in the twin, as steps; `events` are those of ADD alone. */
export async function planWithin({
  given,
  own,
  twin,
  events,
  options,
  notes,
}: Prepared): Promise<{ planned: Planned; events: readonly Event[] }> {
  const { list, attachment, isRaw = false } = given
  events.length = 0
  const outcome = await attempt(own, { ...attachment, netns: twin.netns }, options)
  const done = [...events] // looking up names is no part of it
  const planned: Planned = {
    shape: 'catena-plan-1',
    network: list.name,
    containerId: attachment.containerId,
    ifname: attachment.ifname,
    netns: attachment.netns,
    steps: stepsOf(done, namesIn(twin)),
    ...outcome,
    ...(isRaw ? { messages: sentIn(done) } : {}),
    notes,
  }
  return { planned, events: done }
}

function sentIn(events: readonly Event[]): SentMessage[] {
  return events.flatMap(event => {
    if (event.kind !== 'netlink') return []
    const { where, protocol, message } = event
    const { type, flags, payload } = message
    return [{ where, protocol, type, flags, payload: payload.toHex() }]
  })
}

async function attempt(
  list: NetworkList,
  attachment: RuntimeAttachment,
  options: { path: readonly string[]; builtins: Builtins },
): Promise<Pick<Planned, 'result' | 'error'>> {
  try {
    return { result: await addNetworkList(list, attachment, options) }
  } catch (thrown) {
    const { code: number, message, details } = toCniError(thrown)
    return { error: { code: number, message, ...(details ? { details } : {}) } }
  }
}

/** What plugins of others do cannot be told; ours can be planned up to the first, and beyond it where they need no result of it. */
function ownPlugins(
  list: NetworkList,
  { path, executable }: { path: readonly string[]; executable: string },
): { own: NetworkList['plugins']; notes: string[] } {
  const isOwn = (type: string) => isSameFile(findPlugin(type, path), executable)
  const own = list.plugins.filter(({ type }) => isOwn(type))
  const others = list.plugins.filter(plugin => !own.includes(plugin))
  const [first] = list.plugins
  if (first && others.includes(first)) {
    throw new CniError(
      code.internal,
      `${findPlugin(first.type, path)} is another program: what it does cannot be told`,
      {
        details:
          'plan knows the plugins of this executable; --path names the folders in which they are looked for',
      },
    )
  }
  const notes = others.map(
    ({ type }) =>
      `${findPlugin(type, path)} would be run too: it is another program, and what it does cannot be told`,
  )
  return { own, notes }
}

/** What would be asked of a daemon would be done by it, on the node. */
function refuseDaemons({ plugins }: NetworkList): void {
  for (const { type, raw } of plugins) {
    const ipam = lookup(raw, 'ipam')
    const isLeased = isObject(ipam) && lookup(ipam, 'type') === 'dhcp'
    if (isLeased) {
      throw new CniError(
        code.internal,
        `${type}: addresses by DHCP are the server’s choice, and asking is leasing`,
        {
          details: 'a network with dhcp cannot be planned',
        },
      )
    }
    const backend = lookup(raw, 'backend') ?? ''
    if (type === 'firewall' && (backend === 'firewalld' || (backend === '' && isRunning('firewalld')))) {
      throw new CniError(
        code.internal,
        'firewall: firewalld would be told, and does on the node what it is told',
        {
          details: 'a network with a firewall by firewalld cannot be planned',
        },
      )
    }
  }
}

function isRunning(name: string): boolean {
  return (listFolder('/proc') ?? []).some(process => {
    if (!/^\d+$/.test(process)) return false
    try {
      return readFile(`/proc/${process}/comm`)?.trim() === name
    } catch {
      return false // it has ended
    }
  })
}

/** Folders that configurations name for plugins to write to. */
function foldersIn({ plugins }: NetworkList): string[] {
  return plugins.flatMap(({ raw }) => {
    const ipam = lookup(raw, 'ipam')
    const named = [lookup(raw, 'dataDir'), isObject(ipam) ? lookup(ipam, 'dataDir') : undefined]
    return named.filter((folder): folder is string => typeof folder === 'string' && folder.startsWith('/'))
  })
}

/** Ours, in this process, with a note of each and of what it asks of nf_tables. */
function recordedPlugins({
  executable,
  load,
  recorder,
  events,
}: Pick<Plan, 'executable' | 'load'> & { recorder: Recorder; events: Event[] }): Builtins {
  const builtins: Builtins = {
    executable,
    run(type, env, stdin) {
      const plugin = load(type)
      return plugin && runOne(type, plugin, { env, stdin })
    },
  }
  const runOne = async (
    type: string,
    plugin: Promise<Plugin>,
    { env, stdin }: { env: Readonly<Record<string, string>>; stdin: string },
  ) => {
    const { kept, ...output } = keptOutput()
    events.push({ kind: 'plugin', type, verb: env.CNI_COMMAND ?? '' })
    const status = await run(await plugin, {
      env: { ...env, DBUS_SYSTEM_BUS_ADDRESS: 'unix:path=/nonexistent' },
      stdin: () => stdin,
      ...output,
      builtins,
      engine: (commands, generation) => {
        if (commands.length > 0) events.push({ kind: 'nftables', where: recorder.where(), commands })
        return applyRuleset(commands, generation)
      },
    })
    events.push({ kind: 'plugin', type, verb: 'end' })
    return { status, ...kept }
  }
  return builtins
}

/** What lists, tries, or asks whether rules are there: it changes nothing. */
function isQuestion(words: readonly string[], input: string): boolean {
  const lines = input.split('\n').filter(line => /^-[A-Z]/.test(line))
  const areChecks = lines.length > 0 && lines.every(line => line.startsWith('-C '))
  return (
    /-save$/.test(words[0] ?? '') ||
    areChecks ||
    ['--test', '--version', '-C', '-S'].some(word => words.includes(word))
  )
}

/** Programs that plugins run: iptables and its kind. What only reads is not told. */
function recordPrograms(recorder: Recorder): void {
  const start = Bun.spawnSync
  const recorded = (...given: Parameters<typeof start>) => {
    const [words, options] = given as unknown as [string[], { stdio?: unknown[] } | undefined]
    const [input] = options?.stdio ?? []
    const text = input instanceof Uint8Array ? Buffer.from(input).toString() : ''
    const outcome = start(...given)
    const status = outcome.exitCode ?? 128
    if (Array.isArray(words) && !isQuestion(words, text))
      recorder.note({
        kind: 'program',
        where: recorder.where(),
        words: words.map(String),
        input: text,
        status,
      })
    return outcome
  }
  Bun.spawnSync = recorded as typeof start
}

/** As links are called in the end; those that are gone, or elsewhere by then, as they were in the beginning. */
function namesIn({ netns, captured }: Twin): Names {
  const list = (before: readonly Link[] = []) => {
    using route = openRoute()
    return new Map([...before, ...listLinks(route)].map(({ index, name }) => [index, name]))
  }
  const inContainer = () => list(captured.container?.links)
  return { host: list(captured.host?.links), container: inNamespace<Map<number, string>>(netns, inContainer) }
}
