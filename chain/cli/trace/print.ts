/** A trace as a timeline in the terminal. */

import { flat, isFailure, type Span, shareNames, sharesOf, type Trace } from '../../trace/spans.ts'
import { formatMilliseconds, harmless, type Style, wrapped } from '../render.ts'

export interface Shown {
  style: Style
  width: number
  /** Everything; else what took longer than a fiftieth of the whole, and what was refused. */
  all: boolean
}

const NARROW = 64

export function describeTrace(trace: Trace, shown: Shown): string {
  const { style, width, all } = shown
  const { root, container, ifname, error } = trace
  const words = `${root.name} ${container} ${ifname} ${formatMilliseconds(root.took)}`
  const title = style.bold(wrapped(harmless(words), width, '  '))
  const least = all ? 0 : root.took / 50
  const rows = flat(root)
    .slice(1)
    .filter(({ span }) => span.of === 'plugin' || span.took >= least || isFailure(span))
  const chart = Math.max(10, Math.floor(width * (width < NARROW ? 0.25 : 0.35)))
  const left = Math.max(12, width - chart - 11)
  const lines = rows.map(({ span, depth }) => rowOf(span, { depth, root, left, chart, style }))
  const hidden = flat(root).length - 1 - rows.length
  const rest =
    hidden > 0 ? [style.dim(`${hidden} that took less than ${formatMilliseconds(least)}: --all`)] : []
  const shares = root.children.filter(({ of }) => of === 'plugin').map(span => shareLine(span, shown))
  const end = error
    ? [`${style.bad('✗')} ${wrapped(harmless(`${error.msg} (code ${error.code})`), width - 2, '  ')}`]
    : []
  return [title, ...lines, ...rest, '', ...shares, ...end].join('\n')
}

function rowOf(
  span: Span,
  {
    depth,
    root,
    left,
    chart,
    style,
  }: { depth: number; root: Span; left: number; chart: number; style: Style },
): string {
  const indentation = '  '.repeat(depth - 1)
  const count = span.more ? ` +${span.more.length}` : ''
  const name = `${indentation}${harmless(span.name)}${count}`
  const cut = name.length > left ? `${name.slice(0, left - 1)}…` : name.padEnd(left)
  const from = Math.min(chart - 1, Math.floor((span.at / root.took) * chart))
  const length = Math.max(1, Math.min(chart - from, Math.round((span.took / root.took) * chart)))
  const bar = ' '.repeat(from) + '█'.repeat(length) + ' '.repeat(chart - from - length)
  const paint = isFailure(span) ? style.bad : span.of === 'plugin' ? style.accent : style.good
  const label = span.of === 'plugin' ? style.bold(cut) : cut
  return `${label} ${paint(bar)} ${style.dim(formatMilliseconds(span.took).padStart(8))}`
}

/** "bridge ADD 48 ms", and below "kernel 21 ms, own work 17 ms, nf_tables 9.8 ms, files 0.4 ms". */
function shareLine(span: Span, { style, width }: Shown): string {
  const shares = [...sharesOf(span)]
    .filter(([, took]) => took >= 0.05)
    .toSorted((one, other) => other[1] - one[1])
  const parts = shares.map(([share, took]) => `${shareNames[share]} ${formatMilliseconds(took)}`)
  const head = `${harmless(span.name)} ${formatMilliseconds(span.took)}`
  return `${style.bold(head)}\n  ${wrapped(parts.join(', '), width - 2, '  ')}`
}
