/** Chooses one address of a range set, under the network's lock: the one asked for, the one had before a reboot, or the next. */

import { type Address, formatAddress, formatCidr, parseAddress, sameAddress } from '../../chain/ip/address.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import { agesOfFiles } from './boot.ts'
import { liveAddresses } from './live-addresses.ts'
import { occupancyOf } from './occupancy.ts'
import { isKnownFull, noteFull, type Owner } from './owner-index.ts'
import {
  anyAddress,
  type Candidate,
  candidates,
  describeSet,
  type RangeSet,
  type Requested,
  rangeOf,
  segments,
  sizeOf,
} from './ranges.ts'
import {
  addressesOf,
  describeOwner,
  isUnknownCrowd,
  lastReserved,
  ownerOf,
  presenceOf,
  type Reservation,
  reserve,
  type Store,
  setLastReserved,
} from './store.ts'

export interface AllocationSpec {
  store: Store
  owner: Owner
  set: RangeSet
  /** Position of the set among all: round robin remembers by it. */
  position: number
  requested: Requested | undefined
}

export interface Allocation extends Candidate {
  reservation: Reservation
}

/** What is about to be reserved; `replaces` where there is a file. */
interface Vacancy extends Candidate {
  replaces?: boolean
}

/** Reserves one address for a spec, or says why there is none. */
export function allocate(spec: AllocationSpec): Allocation {
  if (spec.requested) return allocateRequested(spec, spec.requested)
  // before all files are read: that there is none is known sooner
  if (isUnknownCrowd(spec.store)) findNext(spec)
  return ownAgain(spec) ?? allocateNext(spec)
}

function allocateRequested(spec: AllocationSpec, requested: Requested): Allocation {
  const { store, set } = spec
  const range = rangeOf(set, requested)
  const name = formatAddress(requested)
  const refuse = (message: string, reason: string) =>
    new CniError(code.internal, message, { details: `${requested.path} asks for it; ${reason}` })
  if (!range) throw refuse(`requested IP address ${name} is not in ${describeSet(set)}`, 'no range holds it')
  if (sameAddress(requested, range.gateway)) {
    throw refuse(`requested ip ${name} is subnet's gateway`, `of ${formatCidr(range.subnet)}`)
  }
  const owner = ownerOf(store, name)
  const candidate = { name, range }
  if (owner === undefined) return takeNext(spec, candidate)
  if (owner === 'unowned') return takeNext(spec, unowned(spec, candidate))
  if (isAbandoned(store, name)) return takeNext(spec, takenOver(spec, candidate))
  throw refuse(
    `requested IP address ${name} is not available in range set ${describeSet(set)}`,
    `${store.folder}/${name} reserves it for ${describeOwner(owner)}`,
  )
}

/** Reserved before the machine started, and on no link. */
function isAbandoned({ folder }: Store, name: string): boolean {
  const age = agesOfFiles()(`${folder}/${name}`)
  return age === 'of an earlier boot' && liveAddresses()?.has(name) === false
}

/** What the owner holds in this set already: its own again after a reboot, a second one that is forbidden otherwise. */
function ownAgain(spec: AllocationSpec): Allocation | undefined {
  const { store, owner, set } = spec
  for (const name of addressesOf(store, owner)) {
    const address = parseAddress(name)
    const range = address && rangeOf(set, address)
    if (!range) continue
    if (isAbandoned(store, name)) return take(spec, { name, range, replaces: true })
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

function allocateNext(spec: AllocationSpec): Allocation {
  const { candidate, hasFile } = findNext(spec)
  return takeNext(spec, hasFile ? takenOver(spec, candidate) : candidate)
}

/** An address that can be had; `hasFile` where that means to replace one that has an owner, or is unowned. */
interface Found {
  candidate: Candidate
  hasFile: boolean
}

/** The address that comes next; in a full set one that is not needed any more. Changes nothing. Throws when there is none. */
function findNext(spec: AllocationSpec): Found {
  const { store, set } = spec
  const free = isKnownFull(store.index, identify(set)) ? undefined : findFree(spec)
  if (free) return free
  const reclaimable = findReclaimable(store.folder, set)
  if (reclaimable) return { candidate: reclaimable, hasFile: true }
  noteFull(store.index, identify(set))
  throw exhausted(store, set)
}

/** A text that no other set has. */
function identify(set: RangeSet): string {
  return `${describeSet(set)} ${set.map(({ gateway }) => formatAddress(gateway)).join()}`
}

function findFree(spec: AllocationSpec): Found | undefined {
  const last = parseAddress(lastReserved(spec.store, spec.position))
  return firstOfFew(spec, last) ?? firstOfAll(spec, last)
}

/** How many names are tried one by one before the folder is listed: usually the first one is free. */
const TRIES = 64

function firstOfFew({ store, set }: AllocationSpec, last: Address | undefined): Found | undefined {
  let tries = 0
  for (const candidate of candidates(set, last)) {
    const presence = presenceOf(store, candidate.name)
    if (presence !== 'taken') return { candidate, hasFile: presence === 'empty' }
    if (++tries === TRIES) return undefined
  }
  return undefined
}

function firstOfAll({ store, set }: AllocationSpec, last: Address | undefined): Found | undefined {
  const taken = occupancyOf(store.folder, set)
  for (const segment of segments(set, last)) {
    const candidate = taken.firstFree(segment)
    if (candidate) return { candidate, hasFile: false }
  }
  return undefined
}

function take({ store, owner }: AllocationSpec, { name, range, replaces = false }: Vacancy): Allocation {
  return { name, range, reservation: reserve(store, { address: name, owner, replaces }) }
}

/** Where round robin stands is written first: when that is refused, as on a full disk, nothing is reserved. */
function takeNext(spec: AllocationSpec, vacancy: Vacancy): Allocation {
  setLastReserved(spec.store, spec.position, vacancy.name)
  return take(spec, vacancy)
}

function unowned({ store: { folder, warn } }: AllocationSpec, candidate: Candidate): Vacancy {
  warn(`host-local: ${folder}/${candidate.name} names no owner (a write was cut off): it counts as free\n`)
  return { ...candidate, replaces: true }
}

function takenOver(spec: AllocationSpec, candidate: Candidate): Vacancy {
  const { store } = spec
  const owner = ownerOf(store, candidate.name)
  if (owner === undefined) return candidate
  if (owner === 'unowned') return unowned(spec, candidate)
  store.warn(
    `host-local: ${candidate.name} was reserved for ${describeOwner(owner)} before the machine started, ` +
      'and no link has it: it is taken over\n',
  )
  return { ...candidate, replaces: true }
}

/** So many reservations are looked at for one that is not needed; from anywhere, so that the next call sees others. */
const LOOKED_AT = 32

/**
 * In a set that is full: an address whose file is empty, or from before the machine started while no link has the address. One
 * that is not among those looked at is found by the DEL that follows a refusal, which may take its time.
 */
export function findReclaimable(folder: string, set: RangeSet): Candidate | undefined {
  const ageOf = agesOfFiles()
  let live: ReturnType<typeof liveAddresses>
  let looked = 0
  for (const candidate of candidates(set, anyAddress(set))) {
    if (looked++ === LOOKED_AT) return undefined
    const age = ageOf(`${folder}/${candidate.name}`)
    if (age === 'empty') return candidate
    if (age !== 'of an earlier boot') continue
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
