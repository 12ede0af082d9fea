/**
 * The places at which the system can refuse a plugin something: its system calls, counted in a run that nothing disturbs;
 * and a run in which one of them fails.
 */
import { readFileSync, rmSync } from 'node:fs'
import { ourExecutable } from '../../fixtures/plugin.ts'

/** What a machine that has run out of something answers, or one that is interrupted. */
export const errors = ['ENFILE', 'EMFILE', 'ENOMEM', 'ENOSPC', 'EIO', 'EINTR'] as const
export type ErrorName = (typeof errors)[number] | 'EMFILE for good' | 'killed'

/** The nth call of a name. `descriptors` tells how many calls there were before it that open something, by name. */
export interface Place {
  call: string
  nth: number
  opened: Readonly<Record<string, number>>
  /** The call as strace tells it. */
  text: string
}

export interface Point extends Place {
  error: ErrorName
}

export const textOf = ({ call, nth, error }: Point) => `${call} ${nth}: ${error}`

/** Calls that give a descriptor: none of them succeeds once these are used up. */
const opening = ['open', 'openat', 'socket', 'dup', 'pipe2', 'epoll_create1', 'eventfd2', 'timerfd_create']

/**
 * The calls of Bun's own memory and threads are not the plugin's to answer for: a process that gets no memory is killed, which
 * is another test. Neither is close, which no program can do anything about.
 */
const notOurs =
  /^(close|mmap|munmap|mremap|mprotect|madvise|brk|futex|membarrier|exit.*|sched_.*|rt_.*|clock_.*|get[pt]id|getrandom|clone3?|wait4|set_.*|prctl)$/

export interface Run {
  type: string
  environment: Record<string, string>
  stdin: string
  /** It starts programs, which are not to be disturbed with it. */
  startsPrograms: boolean
}

export interface Ended {
  status: number
  signal: string | undefined
  stdout: string
  stderr: string
}

/** Longer than any plugin waits for anything. */
const PATIENCE = 60_000

function underStrace(run: Run, trace: string, options: readonly string[]): Ended {
  // without -f it sees the first thread alone, in which everything of ours happens; the filter of the kernel needs -f
  const whom = run.startsPrograms ? [] : ['-f', '--seccomp-bpf']
  const { exitCode, signalCode, stdout, stderr } = Bun.spawnSync(
    ['strace', '-qq', '-o', trace, ...whom, ...options, ourExecutable(run.type)],
    { env: run.environment, stdin: Buffer.from(run.stdin), timeout: PATIENCE, killSignal: 'SIGKILL' },
  )
  return {
    status: exitCode,
    signal: signalCode?.toString(),
    stdout: stdout.toString(),
    stderr: stderr.toString(),
  }
}

function withTrace<T>(body: (path: string) => T): T {
  const path = `/run/injection-${process.pid}.trace`
  try {
    return body(path)
  } finally {
    rmSync(path, { force: true })
  }
}

/** Runs a plugin undisturbed; answers the calls that it made from the first byte of its configuration on. */
export function placesOf(run: Run): Place[] {
  return withTrace(path => {
    const { status, stdout } = underStrace({ ...run, startsPrograms: true }, path, [])
    if (status !== 0) throw new Error(`${run.type} fails undisturbed: ${stdout}`)
    return placesIn(readFileSync(path, 'latin1'), 'read(0,')
  })
}

/** The calls of a trace, from the first that begins with these words on. */
export function placesIn(trace: string, start: string): Place[] {
  const counts: Record<string, number> = {}
  const places: Place[] = []
  let isStarted = false
  for (const line of trace.split('\n')) {
    const call = /^(\w+)\(/.exec(line)?.[1]
    if (call === undefined) continue
    isStarted ||= line.startsWith(start)
    const nth = (counts[call] ?? 0) + 1
    if (isStarted && !notOurs.test(call)) places.push({ call, nth, opened: { ...counts }, text: line })
    counts[call] = nth
  }
  return places
}

/** Each call with each error, and with a kill in its place; and with no descriptor to be had from that call on. */
export function pointsAt(places: readonly Place[]): Point[] {
  return places.flatMap(place => [
    ...([...errors, 'killed'] as const).map(error => ({ ...place, error })),
    ...(opening.includes(place.call) ? [{ ...place, error: 'EMFILE for good' as const }] : []),
  ])
}

/** So many points, spread over all of them, so that calls and errors take turns. */
export function sampleOf(points: readonly Point[], many: number): Point[] {
  if (points.length <= many) return [...points]
  return Array.from(
    { length: many },
    (_, index) => points[Math.floor(((index + 0.5) * points.length) / many)],
  ).filter(point => point !== undefined)
}

const changing =
  /^(write|pwrite64|writev|mkdir|mkdirat|link|linkat|symlink|symlinkat|unlink|unlinkat|rename|renameat2?|ftruncate|utimensat|fsetxattr|ioctl|mount|umount2)$/

/** Whether the kernel or a disk is another one after a call: what is between two such calls no kill can tell apart. */
export function changesSomething({ call, text }: Place): boolean {
  if (call === 'sendto' || call === 'sendmsg') return !onlyAsks(text)
  if (call === 'open' || call === 'openat') return text.includes('O_CREAT')
  return changing.test(call)
}

/** Netlink messages that list or look something up: by name, or of rtnetlink by number where strace knows no names. */
function onlyAsks(text: string): boolean {
  const types = [...text.matchAll(/nlmsg_type=(\S+?),? /g)].map(([, type = '']) => type)
  return (
    types.length > 0 &&
    types.every(type => /GET/.test(type) || (/^0x/.test(type) && (Number(type) & 3) === 2))
  )
}

/** strace's options for a point. */
export function injectionOf({ call, nth, opened, error }: Point): string[] {
  const injections =
    error === 'EMFILE for good'
      ? opening.map(name => `${name}:error=EMFILE:when=${(opened[name] ?? 0) + 1}+`)
      : [`${call}:${error === 'killed' ? 'signal=SIGKILL' : `error=${error}`}:when=${nth}`]
  const traced = error === 'EMFILE for good' ? opening.join() : call
  return ['-e', `trace=${traced}`, ...injections.flatMap(each => ['-e', `inject=${each}`])]
}

/** Runs a plugin with one call refused; undefined when it did not get that far. */
export function runWith(run: Run, point: Point): Ended | undefined {
  const { error } = point
  return withTrace(path => {
    const options = injectionOf(point)
    // no signal is injected where the kernel filters what is traced
    const ended = underStrace(
      { ...run, startsPrograms: run.startsPrograms || error === 'killed' },
      path,
      options,
    )
    const reached =
      error === 'killed' ? ended.signal === 'SIGKILL' : readFileSync(path, 'latin1').includes('(INJECTED)')
    return reached ? ended : undefined
  })
}
