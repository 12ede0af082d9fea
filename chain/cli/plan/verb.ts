/** The arguments of `catena plan`. */
import type { Command } from 'commander'
import type { Plugin } from '../../plugin/define.ts'
import { CniError, code } from '../../protocol/error.ts'
import { type Builtins, loadNetworkList } from '../../runtime/network.ts'
import { containerIdFor, type Flags, namespacePath, readSettings } from '../environment.ts'
import type { Output } from '../output.ts'
import type { Plan } from './plan.ts'

interface PlanFlags extends Flags {
  containerId?: string
  script?: boolean
  raw?: boolean
  againstNow?: boolean
  json?: boolean
}

interface Program {
  builtins: Builtins
  served: { load(type: string): Promise<Plugin> | undefined }
}

/** Adds the verb; `endWith` takes the exit status of what would fail. */
export function addPlanVerb(
  root: Command,
  { builtins, served }: Program,
  { output, endWith }: { output: Output; endWith(status: number): void },
): void {
  root
    .command('plan <network> <netns>')
    .description('says what ADD would do, step by step, and does none of it; 1 if ADD would fail')
    .option('--container-id <id>', "the container's ID (otherwise from the namespace's path, as cnitool's)")
    .option('-i, --ifname <name>', 'name of the interface in the container (CNI_IFNAME, eth0)')
    .option('--conf <folder>', 'folder of network configurations (NETCONFPATH, /etc/cni/net.d)')
    .option('--path <folders>', 'folders of plugins (CNI_PATH)')
    .option('--args <pairs>', 'K=V;K=V for the plugins (CNI_ARGS)')
    .option('--cap-args <json>', 'capability arguments (CAP_ARGS)')
    .option('--script', 'print lines of ip, nft and sysctl that do the same')
    .option(
      '--against-now',
      'say only what differs from what is there, and what mends it; 1 if anything does',
    )
    .option('--raw', 'in JSON, with the messages over netlink as they are sent')
    .option('--json', 'print JSON on a terminal too')
    .action(async (network: string, place: string, flags: PlanFlags) => {
      const { configurations, path, ...settings } = readSettings(flags, process.env)
      const netns = namespacePath(place, process.cwd())
      if (netns === '') throw new CniError(code.invalidNamespace, 'plan needs a namespace to plan for')
      const list = loadNetworkList(configurations, network)
      const given = {
        list,
        attachment: { ...settings, netns, containerId: flags.containerId ?? containerIdFor(netns) },
        path,
        executable: builtins.executable,
        load: served.load,
        isRaw: flags.raw ?? false,
      }
      endWith(await (flags.againstNow ? showDifferences(given, output) : showPlan(given, output, flags)))
    })
}

async function showPlan(given: Plan, output: Output, { script = false }: PlanFlags): Promise<number> {
  const { plan } = await import('./plan.ts')
  const { describePlan, scriptOf } = await import('./print.ts')
  const planned = await plan(given)
  if (script) output.text(scriptOf(planned))
  else output.answer(planned, () => describePlan(planned, output.style, output.width))
  return planned.error ? 1 : 0
}

async function showDifferences(given: Plan, output: Output): Promise<number> {
  const { compareWithNow } = await import('./against-now.ts')
  const { describeDifferences } = await import('./print.ts')
  const compared = await compareWithNow(given)
  output.answer(compared, () => describeDifferences(compared, output.style, output.width))
  return compared.differences.length > 0 ? 1 : 0
}
