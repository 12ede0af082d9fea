/** Addresses for people: each network with its ranges, and, where one is named, who has which. */
import { harmless, type Paint, type Style } from '../render.ts'
import type { Held, IpamReport, NetworkReport, RangeReport } from './report.ts'

interface View {
  style: Style
  /** Columns. */
  width: number
  /** Whether addresses are listed one by one. */
  isFull: boolean
}

export function describeIpam({ networks, at, unreadable }: IpamReport, view: View): string {
  if (networks.length === 0) return 'host-local keeps no addresses here'
  const now = Date.parse(at)
  const parts = networks.map(network => describeNetwork(network, { ...view, now }))
  const aside = unreadable.map(says => wrapped(`${view.style.notice('!')} ${harmless(says)}`, 0, view.width))
  return [...parts, ...aside].join('\n\n')
}

type Seen = View & { now: number }

/** As wide as the terminal allows, with an indent that the lines after the first have as well. */
function wrapped(text: string, indent: number, width: number): string {
  const blanks = ' '.repeat(indent)
  const lines = Bun.wrapAnsi(text, Math.max(width - indent, 16), { hard: true }).split('\n')
  return lines.map(line => blanks + line).join('\n')
}

/** Items between commas, none of which is broken. */
function itemsOf(items: readonly string[], indent: number, width: number): string {
  const lines = ['']
  for (const [index, item] of items.entries()) {
    const text = index < items.length - 1 ? `${item},` : item
    const line = lines.at(-1) ?? ''
    const isLong = Bun.stringWidth(`${line} ${text}`) > width - indent
    if (line !== '' && isLong) lines.push(text)
    else lines[lines.length - 1] = line === '' ? text : `${line} ${text}`
  }
  return lines.map(line => ' '.repeat(indent) + line).join('\n')
}

function describeNetwork(network: NetworkReport, seen: Seen): string {
  const { style, width } = seen
  const { folder, sources, ranges, outside, problems, addresses } = network
  const names = sources.length > 0 ? sources.join(', ') : 'no configuration names it'
  const strays = outside > 0 ? `${outside} of ${addresses.length} addresses are in no range` : undefined
  return [
    style.bold(harmless(network.network)),
    wrapped(style.dim(harmless(`${folder} · ${names}`)), 2, width),
    ...ranges.map(range => describeRange(range, seen)),
    ...[...problems, ...(strays ? [strays] : [])].map(says =>
      wrapped(`${style.notice('!')} ${harmless(says)}`, 2, width),
    ),
    ...(seen.isFull ? [describeHeld(addresses, seen)] : []),
  ]
    .filter(Boolean)
    .join('\n')
}

const BAR = 20

function describeRange(range: RangeReport, { style, width, now }: Seen): string {
  const { subnet, first, last, size, used, leaked, unknown, free, reserved } = range
  const share = size === 0 ? 1 : used / size
  const paint = paintFor(share, style)
  const filled = Math.min(BAR, Math.ceil(share * BAR))
  const bar = paint('█'.repeat(filled)) + style.dim('░'.repeat(BAR - filled))
  const counts = [
    `${count(used)} of ${count(size)} used`,
    `${count(free)} free`,
    ...(leaked > 0 ? [style.bad(`${leaked} leaked`)] : []),
    ...(unknown > 0 ? [style.notice(`${unknown} unknown`)] : []),
    `${count(reserved)} reserved`,
    ...until(range, now).map(each => paint(each)),
  ]
  return [
    wrapped(`${style.accent(subnet)} ${first} to ${last}`, 2, width),
    wrapped(`${bar} ${percent(share)}`, 4, width),
    itemsOf(counts, 4, width),
  ].join('\n')
}

function paintFor(share: number, { good, notice, bad }: Style): Paint {
  if (share >= 0.95) return bad
  return share >= 0.8 ? notice : good
}

const percent = (share: number) => (share > 0 && share < 0.01 ? '<1 %' : `${Math.floor(share * 100)} %`)

/** "65,533", and "1.8e+19" for what is not counted. */
const count = (number: number) => (number < 1e15 ? number.toLocaleString('en-GB') : number.toExponential(1))

function until({ fullAt, free, perHour }: RangeReport, now: number): string[] {
  if (free === 0) return ['full']
  if (fullAt === undefined || perHour === undefined) return []
  const left = Date.parse(fullAt) - now
  return left > 365 * DAY ? [] : [`full in ${span(left)} at ${perHour} an hour`]
}

const MINUTE = 60_000
const DAY = 24 * 60 * MINUTE

/** "3 d", "4 h", "12 min". */
function span(milliseconds: number): string {
  if (milliseconds >= 2 * DAY) return `${Math.floor(milliseconds / DAY)} d`
  if (milliseconds >= 2 * 60 * MINUTE) return `${Math.floor(milliseconds / (60 * MINUTE))} h`
  return `${Math.max(0, Math.floor(milliseconds / MINUTE))} min`
}

const marks: Readonly<Record<Held['state'], keyof Style>> = { live: 'good', leaked: 'bad', unknown: 'notice' }

function describeHeld(addresses: readonly Held[], { style, width, now }: Seen): string {
  const wide = Math.max(0, ...addresses.map(({ address }) => address.length))
  return addresses
    .map(({ address, state, name, ifname = '', since, evidence }) => {
      const mark = style[marks[state]](state.padEnd(7))
      const whose = harmless(`${name || 'no container'}${ifname ? ` ${ifname}` : ''}`)
      const age = style.dim(`${span(now - Date.parse(since))} ago`)
      const head = `${address.padEnd(wide)} ${mark} ${whose} ${age}`
      const why = state === 'live' ? [] : [wrapped(style.dim(harmless(evidence.join('; '))), 6, width)]
      return [wrapped(head, 4, width), ...why].join('\n')
    })
    .join('\n')
}
