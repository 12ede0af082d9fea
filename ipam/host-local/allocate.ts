/** Finds and reserves one address of a range set, under the network's lock. */
import { liveAddresses } from '../../chain/linux/live-addresses.ts'
import { type Address, formatAddress, parseAddress, sameAddress } from '../../chain/protocol/address.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import { candidates, describeSet, type Range, type RangeSet, rangeOf, sizeOf } from './ranges.ts'
import {
  free,
  isHeldBy,
  knownAddresses,
  lastReserved,
  mark,
  markedAddresses,
  type Owner,
  ownerAt,
  reserve,
  reservedAddresses,
  type Store,
  setLastReserved,
} from './store.ts'

export interface Allocation {
  address: Address
  range: Range
}

export interface Wish {
  store: Store
  owner: Owner
  set: RangeSet
  /** Position of the set among all: round robin remembers by it. */
  index: number
  /** Says something to the operator. */
  warn(text: string): void
}

/** Reserves the address that was asked for. */
export function allocateRequested(wish: Wish, requested: Address): Allocation {
  const { store, owner, set, index } = wish
  const range = rangeOf(set, requested)
  const text = formatAddress(requested)
  if (!range)
    throw new CniError(code.internal, `requested IP address ${text} is not in range set ${describeSet(set)}`)
  if (sameAddress(requested, range.gateway))
    throw new CniError(code.internal, `requested ip ${text} is subnet's gateway`)
  if (!take(wish, text) && !comesBack(store, text, owner)) {
    throw new CniError(
      code.internal,
      `requested IP address ${text} is not available in range set ${describeSet(set)}`,
      {
        details: `it is reserved for ${describeOwner(store, text)}`,
      },
    )
  }
  setLastReserved(store, index, text)
  return { address: requested, range }
}

/** An address reserved before the machine started, or by the Go plugin, that nobody has on a link, is its owner's again. */
function comesBack(store: Store, text: string, owner: Owner): boolean {
  if (!isHeldBy(store, text, owner) || markedAddresses(store).has(text) || liveAddresses().has(text))
    return false
  mark(store, text)
  return true
}

function describeOwner(store: Store, text: string): string {
  const owner = ownerAt(store, text)
  return owner === undefined || owner === 'nobody'
    ? 'nobody'
    : `container ${owner.containerId} (${owner.interface ?? 'any interface'})`
}

/** How many addresses are tried one by one before the folder is listed. */
const TRIES = 64

/** Reserves the next free address in round robin; the one it had, for a container that comes back after a reboot. */
export function allocateNext(wish: Wish): Allocation {
  const { store, set, index } = wish
  const own = ownAddress(wish)
  if (own) return own
  const last = parseAddress(lastReserved(store, index) ?? '')
  const found = tryOneByOne(wish, last) ?? tryWithList(wish, last) ?? reclaim(wish)
  if (!found) throw exhausted(store, set)
  setLastReserved(store, index, formatAddress(found.address))
  return found
}

/** What the owner holds in this set already: its own after a reboot, a forbidden second one otherwise. */
function ownAddress({ store, owner, set }: Wish): Allocation | undefined {
  for (const text of knownAddresses(store, owner)) {
    const address = parseAddress(text)
    const range = address && rangeOf(set, address)
    if (!range) continue
    if (comesBack(store, text, owner)) return { address, range }
    throw new CniError(
      code.internal,
      `${text} has been allocated to ${owner.containerId}, duplicate allocation is not allowed`,
      {
        details: `the reservation is ${store.folder}/${text}; DEL releases it`,
      },
    )
  }
  return undefined
}

function tryOneByOne(wish: Wish, last: Address | undefined): Allocation | undefined {
  let tries = 0
  for (const candidate of candidates(wish.set, last)) {
    if (take(wish, formatAddress(candidate.address))) return candidate
    if (++tries === TRIES) return undefined
  }
  return undefined
}

function tryWithList(wish: Wish, last: Address | undefined): Allocation | undefined {
  const reserved = new Set(reservedAddresses(wish.store))
  if (countIn(wish.set, reserved) >= sizeOf(wish.set)) return undefined
  for (const candidate of candidates(wish.set, last)) {
    const text = formatAddress(candidate.address)
    if (!reserved.has(text) && take(wish, text)) return candidate
  }
  return undefined
}

/** Reserves a free address, or one whose file is empty or torn: nobody can own that. */
function take({ store, owner, warn }: Wish, text: string): boolean {
  if (reserve(store, text, owner) === 'reserved') return true
  if (ownerAt(store, text) !== 'nobody') return false
  warn(
    `host-local: ${store.folder}/${text} names no owner (a write was cut off): the address counts as free\n`,
  )
  free(store, text)
  return reserve(store, text, owner) === 'reserved'
}

/** With the set full: takes over an address from before the machine started that no link of any namespace has. */
function reclaim(wish: Wish): Allocation | undefined {
  const { store, set, owner, warn } = wish
  const marked = markedAddresses(store)
  const old = reservedAddresses(store).filter(text => !marked.has(text))
  const live = old.length > 0 ? liveAddresses() : marked
  for (const text of old) {
    const address = parseAddress(text)
    const range = address && rangeOf(set, address)
    if (!range || live.has(text)) continue
    warn(
      `host-local: ${text}, reserved for ${describeOwner(store, text)} before the machine started, is taken over\n`,
    )
    free(store, text)
    if (reserve(store, text, owner) === 'reserved') return { address, range }
  }
  return undefined
}

function countIn(set: RangeSet, reserved: Iterable<string>): bigint {
  let count = 0n
  for (const text of reserved) {
    const address = parseAddress(text)
    const range = address && rangeOf(set, address)
    if (range && !sameAddress(address, range.gateway)) count++
  }
  return count
}

/** How full a set is. */
export function usage(store: Store, set: RangeSet): { used: bigint; size: bigint } {
  return { used: countIn(set, reservedAddresses(store)), size: sizeOf(set) }
}

function exhausted(store: Store, set: RangeSet): CniError {
  const { used, size } = usage(store, set)
  return new CniError(
    code.internal,
    `no IP addresses available in range set: ${describeSet(set)}: ${used} of ${size} are in use`,
    {
      details: `reservations are the files in ${store.folder}; each names its container`,
    },
  )
}
