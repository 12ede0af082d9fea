/** Which addresses of a range set have a file, from the folder's names alone, for folders that are nearly full. */
import { listFolder, scanFolder } from '../../chain/linux/files.ts'
import { parseAddress } from '../../chain/protocol/address.ts'
import {
  type Candidate,
  holdsGateway,
  type Range,
  type RangeSet,
  rangeOf,
  type Segment,
  walk,
} from './ranges.ts'

export interface Taken {
  /** How many addresses of the set have a file; gateways do not count. */
  count: number
  /** The first address of a segment without one. */
  firstFree(segment: Segment): Candidate | undefined
}

/** A byte for each address is quick; above this (a /8) a set of names is smaller. */
const LARGEST_MAP = 1 << 24

/** Reads the names of a folder once. */
export function takenIn(folder: string, set: RangeSet): Taken {
  const isSmall = ({ start, end }: Range) => start.family === 4 && end.value - start.value < LARGEST_MAP
  return set.every(isSmall) ? takenAsMap(folder, set) : takenAsNames(folder, set)
}

/** IPv4: no name becomes a string, of which 65,000 would take 30 ms. */
function takenAsMap(folder: string, set: RangeSet): Taken {
  const maps = set.map(range => {
    const first = Number(range.start.value)
    const last = Number(range.end.value)
    const map = new Uint8Array(last - first + 1)
    if (holdsGateway(range)) map[Number(range.gateway.value) - first] = 1
    return { range, first, last, map }
  })
  let count = 0
  scanFolder(folder, (bytes, start) => {
    const address = ipv4At(bytes, start)
    for (const { first, last, map } of maps) {
      if (address < first || address > last || map[address - first] === 1) continue
      map[address - first] = 1
      count++
    }
  })
  return {
    count,
    firstFree({ range, from, to }) {
      const found = maps.find(each => each.range === range)
      const offset = found?.map.indexOf(0, Number(from) - found.first) ?? -1
      if (!found || offset < 0 || found.first + offset > Number(to)) return undefined
      const value = BigInt(found.first + offset)
      return walk({ range, from: value, to: value }).next().value ?? undefined
    },
  }
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
    if (byte === 0) return dots === 3 ? value * 256 + part : -1
    if (byte === DOT) {
      value = value * 256 + part
      part = 0
      dots++
    } else if (byte >= ZERO && byte <= ZERO + 9) part = part * 10 + byte - ZERO
    else return -1
  }
}

function takenAsNames(folder: string, set: RangeSet): Taken {
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
