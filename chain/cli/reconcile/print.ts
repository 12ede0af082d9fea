/** What `catena reconcile` says: a document for programs, lines for people. Pure. */
import type { CriAnswer } from '../../observe/cri.ts'
import { harmless, type Style } from '../render.ts'
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

export function describeReport({ report, cri }: Done, style: Style): string {
  const lines = [
    ...cri.map(answer => describeRuntime(answer, style)),
    ...report.outcomes.map(each => describeOutcome(each, style)),
    ...report.collections.flatMap(each => describeCollection(each, style)),
    ...report.leftovers.map(
      ({ kind, what }) => `${style.notice('!')} ${kind} ${harmless(what)} is left over`,
    ),
    ...(report.leftovers.length > 0
      ? [
          '  no cache tells whose they were: `catena doctor` explains, `catena doctor --repair` takes them away',
        ]
      : []),
    ...report.unreadable.map(says => `${style.notice('!')} ${harmless(says)}`),
    `${style.good('✓')} ${report.alive} alive, and as they were`,
  ]
  return lines.map(line => harmlessLine(line)).join('\n')
}

/** Names come from files that anybody may have written; the colours around them are ours. */
const harmlessLine = (line: string) => line.replaceAll('\n', ' ')

function describeRuntime({ socket, state, sandboxes, problem = '' }: CriAnswer, style: Style): string {
  if (state === 'silent')
    return `${style.bad('✗')} ${harmless(socket)}: ${harmless(problem)}; its containers' attachments are left alone`
  if (state === 'no CRI') return style.dim(`  ${harmless(socket)}: no runtime of Kubernetes`)
  return style.dim(`  ${harmless(socket)}: knows ${sandboxes.size} sandboxes`)
}

function describeOutcome({ attachment, outcome, evidence, error }: Outcome, style: Style): string {
  const { name, network, ifname } = attachment
  const marks = {
    deleted: style.good('✓'),
    'would be deleted': style.notice('–'),
    left: style.notice('!'),
    failed: style.bad('✗'),
  }
  const says = `${ifname} of ${name} on ${network}: ${outcome}`
  return `${marks[outcome]} ${harmless(says)} (${harmless([...evidence, ...(error ? [error] : [])].join('; '))})`
}

function describeCollection({ network, outcome, why }: Collection, style: Style): string[] {
  if (outcome === 'nothing to do') return []
  const mark =
    outcome === 'failed' ? style.bad('✗') : outcome === 'done' ? style.good('✓') : style.notice('–')
  return [`${mark} GC of network ${harmless(network)}: ${outcome}${why ? ` (${harmless(why)})` : ''}`]
}
