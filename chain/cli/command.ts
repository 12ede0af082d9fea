/** The command `catena`: thin subcommands over the runtime, taking what cnitool takes. */
import { Command, InvalidArgumentError } from 'commander'
import { describeRuleBackends, readRuleBackends } from '../filter/rule-backends.ts'
import { ensureFolder, folderOf } from '../linux/files.ts'
import { createNamespace, namespaceState, removeNamespace } from '../linux/netns.ts'
import { CniError, code, toCniError } from '../protocol/error.ts'
import { supportedVersions } from '../protocol/version.ts'
import {
  addNetworkList,
  type Builtins,
  checkNetworkList,
  delNetworkList,
  gcNetworkList,
  getStatusNetworkList,
  listAttachments,
  loadNetworkList,
  type NetworkList,
  type RuntimeAttachment,
  type RuntimeOptions,
  validateNetworkList,
} from '../runtime/network.ts'
import type { Served } from '../service/worker.ts'
import { addCompletionVerb } from './completion/verb.ts'
import { containerIdFor, type Flags, namespacePath, readSettings } from './environment.ts'
import { addExplainVerb } from './explain/verb.ts'
import { addIpamVerb } from './ipam/verb.ts'
import { addLintVerb } from './lint/verb.ts'
import { addMigrateVerb } from './migrate/verb.ts'
import { addNodeVerbs } from './node.ts'
import { addObserveVerbs } from './observe-verbs.ts'
import { type Output, outputFor } from './output.ts'
import { drawNetwork } from './picture.ts'
import { addPlanVerb } from './plan/verb.ts'
import { product } from './product.ts'
import { addReconcileVerb } from './reconcile/verb.ts'
import { renderResult } from './render.ts'
import { addRestoreVerb } from './restore/verb.ts'
import { addServeVerb } from './serve.ts'
import { resultOf, type Shown, topologyOf } from './topology.ts'
import { addTraceVerb } from './trace/verb.ts'

export interface Program {
  builtins: Builtins
  /** All plugins, as values. */
  served: Served
  pluginNames: readonly string[]
}

interface AttachmentFlags extends Flags {
  create?: boolean
  containerId?: string
  timeout?: number
  json?: boolean
}

/** Runs the command and answers the exit status. */
export async function runCatena(argv: readonly string[], program: Program): Promise<number> {
  const output = outputFor(argv)
  try {
    let status = 0
    const endWith = (other: number) => {
      status = other
    }
    await commandLine(program, output, endWith).parseAsync(argv, { from: 'user' })
    return status
  } catch (thrown) {
    if (isUsage(thrown)) return thrown.exitCode
    output.failure(toCniError(thrown))
    return 1
  }
}

/** commander has said what is wrong with the arguments itself. */
function isUsage(thrown: unknown): thrown is { exitCode: number } {
  return thrown instanceof Error && 'exitCode' in thrown && typeof thrown.exitCode === 'number'
}

const EXAMPLES = `
Examples:
  catena add demo web --create --cap-args '{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}'
  catena list demo
  catena del demo web

Plugins that this executable holds: `

/** The command and its verbs: what runs, and what completions and manual pages are made of. */
export function commandLine(program: Program, output: Output, endWith: (status: number) => void): Command {
  const root = new Command('catena')
    .description('Runs CNI networks: adds containers to them, checks and removes them')
    .version(`catena ${product()}, CNI ${supportedVersions.join(', ')}`, '-V, --version')
    .exitOverride()
    .showHelpAfterError('`catena help` tells more.')
    .addHelpText('after', `${EXAMPLES}${program.pluginNames.join(', ')}`)
  addAttachmentVerbs(root, program, output)
  addNetworkVerbs(root, program, output)
  addNodeVerbs(root, program, { output, endWith })
  addObserveVerbs(root, { output, endWith })
  addServeVerb(root, program.served, { output, endWith })
  addLintVerb(root, program, { output, endWith })
  addIpamVerb(root, program, { output, endWith })
  addMigrateVerb(root, program.served, { output, endWith })
  addPlanVerb(root, program, { output, endWith })
  addRestoreVerb(root, program, { output, endWith })
  addExplainVerb(root, { output, endWith })
  addReconcileVerb(root, program, { output, endWith, onceAskedToEnd })
  addTraceVerb<AttachmentFlags>(root, {
    output,
    endWith,
    withOptions,
    callFor(network, netns, flags) {
      const call = callFor({ program, output: { ...output, step: () => {} }, network, netns, flags })
      prepareNamespace(call.netns, flags)
      return call
    },
  })
  root
    .command('list [network]')
    .description('shows which containers are on the networks')
    .option('--json', 'print JSON on a terminal too')
    .action((network: string | undefined) => list(network, output))
  addCompletionVerb(root, output)
  return root
}

function addAttachmentVerbs(root: Command, program: Program, output: Output): void {
  const verbs: Record<string, [string, Action]> = {
    add: ['adds a container to a network', add],
    check: ['checks that a container is as ADD left it', check],
    del: ['removes a container from a network', del],
  }
  for (const [name, [description, action]] of Object.entries(verbs)) {
    const command = root
      .command(`${name} <network> <netns>`)
      .description(`${description}; <netns> is a path, or a name under /run/netns`)
      .option('--container-id <id>', "the container's ID (otherwise from the namespace's path, as cnitool's)")
    if (name === 'add') command.option('--create', 'make the namespace first if it is not there')
    withOptions(command).action((network: string, netns: string, flags: AttachmentFlags) =>
      action(callFor({ program, output, network, netns, flags })),
    )
  }
}

function addNetworkVerbs(root: Command, program: Program, output: Output): void {
  const verbs: Record<string, [string, Action]> = {
    gc: ['removes all containers from a network, and what those that are gone have left', gc],
    status: ['tells whether a network can take containers', status],
    version: ["tells whether a network's plugins take its version", version],
  }
  for (const [name, [description, action]] of Object.entries(verbs)) {
    const command = root.command(`${name} <network> [netns]`).description(description)
    withOptions(command).action((network: string, netns: string | undefined, flags: AttachmentFlags) =>
      action(callFor({ program, output, network, netns: netns ?? '', flags })),
    )
  }
}

function withOptions(command: Command): Command {
  return command
    .option('-i, --ifname <name>', 'name of the interface in the container (CNI_IFNAME, eth0)')
    .option('--conf <folder>', 'folder of network configurations (NETCONFPATH, /etc/cni/net.d)')
    .option('--path <folders>', 'folders of plugins (CNI_PATH)')
    .option('--args <pairs>', 'K=V;K=V for the plugins (CNI_ARGS)')
    .option('--cap-args <json>', 'capability arguments (CAP_ARGS)')
    .option('--timeout <ms>', 'milliseconds that a plugin may take', parseMilliseconds)
    .option('--json', 'print JSON on a terminal too')
}

function parseMilliseconds(text: string): number {
  const value = Number(text)
  if (text !== '' && Number.isSafeInteger(value) && value > 0) return value
  throw new InvalidArgumentError('It must be a whole number of milliseconds.')
}

interface Call {
  list: NetworkList
  netns: string
  attachment: RuntimeAttachment
  options: RuntimeOptions
  flags: AttachmentFlags
  output: Output
}

type Action = (call: Call) => Promise<void>

function callFor(given: {
  program: Program
  output: Output
  network: string
  netns: string
  flags: AttachmentFlags
}): Call {
  const { program, output, network, flags } = given
  const { configurations, path, ...settings } = readSettings(flags, process.env)
  const netns = namespacePath(given.netns, process.cwd())
  return {
    list: loadNetworkList(configurations, network),
    netns,
    flags,
    output,
    attachment: { ...settings, netns, containerId: flags.containerId ?? containerIdFor(netns) },
    options: {
      path,
      builtins: program.builtins,
      timeout: flags.timeout,
      signal: flags.timeout === undefined ? undefined : onceAskedToEnd(),
      onStep: output.step,
    },
  }
}

/** A plugin with a time limit leads a process group of its own: what is sent to ours has to be passed on. */
function onceAskedToEnd(): AbortSignal {
  const controller = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () =>
      controller.abort(
        new CniError(
          code.internal,
          `ended by ${signal}, and the running plugin with all that it had started`,
        ),
      ),
    )
  }
  return controller.signal
}

/** Answers whether the namespace is a new one. */
function prepareNamespace(netns: string, { create = false }: { create?: boolean }): boolean {
  if (netns === '' || namespaceState(netns) !== 'absent') return false // the plugins say what is wrong with it
  if (!create) {
    throw new CniError(code.invalidNamespace, `there is no namespace ${netns}`, {
      details: 'make it before, or let --create make it',
    })
  }
  ensureFolder(folderOf(netns))
  createNamespace(netns)
  return true
}

const add: Action = async ({ list, netns, attachment, options, flags, output }) => {
  const created = prepareNamespace(netns, flags)
  try {
    output.result(await addNetworkList(list, attachment, { ...options, undo: true }))
  } catch (thrown) {
    if (created) removeNamespace(netns)
    throw thrown
  }
  output.success(`${attachment.containerId} is on network ${list.name}`)
}

const check: Action = async ({ list, attachment, options, output }) => {
  await checkNetworkList(list, attachment, options)
  output.success(`${attachment.containerId} is on network ${list.name} as ADD left it`)
}

const del: Action = async ({ list, attachment, options, output }) => {
  await delNetworkList(list, attachment, options)
  output.success(`${attachment.containerId} is no longer on network ${list.name}`)
}

/** As cnitool: no list of valid attachments, so all that the cache knows go. */
const gc: Action = async ({ list, options, output }) => {
  await gcNetworkList(list, undefined, options)
  output.success(`nothing of any container is left on network ${list.name}`)
}

const status: Action = async ({ list, options, output }) => {
  await getStatusNetworkList(list, options)
  output.success(`network ${list.name} can take containers`)
}

const version: Action = async ({ list, options, output }) => {
  const capabilities = await validateNetworkList(list, options)
  output.answer(
    { name: list.name, cniVersion: list.cniVersion, capabilities },
    () => `network ${list.name}: every plugin takes version ${list.cniVersion}`,
  )
}

/** All that the cache knows: a picture of each network that has a bridge, else its results. */
function list(network: string | undefined, output: Output): void {
  const ruleBackendsOf = readRuleBackends()
  const attachments = listAttachments({ network }).map(attachment => {
    const backends = ruleBackendsOf(attachment)
    return Object.keys(backends).length > 0 ? { ...attachment, backends } : attachment
  })
  const document = attachments.map(({ configuration: _, ...attachment }) => attachment)
  output.answer(document, () => {
    const networks = [...new Set(attachments.map(attachment => attachment.network))]
    const parts = networks.map(name =>
      describeNetwork(
        name,
        attachments.filter(each => each.network === name),
        output,
      ),
    )
    return parts.join('\n\n') || 'no container is on any network'
  })
}

function describeNetwork(name: string, attachments: readonly Shown[], { style, width }: Output): string {
  const topology = topologyOf(name, attachments)
  if (topology) return drawNetwork(topology, style, width)
  const parts = attachments.map(attachment => {
    const result = resultOf(attachment)
    const kept = describeRuleBackends(attachment.backends ?? {})
    const head = `${attachment.containerId}${kept ? style.dim(`  rules in ${kept}`) : ''}`
    return `${head}\n${result ? renderResult(result, style) : '  its result cannot be read'}`
  })
  return [`network ${style.bold(name)}`, ...parts].join('\n')
}
