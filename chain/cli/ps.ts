/** `catena ps`: the containers that are on networks, as a table that fits the terminal. */
import { portTextOf } from '../observe/details.ts'
import { healthOf } from '../observe/health.ts'
import type { Attachment, Limits, NodeModel } from '../observe/model.ts'
import type { Output } from './output.ts'
import { harmless, type Paint, type Style } from './render.ts'

export interface PsFlags {
  all?: boolean
}

/** Those of a network, or all; with `all` those of others' namespaces too, which no CNI plugin has made. */
export function showContainers(
  node: NodeModel,
  { network, flags }: { network: string | undefined; flags: PsFlags },
  output: Output,
): number {
  const shown = node.attachments
    .filter(each => network === undefined || each.network === network)
    .filter(({ label }) => flags.all || label !== 'foreign')
  output.answer({ version: 1, containers: shown.map(documentOf) }, () =>
    shown.length === 0 ? 'no container is on any network' : table(shown, output),
  )
  return shown.every(each => healthOf(each).isHealthy) ? 0 : 1
}

function documentOf(attachment: Attachment): object {
  const {
    network,
    name,
    containerId,
    identity,
    ifname,
    addresses,
    ports,
    limits,
    since,
    runtime,
    netns,
    label,
  } = attachment
  const { isHealthy, says } = healthOf(attachment)
  return {
    network,
    name,
    containerId,
    ...(identity ? { identity } : {}),
    ifname,
    addresses,
    ports,
    limits,
    ...(since === undefined ? {} : { since: new Date(since).toISOString() }),
    runtime,
    ...(netns === undefined ? {} : { netns }),
    ...(attachment.host ? { hostLink: attachment.host.name } : {}),
    label,
    isHealthy,
    health: says,
    sources: attachment.sources,
    disagreements: attachment.disagreements,
    evidence: attachment.evidence,
  }
}

/** What a column shows, and how willingly it goes where there is no room: the highest number first. */
interface Column {
  title: string
  goes: number
  cells(attachment: Attachment): string[]
  paint?: keyof Style
}

const columns: readonly Column[] = [
  { title: 'NETWORK', goes: 2, cells: ({ network }) => [network || '–'] },
  { title: 'CONTAINER', goes: 0, cells: ({ name }) => [name], paint: 'bold' },
  { title: 'IF', goes: 4, cells: ({ ifname }) => [ifname] },
  { title: 'ADDRESSES', goes: 0, cells: ({ addresses }) => addresses, paint: 'accent' },
  { title: 'PORTS', goes: 3, cells: ({ ports }) => ports.map(portTextOf), paint: 'notice' },
  { title: 'LIMITS', goes: 5, cells: ({ limits }) => limitTexts(limits) },
  {
    title: 'SINCE',
    goes: 6,
    cells: ({ since }) => (since === undefined ? [] : [ageText(Date.now() - since)]),
  },
  { title: 'RUNTIME', goes: 7, cells: ({ runtime }) => [runtime] },
  { title: 'HEALTH', goes: 1, cells: attachment => [healthOf(attachment).says] },
]

/** "8M↓ 4M↑": bits per second to the container and from it. */
export function limitTexts({ toContainer, fromContainer }: Limits): string[] {
  const of = (rate: number | undefined, arrow: string) =>
    rate === undefined ? [] : [`${arrow}${rateText(rate)}`]
  return [...of(toContainer, '↓'), ...of(fromContainer, '↑')]
}

function rateText(rate: number): string {
  for (const [unit, size] of [
    ['G', 1e9],
    ['M', 1e6],
    ['k', 1e3],
  ] as const)
    if (rate >= size) return `${Number((rate / size).toFixed(1))}${unit}`
  return String(rate)
}

/** "12s", "5m", "3h", "9d". */
function ageText(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1000))
  for (const [unit, size] of [
    ['d', 86_400],
    ['h', 3600],
    ['m', 60],
  ] as const)
    if (seconds >= size) return `${Math.floor(seconds / size)}${unit}`
  return `${seconds}s`
}

const GAP = '  '
/** What a terminal narrower than the narrowest table gets instead: a few lines for each container. */
const NARROW = 60

function table(attachments: readonly Attachment[], { style, width }: Output): string {
  if (width < NARROW) return blocks(attachments, style)
  const filled = columns.filter(
    ({ cells, goes }) => goes < 2 || attachments.some(each => cells(each).length > 0),
  )
  const fitting = fit(filled, attachments, width)
  const widths = fitting.map(column => widthOf(column, attachments))
  const head = fitting
    .map(({ title }, at) => style.dim(title.padEnd(widths[at] ?? 0)))
    .join(GAP)
    .trimEnd()
  const rows = attachments.flatMap(attachment => rowOf(attachment, { fitting, widths }, style))
  return [head, ...rows, ...remarks(attachments, style)].join('\n')
}

const widthOf = ({ title, cells }: Column, attachments: readonly Attachment[]) =>
  Math.max(title.length, ...attachments.flatMap(each => cells(each).map(({ length }) => length)))

/** Leaves columns out until the rest fits. */
function fit(all: readonly Column[], attachments: readonly Attachment[], width: number): readonly Column[] {
  const total = all.reduce((sum, column) => sum + widthOf(column, attachments) + GAP.length, -GAP.length)
  const most = Math.max(...all.map(({ goes }) => goes))
  return total <= width || most < 2
    ? all
    : fit(
        all.filter(({ goes }) => goes !== most),
        attachments,
        width,
      )
}

function paintFor(column: Column, attachment: Attachment, style: Style): Paint {
  if (column.title === 'HEALTH') return healthOf(attachment).isHealthy ? style.good : style.bad
  return column.paint ? style[column.paint] : text => text
}

/** As many lines as the longest cell has. */
function rowOf(
  attachment: Attachment,
  { fitting, widths }: { fitting: readonly Column[]; widths: readonly number[] },
  style: Style,
): string[] {
  const cells = fitting.map(column => column.cells(attachment).map(harmless))
  const height = Math.max(1, ...cells.map(({ length }) => length))
  return Array.from({ length: height }, (_, line) =>
    fitting
      .map((column, at) => {
        const text = cells[at]?.[line] ?? ''
        return (
          paintFor(column, attachment, style)(text) + ' '.repeat(Math.max(0, (widths[at] ?? 0) - text.length))
        )
      })
      .join(GAP)
      .trimEnd(),
  )
}

/** Where sources disagree: what each says. */
function remarks(attachments: readonly Attachment[], style: Style): string[] {
  return attachments.flatMap(({ name, ifname, disagreements }) =>
    disagreements.map(({ about, says }) => {
      const sides = says.map(({ source, value }) => `${source}: ${value}`).join('; ')
      return style.notice(harmless(`${ifname} of ${name}, ${about}: ${sides}`))
    }),
  )
}

function blocks(attachments: readonly Attachment[], style: Style): string {
  return attachments
    .map(attachment => {
      const { name, network, ifname, addresses, ports, limits, runtime, since } = attachment
      const { isHealthy, says } = healthOf(attachment)
      const mark = isHealthy ? style.good('✓') : style.bad('✗')
      const more = [
        ifname,
        ...limitTexts(limits),
        runtime,
        ...(since === undefined ? [] : [ageText(Date.now() - since)]),
      ]
      return [
        `${mark} ${style.bold(harmless(name))}${isHealthy ? '' : ` ${style.bad(says)}`}`,
        `  ${style.dim(network || '–')}`,
        ...addresses.map(address => `  ${style.accent(address)}`),
        ...ports.map(port => `  ${style.notice(portTextOf(port))}`),
        `  ${style.dim(more.filter(Boolean).join(' · '))}`,
      ].join('\n')
    })
    .join('\n')
}
