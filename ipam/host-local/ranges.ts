/** Ranges and range sets of host-local: what a configuration means, and which address comes next. Pure. */
import {
  type Address,
  addressAfter,
  type Cidr,
  contains,
  formatAddress,
  formatCidr,
  isNetwork,
  lastOf,
  networkOf,
  parseAddress,
  parseCidr,
  sameAddress,
  widthOf,
} from '../../chain/protocol/address.ts'
import { CniError, code } from '../../chain/protocol/error.ts'

export interface RangeConfiguration {
  subnet?: string | undefined
  rangeStart?: string | undefined
  rangeEnd?: string | undefined
  gateway?: string | undefined
}

export interface Range {
  subnet: Cidr
  /** First and last address, both included. */
  start: Address
  end: Address
  gateway: Address
}

export type RangeSet = readonly Range[]

const refuse = (path: string, reason: string) => new CniError(code.invalidConfiguration, `${path}: ${reason}`)

/** A range as its configuration says; `path` is where that stands. */
export function parseRange(range: RangeConfiguration, path: string): Range {
  const subnet = parseSubnet(range.subnet, `${path}.subnet`)
  const first = addressAfter(subnet.address)
  const last = subnet.address.family === 4 ? addressAfter(lastOf(subnet), -1n) : lastOf(subnet)
  const within = (key: 'rangeStart' | 'rangeEnd', otherwise: Address) => {
    const given = parseOptional(range[key], `${path}.${key}`)
    if (given && !contains(subnet, given)) {
      throw refuse(`${path}.${key}`, `${formatAddress(given)} is not in network ${formatCidr(subnet)}`)
    }
    return given ?? otherwise
  }
  const start = within('rangeStart', first)
  const end = within('rangeEnd', last)
  if (start.value > end.value) {
    throw refuse(
      `${path}.rangeStart`,
      `${formatAddress(start)} is behind the range's end ${formatAddress(end)}`,
    )
  }
  return { subnet, start, end, gateway: parseOptional(range.gateway, `${path}.gateway`) ?? first }
}

function parseSubnet(text: string | undefined, path: string): Cidr {
  const subnet = text === undefined ? undefined : parseCidr(text)
  if (!subnet)
    throw refuse(
      path,
      `must be a network with prefix, such as 10.1.0.0/16: got ${JSON.stringify(text ?? null)}`,
    )
  if (!isNetwork(subnet)) {
    throw refuse(path, `has host bits set: ${text} lies in network ${formatCidr(networkOf(subnet))}`)
  }
  if (subnet.prefixLength > widthOf(subnet.address.family) - 2)
    throw refuse(path, `${text} is too small to allocate from`)
  return subnet
}

function parseOptional(text: string | undefined, path: string): Address | undefined {
  if (text === undefined || text === '') return undefined
  const address = parseAddress(text)
  if (!address) throw refuse(path, `must be an address: got ${JSON.stringify(text)}`)
  return address
}

/** The range sets of a configuration, held against one another; `paths` says where each stands. */
export function parseRangeSets(
  sets: readonly (readonly RangeConfiguration[])[],
  paths: readonly string[],
): RangeSet[] {
  if (sets.length === 0) throw refuse('ipam.ranges', 'no IP ranges specified')
  const parsed = sets.map((set, index) => parseRangeSet(set, paths[index] ?? ''))
  for (const [index, set] of parsed.entries()) {
    for (const [other, before] of parsed.slice(0, index).entries()) {
      if (set.some(range => before.some(one => overlap(range, one)))) {
        throw refuse(
          paths[index] ?? '',
          `overlaps with ${paths[other]}: range set ${index} overlaps with ${other}`,
        )
      }
    }
  }
  return parsed
}

function parseRangeSet(set: readonly RangeConfiguration[], path: string): RangeSet {
  if (set.length === 0) throw refuse(path, 'empty range set')
  const ranges = set.map((range, index) => parseRange(range, `${path}[${index}]`))
  for (const [index, range] of ranges.entries()) {
    for (const [other, before] of ranges.slice(0, index).entries()) {
      if (before.subnet.address.family !== range.subnet.address.family)
        throw refuse(`${path}[${index}]`, 'mixed address families')
      if (overlap(range, before)) {
        throw refuse(
          `${path}[${index}]`,
          `subnets ${describeRange(before)} and ${describeRange(range)} overlap (range ${other})`,
        )
      }
    }
  }
  return ranges
}

function overlap(one: Range, other: Range): boolean {
  if (one.start.family !== other.start.family) return false
  return one.start.value <= other.end.value && other.start.value <= one.end.value
}

export function describeRange({ start, end }: Range): string {
  return `${formatAddress(start)}-${formatAddress(end)}`
}

export function describeSet(set: RangeSet): string {
  return set.map(describeRange).join(',')
}

/** The range of a set that an address lies in. */
export function rangeOf(set: RangeSet, address: Address): Range | undefined {
  return set.find(
    ({ start, end }) =>
      start.family === address.family && start.value <= address.value && address.value <= end.value,
  )
}

/** How many addresses a set hands out: its ranges without their gateways. */
export function sizeOf(set: RangeSet): bigint {
  return set.reduce(
    (size, range) => size + range.end.value - range.start.value + (holdsGateway(range) ? 0n : 1n),
    0n,
  )
}

function holdsGateway({ start, end, gateway }: Range): boolean {
  return gateway.family === start.family && start.value <= gateway.value && gateway.value <= end.value
}

/**
 * The addresses of a set in round robin: from the one behind the last reserved to that itself. Without one that lies in
 * the set, from its beginning. Gateways are passed over. Lazy: a /64 is never walked.
 */
export function* candidates(
  set: RangeSet,
  last: Address | undefined,
): Generator<{ address: Address; range: Range }> {
  const from = last === undefined ? -1 : set.findIndex(range => rangeOf([range], last) !== undefined)
  const beginning = from < 0 || last === undefined ? undefined : last
  const order = from < 0 ? [...set] : [...set.slice(from + 1), ...set.slice(0, from)]
  const home = from < 0 ? undefined : set[from]
  if (home && beginning) yield* walk(home, beginning.value + 1n, home.end.value)
  for (const range of order) yield* walk(range, range.start.value, range.end.value)
  if (home && beginning) yield* walk(home, home.start.value, beginning.value)
}

function* walk(range: Range, from: bigint, to: bigint): Generator<{ address: Address; range: Range }> {
  for (let value = from; value <= to; value++) {
    const address: Address = { family: range.start.family, value }
    if (!sameAddress(address, range.gateway)) yield { address, range }
  }
}
