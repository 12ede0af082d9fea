/** The arguments of `catena reconcile`. */
import { type Command, InvalidArgumentError } from 'commander'
import type { Builtins } from '../../runtime/network.ts'
import type { Output } from '../output.ts'

interface ReconcileFlags {
  dryRun?: boolean
  cri: string[]
  conf?: string
  path?: string
  grace: number
  timeout: number
  json?: boolean
}

interface Surroundings {
  output: Output
  endWith(status: number): void
  /** Ends what is running when this process is asked to end. */
  onceAskedToEnd(): AbortSignal
}

const EXAMPLES = `
Examples:
  catena reconcile --dry-run                  what is dead, by which two signs, and what would be done
  catena reconcile --json                     for a script; exit status 1 if something failed or a runtime cannot be asked
  systemctl enable --now catena-reconcile.timer   now and then; the units come with catena install --units`

export function addReconcileVerb(
  root: Command,
  program: { builtins: Builtins },
  { output, endWith, onceAskedToEnd }: Surroundings,
): void {
  root
    .command('reconcile')
    .description(
      'removes attachments of containers that are gone by two signs, and runs GC where something is left; 1 if that failed',
    )
    .option('--dry-run', 'only say what would be done')
    .option(
      '--cri <socket>',
      "a runtime's socket to ask, in the place of the usual ones; several may be named",
      collect,
      [],
    )
    .option('--conf <folder>', 'folder of network configurations (otherwise those of all runtimes)')
    .option('--path <folders>', 'folders of plugins (CNI_PATH; otherwise those of all runtimes)')
    .option('--grace <seconds>', 'what is younger is left alone', parseNumber, 60)
    .option('--timeout <ms>', 'milliseconds that a plugin may take', parseNumber, 60_000)
    .option('--json', 'print JSON on a terminal too')
    .addHelpText('after', EXAMPLES)
    .action(async (flags: ReconcileFlags) => {
      const { askCri, CRI_SOCKETS, identitiesOf } = await import('../../observe/cri.ts')
      const { readWholeNode } = await import('../whole-node.ts')
      const { reconcile } = await import('./reconcile.ts')
      const { describeReport, documentOf, hasFailed } = await import('./print.ts')
      const { grace, conf, timeout, dryRun: isDryRun = false } = flags
      const cri = await askCri(flags.cri.length > 0 ? flags.cri : CRI_SOCKETS)
      const identities = identitiesOf(cri)
      const report = await reconcile({
        read: () => readWholeNode({ grace, identities, ...(conf ? { configurations: [conf] } : {}) }),
        cri,
        grace: grace * 1000,
        isDryRun,
        options: {
          path: await pathOf(flags),
          builtins: program.builtins,
          timeout: timeout || undefined,
          signal: onceAskedToEnd(),
        },
      })
      const done = { report, cri, isDryRun }
      output.answer(documentOf(done), () => describeReport(done, output))
      if (hasFailed(done)) endWith(1)
    })
}

const collect = (socket: string, others: string[]) => [...others, socket]

function parseNumber(text: string): number {
  const value = Number(text)
  if (text !== '' && Number.isSafeInteger(value) && value >= 0) return value
  throw new InvalidArgumentError('It must be a whole number.')
}

/** The plugins that runtimes have called are those that know what is left. */
async function pathOf({ path }: ReconcileFlags): Promise<string[]> {
  const { readSettings } = await import('../environment.ts')
  const { findRuntimes } = await import('../runtimes.ts')
  const usual = readSettings(path ? { path } : {}, process.env).path
  if (path || process.env.CNI_PATH) return usual
  return [...new Set([...findRuntimes('').runtimes.flatMap(({ plugins }) => plugins), ...usual])]
}
