/** The programs that a plugin runs: what of the caller's environment counts for them, and who runs them. */

/** A program that is run to its end while the thread waits. */
export interface Program {
  args: readonly string[]
  env: Readonly<Record<string, string | undefined>>
  input: string
  /** A descriptor that it inherits. */
  inherited?: number | undefined
}

export interface Ended {
  /** The exit status, or 128. */
  status: number
  /** The signal's number, where one has ended it. */
  signal?: number
  stdout: string
  stderr: string
}

/** What another process has of a call that is done for it. */
export interface ChildEnvironment {
  environment: Readonly<Record<string, string | undefined>>
  /** The process that the call is done for, and the one that has started it. */
  process: { pid: number; parent: number }
  /** Runs a program that ends when whoever called does. Throws where it cannot be started. */
  run(program: Program): Ended
}

let current: ChildEnvironment | undefined

/**
 * Has programs run for somebody else than who started this process, until disposed of. For a process that does one call at a time:
 * of all that runs in it, only the call that it serves starts programs.
 */
export function useChildEnvironment(childEnvironment: ChildEnvironment): Disposable {
  current = childEnvironment
  return {
    [Symbol.dispose]: () => {
      current = undefined
    },
  }
}

const drops = new Set<() => void>()

/**
 * Whether something may be kept for the calls that follow: so it is in a process that does many. `drop` lets go of it after a call
 * that has failed, since it is unknown in which state that has left it.
 */
export function mayKeep(drop: () => void): boolean {
  if (current) drops.add(drop)
  return current !== undefined
}

/** Lets go of all that was kept. */
export function dropKept(): void {
  for (const drop of drops) drop()
}

/** The environment that programs get: this process's own, or that of the call that it serves. */
export function helperEnvironment(): ChildEnvironment['environment'] {
  return current?.environment ?? Bun.env
}

/** The process that the call under way is done for; undefined where it is this one. */
export function callingProcess(): ChildEnvironment['process'] | undefined {
  return current?.process
}

/** Runs programs on behalf of whoever has called; undefined where that is who started this process. */
export function runnerForCaller(): ChildEnvironment['run'] | undefined {
  return current?.run
}

/** Where a node keeps its programs when PATH does not say. */
const USUAL_PATH = '/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin'

/** Where helpers are looked for: of PATH only what is absolute, for "." is a folder that somebody else may have filled. */
export function helperPath(path = helperEnvironment().PATH ?? ''): string {
  const absolute = path.split(':').filter(folder => folder.startsWith('/'))
  return [...absolute, USUAL_PATH].join(':')
}

/** The first letters that the start of the static executable has blanked (tools/static/start.c), by what follows them. */
const BLANK = '\u0001'
const settings = ['BUN_', 'NODE_', 'LD_', 'JSC_', 'ICU_', 'MIMALLOC_', 'MUSL_', 'SIMDUTF_']

/** How the variables begin that the same start has added. A caller's own of such a name begin with the blank. */
const ADDED = 'BUN_JSC_'

/**
 * An environment as the caller gave it, for a process that is none of ours: names such as LD_LIBRARY_PATH, which must not
 * change this executable, have their first letter again.
 */
export function asGiven(environment: Readonly<Record<string, string>>): Record<string, string> {
  const given: Record<string, string> = {}
  for (const [name, value] of Object.entries(environment)) {
    if (name.startsWith(ADDED)) continue
    const setting = name[0] === BLANK ? settings.find(one => name.startsWith(one.slice(1), 1)) : undefined
    given[setting ? `${setting[0]}${name.slice(1)}` : name] = value
  }
  return given
}
