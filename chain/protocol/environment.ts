/** The environment of a plugin call: CNI_* as a typed request, and the grammar of CNI_ARGS. Pure. */
import { CniError, code } from './error.ts'

export type Verb = 'ADD' | 'CHECK' | 'DEL' | 'GC' | 'STATUS'

export interface Environment {
  /** As it came: verbs that do not exist are refused after the configuration was read, as the Go plugin does. */
  verb: Verb
  containerId: string | undefined
  netns: string | undefined
  ifname: string | undefined
  /** CNI_ARGS as it came. */
  args: string
  /** CNI_PATH, split. */
  path: string[]
  /** CNI_NETNS_OVERRIDE: the namespace may be the plugin's own. */
  netnsOverride: boolean
}

const everyVerb: readonly Verb[] = ['ADD', 'CHECK', 'DEL', 'GC', 'STATUS']
const attachmentVerbs: readonly Verb[] = ['ADD', 'CHECK', 'DEL']

/**
 * Which verbs need which variable, and what it may hold. STATUS works without CNI_PATH: the specification calls it optional
 * there, though the Go plugin insists.
 */
const variables: readonly { name: string; neededBy: readonly Verb[]; check?: (value: string) => void }[] = [
  { name: 'CNI_COMMAND', neededBy: everyVerb },
  { name: 'CNI_CONTAINERID', neededBy: attachmentVerbs, check: checkContainerId },
  { name: 'CNI_NETNS', neededBy: ['ADD', 'CHECK'] },
  { name: 'CNI_IFNAME', neededBy: attachmentVerbs, check: checkInterfaceName },
  { name: 'CNI_PATH', neededBy: ['ADD', 'CHECK', 'DEL', 'GC'] },
]

/** Reads the environment. Code 4 for what is malformed, and for all that is missing, told at once. */
export function parseEnvironment(env: Readonly<Record<string, string | undefined>>): Environment {
  const verb = (env.CNI_COMMAND ?? '') as Verb
  const missing: string[] = []
  for (const { name, neededBy, check } of variables) {
    const value = env[name] ?? ''
    const needed = name === 'CNI_COMMAND' || neededBy.includes(verb)
    if (!needed) continue
    if (value === '') missing.push(name)
    else check?.(value)
  }
  if (missing.length > 0) {
    throw new CniError(code.invalidEnvironment, `required env variables [${missing.join(',')}] missing`)
  }
  return {
    verb,
    containerId: env.CNI_CONTAINERID || undefined,
    netns: env.CNI_NETNS || undefined,
    ifname: env.CNI_IFNAME || undefined,
    args: env.CNI_ARGS ?? '',
    path: splitPath(env.CNI_PATH ?? ''),
    netnsOverride: env.CNI_NETNS_OVERRIDE !== undefined && /^(1|true)$/i.test(env.CNI_NETNS_OVERRIDE),
  }
}

function splitPath(path: string): string[] {
  const folders: string[] = []
  for (const folder of path.split(':')) if (folder !== '') folders.push(folder)
  return folders
}

/** Verbs that do not exist: code 4. Checked after the configuration was read, as the Go plugin does. */
export function checkVerb(verb: string): void {
  if ((everyVerb as readonly string[]).includes(verb)) return
  throw new CniError(code.invalidEnvironment, `unknown CNI_COMMAND: ${verb}`)
}

/**
 * SPEC.md, "Parameters": a letter or digit, then letters, digits, underscores, dots, hyphens. Character by character, here
 * and below: a regular expression costs each process more to compile (0.05 ms) than these texts cost to read.
 */
function isName(text: string): boolean {
  for (let at = 0; at < text.length; at++) {
    const character = text[at] ?? ''
    const isAlphanumeric =
      (character >= 'a' && character <= 'z') ||
      (character >= 'A' && character <= 'Z') ||
      (character >= '0' && character <= '9')
    if (!isAlphanumeric && (at === 0 || !'_.-'.includes(character))) return false
  }
  return text !== ''
}

export function checkContainerId(value: string): void {
  if (value === '') throw new CniError(code.unknownContainer, 'missing containerID')
  if (!isName(value)) {
    throw new CniError(code.invalidEnvironment, 'invalid characters in containerID', { details: value })
  }
}

export function checkNetworkName(value: string): void {
  if (value === '') throw new CniError(code.invalidConfiguration, 'missing network name')
  if (!isName(value)) {
    throw new CniError(code.invalidConfiguration, 'invalid characters found in network name', {
      details: value,
    })
  }
}

const NAME_BYTES = 15 // IFNAMSIZ without the terminating zero

function isPrintableAscii(text: string): boolean {
  for (let at = 0; at < text.length; at++) {
    const number = text.charCodeAt(at)
    if (number <= 0x20 || number >= 0x7f) return false
  }
  return true
}

export function checkInterfaceName(value: string): void {
  const refuse = (message: string, details?: string) => {
    throw new CniError(code.invalidEnvironment, message, { details })
  }
  if (value === '') refuse('interface name is empty')
  const isPlain = isPrintableAscii(value)
  if ((isPlain ? value : new TextEncoder().encode(value)).length > NAME_BYTES) {
    refuse(
      'interface name is too long',
      `interface name should be less than ${NAME_BYTES + 1} characters: ${value}`,
    )
  }
  if (value === '.' || value === '..') refuse('interface name is . or ..')
  const invalid = value.includes('/') ? '/' : value.includes(':') ? ':' : ''
  if (invalid)
    refuse(
      'interface name contains / or : or whitespace characters',
      `Interface name (${value}) contains an invalid character ${invalid}`,
    )
  // what Go's unicode.IsSpace takes for it: \s has U+FEFF in addition, and lacks U+0085
  if (!isPlain && /\p{White_Space}/u.test(value))
    refuse('interface name contains / or : or whitespace characters', JSON.stringify(value))
}

/**
 * Reads CNI_ARGS ("K=V;K=V"). Only `known` keys come back; others are an error unless IgnoreUnknown says otherwise.
 * Of a repeated key the last one counts.
 */
export function parseArguments<const Key extends string>(
  args: string,
  known: readonly Key[],
): Partial<Record<Key, string>> {
  const found: Partial<Record<Key, string>> = {}
  const unknown: string[] = []
  let ignoreUnknown = false
  if (args === '') return found
  for (const pair of args.split(';')) {
    const [key, value, ...more] = pair.split('=')
    if (key === undefined || value === undefined || more.length > 0) {
      throw new CniError(code.internal, `CNI_ARGS: invalid pair ${JSON.stringify(pair)}`, { details: args })
    }
    if (key === 'IgnoreUnknown') ignoreUnknown = parseBoolean(value)
    else if ((known as readonly string[]).includes(key)) found[key as Key] = value
    else unknown.push(pair)
  }
  if (unknown.length > 0 && !ignoreUnknown) {
    throw new CniError(code.internal, `CNI_ARGS: unknown args ${JSON.stringify(unknown)}`, {
      details: 'IgnoreUnknown=1 in CNI_ARGS makes plugins pass over keys that they do not know',
    })
  }
  return found
}

function parseBoolean(value: string): boolean {
  if (/^(1|true)$/i.test(value)) return true
  if (/^(0|false)$/i.test(value)) return false
  throw new CniError(
    code.internal,
    `CNI_ARGS: error parsing value of pair "IgnoreUnknown=${value}": boolean unmarshal error: invalid input ${value}, must be 1, 0, true or false`,
  )
}
