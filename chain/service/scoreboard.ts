/**
 * What workers and their supervisor know of one another: memory that all of them share, in which each worker writes its own line and
 * all count together. Reading it disturbs no call, and no worker has to be asked.
 */
import { createMemory, mapMemory } from '../linux/libc/memory.ts'

/** Why a call was left to the caller's own process. */
export const refusals = [
  'not root',
  'not understood',
  'another executable',
  'another network namespace',
  'another mount namespace',
  'another user namespace',
  'another root folder',
  'other rights',
  'another security label',
  'gone',
  'no plugin of that name',
  'may wait long',
  'paths of its own',
  'its container is busy',
  'the service is ending',
] as const
export type Refusal = (typeof refusals)[number]

export const verbs = ['ADD', 'CHECK', 'DEL', 'GC', 'STATUS', 'VERSION', 'other'] as const

/** As many workers as there are lines. */
export const MOST_WORKERS = 64

/** Words of 32 bits in a worker's line. */
const line = { process: 0, state: 1, calls: 2, kilobytes: 3, started: 4, plugin: 5, verb: 6, since: 7 }
const LINE = 16

const states = ['absent', 'idle', 'busy'] as const
export type State = (typeof states)[number]

/** Words before the lines. */
const head = { ending: 0, started: 1, ended: 2, idle: 3, present: 4, refused: 16 }
const HEAD = 64

/** Times are counted in steps of a quarter of a doubling, from 64 µs on. */
const BUCKETS = 84
const STEPS = 4
const FIRST = 64 // µs

/** Words of a plugin's verb: calls that failed, sum of microseconds (two words), then the buckets. */
const cell = { failed: 0, sum: 2, buckets: 4 }
const CELL = cell.buckets + BUCKETS

/** The upper bound of a bucket, in milliseconds. */
export function boundOf(bucket: number): number {
  return (FIRST * 2 ** (bucket / STEPS)) / 1000
}

function bucketOf(microseconds: number): number {
  if (microseconds <= FIRST) return 0
  return Math.min(BUCKETS - 1, Math.ceil(Math.log2(microseconds / FIRST) * STEPS))
}

/** One worker as others see it. */
export interface WorkerLine {
  slot: number
  process: number
  state: State
  calls: number
  /** Memory that is its own, in kB. */
  kilobytes: number
  /** Seconds since the epoch. */
  started: number
  /** What it does, while it is busy. */
  plugin?: string
  verb?: string
  /** Seconds since the epoch. */
  since?: number
}

/** Times of a plugin's verb. */
export interface Times {
  plugin: string
  verb: string
  calls: number
  failed: number
  /** Milliseconds. */
  sum: number
  /** Calls by bucket, of which `boundOf` gives the bounds. */
  buckets: number[]
}

const CELLS = HEAD + MOST_WORKERS * LINE
const lineAt = (slot: number) => HEAD + slot * LINE
const ABSENT = states.indexOf('absent')
const IDLE = states.indexOf('idle')
const BUSY = states.indexOf('busy')

/** What concerns the service as a whole. */
function commonIn(words: Int32Array) {
  return {
    /** Whether workers are to take no more calls. */
    isEnding: () => Atomics.load(words, head.ending) !== 0,
    end: () => void Atomics.store(words, head.ending, 1),
    countStart: () => void Atomics.add(words, head.started, 1),
    countEnd: () => void Atomics.add(words, head.ended, 1),
    /** Workers that were started, and that have ended, so far. */
    turnover: () => ({ started: Atomics.load(words, head.started), ended: Atomics.load(words, head.ended) }),
    /** Counts a refusal; answers how many of its kind there were before. */
    refuse: (why: Refusal) => Atomics.add(words, head.refused + refusals.indexOf(why), 1),
    refused: (): Partial<Record<Refusal, number>> =>
      Object.fromEntries(
        refusals
          .map((why, index) => [why, Atomics.load(words, head.refused + index)] as const)
          .filter(([, count]) => count > 0),
      ),
  }
}

/** A worker's line, a word at a time. */
function fieldsIn(words: Int32Array) {
  const at = (slot: number, field: keyof typeof line) => lineAt(slot) + line[field]
  const get = (slot: number, field: keyof typeof line) => Atomics.load(words, at(slot, field))
  return {
    get,
    set: (slot: number, field: keyof typeof line, value: number) =>
      void Atomics.store(words, at(slot, field), value),
    stateOf: (slot: number): State => states[get(slot, 'state')] ?? 'absent',
  }
}

/** What each worker says of itself, for all to read. */
function linesIn(words: Int32Array, plugins: readonly string[]) {
  const { get, set, stateOf } = fieldsIn(words)
  const read = (slot: number): WorkerLine => {
    const [process, calls] = [get(slot, 'process'), get(slot, 'calls')]
    const common = { slot, process, state: stateOf(slot), calls }
    const more = { ...common, kilobytes: get(slot, 'kilobytes'), started: get(slot, 'started') }
    const plugin = plugins[get(slot, 'plugin') - 1]
    if (more.state !== 'busy' || plugin === undefined) return more
    return { ...more, plugin, verb: verbs[get(slot, 'verb')] ?? 'other', since: get(slot, 'since') }
  }
  return {
    stateOf,
    /** Says what a worker does for its caller. */
    note(slot: number, plugin: string, verb: string) {
      set(slot, 'verb', verbNumber(verb))
      set(slot, 'since', seconds())
      set(slot, 'plugin', plugins.indexOf(plugin) + 1)
    },
    measure: (slot: number, kilobytes: number) => set(slot, 'kilobytes', kilobytes),
    workers: (): WorkerLine[] =>
      Array.from({ length: MOST_WORKERS }, (_, slot) => read(slot)).filter(({ state }) => state !== 'absent'),
  }
}

/** Workers that come, have callers, and go; and how many are there, and free. */
function turnsIn(words: Int32Array) {
  const { set, stateOf } = fieldsIn(words)
  return {
    enter(slot: number, process: number) {
      words.fill(0, lineAt(slot), lineAt(slot) + LINE)
      set(slot, 'process', process)
      set(slot, 'started', seconds())
      set(slot, 'state', IDLE)
      Atomics.add(words, head.idle, 1)
      Atomics.add(words, head.present, 1)
    },
    /** Of one that has ended, whatever it was at. */
    leave(slot: number) {
      const state = stateOf(slot)
      if (state === 'absent') return
      if (state === 'idle') Atomics.sub(words, head.idle, 1)
      Atomics.sub(words, head.present, 1)
      set(slot, 'state', ABSENT)
    },
    /** Lets a worker that has no caller go, if so many stay; of several that ask at once no more than that. */
    retire(slot: number, stay: number): boolean {
      for (;;) {
        const present = Atomics.load(words, head.present)
        if (present <= stay) return false
        if (Atomics.compareExchange(words, head.present, present, present - 1) !== present) continue
        Atomics.sub(words, head.idle, 1)
        set(slot, 'state', ABSENT)
        return true
      }
    },
    /** Says that a worker has a caller before it; answers whether all others have one too. */
    occupy(slot: number): boolean {
      set(slot, 'state', BUSY)
      return Atomics.sub(words, head.idle, 1) <= 1
    },
    release(slot: number) {
      set(slot, 'plugin', 0)
      Atomics.add(words, head.idle, 1)
      set(slot, 'state', IDLE)
    },
  }
}

/** Calls that were done, and how long they took. */
function timesIn(words: Int32Array, plugins: readonly string[]) {
  const sums = new BigInt64Array(words.buffer)
  const cellAt = (plugin: number, verb: number) => CELLS + (plugin * verbs.length + verb) * CELL
  const read = (plugin: number, verb: number): Times | undefined => {
    const at = cellAt(plugin, verb)
    const buckets = Array.from(words.subarray(at + cell.buckets, at + CELL))
    const calls = buckets.reduce((sum, count) => sum + count, 0)
    if (calls === 0) return undefined
    const sum = Number(Atomics.load(sums, (at + cell.sum) >> 1)) / 1000
    const failed = Atomics.load(words, at + cell.failed)
    return { plugin: plugins[plugin] ?? '', verb: verbs[verb] ?? 'other', calls, failed, sum, buckets }
  }
  return {
    /** Counts a call that was done. */
    count(slot: number, done: { plugin: string; verb: string; milliseconds: number; failed: boolean }) {
      const at = cellAt(plugins.indexOf(done.plugin), verbNumber(done.verb))
      const microseconds = Math.round(done.milliseconds * 1000)
      Atomics.add(words, lineAt(slot) + line.calls, 1)
      Atomics.add(words, at + cell.buckets + bucketOf(microseconds), 1)
      Atomics.add(sums, (at + cell.sum) >> 1, BigInt(microseconds))
      if (done.failed) Atomics.add(words, at + cell.failed, 1)
    },
    times: (): Times[] =>
      plugins.flatMap((_, plugin) => verbs.flatMap((_, verb) => read(plugin, verb) ?? [])),
  }
}

/** Lays memory out for the plugins of an executable: the order is the same in all of its processes. */
function scoreboardOver(memory: ArrayBuffer, plugins: readonly string[]) {
  const words = new Int32Array(memory)
  return {
    ...commonIn(words),
    ...turnsIn(words),
    ...linesIn(words, plugins),
    ...timesIn(words, plugins),
  }
}

export type Scoreboard = ReturnType<typeof scoreboardOver>

const seconds = () => Math.floor(Date.now() / 1000)

function verbNumber(verb: string): number {
  const index = (verbs as readonly string[]).indexOf(verb)
  return index < 0 ? verbs.length - 1 : index
}

function bytesFor(plugins: readonly string[]): number {
  return 4 * (HEAD + MOST_WORKERS * LINE + plugins.length * verbs.length * CELL)
}

/** Memory for a new scoreboard; its descriptor is for workers to inherit. */
export function createScoreboard(plugins: readonly string[]): { descriptor: number; scoreboard: Scoreboard } {
  const descriptor = createMemory('catena-scoreboard', bytesFor(plugins))
  return { descriptor, scoreboard: openScoreboard(descriptor, plugins) }
}

/** The scoreboard that a worker was handed. */
export function openScoreboard(descriptor: number, plugins: readonly string[]): Scoreboard {
  return scoreboardOver(mapMemory(descriptor, bytesFor(plugins)), plugins)
}
