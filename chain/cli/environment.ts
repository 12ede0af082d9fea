/** What the command takes from environment and flags: cnitool's variables, and the same as options. */
import { status } from '../linux/libc.ts'
import { CniError, code } from '../protocol/error.ts'

export interface Settings {
  /** NETCONFPATH: the folder of network configurations. */
  configurations: string
  /** CNI_PATH, split. */
  path: string[]
  capabilityArgs: Record<string, unknown>
  args: [string, string][]
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

function parseCapabilityArgs(text: string): Record<string, unknown> {
  if (text === '') return {}
  try {
    const json: unknown = JSON.parse(text)
    if (typeof json === 'object' && json !== null && !Array.isArray(json))
      return json as Record<string, unknown>
  } catch (thrown) {
    throw new CniError(code.invalidEnvironment, 'CAP_ARGS: must be JSON', {
      details: String(thrown),
      cause: thrown,
    })
  }
  throw new CniError(code.invalidEnvironment, `CAP_ARGS: must be a JSON object: got ${text}`)
}

function parsePairs(text: string): [string, string][] {
  if (text === '') return []
  return text.split(';').map(pair => {
    const [key, value, ...more] = pair.split('=')
    if (key && value && more.length === 0) return [key, value]
    throw new CniError(code.invalidEnvironment, `CNI_ARGS: invalid pair ${JSON.stringify(pair)}`, {
      details: 'pairs are KEY=VALUE, between semicolons',
    })
  })
}

const NAMED = '/run/netns'

/** A namespace is a path, or a name under /run/netns; the path is made absolute, as cnitool does. */
export function namespacePath(given: string, folder: string): string {
  if (given.startsWith('/')) return given
  if (!given.includes('/') && status(`${folder}/${given}`) === undefined) return `${NAMED}/${given}`
  return `${folder}/${given}`
}

/** cnitool's container ID: "cnitool-" and the first 10 bytes of the SHA-512 of the namespace's path. */
export function containerIdFor(netns: string): string {
  return `cnitool-${new Bun.CryptoHasher('sha512').update(netns).digest('hex').slice(0, 20)}`
}
