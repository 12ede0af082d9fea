/** A container's story in words. */
import type { Run } from '../../observe/runs.ts'
import type { Deed } from '../../plugin/record.ts'
import { formatMilliseconds, harmless, type Style, wrapped } from '../render.ts'
import type { ContainerStory, Story } from './story.ts'

export interface Shown {
  style: Style
  width: number
  /** Each thing that was done, not only how many there were. */
  all: boolean
}

export function describeStory({ containers }: Story, shown: Shown): string {
  return containers.map(container => describeContainer(container, shown)).join('\n\n')
}

function describeContainer(story: ContainerStory, shown: Shown): string {
  const { style } = shown
  const { container, names, operations, attachments, findings, advice } = story
  const others = names.filter(name => name !== container)
  const title = [
    style.bold(harmless(others[0] ?? container)),
    style.dim(harmless(others.length > 0 ? container : '')),
  ]
  const parts = [
    title.join('  ').trimEnd(),
    ...operations.map(operation => describeOperation(operation, shown)),
  ]
  parts.push(
    section(
      'now',
      attachments.length > 0 ? attachments.map(stateOf) : ['nothing of it is on this node'],
      shown,
    ),
  )
  if (findings.length > 0)
    parts.push(
      section(
        'wrong',
        findings.map(({ says }) => says),
        shown,
      ),
    )
  if (advice.length > 0) parts.push(section('to do', advice, shown))
  return parts.join('\n')
}

function describeOperation(operation: ContainerStory['operations'][number], shown: Shown): string {
  const { style } = shown
  const { verb, network, ifname, at, by, runs } = operation
  const top = runs.filter(({ depth }) => depth === 0)
  const took = top.reduce((sum, run) => sum + (run.took ?? 0), 0)
  const where = [ifname, network && `on ${network}`].filter(Boolean).join(' ')
  const asked = by ? `, asked by ${harmless(by)}` : ''
  const head = `${style.dim(timeOf(at))} ${style.bold(verb)} ${harmless(where)}${asked}: ${endOf(top)} ${style.dim(formatMilliseconds(took))}`
  return [head, ...runs.map(run => describeRun(run, shown))].join('\n')
}

function endOf(runs: readonly Run[]): string {
  const odd = runs.find(({ outcome }) => outcome !== 'succeeded')
  if (!odd) return 'done'
  return odd.outcome === 'failed'
    ? `failed at ${odd.plugin}`
    : odd.outcome === 'running'
      ? `${odd.plugin} is at work`
      : `${odd.plugin} never came to its end`
}

const marks = { succeeded: '✓', failed: '✗', running: '…', unfinished: '☠' } as const

function describeRun(run: Run, shown: Shown): string {
  const { style, width, all } = shown
  const { plugin, outcome, took, addresses = [], deeds = [], error, depth } = run
  const indentation = '  '.repeat(depth + 1)
  const paint = outcome === 'succeeded' ? style.good : outcome === 'running' ? style.accent : style.bad
  const time = took === undefined ? '' : style.dim(formatMilliseconds(took))
  const done = deeds.flatMap(({ what }) => what).length + (run.omitted ?? 0)
  const changes = done > 0 && !all ? style.dim(`${done} change${done === 1 ? '' : 's'}`) : ''
  const line = [
    `${indentation}${paint(marks[outcome])} ${plugin}`,
    time,
    ...addresses.map(style.accent),
    changes,
  ]
  const lines = [line.filter(Boolean).join(' ')]
  const inside = `${indentation}  `
  if (error) {
    lines.push(
      inside +
        wrapped(
          style.bold(harmless(error.msg)) + style.dim(` (code ${error.code})`),
          width - inside.length,
          inside,
        ),
    )
    for (const part of error.details?.split('; ') ?? [])
      lines.push(inside + wrapped(harmless(part), width - inside.length, inside))
  }
  if (all) lines.push(...deeds.flatMap(deed => describeDeed(deed, inside, shown)))
  if (all && run.omitted) lines.push(`${inside}… and ${run.omitted} more`)
  return lines.join('\n')
}

function describeDeed({ at, took, what, refusal }: Deed, inside: string, { style, width }: Shown): string[] {
  const times = `${at.toFixed(1).padStart(7)} ${`+${took.toFixed(1)}`.padStart(6)}`
  const room = Math.max(20, width - inside.length - times.length - 1)
  const lines = what.map((line, index) => {
    const before = index === 0 ? style.dim(times) : ' '.repeat(times.length)
    const text = harmless(line)
    return `${inside}${before} ${text.length > room ? `${text.slice(0, room - 1)}…` : text}`
  })
  if (refusal) lines.push(`${inside}${' '.repeat(times.length)} ${style.bad(harmless(refusal))}`)
  return lines
}

function stateOf({
  network,
  ifname,
  addresses,
  label,
  runtime,
  ports,
  evidence,
}: ContainerStory['attachments'][number]): string {
  const published = ports.map(
    ({ hostPort, containerPort, protocol }) => `${hostPort}→${containerPort}/${protocol}`,
  )
  const facts = [
    `${ifname} on ${network || 'a network that nothing names'}`,
    ...addresses,
    ...published,
    label,
    runtime,
  ]
  return `${facts.join(' ')}${label === 'live' ? '' : `: ${evidence.join('; ')}`}`
}

function section(title: string, lines: readonly string[], { style, width }: Shown): string {
  const indentation = ' '.repeat(title.length + 3)
  const [first = '', ...rest] = lines.map(line =>
    wrapped(harmless(line), width - indentation.length, indentation),
  )
  return [`  ${style.bold(title)} ${first}`, ...rest.map(line => indentation + line)].join('\n')
}

/** Local time, with the day where it is not today's. */
export function timeOf(at: number): string {
  const when = new Date(at)
  const two = (value: number) => String(value).padStart(2, '0')
  const time = `${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}`
  const isToday = when.toDateString() === new Date().toDateString()
  return isToday ? time : `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())} ${time}`
}

/** Without a container: what was done on the node of late, an operation a line. */
export function describeRecent(
  operations: readonly ContainerStory['operations'][number][],
  { style }: Shown,
): string {
  const lines = operations.map(({ at, verb, network, container, ifname, runs }) => {
    const top = runs.filter(({ depth }) => depth === 0)
    const isFine = top.every(({ outcome }) => outcome === 'succeeded')
    const end = isFine ? style.good('done') : style.bad(endOf(top))
    return [style.dim(timeOf(at)), verb.padEnd(5), harmless(network), harmless(container), ifname, end]
      .filter(Boolean)
      .join(' ')
  })
  return lines.join('\n') || 'no plugin has left a record since the machine started'
}
