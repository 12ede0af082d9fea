/** Manual pages of the command and of each verb, from the definition that `--help` prints (groff_man(7)). */
import type { Command } from 'commander'

/** Text that troff takes as it stands: blanks, hyphens that can be searched for, and no line that is a request. */
const escaped = (text: string) =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^(?=[.'])/gm, '\\&')

/** As a word of a request. */
const word = (text: string) => `"${escaped(text).replaceAll('"', '\\(dq')}"`

/** A list of terms, each with what it means. */
const list = (entries: readonly { term: string; says: string }[]) =>
  entries.map(({ term, says }) => `.TP\n.B ${word(term)}\n${escaped(says)}\n`).join('')

const section = (title: string, body: string) => (body === '' ? '' : `.SH ${title}\n${body}`)

/** What the help has below its lists: examples. */
function wordsAfterHelp(command: Command): string {
  let printed = ''
  const before = command.configureOutput().writeOut
  command.configureOutput({
    writeOut: text => {
      printed += text
    },
  })
  command.outputHelp()
  if (before) command.configureOutput({ writeOut: before })
  return printed.slice(command.helpInformation().length).trim()
}

function page(
  command: Command,
  { name, version, others }: { name: string; version: string; others: readonly string[] },
): string {
  const help = command.createHelp()
  const verbs = help.visibleCommands(command)
  const after = wordsAfterHelp(command)
  return [
    `.TH ${word(name.toUpperCase())} 1 "" ${word(`catena ${version}`)} "Catena"\n`,
    section('NAME', `${escaped(name)} \\- ${escaped(command.description().replace(/;.*/s, ''))}\n`),
    section('SYNOPSIS', `.B ${word(help.commandUsage(command))}\n`),
    section('DESCRIPTION', `${escaped(command.description())}\n`),
    section(
      'VERBS',
      list(verbs.map(each => ({ term: help.subcommandTerm(each), says: help.subcommandDescription(each) }))),
    ),
    section(
      'OPTIONS',
      list(
        help
          .visibleOptions(command)
          .map(each => ({ term: help.optionTerm(each), says: help.optionDescription(each) })),
      ),
    ),
    section('MORE', after === '' ? '' : `.nf\n${escaped(after)}\n.fi\n`),
    section('SEE ALSO', `${others.map(other => `.BR ${word(other)} (1)`).join(' ,\n')}\n`),
  ].join('')
}

/** The pages by file name. */
export function manualPages(root: Command, version: string): Record<string, string> {
  const verbs = root
    .createHelp()
    .visibleCommands(root)
    .filter(each => each.name() !== 'help')
  const nameOf = (command: Command) => (command === root ? 'catena' : `catena-${command.name()}`)
  const pages = [root, ...verbs].map(command => {
    const others = (command === root ? verbs : [root]).map(nameOf)
    return [`${nameOf(command)}.1`, page(command, { name: nameOf(command), version, others })] as const
  })
  return Object.fromEntries(pages)
}
