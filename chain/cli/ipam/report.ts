/** The addresses of a node: who has which, how many are left, and how long they last. */

import { type Address, formatAddress, formatCidr, parseAddress } from '../../ip/address.ts'
import { widthOf } from '../../ip/family.ts'
import { nameIn } from '../../linux/files.ts'
import type { Attachment, Label, NodeModel } from '../../observe/model.ts'
import type { Pool } from '../../plugin/define.ts'
import type { PoolFolder } from './pools.ts'

/** An address that is kept for a container. `leaked`: no container has it any more; `unknown`: the signs contradict. */
export interface Held {
  address: string
  state: 'live' | 'leaked' | 'unknown'
  containerId?: string
  ifname?: string
  /** What people call the container: a pod, a namespace, the beginning of its ID. */
  name: string
  runtime?: string
  /** When it was given: ISO 8601. */
  since: string
  evidence: string[]
}

export interface RangeReport {
  subnet: string
  first: string
  last: string
  gateway: string
  /** How many can be had; numbers beyond 2^53 are rounded. */
  size: number
  used: number
  live: number
  leaked: number
  unknown: number
  free: number
  /** Of the subnet, what is not given: the gateway, the network's and the broadcast address, what the range leaves out. */
  reserved: number
  /** Addresses an hour, given and still held; absent where too few are to tell. */
  perHour?: number
  /** When nothing is free at this rate: ISO 8601. */
  fullAt?: string
}

export interface NetworkReport {
  network: string
  folder: string
  /** Configuration files, or "a cache"; none where the folder is all that is left. */
  sources: string[]
  ranges: RangeReport[]
  /** How many of the addresses are in no range. */
  outside: number
  addresses: Held[]
  problems: string[]
}

export interface IpamReport {
  shape: 'catena-ipam-1'
  /** When it was read: ISO 8601. */
  at: string
  networks: NetworkReport[]
  /** What could not be looked at; what depends on it is `unknown`. */
  unreadable: string[]
}

type Reservation = NodeModel['reservations'][number]

/** The model of a node as addresses see it. */
export function ipamReport(node: NodeModel, folders: readonly PoolFolder[], now: number): IpamReport {
  const known = new Set(folders.map(({ folder }) => folder))
  const others = [...new Set(node.reservations.map(folderOf))].filter(folder => !known.has(folder))
  const left = others.map(folder => ({
    network: nameIn(folder),
    folder,
    sources: [],
    pools: [],
    problems: [],
  }))
  const networks = [...folders, ...left].map(folder => networkReport(folder, { node, now }))
  return {
    shape: 'catena-ipam-1',
    at: timeOf(now),
    networks: networks.toSorted((one, other) => one.network.localeCompare(other.network)),
    unreadable: node.unreadable,
  }
}

const timeOf = (milliseconds: number) => new Date(milliseconds).toISOString()

const folderOf = ({ path }: Reservation) => path.slice(0, path.lastIndexOf('/'))

function networkReport(
  { pools, ...head }: PoolFolder,
  { node, now }: { node: NodeModel; now: number },
): NetworkReport {
  const held = node.reservations.filter(each => folderOf(each) === head.folder)
  const placed = held.map(reservation => ({ reservation, address: parseAddress(reservation.address) }))
  const within = (pool: Pool) => placed.filter(({ address }) => address && isIn(pool, address))
  const inside = new Set(pools.flatMap(within))
  const byValue = placed.toSorted(({ address: one }, { address: other }) => compare(one, other))
  return {
    ...head,
    ranges: pools.map(pool =>
      rangeReport(
        pool,
        within(pool).map(({ reservation }) => reservation),
        now,
      ),
    ),
    outside: placed.length - inside.size,
    addresses: byValue.map(({ reservation }) => heldOf(reservation, node.attachments)),
  }
}

function compare(one: Address | undefined, other: Address | undefined): number {
  if (!one || !other) return Number(Boolean(other)) - Number(Boolean(one))
  if (one.family !== other.family) return one.family - other.family
  return one.value < other.value ? -1 : 1
}

const isIn = ({ first, last }: Pool, { family, value }: Address) =>
  first.family === family && first.value <= value && value <= last.value

const states: Readonly<Record<Label, Held['state']>> = {
  live: 'live',
  orphan: 'leaked',
  foreign: 'unknown',
  unknown: 'unknown',
}

function heldOf(reservation: Reservation, attachments: readonly Attachment[]): Held {
  const { address, containerId, ifname, modified, label, evidence } = reservation
  const owner =
    attachments.find(each => each.containerId === containerId && (!ifname || each.ifname === ifname)) ??
    attachments.find(each => each.addresses.some(one => one.split('/')[0] === address))
  return {
    address,
    state: states[label],
    ...(containerId ? { containerId } : {}),
    ...(ifname ? { ifname } : {}),
    name: owner?.name ?? containerId ?? '',
    ...(owner?.runtime ? { runtime: owner.runtime } : {}),
    since: timeOf(modified),
    evidence,
  }
}

function rangeReport(pool: Pool, held: readonly Reservation[], now: number): RangeReport {
  const { subnet, first, last, gateway, size } = pool
  const count = (state: Held['state']) => held.filter(({ label }) => states[label] === state).length
  const used = held.length - (held.some(({ address }) => address === formatAddress(gateway)) ? 1 : 0)
  const free = Math.max(Number(size - BigInt(used)), 0)
  const whole = 1n << BigInt(widthOf(subnet.address.family) - subnet.prefixLength)
  const rate = rateOf(held.map(({ modified }) => now - modified))
  return {
    subnet: formatCidr(subnet),
    first: formatAddress(first),
    last: formatAddress(last),
    gateway: formatAddress(gateway),
    size: Number(size),
    used,
    live: count('live'),
    leaked: count('leaked'),
    unknown: count('unknown'),
    free,
    reserved: Number(whole - size),
    ...(rate === undefined ? {} : { perHour: Number((rate * HOUR).toPrecision(3)) }),
    ...fullAt(free, rate, now),
  }
}

const HOUR = 3_600_000
/** The last hour, day and week: the first in which enough was given says how fast it goes. */
const WINDOWS = [HOUR, 24 * HOUR, 7 * 24 * HOUR]
const ENOUGH = 3

/**
 * How many of those that are held now were given in a while, per millisecond. What was given and freed meanwhile has cost
 * nothing, and is not seen.
 */
export function rateOf(ages: readonly number[]): number | undefined {
  for (const window of WINDOWS) {
    const young = ages.filter(age => age <= window).length
    if (young >= ENOUGH) return young / window
  }
  return undefined
}

const LATEST = 8.64e15 // the last moment that a Date can be

function fullAt(free: number, rate: number | undefined, now: number): { fullAt?: string } {
  if (free === 0) return { fullAt: timeOf(now) }
  const at = rate === undefined ? Number.POSITIVE_INFINITY : now + free / rate
  return at < LATEST ? { fullAt: timeOf(at) } : {}
}
