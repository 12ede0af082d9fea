/** The arguments of `catena ipam`. */
import { type Command, InvalidArgumentError } from 'commander'
import type { Plugin } from '../../plugin/define.ts'
import { CniError, code } from '../../protocol/error.ts'
import type { Output } from '../output.ts'

interface IpamFlags {
  conf?: string
  dataDir: string[]
  full: number
  prometheus?: boolean
  json?: boolean
}

interface Program {
  served: { load(type: string): Promise<Plugin> | undefined }
}

const USUAL = '/etc/cni/net.d'
const RESERVATIONS = '/var/lib/cni/networks'

/** Adds the verb; `endWith` takes the exit status of what was found. */
export function addIpamVerb(
  root: Command,
  { served }: Program,
  { output, endWith }: { output: Output; endWith(status: number): void },
): void {
  root
    .command('ipam [network]')
    .description(
      "the addresses of host-local's networks: used, free, leaked, reserved; of one network, who has which",
    )
    .option(
      '--conf <folder>',
      'folder of network configurations (NETCONFPATH; otherwise those of all runtimes)',
    )
    .option(
      '--data-dir <folder>',
      'a folder of reservations beside the usual one; several may be named',
      collect,
      [],
    )
    .option('--full <percent>', 'exit status 1 when this much of a range is used', parsePercent, 100)
    .option('--prometheus', 'print metrics in the text format')
    .option('--json', 'print JSON on a terminal too')
    .action(async (network: string | undefined, flags: IpamFlags) => {
      const report = only(await read(flags, served), network)
      if (flags.prometheus) output.text((await import('./prometheus.ts')).prometheusText(report))
      else {
        const { describeIpam } = await import('./print.ts')
        const { style, width } = output
        output.answer(report, () => describeIpam(report, { style, width, isFull: network !== undefined }))
      }
      const ranges = report.networks.flatMap(each => each.ranges)
      if (ranges.some(({ used, size }) => used >= (size * flags.full) / 100)) endWith(1)
    })
}

const collect = (folder: string, others: string[]) => [...others, folder.replace(/(?<=.)\/+$/, '')]

function parsePercent(text: string): number {
  const percent = Number(text)
  if (text !== '' && percent > 0 && percent <= 100) return percent
  throw new InvalidArgumentError('It must be a number from 1 to 100.')
}

async function read(flags: IpamFlags, served: Program['served']) {
  const { readNode } = await import('../../observe/node.ts')
  const { findRuntimes } = await import('../runtimes.ts')
  const { poolFolders } = await import('./pools.ts')
  const { ipamReport } = await import('./report.ts')
  const named = flags.conf || process.env.NETCONFPATH
  const found = named ? [named] : [USUAL, ...findRuntimes('').runtimes.map(({ networks }) => networks)]
  const node = readNode({
    configurations: [...new Set(found)],
    reservations: [...new Set([RESERVATIONS, ...flags.dataDir])],
  })
  const hostLocal = await served.load('host-local')
  const folders = hostLocal ? await poolFolders(node, hostLocal) : []
  return ipamReport(node, folders, Date.now())
}

function only(report: Awaited<ReturnType<typeof read>>, network: string | undefined): typeof report {
  if (network === undefined) return report
  const networks = report.networks.filter(each => each.network === network)
  if (networks.length > 0) return { ...report, networks }
  throw new CniError(code.invalidConfiguration, `host-local keeps no addresses of a network ${network}`, {
    details: `it does for ${report.networks.map(each => each.network).join(', ') || 'none'}`,
  })
}
