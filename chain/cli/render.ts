/** What a person sees: results, failures, steps and the drawing of a network. The only file that knows terminals. */
import type { CniError } from '../protocol/error.ts'
import type { Result } from '../protocol/result.ts'
import type { Step } from '../runtime/network.ts'

export interface Style {
  bold(text: string): string
  dim(text: string): string
  good(text: string): string
  bad(text: string): string
  accent(text: string): string
}

const plain = (text: string) => text
const code = (number: number) => (text: string) => `\x1b[${number}m${text}\x1b[0m`

/** Colours for a terminal, nothing for anything else (https://no-color.org). */
export function styleFor(isTerminal: boolean, env: Readonly<Record<string, string | undefined>> = {}): Style {
  if (!isTerminal || env.NO_COLOR) return { bold: plain, dim: plain, good: plain, bad: plain, accent: plain }
  return { bold: code(1), dim: code(2), good: code(32), bad: code(31), accent: code(36) }
}

export function formatMilliseconds(milliseconds: number): string {
  return `${milliseconds < 10 ? milliseconds.toFixed(1) : milliseconds.toFixed(0)} ms`
}

/** "✓ ADD bridge 8.2 ms" */
export function renderStep({ verb, plugin, milliseconds, error }: Step, style: Style): string {
  const mark = error ? style.bad('✗') : style.good('✓')
  return `${mark} ${verb.padEnd(6)} ${style.bold(plugin.padEnd(12))} ${style.dim(formatMilliseconds(milliseconds))}`
}

export function renderError({ message, details, code: number }: CniError, style: Style): string {
  const first = `${style.bad('✗')} ${style.bold(message)} ${style.dim(`(code ${number})`)}`
  return details ? `${first}\n  ${details}` : first
}

/** A result as a few lines: interfaces with their addresses, then routes and DNS. */
export function renderResult({ interfaces, ips, routes, dns }: Result, style: Style): string {
  const lines = interfaces.map(({ name, mac, sandbox }, index) => {
    const own = ips.filter(ip => ip.interface === index).map(({ address }) => style.accent(address))
    const where = sandbox ? ` in ${sandbox}` : ' on the host'
    return [`  ${style.bold(name)}${style.dim(where)}`, mac && style.dim(mac), ...own]
      .filter(Boolean)
      .join('  ')
  })
  const unplaced = ips
    .filter(ip => ip.interface === undefined)
    .map(({ address }) => `  ${style.accent(address)}`)
  const ways = routes.map(({ dst, gw }) => `  ${dst}${gw ? ` via ${gw}` : ''}`)
  const names = (dns.nameservers ?? []).map(server => `  nameserver ${server}`)
  return [...lines, ...unplaced, ...ways, ...names].join('\n')
}

/** A container in the drawing. */
export interface DrawnContainer {
  name: string
  interface: string
  hostEnd: string
  addresses: string[]
  /** "host:8080 → 80/tcp" */
  ports: string[]
}

export interface DrawnNetwork {
  host: string
  uplinks: string[]
  bridge: { name: string; addresses: string[] }
  containers: DrawnContainer[]
}

function box(lines: readonly string[], width: number): string[] {
  return [
    `┌${'─'.repeat(width)}┐`,
    ...lines.map(line => `│ ${line.padEnd(width - 2)} │`),
    `└${'─'.repeat(width)}┘`,
  ]
}

function centred(text: string, width: number): string {
  const left = Math.max(0, (width - text.length) >> 1)
  return `${' '.repeat(left)}${text}`.padEnd(width)
}

const GAP = 3

/** The network as a picture: the host with its bridge on top, each container on its own cable below. */
export function drawNetwork({ host, uplinks, bridge, containers }: DrawnNetwork, style: Style): string {
  const cells = containers.map(({ name, interface: end, addresses, ports }) => [
    name,
    `${end}  ${addresses[0] ?? ''}`,
    ...addresses.slice(1).map(address => `${' '.repeat(end.length + 2)}${address}`),
    ...ports,
  ])
  const height = Math.max(0, ...cells.map(cell => cell.length))
  const widths = cells.map(cell => Math.max(...cell.map(line => line.length)) + 2)
  const total = Math.max(
    widths.reduce((sum, width) => sum + width + 2, 0) + GAP * (widths.length - 1),
    bridge.name.length + bridge.addresses.join('  ').length + 8,
  )
  const boxes = cells.map((cell, index) =>
    box([...cell, ...Array(height - cell.length).fill('')], widths[index] ?? 0),
  )
  const rows = (boxes[0] ?? []).map((_, row) => boxes.map(lines => lines[row] ?? '').join(' '.repeat(GAP)))
  const cables = (text: (container: DrawnContainer) => string) =>
    containers
      .map((container, index) => centred(text(container), (widths[index] ?? 0) + 2))
      .join(' '.repeat(GAP))
  const head = `${bridge.name}  ${bridge.addresses.join('  ')}`
  return [
    style.dim(`${host}${uplinks.length ? `  (${uplinks.join(', ')})` : ''}`),
    ...box([centred(head, total - 4)], total - 2).map(line => style.accent(line)),
    style.dim(cables(() => '│')),
    style.dim(cables(({ hostEnd }) => hostEnd)),
    style.dim(cables(() => '│')),
    ...rows,
  ].join('\n')
}
