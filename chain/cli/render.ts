/** What a person sees: results, failures and steps, and the colours of everything. The only file that knows terminals. */
import type { CniError } from '../protocol/error.ts'
import type { Result } from '../protocol/result.ts'
import type { Step } from '../runtime/network.ts'

export type Paint = (text: string) => string

export interface Style {
  bold: Paint
  dim: Paint
  good: Paint
  bad: Paint
  accent: Paint
  notice: Paint
}

const plain: Paint = text => text
// ECMA-48, 8.3.117: "select graphic rendition"
const rendition =
  (on: number, off: number): Paint =>
  text =>
    `\x1b[${on}m${text}\x1b[${off}m`

/** Colours for a terminal, nothing for anything else (https://no-color.org). */
export function styleFor({
  isTerminal,
  env = {},
}: {
  isTerminal: boolean
  env?: Readonly<Record<string, string | undefined>>
}): Style {
  if (!isTerminal || env.NO_COLOR || env.TERM === 'dumb') {
    return { bold: plain, dim: plain, good: plain, bad: plain, accent: plain, notice: plain }
  }
  return {
    bold: rendition(1, 22),
    dim: rendition(2, 22),
    good: rendition(32, 39),
    bad: rendition(31, 39),
    accent: rendition(36, 39),
    notice: rendition(33, 39),
  }
}

/** Text of others without what would move the cursor or colour the screen. */
export function harmless(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, '')
}

/** Text broken at blanks into lines of a width; those after the first begin with an indentation. What has no blank stays whole. */
export function wrapped(text: string, width: number, indentation: string): string {
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + 1 + word.length <= width)
      lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines.join(`\n${indentation}`)
}

export function formatMilliseconds(milliseconds: number): string {
  return `${milliseconds < 10 ? milliseconds.toFixed(1) : milliseconds.toFixed(0)} ms`
}

/** "✓ ADD    bridge        8.2 ms" */
export function renderStep({ verb, plugin, milliseconds, error }: Step, style: Style): string {
  const mark = error ? style.bad('✗') : style.good('✓')
  const time = formatMilliseconds(milliseconds).padStart(9)
  return `${mark} ${verb.padEnd(6)} ${style.bold(harmless(plugin).padEnd(12))} ${style.dim(time)}`
}

/** "✓ web is on network demo", at the end of what went well. */
export function renderSuccess(sentence: string, style: Style): string {
  return `${style.good('✓')} ${sentence}`
}

/** What failed, with its code; below, what the other side said and what to look at. */
export function renderError({ message, details, code }: CniError, style: Style): string {
  const first = `${style.bad('✗')} ${style.bold(harmless(message))} ${style.dim(`(code ${code})`)}`
  return [first, ...(details ? harmless(details).split('; ') : []).map(part => `  ${part}`)].join('\n')
}

/** A result as a few lines: interfaces with their addresses, then routes and name servers. */
export function renderResult({ interfaces, ips, routes, dns }: Result, style: Style): string {
  const links = interfaces.map(({ name, mac = '', sandbox }, index) => {
    const own = ips.filter(ip => ip.interface === index).map(({ address }) => style.accent(address))
    const where = style.dim(sandbox ? `in ${sandbox}` : 'on the host')
    return [style.bold(name.padEnd(15)), style.dim(mac.padEnd(17)), ...own, where].join('  ')
  })
  const unplaced = ips.filter(ip => ip.interface === undefined).map(({ address }) => style.accent(address))
  const ways = routes.map(({ dst, gw }) => `route ${dst}${gw ? ` via ${gw}` : ''}`)
  const names = (dns.nameservers ?? []).map(server => `nameserver ${server}`)
  return [...links, ...unplaced, ...ways, ...names].map(line => `  ${line.trimEnd()}`).join('\n')
}
