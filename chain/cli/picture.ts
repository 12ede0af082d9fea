/** The picture of a network as text: boxes, cables, addresses, published ports. Knows neither terminals nor where its data comes from. */
import type { Paint, Style } from './render.ts'

/** A container in the picture. */
export interface DrawnContainer {
  name: string
  ifname: string
  /** Its cable's other end. */
  hostEnd: string
  addresses: string[]
  ports: DrawnPort[]
  /** What keeps its rules, in words. */
  kept?: string
  /** What else there is to say of it, a line each. */
  notes?: readonly { text: string; kind: 'port' | 'bad' | 'quiet' }[]
}

const notePaints = { port: 'notice', bad: 'bad', quiet: 'dim' } as const

export interface DrawnPort {
  /** "8080", or "192.0.2.1:8080". */
  host: string
  container: number
  protocol: string
}

/** A link by which the host reaches other networks, and who is there. */
export interface DrawnUplink {
  name: string
  addresses: string[]
  peer?: { name: string; ifname: string; addresses: string[] }
}

export interface DrawnNetwork {
  /** The network's name. */
  name: string
  uplinks: DrawnUplink[]
  bridge: { name: string; addresses: string[] }
  containers: DrawnContainer[]
}

type Span = readonly [text: string, paint?: Paint | undefined]

type Line = readonly Span[]

const plain: Paint = text => text

const lengthOf = (line: Line) => line.reduce((sum, [text]) => sum + text.length, 0)

const filled = (line: Line, width: number): Line => [
  ...line,
  [' '.repeat(Math.max(0, width - lengthOf(line)))],
]

const printed = (line: Line) => line.map(([text, paint = plain]) => paint(text)).join('')

/** A horizontal line with a title in it, and marks where cables meet it. */
function edge(
  [left, dash, right]: readonly [string, string, string],
  width: number,
  {
    title,
    titlePaint,
    marks = {},
    paint,
  }: {
    title?: string
    titlePaint?: Paint
    marks?: Readonly<Record<number, string>>
    paint: Paint
  },
): Line {
  const cells = Array.from({ length: width }, (_, column) => marks[column] ?? dash)
  cells[0] = left
  cells[width - 1] = right
  if (title === undefined) return [[cells.join(''), paint]]
  const start = 2
  return [
    [cells.slice(0, start).join(''), paint],
    [` ${title} `, titlePaint],
    [cells.slice(start + title.length + 2).join(''), paint],
  ]
}

const ROUND_TOP = ['╭', '─', '╮'] as const
const ROUND_BOTTOM = ['╰', '─', '╯'] as const

const sided = (line: Line, width: number, { side, paint }: { side: string; paint: Paint }): Line => [
  [`${side} `, paint],
  ...filled(line, width - 4),
  [` ${side}`, paint],
]

const GAP = 3
const INSET = 3

/** Where each container's box begins, how wide it is, and where its cable meets it. */
interface Column {
  start: number
  width: number
  cable: number
}

function containerLines(container: DrawnContainer, style: Style): Line[] {
  const { ifname: end, addresses, ports, kept, notes = [] } = container
  const [first = '', ...more] = addresses
  return [
    [[end, style.bold], ['  '], [first, style.accent]],
    ...more.map((address): Line => [[' '.repeat(end.length + 2)], [address, style.accent]]),
    ...ports.map(
      ({ host, container, protocol }): Line => [
        [`${container}/${protocol}`, style.notice],
        [' ◀ ', style.dim],
        [`host ${host}`, style.notice],
      ],
    ),
    ...(kept === undefined ? [] : [[[`rules in ${kept}`, style.dim]] satisfies Line]),
    ...notes.map(({ text, kind }): Line => [[text, style[notePaints[kind]]]]),
  ]
}

function columnsFor(containers: readonly DrawnContainer[], lines: readonly Line[][]): Column[] {
  let start = INSET
  return containers.map(({ name, hostEnd }, index) => {
    const widest = Math.max(0, ...(lines[index] ?? []).map(lengthOf))
    const width = Math.max(widest + 4, name.length + 6, hostEnd.length + 4)
    // in the middle, or where the title leaves room for it
    const column = { start, width, cable: start + Math.max(width >> 1, name.length + 4) }
    start += width + GAP
    return column
  })
}

/** Texts at columns of a line; each begins where it is asked for, or as soon as the one before lets it. */
function placed(parts: readonly { at: number; line: Line }[]): Line {
  return parts.reduce<Line>((line, part) => [...filled(line, part.at), ...part.line], [])
}

/**
 * A network as a picture: the networks outside on top, the host with its bridge, each container on its own cable below. What is wider than
 * `width` becomes a tree.
 */
export function drawNetwork(network: DrawnNetwork, style: Style, width = 100): string {
  const { bridge, containers, name, uplinks } = network
  const lines = containers.map(container => containerLines(container, style))
  const columns = columnsFor(containers, lines)
  const head: Line = [
    [bridge.addresses.join('  '), style.accent],
    [`  network ${name}`, style.dim],
  ]
  const last = columns.at(-1)
  const total = Math.max(
    (last ? last.start + last.width : 0) + INSET,
    Math.max(lengthOf(head), bridge.name.length + 2) + 4 + 2 * INSET,
    ...uplinks.map(uplink => lengthOf(uplinkLine(uplink, style)) + 6),
  )
  if (total > width) return drawTree(network, style, width)
  return [
    ...drawPeers(uplinks, style),
    ...drawHost(network, { columns, total, head }, style),
    ...drawContainers(containers, { columns, lines }, style),
  ]
    .map(line => printed(line).trimEnd())
    .join('\n')
}

function uplinkLine({ name, addresses }: DrawnUplink, style: Style): Line {
  return [[name, style.bold], ['  '], [addresses.join('  '), style.accent]]
}

const PEER_CABLE = 12

/** Who is at the other end of the first uplink. */
function drawPeers([uplink]: readonly DrawnUplink[], style: Style): Line[] {
  const peer = uplink?.peer
  if (!peer) return []
  const line: Line = [[peer.ifname, style.bold], ['  '], [peer.addresses.join('  '), style.accent]]
  const width = Math.max(lengthOf(line) + 4, peer.name.length + 6, PEER_CABLE + 3)
  const paint = style.dim
  return [
    edge(ROUND_TOP, width, { title: peer.name, titlePaint: style.bold, paint }),
    sided(line, width, { side: '│', paint }),
    edge(ROUND_BOTTOM, width, { marks: { [PEER_CABLE]: '┬' }, paint }),
    placed([{ at: PEER_CABLE, line: [['│', paint]] }]),
  ]
}

function drawHost(
  { bridge, containers, uplinks }: DrawnNetwork,
  { columns, total, head }: { columns: readonly Column[]; total: number; head: Line },
  style: Style,
): Line[] {
  const paint = style.dim
  const inner = total - 2 * INSET
  const within = (line: Line) => sided([[' '.repeat(INSET - 2)], ...line], total, { side: '│', paint })
  const ticks = (mark: string, shift = 0) =>
    Object.fromEntries(columns.map(({ cable }) => [cable - shift, mark]))
  const cables = columns.map(({ cable }) => ({ at: cable - INSET, line: [['│', paint]] as Line }))
  const names = columns.map(({ cable, start, width }, index) => {
    const text = containers[index]?.hostEnd ?? ''
    const at = Math.min(cable - (text.length >> 1), start + width - text.length)
    return { at: at - INSET, line: [[text, paint]] as Line }
  })
  const peer = uplinks[0]?.peer ? { [PEER_CABLE]: '┴' } : {}
  const bridgeEdge = { paint: style.accent }
  return [
    edge(ROUND_TOP, total, { title: 'host', titlePaint: style.bold, marks: peer, paint }),
    ...uplinks.map(uplink => within(uplinkLine(uplink, style))),
    ...(uplinks.length ? [within([])] : []),
    within(edge(['┏', '━', '┓'], inner, { ...bridgeEdge, title: bridge.name, titlePaint: style.bold })),
    within(sided(head, inner, { side: '┃', paint: style.accent })),
    within(edge(['┗', '━', '┛'], inner, { ...bridgeEdge, marks: ticks('┯', INSET) })),
    ...(columns.length ? [within(placed(names)), within(placed(cables))] : []),
    edge(ROUND_BOTTOM, total, { marks: ticks('┼'), paint }),
  ]
}

function drawContainers(
  containers: readonly DrawnContainer[],
  { columns, lines }: { columns: readonly Column[]; lines: readonly Line[][] },
  style: Style,
): Line[] {
  const paint = style.dim
  const height = Math.max(0, ...lines.map(({ length }) => length))
  const boxes = containers.map(({ name }, index) => {
    const { width = 0, start = 0, cable = 0 } = columns[index] ?? {}
    const content = [...(lines[index] ?? []), ...Array<Line>(height).fill([])].slice(0, height)
    return [
      edge(ROUND_TOP, width, { title: name, titlePaint: style.good, marks: { [cable - start]: '┴' }, paint }),
      ...content.map(line => sided(line, width, { side: '│', paint })),
      edge(ROUND_BOTTOM, width, { paint }),
    ]
  })
  const cables = columns.map(({ cable }) => ({ at: cable, line: [['│', paint]] as Line }))
  const rows = Array.from({ length: containers.length ? height + 2 : 0 }, (_, row) =>
    placed(boxes.map((box, index) => ({ at: columns[index]?.start ?? 0, line: box[row] ?? [] }))),
  )
  return [...(containers.length ? [placed(cables)] : []), ...rows]
}

/** The same as a tree, for what no screen is wide enough for; what does not fit a line of it goes below. */
function drawTree({ bridge, containers, name, uplinks }: DrawnNetwork, style: Style, width: number): string {
  const widest = Math.max(0, ...containers.map(container => container.name.length))
  const leaves = containers.flatMap((container, index) => {
    const isLast = index === containers.length - 1
    const line = leafOf(container, { branch: isLast ? '└─' : '├─', widest }, style)
    if (lengthOf(line) <= width) return [printed(line)]
    return narrowLeaf(container, { branch: isLast ? '└─' : '├─', trunk: isLast ? '  ' : '│ ' }, style).map(
      printed,
    )
  })
  const head: Line = [
    [bridge.name, style.bold],
    ['  '],
    [bridge.addresses.join('  '), style.accent],
    ['  '],
    [`network ${name}`, style.dim],
  ]
  const below: Line[] = [
    [[bridge.name, style.bold]],
    [['  '], [bridge.addresses.join('  '), style.accent]],
    [['  '], [`network ${name}`, style.dim]],
  ]
  const heads = lengthOf(head) <= width ? [head] : below
  return [
    ...uplinks.map(uplink => printed(uplinkLine(uplink, style))),
    ...heads.map(printed),
    ...leaves,
  ].join('\n')
}

const portOf = ({ host, container, protocol }: DrawnPort) => `${host} ▶ ${container}/${protocol}`

function leafOf(
  { name, ifname, hostEnd, addresses, ports, kept, notes = [] }: DrawnContainer,
  { branch, widest }: { branch: string; widest: number },
  style: Style,
): Line {
  const parts: Span[] = [
    [`${branch} ${hostEnd.padEnd(15)}`, style.dim],
    [name.padEnd(widest), style.good],
    [ifname],
    [addresses.join('  '), style.accent],
    ...ports.map((port): Span => [portOf(port), style.notice]),
    ...(kept === undefined ? [] : [[`rules in ${kept}`, style.dim] satisfies Span]),
    ...notes.map(({ text, kind }): Span => [text, style[notePaints[kind]]]),
  ]
  return parts.flatMap((part, at): Span[] => (at === 0 ? [part] : [['  '], part]))
}

function narrowLeaf(
  container: DrawnContainer,
  { branch, trunk }: { branch: string; trunk: string },
  style: Style,
): Line[] {
  const { name, ifname, hostEnd, addresses, ports, kept, notes = [] } = container
  const below: Line[] = [
    [[[ifname, hostEnd].filter(Boolean).join(' ─ '), style.dim]],
    ...addresses.map((address): Line => [[address, style.accent]]),
    ...ports.map((port): Line => [[portOf(port), style.notice]]),
    ...(kept === undefined ? [] : [[[`rules in ${kept}`, style.dim]] satisfies Line]),
    ...notes.map(({ text, kind }): Line => [[text, style[notePaints[kind]]]]),
  ]
  return [
    [
      [`${branch} `, style.dim],
      [name, style.good],
    ],
    ...below.map((line): Line => [[`${trunk} `, style.dim], ...line]),
  ]
}
