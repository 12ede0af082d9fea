/** The words that the command takes, read from its definition: what completions for shells and manual pages are made of. */
import type { Command, Option } from 'commander'

/** What may stand in a place of the command line. */
export type Value =
  | { kind: 'folder' | 'file' | 'network' | 'namespace' | 'free' }
  | { kind: 'word'; words: readonly string[] }

export interface Flag {
  /** ['-i', '--ifname']: the short one first. */
  names: readonly string[]
  says: string
  value?: Value
}

/** The command itself, or a verb of it. */
export interface Verb {
  /** [] for the command itself, ['install']. */
  path: readonly string[]
  flags: readonly Flag[]
  /** In their order. */
  places: readonly Value[]
  /** Verbs below this one. */
  below: readonly { name: string; says: string }[]
}

/** By the word between brackets in the help. */
const KINDS: Readonly<Record<string, Exclude<Value['kind'], 'word'>>> = {
  folder: 'folder',
  folders: 'folder',
  file: 'file',
  path: 'file',
  network: 'network',
  netns: 'namespace',
}

/** The command and all its verbs, each after the one that it is below. */
export function verbsOf(
  command: Command,
  path: readonly string[] = [],
  siblings: readonly string[] = [],
): Verb[] {
  const help = command.createHelp()
  const commands = help.visibleCommands(command)
  const names = commands.map(each => each.name())
  const own: Verb = {
    path,
    flags: help.visibleOptions(command).map(flagOf),
    places: command.registeredArguments.map(argument =>
      placeOf(argument.name(), argument.name() === 'command' ? siblings : argument.argChoices),
    ),
    below: commands.map(each => ({ name: each.name(), says: help.subcommandDescription(each) })),
  }
  return [own, ...commands.flatMap(each => verbsOf(each, [...path, each.name()], names))]
}

function flagOf({ short, long, flags, required, optional, argChoices, description }: Option): Flag {
  const names = [short, long].filter(name => name !== undefined)
  const placeholder = /[<[]([^\]>]*)/.exec(flags)?.[1] ?? ''
  const value = required || optional ? { value: placeOf(placeholder, argChoices) } : {}
  return { names, says: description, ...value }
}

function placeOf(name: string, choices: readonly string[] | undefined): Value {
  if (choices && choices.length > 0) return { kind: 'word', words: choices }
  return { kind: KINDS[name.replace(/\.+$/, '')] ?? 'free' }
}

/** How a `case` over "VERB:WORD" follows the words before the cursor: flags that take a value, and words that lead to a verb below. */
export function stepsOf(verbs: readonly Verb[]): {
  takers: { words: string[]; value: Value }[]
  descents: string[]
} {
  const takers = verbs.flatMap(({ path, flags }) =>
    flags.flatMap(({ names, value }) =>
      value ? [{ words: names.map(name => `${path.join(' ')}:${name}`), value }] : [],
    ),
  )
  const descents = verbs.flatMap(({ path, below }) => below.map(({ name }) => `${path.join(' ')}:${name}`))
  return { takers, descents }
}
