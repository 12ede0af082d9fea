/** The command `catena`: thin subcommands over the runtime, taking what cnitool takes. */
import { Command } from 'commander'
import { ensureFolder, folderOf } from '../linux/files.ts'
import { createNamespace, namespaceState } from '../linux/netns.ts'
import { type CniError, errorDocument, toCniError } from '../protocol/error.ts'
import { parseResult, printError, printJson } from '../protocol/result.ts'
import { newestVersion, supportedVersions } from '../protocol/version.ts'
import {
  type Attachment,
  addNetworkList,
  type Builtins,
  checkNetworkList,
  delNetworkList,
  gcNetworkList,
  getStatusNetworkList,
  loadNetworkList,
  type NetworkList,
  type RuntimeOptions,
  validateNetworkList,
} from '../runtime/network.ts'
import { containerIdFor, type Flags, namespacePath, readSettings, type Settings } from './environment.ts'
import { renderError, renderResult, renderStep, styleFor } from './render.ts'

export interface Program {
  builtins: Builtins
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
    await commandLine(program, output).parseAsync(argv, { from: 'user' })
    return 0
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

interface Output {
  /** A person is looking: words and colours instead of JSON. */
  isTerminal: boolean
  result(document: object): void
  line(text: string): void
  failure(error: CniError): void
  step: NonNullable<RuntimeOptions['onStep']>
}

function outputFor(argv: readonly string[]): Output {
  const isTerminal = Boolean(process.stdout.isTTY) && !argv.includes('--json')
  const style = styleFor(isTerminal, process.env)
  return {
    isTerminal,
    result(document) {
      if (isTerminal) console.log(renderResult(parseResult(document, versionOf(document)), style))
      else console.log(printJson(document))
    },
    line: text => {
      if (isTerminal) console.log(text)
    },
    failure(error) {
      if (isTerminal) console.error(renderError(error, style))
      else console.log(printError(errorDocument(error, newestVersion)))
    },
    step(step) {
      if (isTerminal) console.log(renderStep(step, style))
      if (step.stderr) process.stderr.write(step.stderr)
    },
  }
}

function versionOf(document: object): string {
  return 'cniVersion' in document ? String(document.cniVersion) : newestVersion
}

function commandLine(program: Program, output: Output): Command {
  const root = new Command('catena')
    .description('Runs CNI networks: the plugins are this executable under other names')
    .version(`catena, CNI ${supportedVersions.join(', ')}`, '-V, --version')
    .exitOverride()
    .showHelpAfterError()
  const verbs: Record<string, [string, Action]> = {
    add: ['adds a container to a network', add],
    check: ['checks that a container is as ADD left it', check],
    del: ['removes a container from a network', del],
  }
  for (const [name, [description, action]] of Object.entries(verbs)) {
    withOptions(root.command(`${name} <network> <netns>`).description(description))
      .option('--create', 'make the namespace first if it is not there')
      .option('--container-id <id>', "the container's ID (otherwise from the namespace's path, as cnitool's)")
      .action((network: string, netns: string, flags: AttachmentFlags) =>
        action(callFor({ program, output, network, netns, flags })),
      )
  }
  const networkVerbs: Record<string, [string, Action]> = {
    gc: ['removes what attachments that are gone have left on a network', gc],
    status: ['tells whether a network can take containers', status],
    version: ["tells whether a network's plugins take its version", version],
  }
  for (const [name, [description, action]] of Object.entries(networkVerbs)) {
    withOptions(root.command(`${name} <network> [netns]`).description(description)).action(
      (network: string, netns: string | undefined, flags: AttachmentFlags) =>
        action(callFor({ program, output, network, netns: netns ?? '', flags })),
    )
  }
  return root
}

function withOptions(command: Command): Command {
  return command
    .option('-i, --ifname <name>', 'name of the interface in the container (CNI_IFNAME, eth0)')
    .option('--conf <folder>', 'folder of network configurations (NETCONFPATH, /etc/cni/net.d)')
    .option('--path <folders>', 'folders of plugins (CNI_PATH)')
    .option('--args <pairs>', 'K=V;K=V for the plugins (CNI_ARGS)')
    .option('--cap-args <json>', 'capability arguments (CAP_ARGS)')
    .option('--timeout <ms>', 'milliseconds that a plugin may take', Number)
    .option('--json', 'print JSON on a terminal too')
    .exitOverride()
}

interface Call {
  list: NetworkList
  netns: string
  attachment: Attachment
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
  const settings: Settings = readSettings(flags, process.env)
  const netns = given.netns && namespacePath(given.netns, process.cwd())
  return {
    list: loadNetworkList(settings.configurations, network),
    netns,
    flags,
    output,
    attachment: {
      containerId: flags.containerId ?? containerIdFor(netns),
      netns,
      ifname: settings.ifname,
      args: settings.args,
      capabilityArgs: settings.capabilityArgs,
    },
    options: {
      path: settings.path,
      builtins: program.builtins,
      timeout: flags.timeout,
      onStep: output.step,
    },
  }
}

const add: Action = async ({ list, netns, attachment, options, flags, output }) => {
  if (flags.create && namespaceState(netns) === 'absent') {
    ensureFolder(folderOf(netns))
    createNamespace(netns)
  }
  output.result(await addNetworkList(list, attachment, { ...options, undo: true }))
}

const check: Action = async ({ list, attachment, options }) => checkNetworkList(list, attachment, options)

const del: Action = async ({ list, attachment, options }) => delNetworkList(list, attachment, options)

/** As cnitool: no list of valid attachments, so all that the cache knows go. */
const gc: Action = async ({ list, options }) => {
  await gcNetworkList(list, undefined, options)
}

const status: Action = async ({ list, options, output }) => {
  await getStatusNetworkList(list, options)
  output.line(`network ${list.name} can take containers`)
}

const version: Action = async ({ list, options, output }) => {
  const capabilities = await validateNetworkList(list, options)
  const document = { name: list.name, cniVersion: list.cniVersion, capabilities }
  if (output.isTerminal) output.line(`network ${list.name}: every plugin takes version ${list.cniVersion}`)
  else console.log(printJson(document))
}
