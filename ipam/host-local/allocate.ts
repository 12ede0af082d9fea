/** Chooses one address of a range set, under the network's lock: the one asked for, the one had before a reboot, or the next. */
import { liveAddresses } from '../../chain/linux/live-addresses.ts'
import { type Address, formatAddress, parseAddress, sameAddress } from '../../chain/protocol/address.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import { earlierBoot } from './boot.ts'
import type { Owner } from './directory.ts'
import { type Candidate, candidates, describeSet, type RangeSet, rangeOf, sizeOf } from './ranges.ts'
import {
  addressesOf,
  describeOwner,
  lastReserved,
  ownerOf,
  presenceOf,
  type Reservation,
  reserve,
  reservedNames,
  type Store,
  setLastReserved,
} from './store.ts'

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
  if (holder === 'nobody') return takeFromNobody(wish, candidate)
  if (isAbandoned(store, name)) return takeOver(wish, candidate)
  throw new CniError(
    code.internal,
    `requested IP address ${name} is not available in range set ${describeSet(set)}`,
    { details: `${store.folder}/${name} reserves it for ${describeOwner(holder)}` },
  )
}

/** Reserved before the machine started, and on no link. */
function isAbandoned({ folder }: Store, name: string): boolean {
  return earlierBoot()(`${folder}/${name}`) && liveAddresses()?.has(name) === false
}

/** What the owner holds in this set already: its own again after a reboot, a second one that is forbidden otherwise. */
function ownAgain(wish: Wish): Allocation | undefined {
  const { store, owner, set } = wish
  for (const name of addressesOf(store, owner, 'if few')) {
    const address = parseAddress(name)
    const range = address && rangeOf(set, address)
    if (!range) continue
    if (isAbandoned(store, name)) return take(wish, { name, range }, true)
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
  let tries = 0
  let listed: Set<string> | undefined
  for (const candidate of candidates(set, parseAddress(lastReserved(store, position)))) {
    if (listed?.has(candidate.name)) continue
    const presence = presenceOf(store, candidate.name)
    if (presence === 'absent') return take(wish, candidate)
    if (presence === 'empty') return takeFromNobody(wish, candidate)
    if (++tries === TRIES) listed = new Set(reservedNames(store))
  }
  const reclaimable = findReclaimable(store, set)
  if (reclaimable) return takeOver(wish, reclaimable)
  throw exhausted(store, set)
}

function take({ store, owner }: Wish, candidate: Candidate, replaced = false): Allocation {
  return { ...candidate, reservation: reserve(store, candidate.name, owner, replaced) }
}

function takeFromNobody(wish: Wish, candidate: Candidate): Allocation {
  const { folder, warn } = wish.store
  warn(`host-local: ${folder}/${candidate.name} names no owner (a write was cut off): it counts as free\n`)
  return take(wish, candidate, true)
}

function takeOver(wish: Wish, candidate: Candidate): Allocation {
  const { store } = wish
  const holder = ownerOf(store, candidate.name)
  if (holder === undefined || holder === 'nobody') return takeFromNobody(wish, candidate)
  store.warn(
    `host-local: ${candidate.name} was reserved for ${describeOwner(holder)} before the machine started, ` +
      'and no link has it: it is taken over\n',
  )
  return take(wish, candidate, true)
}

/** So many reservations are looked at for one that nobody needs; from anywhere, so that the next call sees others. */
const LOOKED_AT = 1500

/** In a set that is full: an address whose file is torn, or from before the machine started while no link has the address. */
export function findReclaimable(store: Pick<Store, 'folder'>, set: RangeSet): Candidate | undefined {
  const all = [...candidates(set, undefined)]
  const start = all.length > LOOKED_AT ? Math.floor(Math.random() * all.length) : 0
  const isStale = earlierBoot()
  let live: ReturnType<typeof liveAddresses>
  for (const candidate of [...all.slice(start), ...all.slice(0, start)].slice(0, LOOKED_AT)) {
    if (ownerOf(store, candidate.name) === 'nobody') return candidate
    if (!isStale(`${store.folder}/${candidate.name}`)) continue
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
