/** Which plugin an executable is that was copied or linked under another name: "cnv-bridge", a link to "bridge", or "bridge.old". */
import { nameIn } from '../linux/files.ts'
import { errno, isErrno } from '../linux/libc/errno.ts'
import { readLink } from '../linux/libc/folder.ts'
import { status } from '../linux/libc/status.ts'
import { CniError, code, errorDocument } from '../protocol/error.ts'
import { printError } from '../protocol/result.ts'

/** The plugin whose name a file's name is, or ends in; of "ipvlan" and "vlan" the longer one. */
function endOf(name: string, names: readonly string[]): string | undefined {
  return names.filter(one => name.endsWith(one)).sort((one, other) => other.length - one.length)[0]
}

/** The plugin whose name a file's name begins with, before what a release or a backup appends: "flannel-amd64", "bridge.old". */
function beginningOf(name: string, names: readonly string[]): string | undefined {
  return names.find(one => name.startsWith(one) && /^[-._@]/.test(name.slice(one.length)))
}

const MOST_LINKS = 40 // MAXSYMLINKS

/** What a path is a link to, link by link. */
function* targetsOf(path: string): Generator<string> {
  let at = path
  for (let count = 0; count < MOST_LINKS; count++) {
    try {
      const target = readLink(at)
      at = target.startsWith('/') ? target : `${at.slice(0, at.lastIndexOf('/') + 1)}${target}`
    } catch (thrown) {
      if (isErrno(thrown, errno.EINVAL, errno.ENOENT, errno.EACCES)) return // no link, or it is gone
      throw thrown
    }
    yield at
  }
}

/** Where a command without a slash was found, as execvp(3) looks for it. */
function located(command: string, searched: string): string {
  if (command.includes('/')) return command
  const folders = searched.split(':')
  return folders.map(folder => `${folder || '.'}/${command}`).find(path => status(path)) ?? command
}

export interface Invocation {
  /** Every plugin's name. */
  names: readonly string[]
  /** The path that the kernel was given to execute. */
  started: string
  /** The file that runs: where `started` is a link, what it leads to. */
  executable: string
  /** PATH. */
  searched: string
}

/** The plugin of a command's name, or of what that is a link to; undefined for the command `catena`, and when none of these tells. */
export function pluginNamed(
  command: string,
  { names, started, executable, searched }: Invocation,
): string | undefined {
  const links = [...targetsOf(located(command, searched)), started, ...targetsOf(started)]
  for (const path of [command, ...links, executable]) {
    const name = nameIn(path)
    if (name === 'catena') return beginningOf(nameIn(command), names)
    const found = endOf(name, names)
    if (found !== undefined) return found
  }
  return beginningOf(nameIn(command), names)
}

/** The document for a runtime that called the program by a name that is no plugin's. */
export function unknownPlugin(name: string, names: readonly string[]): string {
  return printError(
    errorDocument(
      new CniError(code.invalidEnvironment, `which plugin this is cannot be known by its name: ${name}`, {
        details: `a copy or a link is named after its plugin, such as bridge or my-bridge: ${names.join(', ')}`,
      }),
    ),
  )
}
