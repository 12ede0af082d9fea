/** Findings for people, with the line and a caret, and for GitHub's runners. */
import { harmless, type Style } from '../render.ts'
import type { Finding, Report } from './lint.ts'

/** All findings, and what they come to, within a width. */
export function describeReport(report: Report, style: Style, width: number): string {
  const blocks = report.findings.map(finding => describeFinding(finding, style, width))
  return [...blocks, summary(report, style)].join('\n\n')
}

const LABEL = 7 // "write  "

function describeFinding(finding: Finding, style: Style, width: number): string {
  const { file, line, column, level, rule, says, why, write } = finding
  const paint = level === 'error' ? style.bad : style.notice
  const head = `${style.bold(harmless(`${file}:${line}:${column}`))} ${paint(level)} ${style.dim(rule)}`
  return [
    ...wrap(head, 0, width),
    ...wrap(harmless(says), 2, width),
    ...excerpt(finding, paint, width),
    ...(why ? labelled(style.dim('why'), why, width) : []),
    ...(write ? labelled(style.dim('write'), write, width) : []),
  ].join('\n')
}

function wrap(text: string, indent: number, width: number): string[] {
  const columns = Math.max(width - indent, 16)
  return Bun.wrapAnsi(text, columns, { hard: true })
    .split('\n')
    .map(line => `${' '.repeat(indent)}${line}`)
}

function labelled(label: string, text: string, width: number): string[] {
  const [first = '', ...rest] = wrap(harmless(text), LABEL + 2, width)
  return [`  ${label}${first.slice(2 + Bun.stringWidth(label))}`, ...rest]
}

/** The line, cut so that what is meant is in it, and a caret below. */
function excerpt({ line, column, endColumn, source }: Finding, paint: Style['bad'], width: number): string[] {
  const number = String(line).padStart(4)
  const room = Math.max(width - number.length - 5, 12)
  const shown = (text: string) => harmless(text.replaceAll('\t', ' '))
  const start = column - 1 > room - 8 ? Math.max(column - 1 - Math.floor(room / 3), 0) : 0
  const ahead = start > 0 ? '…' : ''
  const before = ahead + shown(source.slice(start, column - 1))
  const whole = before + shown(source.slice(column - 1))
  const text = Bun.stringWidth(whole) > room ? `${Bun.sliceAnsi(whole, 0, room - 1)}…` : whole
  const offset = Bun.stringWidth(before)
  const length = Math.max(
    1,
    Math.min(Bun.stringWidth(shown(source.slice(column - 1, endColumn - 1))), room - offset),
  )
  return [
    `  ${number} │ ${text}`,
    `  ${' '.repeat(number.length)} │ ${' '.repeat(offset)}${paint('^'.repeat(length))}`,
  ]
}

const count = (number: number, word: string) => `${number} ${word}${number === 1 ? '' : 's'}`

function summary({ files, errors, warnings }: Report, style: Style): string {
  const where = count(files.length, 'file')
  if (errors + warnings === 0) return `${style.good('✓')} ${where}: nothing to say`
  const mark = errors > 0 ? style.bad('✗') : style.notice('!')
  return `${mark} ${where}: ${count(errors, 'error')}, ${count(warnings, 'warning')}`
}

/** https://docs.github.com/actions/reference/workflow-commands-for-github-actions: what ends a value is written as %. */
const escapeText = (text: string) =>
  text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A')
const escapeProperty = (text: string) => escapeText(text).replaceAll(':', '%3A').replaceAll(',', '%2C')

/** A workflow command for each finding: GitHub shows it at its line. */
export function describeForGithub({ findings }: Report): string {
  return findings
    .map(({ file, line, column, endColumn, level, rule, says, why, write }) => {
      const text = [says, ...(why ? [why] : []), ...(write ? [`write ${write}`] : [])].join('\n')
      const place = `file=${escapeProperty(file)},line=${line},col=${column},endColumn=${endColumn}`
      return `::${level} ${place},title=${escapeProperty(`catena lint: ${rule}`)}::${escapeText(text)}`
    })
    .join('\n')
}
