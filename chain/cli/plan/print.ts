/** A plan for people, and as a script that does the same without a plugin. */
import { parseResult } from '../../protocol/result.ts'
import { harmless, renderResult, type Style } from '../render.ts'
import type { Compared, Difference } from './against-now.ts'
import type { Planned } from './plan.ts'
import type { Step } from './step.ts'

/** Steps in their order, plugin by plugin, within a width. */
export function describePlan(planned: Planned, style: Style, width: number): string {
  const { network, ifname, netns, steps, result, error, notes } = planned
  const head = `ADD of ${ifname} in ${netns} to ${style.bold(harmless(network))} would take ${steps.length} steps; nothing was done`
  const parts = [
    wrapped(head, '', width),
    ...groups(steps).map(group => describeGroup(group, style, width)),
    ...(result ? [describeResult(result, style, width)] : []),
    ...(error
      ? [
          wrapped(
            `${style.bad('✗')} it would fail: ${harmless(error.message)}${error.details ? `; ${harmless(error.details)}` : ''}`,
            '  ',
            width,
          ),
        ]
      : []),
    ...notes.map(note => wrapped(`${style.notice('!')} ${harmless(note)}`, '  ', width)),
  ]
  return parts.join('\n\n')
}

function describeResult(result: NonNullable<Planned['result']>, style: Style, width: number): string {
  const lines = renderResult(parseResult(result, String(result.cniVersion)), style).split('\n')
  return [`${style.good('✓')} result`, ...lines.flatMap(line => indented(line.trimStart(), 2, width))].join(
    '\n',
  )
}

/** The lines after the first are indented by a hang. */
function wrapped(text: string, hang: string, width: number): string {
  const lines = Bun.wrapAnsi(text, Math.max(width - hang.length, 16), { hard: true }).split('\n')
  return lines.map((line, index) => (index === 0 ? line : hang + line)).join('\n')
}

function indented(text: string, indent: number, width: number): string[] {
  const lines = Bun.wrapAnsi(text, Math.max(width - indent, 16), { hard: true }).split('\n')
  return lines.map(line => ' '.repeat(indent) + line)
}

/** Runs of steps of one plugin. */
function groups(steps: readonly Step[]): Step[][] {
  const found: Step[][] = []
  for (const step of steps) {
    const last = found.at(-1)
    if (last?.[0]?.plugin === step.plugin) last.push(step)
    else found.push([step])
  }
  return found
}

const ABOUT = 12 // "connections "

function describeGroup(group: readonly Step[], style: Style, width: number): string {
  const lines = group.map(step => describeStep(step, style, width))
  return [style.bold(harmless(group[0]?.plugin ?? '')), ...lines].join('\n')
}

function describeStep({ about, where, does, refused }: Step, style: Style, width: number): string {
  const place = where === 'container' ? style.accent('in the container: ') : ''
  const end = refused ? style.dim(` (refused: ${refused})`) : ''
  const text = `${place}${harmless(does)}${end}`
  // on a narrow terminal what it is about stands above what is done
  if (width < 60) return [`  ${style.dim(about)}`, ...indented(text, 4, width)].join('\n')
  const [first = '', ...rest] = indented(text, ABOUT + 2, width)
  return [`  ${style.dim(about.padEnd(ABOUT))}${first.trimStart()}`, ...rest].join('\n')
}

/** What is not as ADD would make it, and the lines that would. */
export function describeDifferences(compared: Compared, style: Style, width: number): string {
  const { network, ifname, netns, differences, notes } = compared
  const whose = `${ifname} in ${netns} on ${style.bold(harmless(network))}`
  const aside = notes.map(note => wrapped(`${style.notice('!')} ${harmless(note)}`, '  ', width))
  if (differences.length === 0)
    return [wrapped(`${style.good('✓')} ${whose} is as ADD would make it`, '  ', width), ...aside].join(
      '\n\n',
    )
  const head = wrapped(`${style.bad('✗')} ${whose} is not as ADD would make it`, '  ', width)
  return [head, ...differences.map(each => describeDifference(each, style, width)), ...aside].join('\n\n')
}

function describeDifference(
  { where, what, is, wanted, mend }: Difference,
  style: Style,
  width: number,
): string {
  const place = where === 'container' ? style.accent('in the container: ') : ''
  const told = `${place}${style.bold(harmless(what))} is ${harmless(is)}${is === 'missing' || wanted === 'missing' ? '' : `, and ADD makes it ${harmless(wanted)}`}${wanted === 'missing' ? ', and ADD does not make it' : ''}`
  return [
    ...indented(told, 2, width),
    ...mend.flatMap(line => line.split('\n').flatMap(each => indented(style.dim(harmless(each)), 4, width))),
  ].join('\n')
}

/** Lines of sh with ip, bridge, sysctl, nft and iptables. What nothing stands for is a comment. */
export function scriptOf({ network, ifname, netns, steps, error, notes }: Planned): string {
  const quoted = `'${netns.replaceAll("'", "'\\''")}'`
  const head = [
    '#!/bin/sh',
    `# What ADD of ${ifname} to network ${network} does. Made by \`catena plan --script\`; as root, on the host.`,
    ...notes.map(comment),
    ...(error ? [comment(`it would fail: ${error.message}`)] : []),
    'set -eu',
    `NETNS=${quoted}`,
  ]
  const body = steps
    .filter(({ refused }) => refused === undefined)
    .flatMap(({ plugin, does, commands }, index) => {
      const isNew = steps[index - 1]?.plugin !== plugin
      return [...(isNew ? ['', `# ${plugin}`] : []), ...(commands.length > 0 ? commands : [comment(does)])]
    })
  return `${[...head, ...body].join('\n')}\n`
}

const comment = (text: string) => `# ${text.replaceAll('\n', ' ')}`
