/** Whether an ADD would find an address in every range set. */
import { CniError, code } from '../../chain/protocol/error.ts'
import { findReclaimable } from './allocate.ts'
import { type Occupancy, occupancyOf } from './occupancy.ts'
import { describeSet, type RangeSet, segments, sizeOf } from './ranges.ts'

/** Throws code 50 with the numbers of every set, when one is full: a container needs an address of each. Changes nothing. */
export function checkFree(folder: string, sets: readonly RangeSet[]): void {
  const all = sets.map(set => ({ set, taken: occupancyOf(folder, set) }))
  const full = all.filter(({ set, taken }) => isFull(set, taken) && !findReclaimable(folder, set))
  if (full.length === 0) return
  const numbers = all.map(({ set, taken }) => `${describeSet(set)}: ${taken.count} of ${sizeOf(set)} in use`)
  throw new CniError(
    code.pluginNotAvailable,
    `no IP addresses available in range set: ${full.map(({ set }) => describeSet(set)).join('; ')}`,
    { details: `${numbers.join('; ')}; reservations are the files in ${folder}` },
  )
}

function isFull(set: RangeSet, taken: Occupancy): boolean {
  return segments(set, undefined).every(segment => taken.firstFree(segment) === undefined)
}
