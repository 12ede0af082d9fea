/** The arguments of `catena lint`. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import { status } from '../../linux/libc/status.ts'
import type { Plugin } from '../../plugin/define.ts'
import { CniError, code } from '../../protocol/error.ts'
import { type Builtins, listNetworkFiles } from '../../runtime/network.ts'
import { type Flags, readSettings } from '../environment.ts'
import type { Output } from '../output.ts'

interface LintFlags extends Flags {
  node?: boolean
  verbs: string[]
  strict?: boolean
  format?: 'text' | 'json' | 'github'
  json?: boolean
}

interface Program {
  builtins: Builtins
  served: { load(type: string): Promise<Plugin> | undefined }
}

const VERBS = ['CHECK', 'GC', 'STATUS']

/** Adds the verb; `endWith` takes the exit status of what was found. */
export function addLintVerb(
  root: Command,
  program: Program,
  { output, endWith }: { output: Output; endWith(status: number): void },
): void {
  root
    .command('lint [file...]')
    .description('says what is wrong with network configurations: all of a folder, or those that are named')
    .option('--conf <folder>', 'folder of network configurations (NETCONFPATH, /etc/cni/net.d)')
    .option('--path <folders>', 'folders of plugins (CNI_PATH)')
    .option('--node', 'hold files that are named against this node as well')
    .option('--no-node', 'look at the files alone: they are for another node')
    .option('--verbs <names>', 'what the runtime calls besides ADD and DEL: CHECK,GC,STATUS', parseVerbs, [])
    .option('--strict', 'exit status 1 for warnings too')
    .addOption(new Option('--format <name>', 'how it is told').choices(['text', 'json', 'github']))
    .option('--json', 'print JSON on a terminal too')
    .action(async (named: string[], flags: LintFlags) => {
      const { lint } = await import('./lint.ts')
      const { configurations, path } = readSettings(flags, process.env)
      const isNode = flags.node ?? named.length === 0
      const report = await lint({
        files: filesOf(named, configurations),
        load: program.served.load,
        verbs: flags.verbs,
        node: isNode ? { path, builtins: program.builtins } : undefined,
      })
      const { describeForGithub, describeReport } = await import('./print.ts')
      const words = () => describeReport(report, output.style, output.width)
      const github = describeForGithub(report)
      if (flags.format === 'github') output.text(github && `${github}\n`)
      else if (flags.format === 'text') output.text(`${words()}\n`)
      else if (flags.format === 'json') output.text(`${JSON.stringify(report, undefined, 4)}\n`)
      else output.answer(report, words)
      if (report.errors > 0 || (flags.strict && report.warnings > 0)) endWith(1)
    })
}

function parseVerbs(text: string): string[] {
  const verbs = text.toUpperCase().split(',').filter(Boolean)
  const unknown = verbs.find(verb => !VERBS.includes(verb))
  if (unknown === undefined) return verbs
  throw new InvalidArgumentError(`There are ${VERBS.join(', ')}.`)
}

function filesOf(named: readonly string[], configurations: string): string[] {
  const places = named.length === 0 ? [configurations] : named
  const files = places.flatMap(place =>
    status(place)?.kind === 'folder' ? listNetworkFiles(place) : [place],
  )
  if (files.length > 0 && (named.length > 0 || status(configurations))) return inOrder(files)
  throw new CniError(code.invalidConfiguration, `no net configurations found in ${places.join(', ')}`, {
    details: 'networks are .conflist, .conf and .json files there',
  })
}

/** As runtimes look at them: lists before single plugins. */
function inOrder(files: readonly string[]): string[] {
  const isList = (file: string) => file.endsWith('.conflist')
  return [...files.filter(isList), ...files.filter(file => !isList(file))]
}
