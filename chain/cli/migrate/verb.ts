/** The arguments of `catena migrate`, and what it says. */
import { type Command, Option } from 'commander'
import { findTools } from '../../linux/iptables/tools.ts'
import type { RuleKeeper } from '../../plugin/define.ts'
import { CniError, code } from '../../protocol/error.ts'
import type { Served } from '../../service/worker.ts'
import type { Output } from '../output.ts'
import { harmless, type Style, wrapped } from '../render.ts'
import type { Fate, Migrated } from './migrate.ts'

interface MigrateFlags {
  to: RuleKeeper
  dryRun?: boolean
  json?: boolean
}

const EXAMPLES = `
Examples:
  catena migrate --to nftables --dry-run     what would be moved, and what is left where it is
  catena migrate --to nftables               all live containers of the node
  catena migrate --to iptables demo          those of one network`

/** Adds the verb; `endWith` takes 1 where something could not be moved. */
export function addMigrateVerb(
  root: Command,
  served: Served,
  { output, endWith }: { output: Output; endWith(status: number): void },
): void {
  root
    .command('migrate [network]')
    .description('moves the rules of live containers to another packet filter; their connections go on')
    .addOption(
      new Option('--to <backend>', 'what is to keep the rules')
        .choices(['nftables', 'iptables'])
        .makeOptionMandatory(),
    )
    .option('--dry-run', 'only say what would be done')
    .option('--json', 'print JSON on a terminal too')
    .addHelpText('after', EXAMPLES)
    .action(async (network: string | undefined, { to, dryRun = false }: MigrateFlags) => {
      if (to === 'iptables') requireTools()
      const { readWholeNode } = await import('../whole-node.ts')
      const { migrateAttachment } = await import('./migrate.ts')
      const attachments: Migrated[] = []
      const live = readWholeNode().attachments.filter(({ label, cache }) => label === 'live' && cache)
      for (const attachment of live.filter(each => network === undefined || each.network === network))
        attachments.push(await migrateAttachment(attachment, { to, isTrial: dryRun, plugins: served }))
      const told = attachments.filter(({ rules }) => rules.length > 0)
      if (told.some(({ rules }) => rules.some(({ outcome }) => outcome === 'failed'))) endWith(1)
      output.answer({ shape: 'catena-migration-1', to, dryRun, attachments: told }, () =>
        describe(told, { to, dryRun, ...output }),
      )
    })
}

function requireTools(): void {
  if (findTools('ip')) return
  throw new CniError(code.pluginNotAvailable, 'iptables is not installed', {
    details: 'install the package iptables; nothing has been changed',
  })
}

interface Told {
  to: RuleKeeper
  dryRun: boolean
  style: Style
  width: number
}

function describe(attachments: readonly Migrated[], told: Told): string {
  const { style, width } = told
  const parts = attachments.map(({ network, name, ifname, rules }) =>
    [
      `${style.bold(harmless(name))} ${style.dim(harmless(`${network} ${ifname}`))}`,
      ...rules.map(fate => wrapped(`  ${fate.plugin}: ${harmless(wordsFor(fate, told))}`, width, '    ')),
    ].join('\n'),
  )
  return parts.join('\n') || 'no live container has rules'
}

function wordsFor(fate: Fate, { to, dryRun }: Told): string {
  switch (fate.outcome) {
    case 'moved':
      return `${dryRun ? 'would be moved' : 'moved'} from ${fate.from} to ${to}`
    case 'there':
      return `kept by ${to} already`
    case 'back':
      return `put back to ${fate.from}`
    case 'left':
      return `left, since ${fate.why}`
    case 'failed':
      return `failed: ${fate.why}${fate.details ? ` (${fate.details})` : ''}`
  }
}
