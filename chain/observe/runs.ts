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

/** All that is recorded, in the order in which it began. Lines that a kill or a full disk has torn are left out. */
export function readRuns(files: readonly string[] = [OLDER_RECORDS, RECORDS]): Run[] {
  const beginnings = new Map<string, Beginning>()
  const endings = new Map<string, Ending>()
  for (const line of files.flatMap(file => (readState(file) ?? '').split('\n'))) {
    const read = parse(line)
    if (read && 'ended' in read) endings.set(read.id, read)
    else if (read) beginnings.set(read.id, read)
  }
  const latest = new Map<number, string>()
  for (const { pid, id } of beginnings.values()) latest.set(pid, id)
  const runs = [...beginnings.values()].map(({ v: _, ...beginning }): Run => {
    const ending = endings.get(beginning.id)
    if (!ending) {
      // a worker of the warm service goes on living when one of its calls has ended
      const isLatest = latest.get(beginning.pid) === beginning.id
      const isThere = isLatest && processName(beginning.pid) !== undefined
      return { ...beginning, outcome: isThere ? 'running' : 'unfinished', depth: 0 }
    }
    const { v: _v, id: _id, ended: _ended, ...came } = ending
    return { ...beginning, ...came, outcome: came.status === 0 ? 'succeeded' : 'failed', depth: 0 }
  })
  return withDepths(runs.toSorted((one, other) => one.at - other.at))
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

/** A call that began and ended within another one of the same container was made by it. */
function withDepths(runs: readonly Run[]): Run[] {
  return runs.map((run, index) => {
    const around = runs.slice(Math.max(0, index - NEAR), index).filter(outer => isWithin(run, outer))
    return { ...run, depth: around.length }
  })
}

/** How many calls may have begun between a plugin's and that of its IPAM plugin. */
const NEAR = 64

function isWithin(run: Run, outer: Run): boolean {
  if (outer.container !== run.container || outer.ifname !== run.ifname || outer.verb !== run.verb)
    return false
  if (outer.plugin === run.plugin) return false
  if (outer.pid === run.pid && outer.took === undefined) return true
  return outer.pid === run.pid || outer.pid === run.parent
    ? run.at + (run.took ?? 0) <= outer.at + (outer.took ?? Infinity) + 1
    : false
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
