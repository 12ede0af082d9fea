/** The arguments of `catena explain`. */
import type { Command } from 'commander'
import type { Output } from '../output.ts'

interface ExplainFlags {
  all?: boolean
  json?: boolean
}

const EXAMPLES = `
Examples:
  catena explain                   what was done of late, for any container
  catena explain default/web-0     a pod; also a container's ID, or its beginning, or a namespace's name
  catena explain web --all         with each thing that was done, when, and how long it took`

const RECENT = 40

/** Adds the verb. */
export function addExplainVerb(
  root: Command,
  { output, endWith }: { output: Output; endWith(status: number): void },
): void {
  root
    .command('explain [container]')
    .description(
      'tells what was asked for a container or pod, what each plugin did, what failed, and what to do',
    )
    .option('--all', 'each thing that was done')
    .option('--json', 'print JSON on a terminal too')
    .addHelpText('after', EXAMPLES)
    .action(async (asked: string | undefined, { all = false }: ExplainFlags) => {
      const { describeRecent, describeStory } = await import('./print.ts')
      const shown = { style: output.style, width: output.width, all }
      if (asked === undefined) {
        const { operationsOf, readRuns } = await import('../../observe/runs.ts')
        const operations = operationsOf(readRuns()).slice(-RECENT)
        return output.answer({ version: 1, operations }, () => describeRecent(operations, shown))
      }
      const { storyOf } = await import('./story.ts')
      const { readIdentities } = await import('../../observe/cri.ts')
      const story = storyOf(asked, await readIdentities())
      if (story.containers.length === 0) endWith(1)
      output.answer(story, () => describeStory(story, shown) || unknown(asked))
    })
}

const unknown = (asked: string) =>
  `nothing on this node is called ${asked}, and no record names it: \`catena explain\` tells what was done of late`
