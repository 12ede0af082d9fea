/** Whether an ADD would find an address in every range set. */
import { parseAddress, sameAddress } from '../../chain/protocol/address.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import { findReclaimable } from './allocate.ts'
import { candidates, describeSet, type RangeSet, rangeOf, sizeOf } from './ranges.ts'
import { reservedNames, type Store } from './store.ts'

type Readable = Pick<Store, 'folder' | 'warn'>

/** Throws code 50 with the numbers of every set, when one is full: a container needs an address of each. Changes nothing. */
export function checkFree(store: Readable, sets: readonly RangeSet[]): void {
  const names = reservedNames(store)
  const reserved = new Set(names)
  const full = sets.filter(set => isFull(set, reserved) && !findReclaimable(store, set))
  if (full.length === 0) return
  throw new CniError(
    code.pluginNotAvailable,
    `no IP addresses available in range set: ${full.map(describeSet).join('; ')}`,
    {
      details: `in use: ${sets.map(set => `${describeSet(set)}: ${countIn(set, names)} of ${sizeOf(set)}`).join('; ')}; reservations are the files in ${store.folder}`,
    },
  )
}

function isFull(set: RangeSet, reserved: ReadonlySet<string>): boolean {
  for (const { name } of candidates(set, undefined)) if (!reserved.has(name)) return false
  return true
}

function countIn(set: RangeSet, names: readonly string[]): number {
  return names.filter(name => {
    const address = parseAddress(name)
    const range = address && rangeOf(set, address)
    return range !== undefined && !sameAddress(address as NonNullable<typeof address>, range.gateway)
  }).length
}
