/**
 * A worker: waits for callers at the service's socket and does their calls, one after the other. Waiting blocks the whole process; the
 * kernel wakes one worker for each caller, and always the first that waits.
 */
import type { Builtins } from '../invoke/invoke.ts'
import { encodeText } from '../linux/bytes.ts'
import { dropKept } from '../linux/child-environment.ts'
import { readFile } from '../linux/files.ts'
import { errno, isErrno } from '../linux/libc/errno.ts'
import { close, O_DIRECTORY, O_RDONLY, open, writeAll } from '../linux/libc/file.ts'
import { enterFolder, parentProcess, signalAtParentsEnd } from '../linux/libc/process.ts'
import { limitReceiving } from '../linux/libc/socket.ts'
import { awaitTurn, takePlace } from '../linux/libc/turn.ts'
import { accept, messageAtHand, peerOf, receiveMessage, sendMessage } from '../linux/libc/unix-socket.ts'
import { finishRemovals, leaveRemovals } from '../linux/netlink/removal.ts'
import { ownNamespaceIdentity } from '../linux/netns.ts'
import { onStranded } from '../linux/stranded.ts'
import { isTaken } from '../plugin/alone.ts'
import type { Plugin } from '../plugin/define.ts'
import { strandedError } from '../plugin/run.ts'
import { errorDocument } from '../protocol/error.ts'
import { printError } from '../protocol/result.ts'
import { perform } from './call.ts'
import { type Identity, identityIn, isOfOneProcess, judge } from './caller.ts'
import { GO, type Hello, LONGEST_HELLO, readHello, TAKEN } from './protocol.ts'
import { openScoreboard, type Refusal, type Scoreboard } from './scoreboard.ts'
import { statusDocument } from './status.ts'

/** The plugins of this executable, as the service is handed them. */
export interface Served {
  names: readonly string[]
  /** Asked at every call. */
  load(name: string): Promise<Plugin> | undefined
  builtins: Builtins
}

export interface WorkerOptions {
  /** Its line in the scoreboard. */
  slot: number
  /** Calls after which it makes room for a fresh one. */
  calls: number
  /** Megabytes of its own memory after which it does. */
  memory: number
  /** Seconds that it waits for a caller before it tidies up, or ends where there are more workers than there need to be. */
  rest: number
  /** Workers that stay. */
  workers: number
}

/** What a worker inherits. */
export const descriptors = { listener: 3, scoreboard: 4 } as const

/** Why a worker ends: its exit status. */
export const endings = { idle: 0, ending: 0, failed: 1, lost: 70, renewed: 71 } as const

/** What a worker tells its supervisor, a byte each on standard output. */
export const notes = { allBusy: '+', replaced: 'x' } as const

interface Worker {
  options: WorkerOptions
  served: Served
  scoreboard: Scoreboard
  identity: Identity
  /** Standard error. */
  log(line: string): void
  /** The folder in which it waits. */
  home: number
  buffer: Uint8Array
  supervisor: number
  /** Whether the last call has started a program. */
  hasStarted: boolean
}

const SIGTERM = 15

/** Serves until there is a reason to end; answers the exit status. */
export async function work(
  options: WorkerOptions,
  served: Served,
  log: (line: string) => void,
): Promise<number> {
  const worker: Worker = {
    options,
    served,
    log,
    scoreboard: openScoreboard(descriptors.scoreboard, served.names),
    identity: identityIn('/proc/thread-self'),
    home: open('/', O_RDONLY | O_DIRECTORY),
    buffer: new Uint8Array(LONGEST_HELLO),
    supervisor: parentProcess(),
    hasStarted: false,
  }
  Bun.unsafe.setJITPolicy(1) // what is run again and again is worth compiling: the executable is made for what runs once
  signalAtParentsEnd(SIGTERM) // which interrupts the wait for callers, and does nothing else
  worker.scoreboard.enter(options.slot, Number(/^\d+/.exec(readFile('/proc/self/stat') ?? '')?.[0]))
  leaveRemovals(({ message }) => log(`<4>${message}, after its caller had been answered`))
  try {
    return await serveCalls(worker)
  } finally {
    finishRemovals('all')
  }
}

/** Serves one caller after the other; answers why no more of them. */
async function serveCalls(worker: Worker): Promise<number> {
  const { options } = worker
  const ownNamespace = ownNamespaceIdentity()
  const place = takePlace(descriptors.listener)
  for (let calls = 0, callers = 1; ; callers++) {
    if (worker.scoreboard.isEnding() || parentProcess() !== worker.supervisor) return endings.ending
    const came = awaitTurn(place, options.rest)
    if (came === 'nobody' && mayEnd(worker)) return endings.idle
    const connection = came === 'somebody' ? accept(descriptors.listener) : undefined
    if (connection === undefined) continue
    if (await attend(worker, connection)) calls++
    finishRemovals()
    if (worker.hasStarted || callers % TIDIED_EVERY === 0) await untilTimersHaveRun()
    worker.hasStarted = false
    if (ownNamespaceIdentity() !== ownNamespace) return endings.lost
    if (calls >= options.calls || (callers % TIDIED_EVERY === 0 && isLarge(worker))) return endings.renewed
  }
}

const TIDIED_EVERY = 16

/** And until programs that were started have been reaped. */
const untilTimersHaveRun = () => new Promise(done => setImmediate(done))

/** No call has come for a while: what was used is collected; one worker too many ends. */
function mayEnd({ options, scoreboard }: Worker): boolean {
  finishRemovals('all')
  Bun.gc(true)
  measure({ options, scoreboard })
  return scoreboard.retire(options.slot, options.workers)
}

/** What is this process's alone, in kB (proc_pid_status(5)). */
function measure({ options, scoreboard }: Pick<Worker, 'options' | 'scoreboard'>): number {
  const kilobytes = Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFile('/proc/self/status') ?? '')?.[1] ?? 0)
  scoreboard.measure(options.slot, kilobytes)
  return kilobytes
}

function isLarge(worker: Worker): boolean {
  const most = worker.options.memory * 1024
  if (measure(worker) <= most) return false
  Bun.gc(true)
  return measure(worker) > most
}

/** Serves one caller, if he may be served; answers whether a call was done. */
async function attend(worker: Worker, connection: number): Promise<boolean> {
  const { scoreboard, options } = worker
  if (scoreboard.occupy(options.slot)) tell(notes.allBusy)
  try {
    return await converse(worker, connection)
  } catch (thrown) {
    // whoever called has gone, or says nothing
    if (isErrno(thrown, errno.EAGAIN, errno.EPIPE, errno.ECONNRESET, errno.ENOENT, errno.ESRCH)) return false
    throw thrown
  } finally {
    close(connection)
    scoreboard.release(options.slot)
  }
}

/** Seconds: a caller says at once what he wants. Whoever says nothing keeps a worker from others. */
const HELLO_PATIENCE = 0.1
const GO_PATIENCE = 1

async function converse(worker: Worker, connection: number): Promise<boolean> {
  const { length, isCut } = receiveHello(connection, worker.buffer)
  if (length === 0) return false
  const hello = isCut ? undefined : readHello(worker.buffer.subarray(0, length))
  if (hello === 'status') return answerStatus(worker, connection)
  if (!hello) return refuse(worker, 'not understood')
  const caller = judge(connection, peerOf(connection), worker.identity)
  if (typeof caller === 'string') return refuse(worker, caller)
  using _caller = caller
  const plugin = await worker.served.load(hello.name)
  if (!plugin) return refuse(worker, 'no plugin of that name')
  const obstacle = obstacleTo(plugin, hello, worker)
  if (obstacle) return refuse(worker, obstacle)
  sendMessage(connection, TAKEN)
  limitReceiving(connection, GO_PATIENCE)
  const go = receiveMessage(connection, worker.buffer)
  if (go.length !== 1 || worker.buffer[0] !== GO[0] || go.descriptors.length !== 3) {
    for (const descriptor of go.descriptors) close(descriptor)
    return false
  }
  await carryOut(worker, { plugin, hello, connection, caller, descriptors: go.descriptors })
  return true
}

/** What a caller says, who most often has said it already. */
function receiveHello(connection: number, buffer: Uint8Array): { length: number; isCut: boolean } {
  const atHand = messageAtHand(connection, buffer)
  if (atHand) return atHand
  limitReceiving(connection, HELLO_PATIENCE)
  const { length, isCut, descriptors: early } = receiveMessage(connection, buffer)
  for (const descriptor of early) close(descriptor)
  return { length, isCut }
}

/** Why a call is not for this process, whoever makes it. */
function obstacleTo(plugin: Plugin, { environment }: Hello, { scoreboard }: Worker): Refusal | undefined {
  if (scoreboard.isEnding()) return 'the service is ending'
  const { CNI_COMMAND: verb = '', CNI_NETNS: netns, CNI_PATH: path = '' } = environment
  if (plugin.waitsForOthers && verb !== 'VERSION') return 'may wait long'
  if (netns && isOfOneProcess(netns)) return 'paths of its own'
  for (const folder of path.split(':')) if (folder !== '' && isOfOneProcess(folder)) return 'paths of its own'
  const { CNI_CONTAINERID: containerId = '', CNI_IFNAME: ifname = '' } = environment
  return isTaken(plugin, verb, { containerId, ifname }) ? 'its container is busy' : undefined
}

async function carryOut(
  worker: Worker,
  call: Omit<Parameters<typeof perform>[0], 'builtins'>,
): Promise<void> {
  const { options, scoreboard, served, home } = worker
  const { plugin, hello, connection, descriptors } = call
  const verb = hello.environment.CNI_COMMAND ?? ''
  scoreboard.note(options.slot, plugin.name, verb)
  onStranded((thrown, held) => {
    writeAll(descriptors[1] ?? 1, encodeText(printError(errorDocument(strandedError(thrown, held)))))
    sendMessage(connection, Uint8Array.of(1))
  })
  const started = performance.now()
  try {
    const { status, hasStarted } = await perform({ ...call, builtins: served.builtins })
    worker.hasStarted = hasStarted
    if (status !== undefined) sendMessage(connection, Uint8Array.of(status))
    const milliseconds = performance.now() - started
    scoreboard.count(options.slot, { plugin: plugin.name, verb, milliseconds, failed: status !== 0 })
    if (status !== 0) dropKept()
  } finally {
    enterFolder(home, '/') // after the answer, which holds even where this worker cannot go on
  }
}

/** Leaves a call to the caller's own process: the connection ends, and nothing more. */
function refuse({ scoreboard, log }: Worker, why: Refusal): false {
  if (scoreboard.refuse(why) === 0) log(`<6>the first call that is left to its caller's own process: ${why}`)
  if (why === 'another executable') tell(notes.replaced)
  return false
}

function answerStatus({ scoreboard }: Worker, connection: number): false {
  if (peerOf(connection).user === 0)
    sendMessage(connection, encodeText(JSON.stringify(statusDocument(scoreboard))))
  return false
}

function tell(note: string): void {
  writeAll(1, encodeText(note), 'standard output')
}
