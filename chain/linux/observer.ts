/**
 * Tells whoever watches what this process asks of the machine and waits for: the flight recorder, a trace. Where none watches,
 * nothing is put together and no clock is read.
 */

export interface Observed {
  /** Who was asked: the kernel by netlink, nf_tables, a file, another program, whoever has a lock, or a piece of ours with a name. */
  of: 'kernel' | 'nftables' | 'file' | 'program' | 'lock' | 'plugin'
  /** What was asked, a line each: "create link veth1a2b3c4d". A function where putting it into words would cost. */
  operations: readonly string[] | ((most: number) => readonly string[])
  /** How many there are, where a function puts only so many into words. */
  count?: number
  /** Whether it was to change something. */
  changes: boolean
  /** performance.now() when it was asked and when it was answered. */
  began: number
  ended: number
  /** What the machine said instead of doing it. */
  refusal?: string | undefined
}

export type Observer = (observed: Observed) => void

/** Whoever watches now, all of them. Ask before anything is put together for it. */
export let observer: Observer | undefined

const watchers: Observer[] = []

/** Has `watch` told of everything until disposed of. */
export function observe(watch: Observer): Disposable {
  watchers.push(watch)
  observer = tellAll
  return {
    [Symbol.dispose]: () => {
      watchers.splice(watchers.indexOf(watch), 1)
      if (watchers.length === 0) observer = undefined
    },
  }
}

function tellAll(observed: Observed): void {
  for (const watch of watchers) watch(observed)
}

/** A file was changed, in words for whoever watches. */
export function tellOfFile(began: number, operation: () => string): void {
  observer?.({ of: 'file', operations: () => [operation()], changes: true, began, ended: performance.now() })
}

/** When something begins that may be watched. */
export const now = () => (observer ? performance.now() : 0)

/** What was asked, in lines: all of them, or `most` and perhaps more. */
export function linesOf({ operations }: Observed, most = Number.POSITIVE_INFINITY): readonly string[] {
  return typeof operations === 'function' ? operations(most) : operations
}
