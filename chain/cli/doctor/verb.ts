/** `catena doctor`: its flags, and what it says. */
import type { Command } from 'commander'
import { InvalidArgumentError } from 'commander'
import type { Builtins } from '../../runtime/network.ts'
import type { Finding } from '../finding.ts'
import type { Output } from '../output.ts'
import { harmless, type Style, wrapped } from '../render.ts'
import type { Repaired } from './state.ts'

interface Flags {
  into: string
  root?: string
  node?: boolean
  state?: boolean
  repair?: boolean
  yes?: boolean
  undo?: boolean
  grace?: number
}

interface Program {
  builtins: Builtins
  pluginNames: readonly string[]
}

const EXAMPLES = `
Examples:
  catena doctor                    everything: the node, and what containers have and have left
  catena doctor --state --json     the latter, for a script; exit status 1 if anything does not work
  catena doctor --repair           shows the plan, asks, and takes leftovers away; other troubles have a command to copy
  catena doctor --undo             takes the last repair back`

export function addDoctor(
  command: Command,
  program: Program,
  { output, endWith }: { output: Output; endWith(status: number): void },
): void {
  command
    .description(
      'finds what is wrong with the node, its networks and what containers have left; 1 if anything does not work',
    )
    .option('--node', 'only the node and the installation: kernel, sysctls, disk, plugins, runtimes')
    .option('--state', 'only what containers have and have left: addresses, links, rules, caches, ports')
    .option('--repair', 'takes leftovers of our plugins and the Go plugins away, after showing the plan')
    .option('--yes', 'with --repair: does not ask')
    .option('--undo', 'takes the last repair back')
    .option(
      '--grace <seconds>',
      'files younger than this belong to an ADD that is under way (60)',
      parseSeconds,
    )
    .addHelpText('after', EXAMPLES)
    .action(async (flags: Flags) => {
      const { folderFor } = await import('../install.ts')
      folderFor(flags.into, flags.root)
      const status = flags.undo
        ? await undo(output)
        : await (flags.repair ? mend : look)(flags, program, output)
      if (status !== 0) endWith(status)
    })
}

function parseSeconds(text: string): number {
  const value = Number(text)
  if (text !== '' && Number.isSafeInteger(value) && value >= 0) return value
  throw new InvalidArgumentError('It must be a whole number of seconds.')
}

async function undo(output: Output): Promise<number> {
  const { undoRepair } = await import('./state.ts')
  const { bundle, done } = await undoRepair()
  output.answer({ version: 1, bundle, done }, () => done.map(line => harmless(line)).join('\n'))
  return 0
}

async function examine(flags: Flags, { builtins, pluginNames }: Program): Promise<Finding[]> {
  const node = { into: flags.into.replace(/\/+$/, ''), root: (flags.root ?? '').replace(/\/+$/, '') }
  const { examineNode } = await import('../doctor.ts')
  const { examineState } = await import('./state.ts')
  const ofNode = flags.state ? [] : await examineNode({ node, names: pluginNames, builtins })
  if (flags.node || node.root !== '') return ofNode
  return [...ofNode, ...examineState({ node, names: pluginNames }, flags)]
}

const statusOf = (findings: readonly Finding[]) => (findings.some(({ level }) => level === 'problem') ? 1 : 0)

async function look(flags: Flags, program: Program, output: Output): Promise<number> {
  const findings = await examine(flags, program)
  output.answer({ version: 1, findings: findings.map(documentOf) }, () => describe(findings, output))
  return statusOf(findings)
}

/** Steps are for us; `isMendable` says whether --repair would take them. */
function documentOf({ repair, ...finding }: Finding): object {
  return finding.kind === undefined ? finding : { ...finding, isMendable: repair !== undefined }
}

async function mend(flags: Flags, program: Program, output: Output): Promise<number> {
  const findings = (await examine({ ...flags, state: true }, program)).filter(({ repair }) => repair)
  if (findings.length === 0) {
    output.answer({ version: 1, findings: [], repaired: [] }, () => 'nothing that is ours to mend')
    return 0
  }
  const mayAct = flags.yes || (output.isTerminal && confirmed(findings, output))
  if (!mayAct) {
    output.answer(
      { version: 1, findings: findings.map(documentOf), repaired: [] },
      () => 'nothing was changed',
    )
    return 1
  }
  const { examineState, repair } = await import('./state.ts')
  // whoever was asked may have taken his time: what is no longer found is no longer ours to take
  const isFound = ({ kind, says }: Finding) => findings.some(each => each.kind === kind && each.says === says)
  const still = (await examine({ ...flags, state: true }, program)).filter(
    each => each.repair && isFound(each),
  )
  const { bundle, repaired } = await repair(still, new Date())
  const node = { into: flags.into, root: '' }
  const left = examineState({ node, names: program.pluginNames }, flags).filter(each => each.repair)
  output.answer(
    { version: 1, findings: findings.map(documentOf), bundle, repaired, left: left.map(documentOf) },
    () => describeRepair({ bundle, repaired, left }, output),
  )
  return left.length > 0 ? 1 : 0
}

function confirmed(findings: readonly Finding[], output: Output): boolean {
  const steps = findings.reduce((sum, { repair = [] }) => sum + repair.length, 0)
  output.text(`${describe(findings, output)}\n\n`)
  return confirm(`Take away what is left, in ${steps} steps that --undo takes back?`)
}

function describeRepair(
  { bundle, repaired, left }: { bundle: string; repaired: readonly Repaired[]; left: readonly Finding[] },
  output: Output,
): string {
  const { style, width } = output
  const marks = {
    done: style.good('✓'),
    gone: style.dim('–'),
    changed: style.notice('!'),
    failed: style.bad('✗'),
  }
  const lines = repaired.flatMap(({ steps }) =>
    steps.map(({ command, outcome, reason }) => {
      const words =
        outcome === 'done' ? '' : ` (${outcome === 'failed' ? reason : `${outcome} meanwhile, left alone`})`
      return `${marks[outcome]} ${wrapped(harmless(command) + words, width - 2, '  ')}`
    }),
  )
  const rest = left.length === 0 ? [] : ['', style.bold('still there:'), describe(left, output)]
  return [...lines, ...rest, style.dim(`catena doctor --undo takes it back (${bundle})`)].join('\n')
}

/** What was found, the worst last, where a person's eye is. */
function describe(findings: readonly Finding[], { style, width }: Pick<Output, 'style' | 'width'>): string {
  const order = { fine: 0, notice: 1, problem: 2 }
  const sorted = findings.toSorted((one, other) => order[one.level] - order[other.level])
  if (sorted.length === 0) return `${style.good('✓')} nothing is wrong`
  const blocks = sorted.map(finding => describeOne(finding, style, width))
  return blocks.join('\n')
}

const COLUMN = 10

function describeOne(finding: Finding, style: Style, width: number): string {
  const { about, level, says, hint, kind, why, evidence = [], commands = [], repair } = finding
  const mark = { fine: style.good('✓'), notice: style.notice('!'), problem: style.bad('✗') }[level]
  if (kind === undefined) {
    const indent = ' '.repeat(COLUMN + 3)
    const line = `${mark} ${style.bold(about.padEnd(COLUMN))} ${wrapped(harmless(says), width - COLUMN - 3, indent)}`
    return hint ? `${line}\n${indent}${style.dim(wrapped(harmless(hint), width - COLUMN - 3, indent))}` : line
  }
  const part = (text: string, lead = '') =>
    `  ${lead}${wrapped(harmless(text), width - 2 - lead.length, ' '.repeat(2 + lead.length))}`
  return [
    `${mark} ${style.bold(wrapped(harmless(says), width - 2, '  '))}`,
    ...(why === undefined ? [] : [part(`${why}.`)]),
    ...evidence.map(sign => style.dim(part(sign, '· '))),
    ...commands.map(command => style.accent(`  $ ${harmless(command)}`)),
    ...(repair ? [style.dim('  --repair does it')] : []),
    '',
  ].join('\n')
}
