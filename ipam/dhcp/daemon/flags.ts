/** The daemon's command line, in the syntax of Go's flag package. Pure. */

import { defaultTiming, type Timing } from '../engine/timing.ts'
import { DEFAULT_SOCKET } from './state.ts'

export interface Options {
  /** Where to write the process's number; nowhere when empty. */
  pidFile: string
  /** Stands before the socket's path and before every namespace's: where the host's files are, for a daemon in a container. */
  hostPrefix: string
  socketPath: string
  /** Servers are asked to broadcast their replies. */
  broadcast: boolean
  timing: Timing
}

/** A command line that cannot be understood. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'UsageError'
  }
}

type Flag = { help: string } & (
  | { kind: 'text'; set(options: Options, value: string): void }
  | { kind: 'switch'; set(options: Options, value: boolean): void }
  | { kind: 'duration'; set(options: Options, value: number): void }
)

const duration = (key: keyof Timing, help: string): Flag => ({
  kind: 'duration',
  help,
  set({ timing }, value) {
    timing[key] = value
  },
})

const flags: Readonly<Record<string, Flag>> = {
  pidfile: {
    kind: 'text',
    help: 'absolute path for a file with the process number',
    set: (options, value) => {
      if (value !== '' && !value.startsWith('/'))
        throw new UsageError(`-pidfile: must be absolute: got ${value}`)
      options.pidFile = value
    },
  },
  hostprefix: {
    kind: 'text',
    help: 'stands before the paths of socket and namespaces',
    set: (options, value) => {
      options.hostPrefix = value
    },
  },
  socketpath: {
    kind: 'text',
    help: `where plugins find the daemon (default ${DEFAULT_SOCKET})`,
    set: (options, value) => {
      options.socketPath = value || DEFAULT_SOCKET
    },
  },
  broadcast: {
    kind: 'switch',
    help: 'have servers broadcast their replies',
    set: (options, value) => {
      options.broadcast = value
    },
  },
  timeout: duration('timeout', 'wait for the first answer (default 10s)'),
  resendmax: duration('resendMax', 'longest pause between tries (default 62s)'),
  resendtimeout: duration('resendTimeout', 'end of all tries (default 208s)'),
  probe: duration('probe', 'wait for others that have the address; 0 does not ask (default 200ms)'),
}

/** Every flag with what it is for, a line each. */
export function usage(): string {
  const lines = Object.entries(flags).map(
    ([name, { kind, help }]) => `  -${name}${kind === 'switch' ? '' : ` ${kind}`}\n    \t${help}`,
  )
  return `Usage of dhcp daemon:\n${lines.join('\n')}\n`
}

/** Reads what stands after `daemon` up to one that is no flag. One hyphen or two; a value after "=" or as the next arg. */
export function parseFlags(args: readonly string[]): Options {
  const options: Options = {
    pidFile: '',
    hostPrefix: '',
    socketPath: DEFAULT_SOCKET,
    broadcast: false,
    timing: { ...defaultTiming },
  }
  const rest = [...args]
  for (let arg = rest.shift(); arg?.startsWith('-') && arg !== '-' && arg !== '--'; arg = rest.shift()) {
    const [, name = '', given] = /^--?([a-z]+)(?:=(.*))?$/s.exec(arg) ?? []
    const flag = flags[name]
    if (!flag) throw new UsageError(`flag provided but not defined: ${arg}`)
    if (flag.kind === 'switch') flag.set(options, parseSwitch(name, given ?? 'true'))
    else setValue(options, name, given ?? rest.shift())
  }
  return options
}

function setValue(options: Options, name: string, value: string | undefined): void {
  const flag = flags[name]
  if (value === undefined) throw new UsageError(`flag needs an argument: -${name}`)
  if (flag?.kind === 'text') flag.set(options, value)
  if (flag?.kind === 'duration') flag.set(options, parseDuration(name, value))
}

function parseSwitch(name: string, value: string): boolean {
  if (/^(1|t|true)$/i.test(value)) return true
  if (/^(0|f|false)$/i.test(value)) return false
  throw new UsageError(`-${name}: must be true or false: got ${value}`)
}

const units: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
}

/** A duration in Go's syntax ("1m30s") in milliseconds. */
export function parseDuration(name: string, value: string): number {
  const parts = [...value.matchAll(/(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)/g)]
  const whole = parts.map(([part]) => part).join('')
  if (value === '0') return 0
  if (parts.length === 0 || whole !== value) {
    throw new UsageError(`-${name}: must be a duration such as 10s or 1m30s: got ${value}`)
  }
  return parts.reduce((sum, [, number, unit = 's']) => sum + Number(number) * (units[unit] ?? 0), 0)
}
