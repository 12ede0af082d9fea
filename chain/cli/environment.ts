/** What the command takes from environment and flags: cnitool's variables, and the same as options. */
import { resolve } from 'node:path'
import { isObject } from '../protocol/configuration.ts'
import { CniError, code } from '../protocol/error.ts'

export interface Settings {
  /** NETCONFPATH: the folder of network configurations. */
  configurations: string
  /** CNI_PATH, split. */
  path: string[]
  /** CAP_ARGS; undefined when it says nothing, so that CHECK and DEL use what ADD was given. */
  capabilityArgs: Record<string, unknown> | undefined
  /** CNI_ARGS; undefined as above. */
  args: [string, string][] | undefined
  ifname: string
}

export interface Flags {
  conf?: string
  path?: string
  capArgs?: string
  args?: string
  ifname?: string
}

const DEFAULT_CONFIGURATIONS = '/etc/cni/net.d'
const DEFAULT_PATH = '/opt/cni/bin'

/** A flag beats its variable. Without CNI_PATH plugins are looked for beside the command itself, then in /opt/cni/bin. */
export function readSettings(flags: Flags, env: Readonly<Record<string, string | undefined>>): Settings {
  const beside = process.execPath.slice(0, process.execPath.lastIndexOf('/'))
  return {
    configurations: flags.conf || env.NETCONFPATH || DEFAULT_CONFIGURATIONS,
    path: (flags.path || env.CNI_PATH || `${beside}:${DEFAULT_PATH}`).split(':').filter(Boolean),
    capabilityArgs: parseCapabilityArgs(flags.capArgs || env.CAP_ARGS || ''),
    args: parsePairs(flags.args || env.CNI_ARGS || ''),
    ifname: flags.ifname || env.CNI_IFNAME || 'eth0',
  }
}

function parseCapabilityArgs(text: string): Settings['capabilityArgs'] {
  if (text === '') return undefined
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (thrown) {
    const details = String(thrown).replace(/^SyntaxError: /, '')
    throw new CniError(code.invalidEnvironment, 'CAP_ARGS: must be JSON', { details, cause: thrown })
  }
  if (isObject(json)) return json as Record<string, unknown>
  throw new CniError(code.invalidEnvironment, `CAP_ARGS: must be a JSON object: got ${text}`)
}

function parsePairs(text: string): Settings['args'] {
  if (text === '') return undefined
  return text.split(';').map(pair => {
    const [key, value, ...more] = pair.split('=')
    if (key && value && more.length === 0) return [key, value]
    throw new CniError(code.invalidEnvironment, `CNI_ARGS: invalid pair ${JSON.stringify(pair)}`, {
      details: 'pairs are KEY=VALUE, between semicolons',
    })
  })
}

const NAMED = '/run/netns'

/**
 * The path of a namespace: what has a slash is a path, made absolute and plain as cnitool does; a bare name is one under
 * /run/netns, whatever lies in the current folder.
 */
export function namespacePath(given: string, folder: string): string {
  if (given === '') return ''
  return given.includes('/') ? resolve(folder, given) : `${NAMED}/${given}`
}

/** cnitool's container ID: "cnitool-" and the first 10 bytes of the SHA-512 of the namespace's path. */
export function containerIdFor(netns: string): string {
  return `cnitool-${new Bun.CryptoHasher('sha512').update(netns).digest('hex').slice(0, 20)}`
}
