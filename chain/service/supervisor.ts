/**
 * The service: opens the socket, keeps workers at it, more of them while all are busy, and ends when it is told to, when no call comes,
 * or when the executable has been replaced. Does no calls itself.
 */
import { readLink } from '../linux/libc/folder.ts'
import { status } from '../linux/libc/status.ts'
import { toCniError } from '../protocol/error.ts'
import { type Listener, openListener } from './listener.ts'
import { createScoreboard, MOST_WORKERS, type Scoreboard, type WorkerLine } from './scoreboard.ts'
import { endings, notes, type WorkerOptions } from './worker.ts'

/** The process as the supervisor sees it. */
export interface ServiceProcess {
  env: Readonly<Record<string, string | undefined>>
  pid: number
  /** The words by which this very program is started. */
  command: readonly string[]
  /** Writes a line to the log. */
  log(line: string): void
  /** Calls back with the name of each signal that asks the process to end. */
  onEnd(callback: (signal: string) => void): void
}

export interface ServiceOptions extends Omit<WorkerOptions, 'slot'> {
  /** Workers at most. */
  most: number
  /** Seconds without a call after which the service ends; 0: it stays. */
  idle: number
}

export const defaults: ServiceOptions = { workers: 4, most: 16, calls: 5000, memory: 64, rest: 60, idle: 0 }

interface Service {
  options: ServiceOptions
  self: ServiceProcess
  names: readonly string[]
  listener: Listener
  scoreboard: Scoreboard
  /** The scoreboard's descriptor. */
  memory: number
  running: Map<number, Bun.Subprocess>
  /** Milliseconds before the next worker is started in the place of one that has ended. */
  pause: number
  /** Whether it is about to be seen whether all are still busy. */
  growing: boolean
  ending: string | undefined
  ended: PromiseWithResolvers<void>
}

/** Runs the service to its end; answers the exit status. */
export async function supervise(
  options: ServiceOptions,
  self: ServiceProcess,
  names: readonly string[],
): Promise<number> {
  let listener: Listener
  try {
    listener = openListener(self, 2 * options.workers)
  } catch (thrown) {
    const { message, details } = toCniError(thrown)
    self.log(`<3>cannot serve: ${message}${details ? ` (${details})` : ''}`)
    return 1
  }
  const { descriptor: memory, scoreboard } = createScoreboard(names)
  const service: Service = {
    ...{ options, self, names, listener, scoreboard, memory },
    running: new Map(),
    pause: FIRST_PAUSE,
    growing: false,
    ending: undefined,
    ended: Promise.withResolvers(),
  }
  self.onEnd(signal => (service.ending ? endAtOnce(service) : end(service, signal)))
  self.log(`<6>serving at ${listener.origin}, with ${options.workers} workers of process ${self.pid}`)
  for (let count = 0; count < options.workers; count++) startWorker(service)
  const watch = watchIdleness(service)
  await service.ended.promise
  clearInterval(watch)
  self.log(`<6>ended: ${service.ending}`)
  return 0
}

function startWorker(service: Service): void {
  const { options, self, listener, memory, running, scoreboard } = service
  const slot = Array.from({ length: MOST_WORKERS }, (_, each) => each).find(each => !running.has(each))
  if (slot === undefined || service.ending) return
  const { workers, calls, memory: megabytes, rest } = options
  const words = Object.entries({ slot, workers, calls, memory: megabytes, rest }).map(
    ([name, value]) => `--${name}=${value}`,
  )
  const started = performance.now()
  const child = Bun.spawn([...self.command, 'serve', '--worker', ...words], {
    argv0: 'catena',
    cwd: '/',
    env: { ...withoutListeners(self.env), ...frugality },
    stdio: ['ignore', 'pipe', 'inherit', listener.descriptor, memory],
  })
  running.set(slot, child)
  scoreboard.countStart()
  void heed(service, child.stdout)
  child.exited.then(() => {
    const line = scoreboard.workers().find(each => each.slot === slot)
    running.delete(slot)
    scoreboard.leave(slot)
    scoreboard.countEnd()
    if (!service.ending) self.log(describeEnd(service, child, line))
    replace(service, performance.now() - started)
  })
}

/** What the log says of a worker that has ended; `line` is what it had said of itself. */
function describeEnd(
  { running }: Service,
  { pid, exitCode, signalCode }: Bun.Subprocess,
  line: WorkerLine | undefined,
): string {
  if (!signalCode && exitCode === endings.idle)
    return `<6>one fewer: ${running.size} ${running.size === 1 ? 'worker' : 'workers'}`
  if (!signalCode && exitCode === endings.renewed)
    return `<6>worker ${pid} makes room for a fresh one after ${line?.calls ?? 0} calls`
  const doing = line?.plugin ? ` in ${line.verb} of ${line.plugin}` : ''
  return `<4>worker ${pid} has ended ${signalCode ? `by ${signalCode}` : `with status ${exitCode}`}${doing}`
}

/**
 * JavaScriptCore's third compiler takes a third of a worker's processor time and a fifth of its memory, and what it makes is no
 * faster here; memory that is free goes back to the kernel at once. The static executable's start lets these two through (start.c).
 */
const frugality = { BUN_JSC_useFTLJIT: '0', MIMALLOC_PURGE_DELAY: '0' }

/** What concerned systemd's socket is no worker's affair. */
function withoutListeners({
  LISTEN_FDS: _fds,
  LISTEN_PID: _pid,
  LISTEN_FDNAMES: _names,
  ...env
}: ServiceProcess['env']) {
  return env
}

const FIRST_PAUSE = 10
const LONGEST_PAUSE = 5000
/** Milliseconds: who lives shorter than that has not served anybody. */
const SHORT_LIFE = 1000

/** Starts another worker in the place of one that has ended; later and later where they end at once. */
function replace(service: Service, lived: number): void {
  const { running, options, ended } = service
  if (service.ending) {
    if (running.size === 0) ended.resolve()
    return
  }
  service.pause = lived < SHORT_LIFE ? Math.min(2 * service.pause, LONGEST_PAUSE) : FIRST_PAUSE
  if (running.size < options.workers)
    setTimeout(() => running.size < options.workers && startWorker(service), service.pause)
}

/** Listens to a worker: all may be busy, or the executable another. */
async function heed(service: Service, output: ReadableStream<Uint8Array>): Promise<void> {
  const decoder = new TextDecoder()
  for await (const bytes of output) {
    const said = decoder.decode(bytes)
    if (said.includes(notes.allBusy)) grow(service)
    if (said.includes(notes.replaced) && isReplaced(service)) end(service, 'its executable has been replaced')
  }
}

/** Milliseconds that all may be busy: most calls are over sooner. A caller waits for five times as long. */
const BUSY_PATIENCE = 20

/**
 * Whether calls wait for more than the processors: all workers are busy, and half of them with the call that they had before. Where calls
 * come to their end, a worker more would have to share the processors with those that there are.
 */
export function areHeld(
  workers: readonly Pick<WorkerLine, 'slot' | 'state' | 'calls'>[],
  before: ReadonlyMap<number, number>,
): boolean {
  const held = workers.filter(({ slot, calls }) => before.get(slot) === calls)
  return workers.every(({ state }) => state === 'busy') && 2 * held.length >= workers.length
}

/** One more where calls hold all workers, unless one is on its way already. */
function grow(service: Service): void {
  if (service.growing) return
  service.growing = true
  const { running, scoreboard, options, self } = service
  const before = new Map(scoreboard.workers().map(({ slot, calls }) => [slot, calls]))
  setTimeout(() => {
    service.growing = false
    const workers = scoreboard.workers()
    const isOnItsWay = workers.length < running.size
    if (!isOnItsWay && areHeld(workers, before) && running.size < Math.min(options.most, MOST_WORKERS)) {
      self.log(`<6>all are busy: ${running.size + 1} workers`)
      startWorker(service)
    }
  }, BUSY_PATIENCE)
}

/** Whether the path that the executable was started by leads to another file by now, or nowhere. */
function isReplaced({ self }: Service): boolean {
  const own = status('/proc/self/exe')
  const path = readLink('/proc/self/exe').replace(/ \(deleted\)$/, '')
  const found = status(path)
  if (own && found && own.inode === found.inode && own.device === found.device) return false
  self.log(`<5>${path} is another file than this service was started from: callers are not its equals`)
  return true
}

function watchIdleness(service: Service): Timer | undefined {
  const { options, scoreboard } = service
  if (options.idle <= 0) return undefined
  const activity = () => {
    const refused = Object.values(scoreboard.refused()).reduce((sum, count) => sum + count, 0)
    return scoreboard.times().reduce((sum, { calls }) => sum + calls, refused)
  }
  let before = -1
  return setInterval(() => {
    const now = activity()
    const isBusy = scoreboard.workers().some(({ state }) => state === 'busy')
    if (now === before && !isBusy) end(service, `no call has come for ${options.idle} s`)
    before = now
  }, options.idle * 1000)
}

/** Takes no more calls, lets those in hand come to their end, and ends. */
function end(service: Service, why: string): void {
  if (service.ending) return
  service.ending = why
  service.self.log(`<6>ending: ${why}`)
  const { listener, scoreboard, running, ended } = service
  listener.hide()
  scoreboard.end()
  // one that waits for callers can be ended: a caller that comes to it now has not been told that he is served
  for (const [slot, child] of running) if (scoreboard.stateOf(slot) === 'idle') child.kill('SIGKILL')
  if (running.size === 0) ended.resolve()
}

function endAtOnce({ running }: Service): void {
  for (const child of running.values()) child.kill('SIGKILL')
}
