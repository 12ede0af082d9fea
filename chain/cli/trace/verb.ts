/** The arguments of `catena trace`. */
import type { Command } from 'commander'
import {
  addNetworkList,
  checkNetworkList,
  delNetworkList,
  type NetworkList,
  type RuntimeAttachment,
  type RuntimeOptions,
} from '../../runtime/network.ts'
import type { Output } from '../output.ts'

export interface TraceFlags {
  all?: boolean
  html?: boolean
  output?: string
  create?: boolean
}

interface Call<Flags> {
  list: NetworkList
  attachment: RuntimeAttachment
  options: RuntimeOptions
  flags: Flags
}

export interface TraceWiring<Flags> {
  output: Output
  endWith(status: number): void
  /** Adds the flags of add, check and del. */
  withOptions(command: Command): Command
  /** What the flags say, and the namespace made if they ask for it. */
  callFor(network: string, netns: string, flags: Flags): Call<Flags>
}

const EXAMPLES = `
Examples:
  catena trace add demo web --create           a timeline of the chain, for a person
  catena trace del demo web --all              with everything that took less than a fiftieth of it
  catena trace check demo web --html --output trace.html
                                               one page that needs nothing else
  OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 catena trace add demo web
                                               to a collector of OpenTelemetry as well`

const verbs = {
  add: ['adds a container to a network', 'ADD'],
  check: ['checks a container', 'CHECK'],
  del: ['removes a container from a network', 'DEL'],
} as const

type Verb = keyof typeof verbs

/** Adds the verb. */
export function addTraceVerb<Flags extends TraceFlags>(root: Command, wiring: TraceWiring<Flags>): void {
  const group = root
    .command('trace')
    .description('runs a chain and shows what waited for what: plugins, kernel, files, other programs')
    .addHelpText('after', EXAMPLES)
  for (const [verb, [description]] of Object.entries(verbs)) {
    const command = group
      .command(`${verb} <network> <netns>`)
      .description(description)
      .option('--container-id <id>', "the container's ID (otherwise from the namespace's path, as cnitool's)")
      .option('--all', 'everything that was done')
      .option('--html', 'as a page for a browser')
      .option('--output <file>', 'write the page there')
    if (verb === 'add') command.option('--create', 'make the namespace first if it is not there')
    wiring
      .withOptions(command)
      .action((network: string, netns: string, flags: Flags) =>
        show(verb as Verb, { network, netns, flags }, wiring),
      )
  }
}

async function show<Flags extends TraceFlags>(
  verb: Verb,
  { network, netns, flags }: { network: string; netns: string; flags: Flags },
  { output, endWith, callFor }: TraceWiring<Flags>,
): Promise<void> {
  const { list, attachment, options } = callFor(network, netns, flags)
  const { trace, traceparentFor } = await import('../../trace/collect.ts')
  const { exportTrace } = await import('../../trace/otlp.ts')
  const traceparent = traceparentFor(process.env.TRACEPARENT)
  const run = () => {
    const environment = { ...withoutExport(process.env), TRACEPARENT: traceparent }
    const all = { ...options, environment }
    if (verb === 'add') return addNetworkList(list, attachment, { ...all, undo: true })
    return verb === 'check' ? checkNetworkList(list, attachment, all) : delNetworkList(list, attachment, all)
  }
  const { containerId: container, ifname } = attachment
  const traced = await trace(
    { verb: verbs[verb][1], network: list.name, container, ifname, traceparent },
    run,
  )
  if (traced.error) endWith(1)
  const failure = await exportTrace(traced, process.env)
  if (failure) output.aside(`the trace was not exported: ${failure}\n`)
  if (flags.html) return writePage(traced, flags, output)
  const { describeTrace } = await import('./print.ts')
  output.answer(traced, () => describeTrace(traced, { ...output, all: flags.all ?? false }))
}

/** What the plugins of this executable did is in the trace already: they need not export it as well. */
function withoutExport(
  env: Readonly<Record<string, string | undefined>>,
): Record<string, string | undefined> {
  return { ...env, OTEL_EXPORTER_OTLP_ENDPOINT: undefined, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: undefined }
}

type Traced = Awaited<ReturnType<typeof import('../../trace/collect.ts')['trace']>>

async function writePage(traced: Traced, flags: TraceFlags, output: Output): Promise<void> {
  const { drawPage } = await import('./page.ts')
  const page = drawPage(traced)
  if (flags.output === undefined) return output.text(page)
  const { writeAtomically } = await import('../../linux/files.ts')
  writeAtomically(flags.output, page, { mode: 0o644 })
  output.success(`${flags.output}`)
}
