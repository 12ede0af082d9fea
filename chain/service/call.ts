/** One call of a plugin, done for a caller in another process: with his input, output, folder and environment, until he goes. */

import type { Builtins } from '../invoke/invoke.ts'
import { decodeText, encodeText } from '../linux/bytes.ts'
import { useChildEnvironment } from '../linux/child-environment.ts'
import { openEventSocket } from '../linux/event-socket.ts'
import { errno, SystemError } from '../linux/libc/errno.ts'
import {
  close,
  duplicate,
  POLLHUP,
  POLLIN,
  POLLOUT,
  readInto,
  waitFor,
  writeAll,
} from '../linux/libc/file.ts'
import { changeFolder, setFileMask } from '../linux/libc/process.ts'
import { runWatched } from '../linux/watched.ts'
import type { Plugin } from '../plugin/define.ts'
import type { Io } from '../plugin/io.ts'
import { run } from '../plugin/run.ts'
import type { Caller } from './caller.ts'
import type { Hello } from './protocol.ts'

export interface ServedCall {
  plugin: Plugin
  hello: Hello
  caller: Pick<Caller, 'folder' | 'pid' | 'parent'>
  connection: number
  /** Standard input, output and error; closed with the call. */
  descriptors: readonly number[]
  builtins: Builtins
}

/** Milliseconds that another plugin gets to take back what was done for a caller who has gone, and so will not end it. */
const LAST_PATIENCE = 60_000

/**
 * Does a call and answers its exit status, undefined where it is not waited for any more; and whether it has started a program.
 * Leaves the process as it was, but for the folder that it is in.
 */
export async function perform(call: ServedCall): Promise<{ status: 0 | 1 | undefined; hasStarted: boolean }> {
  using line = lineTo(call)
  const { hello, caller } = call
  changeFolder(`${caller.folder}/cwd`)
  const mask = setFileMask(hello.umask)
  const environment = { ...hello.environment, CATENA_WARM: 'nested' } // what it starts in turn is not to wait for a worker as well
  let hasStarted = false
  using _children = useChildEnvironment({
    environment,
    process: caller,
    run(program) {
      hasStarted = true
      return runWatched(program, line.isGone() ? undefined : call.connection)
    },
  })
  try {
    const status = await run(call.plugin, { ...line.io, env: environment, builtins: call.builtins })
    return { status: line.isGone() ? undefined : status, hasStarted }
  } finally {
    setFileMask(mask)
  }
}

/** What connects a call with its caller: input, output, and whether he is still there. */
function lineTo({ connection, descriptors }: ServedCall) {
  const [input = -1, output = -1, log = -1] = descriptors
  let gone = false
  let open = true
  const shut = () => {
    if (open) for (const descriptor of descriptors) close(descriptor)
    open = false
  }
  /** Takes note of what has happened at the connection. */
  const heed = (events = 0) => {
    if (gone || (events & POLLHUP) === 0) return gone
    gone = true
    shut() // whoever reads what he printed waits for its end
    return true
  }
  const isGone = () => gone || heed(look(connection))
  /** Waits until a descriptor is ready, or the caller has gone. */
  const ready = (descriptor: number, event: number) => {
    if (gone) return false
    const [, events] = waitFor(
      [
        [descriptor, event],
        [connection, 0],
      ],
      -1,
    )
    return !heed(events)
  }
  const write = (descriptor: number, text: string, what: string) => {
    const bytes = encodeText(text)
    for (let at = 0; at < bytes.length; at += ALWAYS_TAKEN) {
      if (!ready(descriptor, POLLOUT)) throw new SystemError(`write ${what}`, errno.EPIPE)
      writeAll(descriptor, bytes.subarray(at, at + ALWAYS_TAKEN), what)
    }
  }
  const io: Omit<Io, 'env'> = {
    stdin: () => readInput(input, () => ready(input, POLLIN)),
    stdout: text => write(output, text, 'standard output'),
    stderr: text => {
      if (!isGone()) write(log, text, 'standard error')
    },
    isAbandoned: isGone,
    untilAbandoned: body => untilGone(connection, isGone, body),
  }
  return { io, isGone, [Symbol.dispose]: shut }
}

/** What has happened at a connection. A look that the kernel refuses, for want of memory, is no departure. */
function look(connection: number): number {
  try {
    return waitFor([[connection, 0]], 0)[0] ?? 0
  } catch (thrown) {
    if (thrown instanceof SystemError) return 0
    throw thrown
  }
}

/** PIPE_BUF: a pipe that can be written to takes as much without waiting. */
const ALWAYS_TAKEN = 4096

/** Reads to the end, for as long as somebody waits for what comes of it. */
function readInput(descriptor: number, isReady: () => boolean): string {
  let buffer = new Uint8Array(16_384)
  let filled = 0
  for (;;) {
    if (!isReady()) throw new SystemError('read standard input', errno.EPIPE)
    const length = readInto(descriptor, buffer.subarray(filled), 'standard input')
    if (length === 0) return decodeText(buffer.subarray(0, filled))
    filled += length
    if (filled < buffer.length) continue
    const larger = new Uint8Array(4 * filled)
    larger.set(buffer)
    buffer = larger
  }
}

/** Runs a body with a signal that comes when the caller goes; once he has gone, what is left to do has its time. */
async function untilGone<T>(
  connection: number,
  isGone: () => boolean,
  body: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  if (isGone()) return body(AbortSignal.timeout(LAST_PATIENCE))
  const controller = new AbortController()
  const abort = () => {
    if (isGone()) controller.abort(new Error('whoever called has gone'))
  }
  const events = openEventSocket(duplicate(connection), { received: abort, failed: abort })
  try {
    return await body(controller.signal)
  } finally {
    events.close()
  }
}
