/** `catena install`, `uninstall`, `doctor` and `wait`: what concerns a node, not a network. */
import { type Command, Option } from 'commander'
import { CniError, code } from '../protocol/error.ts'
import type { Builtins } from '../runtime/network.ts'
import { BACKENDS, type Node } from './companions.ts'
import { addDoctor } from './doctor/verb.ts'
import type { Output } from './output.ts'
import { examples } from './shipped.ts'
import { addWait } from './wait.ts'

export interface Program {
  builtins: Builtins
  pluginNames: readonly string[]
}

export interface PlaceFlags {
  into: string
  root?: string
}

interface InstallFlags extends PlaceFlags {
  plugins?: string
  keepExisting?: boolean
  dryRun?: boolean
  conf?: string
  units?: boolean
  backend?: string
}

const USUAL_FOLDER = '/opt/cni/bin'

/** Adds the verbs; `endWith` takes the exit status of what found something wrong without failing itself. */
export function addNodeVerbs(
  root: Command,
  program: Program,
  { output, endWith }: { output: Output; endWith(status: number): void },
): void {
  placed(root.command('install'))
    .description('puts this executable into a folder under the name of every plugin; what was there is kept')
    .option('--plugins <names>', 'only these, between commas')
    .option('--keep-existing', "leave names that another's plugin has")
    .addOption(
      oneOf(Object.keys(examples), '--conf <example>', 'write an example of a network into /etc/cni/net.d'),
    )
    .option(
      '--units',
      "write systemd's units for the daemon of dhcp, the warm service and `reconcile` into /etc/systemd/system",
    )
    .addOption(
      oneOf(BACKENDS, '--backend <name>', 'for all networks that name none (into /etc/cni/catena.json)'),
    )
    .option('--dry-run', 'only say what would be done')
    .action((flags: InstallFlags) => installAll(flags, program, output))
  placed(root.command('uninstall'))
    .description('takes this executable away again, and brings back what was there before')
    .option('--dry-run', 'only say what would be done')
    .action((flags: InstallFlags) => uninstallAll(flags, output))
  addDoctor(placed(root.command('doctor')), program, { output, endWith })
  addWait(root.command('wait'), output)
}

/** The help and completions name the choices; what is none of them is refused where it is used, as a CNI error. */
function oneOf(choices: readonly string[], flags: string, says: string): Option {
  const option = new Option(flags, says)
  option.argChoices = [...choices]
  return option
}

const placed = (command: Command): Command =>
  command
    .option('--into <folder>', 'the folder of plugins', USUAL_FOLDER)
    .option('--root <folder>', 'a folder that is to become the root of a node')
    .option('--json', 'print JSON on a terminal too')

export const nodeOf = ({ into, root = '' }: PlaceFlags): Node => ({
  into: into.replace(/\/+$/, ''),
  root: root.replace(/\/+$/, ''),
})

async function installAll(flags: InstallFlags, program: Program, output: Output): Promise<void> {
  const { folderFor, install } = await import('./install.ts')
  const { companionSpecs, writeCompanions } = await import('./companions.ts')
  const names = ['catena', ...program.pluginNames]
  const { dryRun = false, keepExisting = false } = flags
  const node = nodeOf(flags)
  const folder = folderFor(flags.into, flags.root)
  const specs = companionSpecs(flags, node)
  const changes = install({
    folder,
    executable: program.builtins.executable,
    names: flags.plugins === undefined ? names : chosenFrom(names, flags.plugins),
    keepExisting,
    dryRun,
    beside: () => writeCompanions(specs, node, { dryRun }),
  })
  output.answer({ folder, changes }, () => describeChanges(folder, changes))
}

async function uninstallAll(flags: InstallFlags, output: Output): Promise<void> {
  const { folderFor, uninstall } = await import('./install.ts')
  const { removeCompanions } = await import('./companions.ts')
  const { dryRun = false } = flags
  const folder = folderFor(flags.into, flags.root)
  const changes = uninstall({ folder, dryRun, beside: () => removeCompanions(nodeOf(flags), { dryRun }) })
  output.answer({ folder, changes }, () => describeChanges(folder, changes))
}

function chosenFrom(names: readonly string[], list: string): string[] {
  const chosen = list.split(',').filter(Boolean)
  const unknown = chosen.filter(name => !names.includes(name))
  if (unknown.length === 0 && chosen.length > 0) return chosen
  throw new CniError(code.invalidEnvironment, `--plugins: no plugin ${unknown.join(', ') || 'is named'}`, {
    details: `there are ${names.join(', ')}`,
  })
}

/** "installed: bridge, dhcp", a line for each thing that was done. */
function describeChanges(folder: string, changes: Readonly<Record<string, string>>): string {
  const kinds = [...new Set(Object.values(changes))]
  const lines = kinds.map(kind => {
    const names = Object.keys(changes).filter(name => changes[name] === kind)
    return `  ${kind}: ${names.join(', ')}`
  })
  const units = Object.keys(changes).some(name => name.endsWith('.socket'))
  if (units)
    lines.push(
      '  systemd takes notice with: systemctl daemon-reload; systemctl enable --now cni-dhcp.socket catena-warm.socket catena-reconcile.timer',
    )
  return [`${folder}${kinds.length === 0 ? ': nothing of ours is there' : ''}`, ...lines].join('\n')
}
