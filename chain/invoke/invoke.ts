/**
 * Finds a plugin by its type and runs it: this very executable in process, any other file as a process. Both give the
 * same answer. Used by plugins that delegate and by the runtime; knows no plugin itself.
 */

import { asGiven } from '../linux/child-environment.ts'
import { kill } from '../linux/libc/process.ts'
import { status as fileStatus } from '../linux/libc/status.ts'
import { now, observer } from '../linux/observer.ts'
import { CniError, code } from '../protocol/error.ts'

/** What came of a call. */
export interface Answer {
  /** Exit status; 128 + signal when a signal ended it. */
  status: number
  stdout: string
  stderr: string
  /** The signal that ended the process: "SIGKILL". */
  signal?: string
  /** True when the time given was over. */
  timedOut?: boolean
  /** What has done it, where that is no process of the plugin's own. */
  by?: 'service' | 'this process'
}

export interface Call {
  /** The executable, as `findPlugin` gave it. */
  file: string
  /** The type that it was found by: the name under which it runs. */
  type: string
  environment: Readonly<Record<string, string>>
  stdin: string
  signal?: AbortSignal | undefined
  /** Milliseconds after which the plugin is killed with its process group, which is its own then. */
  timeout?: number | undefined
}

/** Plugins that the running executable holds. */
export interface Builtins {
  /** Path of the executable that they are compiled into. */
  executable: string
  /** Runs one of them as its process would run; undefined when there is none of that name. */
  run(type: string, environment: Readonly<Record<string, string>>, stdin: string): Promise<Answer> | undefined
}

/** The file for a plugin type, as the specification says: the first regular file of that name over CNI_PATH. */
export function findPlugin(type: string, path: readonly string[]): string {
  if (type === '') throw new CniError(code.internal, 'no plugin name provided')
  if (type.includes('/')) throw new CniError(code.internal, `invalid plugin name: ${type}`)
  if (path.length === 0) throw new CniError(code.internal, 'no paths provided')
  for (const folder of path) {
    const file = `${folder}/${type}`
    const found = fileStatus(file)
    if (found && (found.mode & 0o170000) === 0o100000) return file // S_IFMT, S_IFREG
  }
  throw new CniError(code.internal, `failed to find plugin "${type}" in path [${path.join(' ')}]`, {
    details: 'install the plugin there, or correct the type in the network configuration',
  })
}

/** True when two paths name the same file: same device, same inode. */
export function isSameFile(one: string, other: string): boolean {
  const first = fileStatus(one)
  const second = fileStatus(other)
  return (
    first !== undefined &&
    second !== undefined &&
    first.device === second.device &&
    first.inode === second.inode
  )
}

/** Runs a plugin to its end. */
export async function invoke(call: Call, builtins?: Builtins): Promise<Answer> {
  if (builtins && isSameFile(call.file, builtins.executable)) {
    const answer = builtins.run(call.type, call.environment, call.stdin)
    if (answer) return observed(call, answer)
  }
  return observed(call, runProcess(call))
}

/** Whoever watches is told of a plugin when it has ended. */
async function observed(
  { type, environment: { CNI_COMMAND } }: Call,
  running: Promise<Answer>,
): Promise<Answer> {
  if (!observer) return running
  const began = now()
  const answer = await running
  observer?.({
    of: 'plugin',
    operations: [`plugin ${type} ${CNI_COMMAND}`],
    changes: CNI_COMMAND === 'ADD' || CNI_COMMAND === 'DEL' || CNI_COMMAND === 'GC',
    began,
    ended: performance.now(),
    refusal: answer.status === 0 ? undefined : answer.stdout,
  })
  return answer
}

const TEXT_BUSY_ATTEMPTS = 6 // as libcni: ETXTBSY means that the file is being replaced
const TEXT_BUSY_PAUSE = 1000 // milliseconds
const SIGKILL = 9

/** Bytes: a thousand times what results and errors have. */
const MOST_OUTPUT = 16 << 20
/** Milliseconds that what a plugin has printed may take to arrive once it has ended. */
const PIPE_PATIENCE = 500

async function runProcess(call: Call): Promise<Answer> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await runOnce(call)
    } catch (thrown) {
      if (call.signal?.aborted) throw thrown // the caller's own reason, as the caller gave it
      if (!isTextBusy(thrown)) throw notStarted(call, thrown)
      if (attempt === TEXT_BUSY_ATTEMPTS) throw notStarted(call, thrown)
      await Bun.sleep(TEXT_BUSY_PAUSE)
    }
  }
}

function isTextBusy(thrown: unknown): boolean {
  return thrown instanceof Error && 'code' in thrown && thrown.code === 'ETXTBSY'
}

function notStarted({ file }: Call, thrown: unknown): CniError {
  if (thrown instanceof CniError) return thrown
  return new CniError(code.internal, `cannot start plugin ${file}`, {
    details: thrown instanceof Error ? thrown.message : String(thrown),
    cause: thrown,
  })
}

/**
 * Where the caller may end the process, it leads a group of its own, so that all that it started ends too. Elsewhere it stays in the
 * caller's, for whoever ends that one.
 */
async function runOnce({ file, environment, stdin, signal, timeout }: Call): Promise<Answer> {
  signal?.throwIfAborted()
  const isEnded = signal !== undefined || timeout !== undefined
  const child = Bun.spawn([file], {
    env: asGiven(environment),
    stdin: Buffer.from(stdin),
    stdout: 'pipe',
    stderr: 'pipe',
    detached: isEnded,
  })
  let timedOut = false
  let said = ''
  let isKilled = false
  const endGroup = () => {
    isKilled = true
    kill(isEnded ? -child.pid : child.pid, SIGKILL)
  }
  const printsTooMuch = () => {
    said = `ended, for it has printed more than ${MOST_OUTPUT >> 20} MiB\n`
    endGroup()
  }
  const output = [drain(child.stdout, printsTooMuch), drain(child.stderr)] as const
  // what it has started may keep the pipes open for ever: that is not waited for
  const stop = () => output.forEach(each => void each.stop())
  let afterwards: Timer | undefined
  child.exited.then(() => {
    afterwards = setTimeout(stop, isKilled ? 0 : PIPE_PATIENCE)
  })
  const overdue = () => {
    timedOut = true
    endGroup()
  }
  const timer = timeout === undefined ? undefined : setTimeout(overdue, timeout)
  signal?.addEventListener('abort', endGroup, { once: true })
  try {
    const [stdout, stderr, status] = await Promise.all([output[0].text, output[1].text, child.exited])
    signal?.throwIfAborted()
    const ended = child.signalCode?.toString()
    const printed = said ? { stdout: '', stderr: stderr + said } : { stdout, stderr }
    return { status, ...printed, ...(ended ? { signal: ended } : {}), ...(timedOut ? { timedOut } : {}) }
  } finally {
    clearTimeout(timer)
    clearTimeout(afterwards)
    signal?.removeEventListener('abort', endGroup)
  }
}

/**
 * Reads a stream to its end, or until told to stop; then `text` is what has come so far. What is more than anybody needs is let
 * pass, and told of.
 */
function drain(
  stream: ReadableStream<Uint8Array>,
  exceeded = () => {},
): { text: Promise<string>; stop(): Promise<void> } {
  const reader = stream.getReader()
  const parts: Uint8Array[] = []
  let room = MOST_OUTPUT
  const readOn = async () => {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      if (room >= 0) parts.push(part.value)
      if (room >= 0 && room < part.value.length) exceeded()
      room -= part.value.length
    }
    return Buffer.concat(parts).toString()
  }
  return { text: readOn(), stop: () => reader.cancel() }
}
