/** The administrator's list of sysctls that configurations may set: Go regular expressions, one a line, not anchored. */
import { readFile } from '../../chain/linux/files.ts'
import { errno, isErrno } from '../../chain/linux/libc/errno.ts'
import { CniError, code } from '../../chain/protocol/error.ts'

export const ALLOWLIST = '/etc/cni/tuning/allowlist.conf'

/** What Go's regular expressions (RE2) write otherwise. */
const translations: readonly [RegExp, string][] = [
  [/\(\?P</g, '(?<'],
  [/\\A/g, '^'],
  [/\\z/g, '$'],
  [/\[:alnum:\]/g, 'a-zA-Z0-9'],
  [/\[:alpha:\]/g, 'a-zA-Z'],
  [/\[:digit:\]/g, '0-9'],
  [/\[:lower:\]/g, 'a-z'],
  [/\[:upper:\]/g, 'A-Z'],
  [/\[:word:\]/g, '\\w'],
  [/\[:xdigit:\]/g, '0-9a-fA-F'],
  [/\[:space:\]/g, '\\s'],
]

/** Refuses the first key that no line of the list matches. Without a list everything is allowed, with an empty one nothing. */
export function requireAllowed(keys: readonly string[]): void {
  if (keys.length === 0) return
  const list = readList()
  if (!list) return
  const refused = keys.find(key => !list.some(expression => expression.test(key)))
  if (refused === undefined) return
  throw new CniError(
    code.invalidConfiguration,
    `sysctl.${refused}: Sysctl ${refused} is not allowed. Only the following sysctls are allowed: [${list.map(({ source }) => source).join(' ')}]`,
    {
      details: `none of the ${list.length} regular expressions in ${ALLOWLIST} matches it; the administrator adds a line there`,
    },
  )
}

function readList(): RegExp[] | undefined {
  const text = readText()
  return text
    ?.split('\n')
    .map(line => line.trim())
    .flatMap((line, index) => (line === '' ? [] : [compile(line, index + 1)]))
}

/**
 * A list that may not be read binds whoever is root here. In a user namespace (rootless) it is another user's: what may
 * be set there is only that namespace's own.
 */
function readText(): string | undefined {
  try {
    return readFile(ALLOWLIST)
  } catch (thrown) {
    if (isErrno(thrown, errno.EACCES) && inUserNamespace()) return undefined
    throw new CniError(code.io, `read the list of allowed sysctls ${ALLOWLIST}`, {
      details: thrown instanceof Error ? thrown.message : String(thrown),
      cause: thrown,
    })
  }
}

function inUserNamespace(): boolean {
  const map = readFile('/proc/self/uid_map')?.trim().split(/\s+/) ?? []
  return !(map[0] === '0' && map[1] === '0' && map[2] === '4294967295') // the initial one maps every user to itself
}

function compile(line: string, number: number): RegExp {
  const [, flags = '', rest = line] = /^\(\?([ims]+)\)(.*)$/.exec(line) ?? []
  const source = translations.reduce((text, [from, to]) => text.replace(from, () => to), rest)
  try {
    return new RegExp(source, flags)
  } catch (thrown) {
    throw new CniError(
      code.invalidConfiguration,
      `line ${number} of ${ALLOWLIST} is not a regular expression: ${line}`,
      { details: String(thrown), cause: thrown },
    )
  }
}
