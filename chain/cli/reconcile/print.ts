/** What `catena reconcile` says: a document for programs, lines for people. Pure. */
import type { CriAnswer } from '../../observe/cri.ts'
import type { Output } from '../output.ts'
import { harmless, wrapped } from '../render.ts'
import type { Collection, Outcome, Report } from './reconcile.ts'

export interface Done {
  report: Report
  cri: readonly CriAnswer[]
  isDryRun: boolean
}

/** A runtime that cannot be asked is a failure too: what is dead stays. */
export function hasFailed({ report, cri }: Done): boolean {
  const outcomes = [...report.outcomes, ...report.collections]
  return outcomes.some(({ outcome }) => outcome === 'failed') || cri.some(({ state }) => state === 'silent')
}

export function documentOf({ report, cri, isDryRun }: Done): object {
  return {
    version: 1,
    isDryRun,
    runtimes: cri.map(({ sandboxes, ...rest }) => ({ ...rest, sandboxes: sandboxes.size })),
    alive: report.alive,
    attachments: report.outcomes.map(attachmentOf),
    networks: report.collections,
    leftovers: report.leftovers,
    ...(report.leftovers.length > 0 ? { mends: 'catena doctor --repair' } : {}),
    unreadable: report.unreadable,
  }
}

function attachmentOf({ attachment, outcome, evidence, error }: Outcome): object {
  const { network, containerId, ifname, name, identity, runtime, netns } = attachment
  return {
    network,
    containerId,
    ifname,
    name,
    ...(identity ? { identity } : {}),
    runtime,
    ...(netns === undefined ? {} : { netns }),
    outcome,
    evidence,
    ...(error === undefined ? {} : { error }),
  }
}

/** Of a terminal: how wide it is, and how it paints. */
type Screen = Pick<Output, 'style' | 'width'>

export function describeReport({ report, cri }: Done, screen: Screen): string {
  const { style } = screen
  const notice = (says: string) => line(style.notice('!'), says, screen)
  const { alive, outcomes, collections, leftovers, unreadable } = report
  return [
    ...cri.map(answer => describeRuntime(answer, screen)),
    ...outcomes.map(each => describeOutcome(each, screen)),
    ...collections.flatMap(each => describeCollection(each, screen)),
    ...leftovers.map(({ kind, what }) => notice(`${kind} ${what} is left over`)),
    ...(leftovers.length > 0
      ? [
          line(
            ' ',
            '`catena doctor` explains what is left over, `catena doctor --repair` takes it away',
            screen,
          ),
        ]
      : []),
    ...unreadable.map(notice),
    line(style.good('✓'), `${alive} alive, and as they were`, screen),
  ].join('\n')
}

/** Names come from files that anybody may have written. */
const line = (mark: string, says: string, { width }: Screen) =>
  `${mark} ${wrapped(harmless(says).replaceAll('\n', ' '), width - 2, '  ')}`

function describeRuntime({ socket, state, sandboxes, problem }: CriAnswer, screen: Screen): string {
  const { style } = screen
  if (state === 'silent')
    return line(style.bad('✗'), `${socket}: ${problem}; attachments that may be its are left alone`, screen)
  if (state === 'no CRI') return line(' ', `${socket}: no runtime of Kubernetes`, screen)
  return line(' ', `${socket}: knows ${sandboxes.size} sandboxes`, screen)
}

function describeOutcome({ attachment, outcome, evidence, error }: Outcome, screen: Screen): string {
  const { name, network, ifname } = attachment
  const { good, notice, bad } = screen.style
  const marks = { deleted: good('✓'), 'would be deleted': notice('–'), left: notice('!'), failed: bad('✗') }
  const why = [...evidence, ...(error === undefined ? [] : [error])].join('; ')
  return line(marks[outcome], `${ifname} of ${name} on ${network}: ${outcome} (${why})`, screen)
}

function describeCollection({ network, outcome, why }: Collection, screen: Screen): string[] {
  if (outcome === 'nothing to do') return []
  const { good, notice, bad } = screen.style
  const mark = outcome === 'failed' ? bad('✗') : outcome === 'done' ? good('✓') : notice('–')
  return [line(mark, `GC of network ${network}: ${outcome}${why ? ` (${why})` : ''}`, screen)]
}
