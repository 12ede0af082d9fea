/** The flight recorder's records, read: each call of a plugin, from when it began to what came of it. */
import { readState } from '../linux/files.ts'
import { type Beginning, type Ending, OLDER_RECORDS, RECORDS } from '../plugin/record.ts'
import { isObject } from '../protocol/configuration.ts'
import { processName } from './namespaces.ts'

export interface Run extends Omit<Beginning, 'v'>, Partial<Omit<Ending, 'v' | 'id' | 'ended'>> {
  /** `unfinished`: it was killed before it came to its end, whatever it had done by then. */
  outcome: 'succeeded' | 'failed' | 'running' | 'unfinished'
  /** How many calls it was made by: 1 for an IPAM plugin that bridge ran. */
  depth: number
}

/** A record with where its lines stand: of calls that were made by one another, those of one are around those of the other. */
interface Placed {
  run: Run
  from: number
  to: number
}

/** All that is recorded, in the order in which it began. Lines that a kill or a full disk has torn are left out. */
export function readRuns(files: readonly string[] = [OLDER_RECORDS, RECORDS]): Run[] {
  const beginnings = new Map<string, { line: Beginning; place: number }>()
  const endings = new Map<string, { line: Ending; place: number }>()
  for (const [place, text] of files.flatMap(file => (readState(file) ?? '').split('\n')).entries()) {
    const line = parse(text)
    if (line && 'ended' in line) endings.set(line.id, { line, place })
    else if (line) beginnings.set(line.id, { line, place })
  }
  const latest = new Map<number, string>()
  for (const { line } of beginnings.values()) latest.set(line.pid, line.id)
  const placed = [...beginnings.values()].map(({ line, place }): Placed => {
    const { v: _, ...beginning } = line
    const ending = endings.get(line.id)
    if (!ending) {
      // a worker of the warm service goes on living when one of its calls has ended
      const isThere = latest.get(line.pid) === line.id && processName(line.pid) !== undefined
      const outcome = isThere ? 'running' : 'unfinished'
      return { run: { ...beginning, outcome, depth: 0 }, from: place, to: Number.POSITIVE_INFINITY }
    }
    const { v: _v, id: _id, ended: _ended, ...came } = ending.line
    const outcome = came.status === 0 ? 'succeeded' : 'failed'
    return { run: { ...beginning, ...came, outcome, depth: 0 }, from: place, to: ending.place }
  })
  return placed.map((inner, index) => {
    const around = placed.slice(Math.max(0, index - NEAR), index).filter(outer => isWithin(inner, outer))
    return { ...inner.run, depth: around.length }
  })
}

function parse(line: string): Beginning | Ending | undefined {
  if (line === '') return undefined
  try {
    const json: unknown = JSON.parse(line)
    return isObject(json) && json.v === 1 && typeof json.id === 'string'
      ? (json as unknown as Beginning)
      : undefined
  } catch {
    return undefined
  }
}

/** How many calls may have begun between a plugin's and that of its IPAM plugin. */
const NEAR = 64

/** A call of the same container that began and ended within another one, of the same process or one that it started, was made by it. */
function isWithin(inner: Placed, outer: Placed): boolean {
  const { container, ifname, verb, plugin, pid } = outer.run
  if (inner.from < outer.from || inner.to > outer.to) return false
  if (inner.run.container !== container || inner.run.ifname !== ifname || inner.run.verb !== verb)
    return false
  return inner.run.plugin !== plugin && (inner.run.pid === pid || inner.run.parent === pid)
}

/** What was asked for one interface of a container at once: a chain forwards or backwards, and what its plugins ran. */
export interface Operation {
  verb: string
  network: string
  container: string
  ifname: string
  at: number
  runs: Run[]
}

/** Milliseconds between two plugins of one chain, at most: runtimes start the next one as soon as one has ended. */
const PAUSE = 5000

/** Calls put together as the runtime that made them has. */
export function operationsOf(runs: readonly Run[]): Operation[] {
  const operations: Operation[] = []
  const latest = new Map<string, Operation>()
  for (const run of runs) {
    const { verb, container = '', ifname = '', network = '' } = run
    const key = JSON.stringify([container, ifname])
    const before = latest.get(key)
    if (before && continues(before, run)) {
      before.runs.push(run)
      before.network ||= network
      continue
    }
    const operation = { verb, network, container, ifname, at: run.at, runs: [run] }
    operations.push(operation)
    latest.set(key, operation)
  }
  return operations
}

function continues({ verb, network, runs }: Operation, run: Run): boolean {
  if (verb !== run.verb || (run.network && network && network !== run.network)) return false
  if (run.depth > 0) return true
  const last = runs.findLast(({ depth }) => depth === 0)
  if (!last || runs.some(({ plugin, depth }) => depth === 0 && plugin === run.plugin)) return false
  if (last.verb === 'ADD' && last.outcome === 'failed') return false
  return run.at - (last.at + (last.took ?? 0)) <= PAUSE
}
