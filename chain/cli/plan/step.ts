/** A step of a plan: what is done, in words and as lines for a shell. */
import type { Where } from './calls.ts'

export type About =
  | 'link'
  | 'address'
  | 'route'
  | 'rule'
  | 'limit'
  | 'sysctl'
  | 'nftables'
  | 'iptables'
  | 'connections'
  | 'file'
  | 'program'

/** One thing that ADD does. */
export interface Step {
  /** The plugin that does it; "runtime" for what keeps results. */
  plugin: string
  about: About
  where: Where
  /** In words. */
  does: string
  /** Lines for a shell, run on the host; `$NETNS` is the container's namespace. None where nothing stands for it. */
  commands: string[]
  /** Of one command of a transaction: the line that does it alone. */
  alone?: string[]
  /** Why the kernel refused it, where that was expected: the next step goes another way. */
  refused?: string
}

export type Told = Omit<Step, 'plugin' | 'refused'>

/** Names of links by their numbers. */
export type Names = Readonly<Record<Where, ReadonlyMap<number, string>>>

/** Runs a line where it belongs. */
export const inPlace = (where: Where, line: string) =>
  where === 'host' ? line : `nsenter --net="$NETNS" ${line}`

export const quoted = (text: string) =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`

/** A step without its place. */
export interface Part {
  about: Told['about']
  does: string
  lines: string[]
}

/** What a message is read with. */
export interface Context {
  names: Names
  verb: number
}

export const nameOf = (names: Names, where: Where, index: number) =>
  names[where].get(index) ?? `link ${index}`

/** Words of a line; those with blanks in quotes, but for the two of ip's that are pairs. */
export const words = (...parts: readonly string[]) =>
  parts
    .map(part => (part.includes(' ') && !/^(promisc|allmulticast) /.test(part) ? quoted(part) : part))
    .join(' ')
