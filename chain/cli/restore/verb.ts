/** The arguments of `catena restore`. */
import type { Command } from 'commander'
import type { Served } from '../../service/worker.ts'
import type { Output } from '../output.ts'

interface RestoreFlags {
  dryRun?: boolean
  json?: boolean
}

const EXAMPLES = `
Examples:
  catena restore --dry-run         what is missing of live containers' rules
  catena restore                   puts it back, after \`nft flush ruleset\` or a firewall's reload
  catena restore net               for the containers of one network`

/** Adds the verb; `endWith` takes the exit status. */
export function addRestoreVerb(
  root: Command,
  { served }: { served: Served },
  { output, endWith }: { output: Output; endWith(status: number): void },
): void {
  root
    .command('restore [network]')
    .description('puts back the rules of live containers that somebody has flushed; 1 if any could not be')
    .option('--dry-run', 'only say what is missing; 1 if anything is')
    .option('--json', 'print JSON on a terminal too')
    .addHelpText('after', EXAMPLES)
    .action(async (network: string | undefined, { dryRun = false }: RestoreFlags) => {
      const { readWholeNode } = await import('../whole-node.ts')
      const { isIncomplete, restore } = await import('./restore.ts')
      const { describeRestoration } = await import('./print.ts')
      const restoration = await restore(readWholeNode(), { ...served, dryRun, network })
      if (isIncomplete(restoration)) endWith(1)
      output.answer(restoration, () =>
        describeRestoration(restoration, { style: output.style, width: output.width }),
      )
    })
}
