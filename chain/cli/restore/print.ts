/** What `catena restore` found and did, for a person. */
import { harmless, type Style, wrapped } from '../render.ts'
import type { Part, Restoration, RestoredAttachment } from './restore.ts'

interface Shown {
  style: Style
  width: number
}

export function describeRestoration({ attachments, leftAlone }: Restoration, shown: Shown): string {
  const whole = attachments.filter(isWhole)
  const lines = [
    ...attachments.filter(each => !isWhole(each)).flatMap(each => describeOne(each, shown)),
    ...(whole.length > 0 ? [`${whole.length} of ${attachments.length} attachments had all their rules`] : []),
    ...leftAlone.map(({ network, containerId, label, evidence }) =>
      line(`${containerId} on ${network} left alone, it is ${label}: ${evidence.join('; ')}`, shown, ''),
    ),
  ]
  return lines.join('\n') || 'no container is attached to a network'
}

/** With nothing to tell of. */
const isWhole = ({ parts, lacking = [] }: RestoredAttachment) =>
  lacking.length === 0 && parts.every(({ outcome }) => outcome === 'there')

function describeOne(attachment: RestoredAttachment, shown: Shown): string[] {
  const { name, network, ifname, parts, lacking = [], netns, containerId } = attachment
  const title = `${shown.style.bold(harmless(name))} ${ifname} on ${network}`
  if (lacking.length > 0) {
    const { bad } = shown.style
    const sentence = `other plugins made it, so its ${lacking.join(' and ')} cannot be put back: DEL and ADD do it (catena del ${network} ${netns} --container-id ${containerId})`
    return [title, `  ${bad('✗')} ${line(sentence, shown, '    ')}`]
  }
  return [title, ...parts.map(part => describePart(part, shown))]
}

function describePart({ plugin, outcome, missing = '', error }: Part, shown: Shown): string {
  const { good, bad, notice, dim } = shown.style
  const told = {
    there: [good('✓'), `${plugin} had all`],
    restored: [good('✓'), `${plugin} put back: ${missing}`],
    missing: [notice('!'), `${plugin}: ${missing}`],
    failed: [bad('✗'), `${plugin}: ${[error?.msg, error?.details].filter(Boolean).join('; ')}`],
    foreign: [dim('–'), `${plugin} is not one of these plugins: its own program has to see to it`],
  } as const
  const [mark, words] = told[outcome]
  return `  ${mark} ${line(words, shown, '    ')}`
}

const line = (text: string, { width }: Shown, indentation: string) =>
  wrapped(harmless(text), width - indentation.length, indentation)
