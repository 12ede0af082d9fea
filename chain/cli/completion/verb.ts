/** `catena completion`: the script that completes the command's words in a shell. */
import type { Command } from 'commander'
import { CniError, code } from '../../protocol/error.ts'
import { listNetworkFiles, loadNetworkFile } from '../../runtime/network.ts'
import { readSettings } from '../environment.ts'
import type { Output } from '../output.ts'

export function addCompletionVerb(root: Command, output: Output): void {
  root
    .command('completion <shell>')
    .description('prints the script that completes these words in a shell: bash, zsh or fish')
    .action(async (shell: string) => {
      output.text(shell === 'networks' ? namesOfNetworks() : await scriptFor(shell, root))
    })
}

async function scriptFor(shell: string, root: Command): Promise<string> {
  const { completionFor, files } = await import('./shells.ts')
  const script = completionFor(shell, root)
  if (script !== undefined) return script
  throw new CniError(code.invalidEnvironment, `completion: no shell ${shell}`, {
    details: `there are ${Object.keys(files).join(', ')}`,
  })
}

/** One a line, for the scripts: a file that cannot be read has no name. */
function namesOfNetworks(): string {
  const { configurations } = readSettings({}, process.env)
  const names = listNetworkFiles(configurations).flatMap(file => {
    try {
      return [`${loadNetworkFile(file).name}\n`]
    } catch {
      return []
    }
  })
  return [...new Set(names)].join('')
}
