/** Runs other plugins on behalf of one: IPAM, and flannel's delegate. They get this request's environment and, unless told otherwise, its standard input. */
import { failureOf, printedError } from '../invoke/failure.ts'
import { type Answer, type Call, findPlugin, invoke, isSameFile } from '../invoke/invoke.ts'
import { CniError, code } from '../protocol/error.ts'
import { parseResult, type Result } from '../protocol/result.ts'
import type { Io } from './io.ts'

export type DelegateVerb = 'ADD' | 'CHECK' | 'DEL' | 'STATUS' | 'GC'

/** Told when a plugin's ADD has succeeded, before its result is read, which may fail; or has ended without a word. */
export type Added = (how: 'succeeded' | 'unknown') => void

/** Runs the plugin of a type with a verb. `configuration` replaces standard input. */
export interface Delegate {
  add(type: string, configuration?: unknown, added?: Added): Promise<Result>
  check(type: string, configuration?: unknown): Promise<void>
  del(type: string, configuration?: unknown): Promise<void>
  status(type: string, configuration?: unknown): Promise<void>
  gc(type: string, configuration?: unknown): Promise<void>
  /** True for a plugin of this executable: one whose failed ADD leaves nothing behind. Throws when there is none of the type. */
  isOurs(type: string): boolean
}

/** A delegate bound to a request. */
export function delegateFor(options: {
  io: Io
  path: string[]
  stdin: string
  cniVersion: string
}): Delegate {
  const { cniVersion } = options
  const silent = (verb: DelegateVerb) => async (type: string, configuration?: unknown) => {
    await runDelegate(options, { verb, type, configuration })
  }
  return {
    add: async (type, configuration, added) => {
      const output = await runDelegate(options, { verb: 'ADD', type, configuration, added })
      return parseDelegateResult(output, type, cniVersion)
    },
    check: silent('CHECK'),
    del: silent('DEL'),
    status: silent('STATUS'),
    gc: silent('GC'),
    isOurs: type => {
      const file = findPlugin(type, options.path)
      const executable = options.io.builtins?.executable
      return executable !== undefined && isSameFile(file, executable)
    },
  }
}

async function runDelegate(
  { io, path, stdin }: { io: Io; path: string[]; stdin: string },
  given: { verb: DelegateVerb; type: string; configuration: unknown; added?: Added | undefined },
): Promise<string> {
  const { verb, type, configuration, added } = given
  const environment: Record<string, string> = {}
  for (const [key, value] of Object.entries(io.env)) if (value !== undefined) environment[key] = value
  environment.CNI_COMMAND = verb
  const call = {
    file: findPlugin(type, path),
    type,
    environment,
    stdin: configuration === undefined ? stdin : JSON.stringify(configuration),
  }
  const answer = await invokeFor(io, call, added)
  if (answer.status === 0) {
    added?.('succeeded')
    if (answer.stderr) io.stderr(answer.stderr)
    return answer.stdout
  }
  // One that was ended, say, has not said how far it had got: only a plugin that answers has undone what it did.
  const printed = printedError(answer.stdout)
  if (printed) throw printed
  added?.('unknown')
  const { code: number, message, details } = failureOf(answer)
  throw new CniError(number, `plugin ${type}: ${message}`, { details })
}

/** Where the caller goes meanwhile, the plugin is ended: as one that ends without a word. */
function invokeFor(io: Io, call: Call, added: Added | undefined): Promise<Answer> {
  if (!io.untilAbandoned) return invoke(call, io.builtins)
  return io.untilAbandoned(async signal => {
    try {
      return await invoke({ ...call, signal }, io.builtins)
    } catch (thrown) {
      if (signal.aborted) added?.('unknown')
      throw thrown
    }
  })
}

function parseDelegateResult(stdout: string, type: string, cniVersion: string): Result {
  let json: unknown
  try {
    json = JSON.parse(stdout)
  } catch (thrown) {
    throw new CniError(code.decoding, `result of plugin ${type} is not JSON`, {
      details: stdout.slice(0, 200),
      cause: thrown,
    })
  }
  return parseResult(json, cniVersion, `result of plugin ${type}`)
}
