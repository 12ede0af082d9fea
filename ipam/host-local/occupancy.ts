/** Which addresses of a range set have a file, from the folder's names alone, for folders that are nearly full. */

import { parseAddress } from '../../chain/ip/address.ts'
import { listFolder, scanFolder } from '../../chain/linux/files.ts'
import {
  type Candidate,
  holdsGateway,
  type Range,
  type RangeSet,
  rangeOf,
  type Segment,
  walk,
} from './ranges.ts'

export interface Occupancy {
  /** How many addresses of the set have a file; gateways do not count. */
  count: number
  /** The first address of a segment without one. */
  firstFree(segment: Segment): Candidate | undefined
}

/** A byte for each address is quick; above this (a /8) a set of names is smaller. */
const LARGEST_MAP = 1 << 24

/** Reads the names of a folder once. */
export function occupancyOf(folder: string, set: RangeSet): Occupancy {
  const isSmall = ({ start, end }: Range) =>
    end.value - start.value < LARGEST_MAP && start.value >> 32n === end.value >> 32n
  return set.every(isSmall) ? takenAsMap(folder, set) : takenAsNames(folder, set)
}

/** A range by the last 32 bits of its addresses, and what is before these. */
interface RangeMap {
  range: Range
  head: Uint16Array
  first: number
  last: number
  /** 1 for an address that is taken. */
  map: Uint8Array
}

function mapOf(range: Range): RangeMap {
  const low = (value: bigint) => Number(value & 0xffffffffn)
  const first = low(range.start.value)
  const last = low(range.end.value)
  const map = new Uint8Array(last - first + 1)
  if (holdsGateway(range)) map[low(range.gateway.value) - first] = 1
  const shifts = range.start.family === 6 ? [112n, 96n, 80n, 64n, 48n, 32n] : []
  const head = Uint16Array.from(shifts, shift => Number((range.start.value >> shift) & 0xffffn))
  return { range, head, first, last, map }
}

/** No name becomes a string, of which 65,000 would take 30 ms. */
function takenAsMap(folder: string, set: RangeSet): Occupancy {
  const maps = set.map(mapOf)
  const count = set[0]?.start.family === 6 ? markIpv6(folder, maps) : markIpv4(folder, maps)
  return {
    count,
    firstFree({ range, from, to }) {
      const found = maps.find(each => each.range === range)
      const offset = found?.map.indexOf(0, Number(from - range.start.value)) ?? -1
      const value = range.start.value + BigInt(offset)
      return offset < 0 || value > to ? undefined : walk({ range, from: value, to: value }).next().value
    },
  }
}

/** Marks an address that has a file; how many that are new. */
function mark({ first, last, map }: RangeMap, low: number): 0 | 1 {
  if (low < first || low > last || map[low - first] === 1) return 0
  map[low - first] = 1
  return 1
}

function markIpv4(folder: string, maps: readonly RangeMap[]): number {
  let count = 0
  scanFolder(folder, (bytes, start) => {
    const address = ipv4At(bytes, start)
    for (const map of maps) count += mark(map, address)
  })
  return count
}

function markIpv6(folder: string, maps: readonly RangeMap[]): number {
  const groups = new Uint16Array(8)
  let count = 0
  scanFolder(folder, (bytes, start) => {
    if (!ipv6At(bytes, start, groups)) return
    const low = (groups[6] ?? 0) * 65536 + (groups[7] ?? 0)
    for (const map of maps) if (startsWith(groups, map.head)) count += mark(map, low)
  })
  return count
}

function startsWith(groups: Uint16Array, head: Uint16Array): boolean {
  for (let index = 0; index < head.length; index++) if (groups[index] !== head[index]) return false
  return true
}

const DOT = 0x2e
const ZERO = 0x30

/** The number of an IPv4 address in text that a zero ends; -1 for anything else. */
export function ipv4At(bytes: Uint8Array, start: number): number {
  let value = 0
  let part = 0
  let dots = 0
  for (let at = start; ; at++) {
    const byte = bytes[at] ?? 0
    if (part > 255) return -1
    if (byte === 0) return dots === 3 ? value * 256 + part : -1
    if (byte === DOT) {
      value = value * 256 + part
      part = 0
      dots++
    } else if (byte >= ZERO && byte <= ZERO + 9) part = part * 10 + byte - ZERO
    else return -1
  }
}

const COLON = 0x3a

/** The groups of an IPv6 address in text that a zero ends; false for anything else. */
export function ipv6At(bytes: Uint8Array, start: number, groups: Uint16Array): boolean {
  let index = 0
  let value = 0
  let digits = 0
  let gap = -1
  for (let at = start; ; at++) {
    const byte = bytes[at] ?? 0
    if (byte === 0 || byte === COLON) {
      if (digits > 0) groups[index++] = value
      if (byte === 0) break
      value = digits = 0
      if (bytes[at + 1] === COLON) gap = index
    } else {
      const digit = hexadecimal(byte)
      if (digit < 0 || index > 7) return false
      value = value * 16 + digit
      digits++
    }
  }
  if (gap < 0) return index === 8
  groups.copyWithin(8 - (index - gap), gap, index)
  groups.fill(0, gap, 8 - (index - gap))
  return index < 8
}

function hexadecimal(byte: number): number {
  if (byte >= ZERO && byte <= ZERO + 9) return byte - ZERO
  return byte >= 0x61 && byte <= 0x66 ? byte - 0x61 + 10 : -1 // a to f: names are in lower case
}

function takenAsNames(folder: string, set: RangeSet): Occupancy {
  const names = new Set(listFolder(folder) ?? [])
  const isOfSet = (name: string) => {
    const address = parseAddress(name)
    const range = address && rangeOf(set, address)
    return range !== undefined && address?.value !== range.gateway.value
  }
  return {
    get count() {
      return Array.from(names).filter(isOfSet).length
    },
    firstFree(segment) {
      for (const candidate of walk(segment)) if (!names.has(candidate.name)) return candidate
      return undefined
    },
  }
}
