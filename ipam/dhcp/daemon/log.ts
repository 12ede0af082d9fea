/** The daemon's log: one structured line for each thing that happens. Pure. */

/** Writes one line. */
export type Log = (event: string, facts: Readonly<Record<string, unknown>>) => void

const MOST_IGNORED = 10
const MINUTE = 60_000

/** So many lines a minute about what is ignored: anybody on the link can send more, and logs fill disks. */
export function limited(clock: () => number, log: Log): Log {
  let since = Number.NEGATIVE_INFINITY
  let lines = 0
  return (event, facts) => {
    if (event !== 'ignored') {
      log(event, facts)
      return
    }
    if (clock() - since >= MINUTE) {
      since = clock()
      lines = 0
    }
    lines++
    if (lines < MOST_IGNORED) log(event, facts)
    else if (lines === MOST_IGNORED)
      log(event, { ...facts, quiet: 'what else is ignored in this minute is not told' })
  }
}
