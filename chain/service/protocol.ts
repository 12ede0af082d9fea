/**
 * What callers and the service say to one another, as bytes. A caller is the loader of this executable (tools/static), which knows
 * nothing of this file: a change of a message's meaning takes a new version. Each message is one packet.
 *
 *   → hello    who is called, umask, environment      ← taken    the service will do it; the connection's end: it will not
 *   → go       with standard input, output and error  ← status   the exit status, after all output
 */
import { decodeText, encodeText } from '../linux/bytes.ts'

/** Where the service listens. Known to the loader too. */
export const SOCKET = '/run/catena/warm.sock'

export const VERSION = 1

/** In the place of the version: not a call, but a question for the service's status. */
export const STATUS = 0x74617473 // "stat"

export const TAKEN = encodeText('A')
export const GO = encodeText('G')

/** Callers say no more than this; what is longer is cut off, and not served. */
export const LONGEST_HELLO = 131_072

/** Milliseconds that a caller gives the service to take the call, before it does it itself. */
export const CALLERS_PATIENCE = 100

export interface Hello {
  /** The name that the caller was started by: a plugin's type, mostly. */
  name: string
  /** Permissions that its new files do not get. */
  umask: number
  environment: Readonly<Record<string, string>>
}

const HEAD = 8 // version, umask

/** Reads a hello; 'status' where the service is asked about itself, undefined for what is neither. */
export function readHello(bytes: Uint8Array): Hello | 'status' | undefined {
  if (bytes.length < 4) return undefined
  const version = wordAt(bytes, 0)
  if (version === STATUS) return 'status'
  if (version !== VERSION || bytes.length < HEAD + 2 || bytes[bytes.length - 1] !== 0) return undefined
  const texts = decodeText(bytes.subarray(HEAD, -1)).split('\0')
  return { name: texts[0] ?? '', umask: wordAt(bytes, 4) & 0o777, environment: environmentOf(texts) }
}

/** By hand: a DataView costs as much to make as all variables to read. */
function wordAt(bytes: Uint8Array, at: number): number {
  const byte = (index: number) => bytes[at + index] ?? 0
  return (byte(0) | (byte(1) << 8) | (byte(2) << 16) | (byte(3) << 24)) >>> 0
}

/** An environment by its variables, the first of which is a name of something else. */
interface Read {
  texts: readonly string[]
  /** The names in front of the texts, undefined where one does not count. */
  names: readonly (string | undefined)[]
  environment: Readonly<Record<string, string>>
}

/** The last one that was read: a runtime's is the same from call to call but for a few values. What it becomes depends on nothing else. */
let last: Read = { texts: [], names: [], environment: {} }

function environmentOf(texts: readonly string[]): Hello['environment'] {
  last = readLike(last, texts) ?? readAnew(texts)
  return last.environment
}

/** Of two variables of one name the first counts, as for getenv(3). */
function readAnew(texts: readonly string[]): Read {
  const environment: Record<string, string> = {}
  const names = texts.map((variable, index) => {
    const at = variable.indexOf('=')
    const name = variable.slice(0, at)
    if (index === 0 || at <= 0 || environment[name] !== undefined) return undefined
    environment[name] = variable.slice(at + 1)
    return name
  })
  return { texts, names, environment }
}

/** Variables of the same names in the same order as others: what does not differ is not read again. */
function readLike(
  { texts: known, names, environment: same }: Read,
  texts: readonly string[],
): Read | undefined {
  if (texts.length !== known.length) return undefined
  const environment = { ...same }
  for (let index = 1; index < texts.length; index++) {
    const variable = texts[index] ?? ''
    if (variable === known[index]) continue
    const name = names[index]
    if (name === undefined || variable[name.length] !== '=' || !variable.startsWith(name)) return undefined
    environment[name] = variable.slice(name.length + 1)
  }
  return { texts, names, environment }
}

export function writeHello({ name, umask, environment }: Hello): Uint8Array {
  const variables = Object.entries(environment).map(([key, value]) => `${key}=${value}\0`)
  const text = encodeText(`${name}\0${variables.join('')}`)
  const bytes = new Uint8Array(HEAD + text.length)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, VERSION, true)
  view.setUint32(4, umask, true)
  bytes.set(text, HEAD)
  return bytes
}

export function askForStatus(): Uint8Array {
  return new Uint8Array(Uint32Array.of(STATUS).buffer)
}
