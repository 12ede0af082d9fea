/** Chooses one address of a range set, under the network's lock: the one asked for, the one had before a reboot, or the next. */

import { status } from '../../chain/linux/libc.ts'
import { liveAddresses } from '../../chain/linux/live-addresses.ts'
import { type Address, formatAddress, parseAddress, sameAddress } from '../../chain/protocol/address.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import { earlierBoot } from './boot.ts'
import type { Owner } from './directory.ts'
import {
  anyAddress,
  type Candidate,
  candidates,
  describeSet,
  type RangeSet,
  rangeOf,
  segments,
  sizeOf,
} from './ranges.ts'
import {
  addressesOf,
  describeOwner,
  lastReserved,
  ownerOf,
  presenceOf,
  type Reservation,
  reserve,
  type Store,
  setLastReserved,
} from './store.ts'
import { takenIn } from './taken.ts'

export interface Wish {
  store: Store
  owner: Owner
  set: RangeSet
  /** Position of the set among all: round robin remembers by it. */
  position: number
  requested: Address | undefined
}

export interface Allocation extends Candidate {
  reservation: Reservation
}

/** An address that can be had; `replaces` where that means to replace a file. */
interface Vacancy extends Candidate {
  replaces?: boolean
}

/** Reserves one address for a wish, or says why there is none. */
export function allocate(wish: Wish): Allocation {
  const { store, position, requested } = wish
  if (requested) {
    const allocation = allocateRequested(wish, requested)
    setLastReserved(store, position, allocation.name)
    return allocation
  }
  const own = ownAgain(wish)
  if (own) return own
  const next = allocateNext(wish)
  setLastReserved(store, position, next.name)
  return next
}

function allocateRequested(wish: Wish, requested: Address): Allocation {
  const { store, set } = wish
  const range = rangeOf(set, requested)
  const name = formatAddress(requested)
  if (!range) throw new CniError(code.internal, `requested IP address ${name} is not in ${describeSet(set)}`)
  if (sameAddress(requested, range.gateway)) {
    throw new CniError(code.internal, `requested ip ${name} is subnet's gateway`)
  }
  const holder = ownerOf(store, name)
  const candidate = { name, range }
  if (holder === undefined) return take(wish, candidate)
  if (holder === 'nobody') return take(wish, ofNobody(wish, candidate))
  if (isAbandoned(store, name)) return takeOver(wish, candidate)
  throw new CniError(
    code.internal,
    `requested IP address ${name} is not available in range set ${describeSet(set)}`,
    { details: `${store.folder}/${name} reserves it for ${describeOwner(holder)}` },
  )
}

/** Reserved before the machine started, and on no link. */
function isAbandoned({ folder }: Store, name: string): boolean {
  const path = `${folder}/${name}`
  const found = status(path)
  return found !== undefined && earlierBoot()(path, found) && liveAddresses()?.has(name) === false
}

/** What the owner holds in this set already: its own again after a reboot, a second one that is forbidden otherwise. */
function ownAgain(wish: Wish): Allocation | undefined {
  const { store, owner, set } = wish
  for (const name of addressesOf(store, owner, 'if few')) {
    const address = parseAddress(name)
    const range = address && rangeOf(set, address)
    if (!range) continue
    if (isAbandoned(store, name)) return take(wish, { name, range, replaces: true })
    throw new CniError(
      code.internal,
      `${name} has been allocated to ${owner.containerId}, duplicate allocation is not allowed`,
      {
        details: `${store.folder}/${name} reserves it for this container and interface; DEL releases it`,
      },
    )
  }
  return undefined
}

/** How many names are tried one by one before the folder is listed: usually the first one is free. */
const TRIES = 64

function allocateNext(wish: Wish): Allocation {
  const { store, set, position } = wish
  const last = parseAddress(lastReserved(store, position))
  const candidate = firstOfFew(wish, last) ?? firstOfAll(wish, last)
  if (candidate) return take(wish, candidate)
  const reclaimable = findReclaimable(store.folder, set)
  if (reclaimable) return takeOver(wish, reclaimable)
  throw exhausted(store, set)
}

function firstOfFew(wish: Wish, last: Address | undefined): Vacancy | undefined {
  let tries = 0
  for (const candidate of candidates(wish.set, last)) {
    const presence = presenceOf(wish.store, candidate.name)
    if (presence === 'absent') return candidate
    if (presence === 'empty') return ofNobody(wish, candidate)
    if (++tries === TRIES) return undefined
  }
  return undefined
}

function firstOfAll({ store, set }: Wish, last: Address | undefined): Candidate | undefined {
  const taken = takenIn(store.folder, set)
  for (const segment of segments(set, last)) {
    const candidate = taken.firstFree(segment)
    if (candidate) return candidate
  }
  return undefined
}

function take({ store, owner }: Wish, { name, range, replaces = false }: Vacancy): Allocation {
  return { name, range, reservation: reserve(store, name, owner, replaces) }
}

function ofNobody({ store: { folder, warn } }: Wish, candidate: Candidate): Vacancy {
  warn(`host-local: ${folder}/${candidate.name} names no owner (a write was cut off): it counts as free\n`)
  return { ...candidate, replaces: true }
}

function takeOver(wish: Wish, candidate: Candidate): Allocation {
  const { store } = wish
  const holder = ownerOf(store, candidate.name)
  if (holder === undefined || holder === 'nobody') return take(wish, ofNobody(wish, candidate))
  store.warn(
    `host-local: ${candidate.name} was reserved for ${describeOwner(holder)} before the machine started, ` +
      'and no link has it: it is taken over\n',
  )
  return take(wish, { ...candidate, replaces: true })
}

/** So many reservations are looked at for one that nobody needs; from anywhere, so that the next call sees others. */
const LOOKED_AT = 250

/** In a set that is full: an address whose file is empty, or from before the machine started while no link has the address. */
export function findReclaimable(folder: string, set: RangeSet): Candidate | undefined {
  const isStale = earlierBoot()
  let live: ReturnType<typeof liveAddresses>
  let looked = 0
  for (const candidate of candidates(set, anyAddress(set))) {
    if (looked++ === LOOKED_AT) return undefined
    const path = `${folder}/${candidate.name}`
    const found = status(path)
    if (found?.size === 0) return candidate
    if (!found || !isStale(path, found)) continue
    live ??= liveAddresses()
    if (live?.has(candidate.name) === false) return candidate
  }
  return undefined
}

function exhausted({ folder }: Store, set: RangeSet): CniError {
  const size = sizeOf(set)
  return new CniError(
    code.internal,
    `no IP addresses available in range set: ${describeSet(set)}: ${size} of ${size} are in use`,
    { details: `each is reserved by a file of its name in ${folder}, which names its container` },
  )
}
