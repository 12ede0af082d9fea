/** A graph as an SVG picture that follows the reader's choice of light and dark. Pure. */
import type { Graph, GraphContainer, GraphHub, GraphLink } from '../../observe/graph.ts'
import { limitTexts } from '../ps.ts'

const CHARACTER = 7.3 // of the monospaced font at 12 pixels
const CARD = { width: 232, line: 18, padding: 14, head: 38, gap: 16 }
const PANEL = { head: 58, padding: 18, gap: 28, cable: 34 }
const FRAME = { head: 66, padding: 26 }

/** Colours by role: those of a light page, and of a dark one. */
const STYLE = `
  .page { fill: #f6f7f9 } .frame { fill: #ffffff; stroke: #d5dae1 } .panel { fill: #f3f7fb; stroke: #c4d6e8 }
  .hub { fill: #e2eefa; stroke: #7fb0de } .card { fill: #ffffff; stroke: #cfd6df } .gone { stroke-dasharray: 5 4 }
  .cable { stroke: #8aa4bf; stroke-width: 1.6; fill: none } .ill .cable, .cable.ill { stroke: #c9372c }
  text { font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, monospace; fill: #24292f }
  .name { font-weight: 700; font-size: 13px } .quiet { fill: #66707c } .address { fill: #0b62b0 } .port { fill: #8a5300 }
  .good { fill: #1a7f37 } .bad { fill: #c9372c } .doubt { fill: #9a6700 } .chip { fill: #fff4dd; stroke: #e5c88b }
  .uplink { fill: #eef1f4; stroke: #b9c2cc }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } .frame { fill: #151b23; stroke: #30363d } .panel { fill: #121d2a; stroke: #2b4562 }
    .hub { fill: #16304a; stroke: #3f75a8 } .card { fill: #1b222c; stroke: #3a434e } .cable { stroke: #5d7f9f }
    .ill .cable, .cable.ill { stroke: #f8645a } text { fill: #e6edf3 } .quiet { fill: #97a3b0 } .address { fill: #79b8ff } .port { fill: #e3b341 }
    .good { fill: #3fb950 } .bad { fill: #f8645a } .doubt { fill: #d29922 } .chip { fill: #2c2412; stroke: #6b5320 }
    .uplink { fill: #1f262f; stroke: #444d57 }
  }`

const escaped = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')

const shortened = (text: string, width: number) => {
  const most = Math.floor(width / CHARACTER)
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`
}

interface Words {
  x: number
  y: number
  style: string
  anchor?: 'end' | 'middle'
}

function words(text: string, { x, y, style, anchor }: Words): string {
  return `<text x="${x}" y="${y}" class="${style}"${anchor ? ` text-anchor="${anchor}"` : ''}>${escaped(text)}</text>`
}

interface Box {
  x: number
  y: number
  width: number
  height: number
}

const box = ({ x, y, width, height }: Box, style: string, radius = 8) =>
  `<rect x="${x}" y="${y}" width="${width}" height="${height}" rx="${radius}" class="${style}"/>`

/** The lines of a card below its name, each with its class. */
function linesOf({
  ifname,
  kind,
  addresses,
  limits,
  runtime,
  mtu,
  health,
}: GraphContainer): [string, string][] {
  const kinds = kind && kind !== 'veth' ? ` (${kind})` : ''
  const shaped = limitTexts(limits).join(' ')
  const more = [runtime, ...(mtu === undefined ? [] : [`MTU ${mtu}`])].filter(Boolean).join(' · ')
  return [
    [`${ifname}${kinds}`, 'quiet'],
    ...addresses.map((address): [string, string] => [address, 'address']),
    ...(health.isHealthy ? [] : ([[health.says, 'bad']] as [string, string][])),
    ...(shaped ? ([[shaped, 'quiet']] as [string, string][]) : []),
    [more, 'quiet'],
  ]
}

/** Rows of chips with ports, as many in each as fit. */
function portRows(ports: readonly string[]): string[][] {
  const rows: string[][] = []
  let left = 0
  for (const port of ports) {
    const width = port.length * CHARACTER + 20
    if (width > left) {
      rows.push([])
      left = CARD.width - 2 * CARD.padding
    }
    rows.at(-1)?.push(port)
    left -= width
  }
  return rows
}

const heightOf = (container: GraphContainer) =>
  CARD.head + linesOf(container).length * CARD.line + portRows(container.ports).length * 26 + 6

function card(container: GraphContainer, { x, y }: Pick<Box, 'x' | 'y'>): string {
  const { name, label, health, ports } = container
  const height = heightOf(container)
  const mark = health.isHealthy ? 'good' : label === 'unknown' ? 'doubt' : 'bad'
  const inner = CARD.width - 2 * CARD.padding
  const lines = linesOf(container).map(([text, style], at) =>
    words(shortened(text, inner), { x: x + CARD.padding, y: y + CARD.head + 8 + at * CARD.line, style }),
  )
  const below = y + CARD.head + linesOf(container).length * CARD.line
  const chips = portRows(ports).flatMap((row, line) => {
    let at = x + CARD.padding
    return row.map(port => {
      const width = port.length * CHARACTER + 14
      const chip = box({ x: at, y: below + line * 26, width, height: 20 }, 'chip', 10)
      const text = words(port, { x: at + 7, y: below + line * 26 + 14, style: 'port' })
      at += width + 6
      return chip + text
    })
  })
  return [
    `<g><title>${escaped([name, container.containerId, container.netns, ...container.evidence].filter(Boolean).join('\n'))}</title>`,
    box({ x, y, width: CARD.width, height }, `card${label === 'live' ? '' : ' gone'}`),
    `<circle cx="${x + CARD.padding + 4}" cy="${y + 20}" r="5" class="${mark}"/>`,
    words(shortened(name, inner - 18), { x: x + CARD.padding + 18, y: y + 25, style: 'name' }),
    ...lines,
    ...chips,
    '</g>',
  ].join('')
}

interface Placed {
  hub: GraphHub
  columns: number
  width: number
  height: number
}

function place(hub: GraphHub, most: number): Placed {
  const count = hub.containers.length
  const columns = Math.max(1, Math.min(most, count > 4 ? Math.ceil(Math.sqrt(count * 1.6)) : count))
  const rows = Array.from({ length: Math.ceil(count / columns) }, (_, row) =>
    Math.max(...hub.containers.slice(row * columns, (row + 1) * columns).map(heightOf)),
  )
  const cards = rows.reduce((sum, height) => sum + height + PANEL.cable, 0)
  const title = Math.max(headOf(hub).length, hub.name.length + hub.kind.length + 3) * CHARACTER + 40
  const inner = columns * CARD.width + (columns - 1) * CARD.gap
  return {
    hub,
    columns,
    width: Math.max(inner, title) + 2 * PANEL.padding,
    height: PANEL.head + cards + 2 * PANEL.padding,
  }
}

const headOf = ({ addresses, networks, mtu }: GraphHub) =>
  [
    addresses.join('  '),
    networks.length > 0 ? `network ${networks.join(', ')}` : '',
    mtu === undefined ? '' : `MTU ${mtu}`,
  ]
    .filter(Boolean)
    .join('   ')

function panel({ hub, columns, width, height }: Placed, { x, y }: Pick<Box, 'x' | 'y'>): string {
  const bar = {
    x: x + PANEL.padding,
    y: y + PANEL.padding,
    width: width - 2 * PANEL.padding,
    height: PANEL.head,
  }
  const parts: string[] = []
  let top = bar.y + bar.height
  for (let row = 0; row * columns < hub.containers.length; row++) {
    const cards = hub.containers.slice(row * columns, (row + 1) * columns)
    for (const [at, container] of cards.entries()) {
      const left = bar.x + at * (CARD.width + CARD.gap)
      const middle = left + CARD.width / 2
      const style = `cable${container.health.isHealthy ? '' : ' ill'}`
      // from the bar, or along the gap beside the cards of the rows above
      parts.push(`<path class="${style}" d="M${middle} ${top} v${PANEL.cable}"/>`)
      if (row > 0)
        parts.push(
          `<path class="${style}" d="M${middle} ${top} h${-CARD.width / 2 - CARD.gap / 2} V${bar.y + bar.height}"/>`,
        )
      parts.push(words(container.hostEnd, { x: middle + 8, y: top + 21, style: 'quiet' }))
      parts.push(card(container, { x: left, y: top + PANEL.cable }))
    }
    top += Math.max(...cards.map(heightOf)) + PANEL.cable
  }
  return [
    box({ x, y, width, height }, `panel${hub.isUp ? '' : ' gone'}`, 12),
    ...parts,
    box(bar, 'hub'),
    words(hub.name, { x: bar.x + 16, y: bar.y + 24, style: 'name' }),
    words(hub.kind + (hub.isUp ? '' : ', down'), {
      x: bar.x + bar.width - 16,
      y: bar.y + 24,
      style: hub.isUp ? 'quiet' : 'bad',
      anchor: 'end',
    }),
    words(headOf(hub), { x: bar.x + 16, y: bar.y + 44, style: 'address' }),
  ].join('')
}

function chipText({ name, kind, addresses, on, isUp }: GraphLink): string {
  return [name, kind === 'device' ? '' : kind, on ? `on ${on}` : '', isUp ? '' : 'down', ...addresses]
    .filter(Boolean)
    .join('  ')
}

/** Rows of links at the top of the host: uplinks first. */
function chipRows(links: readonly GraphLink[], width: number): GraphLink[][] {
  const rows: GraphLink[][] = []
  let left = 0
  for (const link of links.toSorted((one, other) => Number(other.isUplink) - Number(one.isUplink))) {
    const own = chipText(link).length * CHARACTER + 40
    if (own > left) {
      rows.push([])
      left = width
    }
    rows.at(-1)?.push(link)
    left -= own
  }
  return rows
}

/** `width`: of the page; what is narrower than a card becomes one column. */
export function drawSvg({ links, hubs }: Graph, { width: least = 1200, host = 'host' } = {}): string {
  const inner = least - 4 * FRAME.padding
  const most = Math.max(1, Math.floor((inner - 2 * PANEL.padding + CARD.gap) / (CARD.width + CARD.gap)))
  const panels = hubs.map(hub => place(hub, most))
  const width = Math.max(least, ...panels.map(each => each.width + 4 * FRAME.padding))
  const chips = chipRows(links, width - 4 * FRAME.padding)
  const top = FRAME.padding + FRAME.head + chips.length * 38
  const parts: string[] = []
  let [x, y, row] = [2 * FRAME.padding, top, 0]
  for (const each of panels) {
    if (x + each.width > width - 2 * FRAME.padding && x > 2 * FRAME.padding) {
      y += row + PANEL.gap
      ;[x, row] = [2 * FRAME.padding, 0]
    }
    parts.push(panel(each, { x, y }))
    x += each.width + PANEL.gap
    row = Math.max(row, each.height)
  }
  const height = y + row + 2 * FRAME.padding
  const frame = {
    x: FRAME.padding,
    y: FRAME.padding,
    width: width - 2 * FRAME.padding,
    height: height - 2 * FRAME.padding,
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="Containers and networks of ${escaped(host)}">`,
    `<style>${STYLE}</style>`,
    box({ x: 0, y: 0, width, height }, 'page', 0),
    box(frame, 'frame', 14),
    words(`host ${host}`, { x: 2 * FRAME.padding, y: FRAME.padding + 34, style: 'name' }),
    ...drawChips(chips),
    ...parts,
    '</svg>\n',
  ].join('\n')
}

function drawChips(rows: readonly GraphLink[][]): string[] {
  return rows.flatMap((row, line) => {
    let at = 2 * FRAME.padding
    const y = FRAME.padding + 50 + line * 38
    return row.map(link => {
      const width = chipText(link).length * CHARACTER + 28
      const drawn =
        box({ x: at, y, width, height: 28 }, 'uplink', 14) +
        words(chipText(link), { x: at + 14, y: y + 18, style: link.isUp ? '' : 'bad' })
      at += width + 12
      return drawn
    })
  })
}
