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
} from '../../chain/ip/address.ts'
import { widthOf } from '../../chain/ip/family.ts'
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

/** A container gets one address of each set. */
export type RangeSet = readonly Range[]

/** Where a range stands: its path in the configuration, and the place of its set among all. */
interface Where {
  path: string
  position: number
}

/** In the Go plugin's words, which count range sets from 0. */
const refuse = ({ path, position }: Where, reason: string) =>
  new CniError(code.invalidConfiguration, `${path}: invalid range set ${position}: ${reason}`)

const below = ({ path, position }: Where, key: string): Where => ({ path: `${path}.${key}`, position })

/** A range as its configuration says. */
function parseRange(range: RangeConfiguration, where: Where): Range {
  const subnet = parseSubnet(range.subnet, below(where, 'subnet'))
  const network = formatCidr(subnet)
  const first = addressAfter(subnet.address)
  const last = subnet.address.family === 4 ? addressAfter(lastOf(subnet), -1n) : lastOf(subnet)
  const within = (key: 'rangeStart' | 'rangeEnd', otherwise: Address) => {
    const given = parseOptional(range[key], below(where, key))
    if (!given || contains(subnet, given)) return given ?? otherwise
    const name = key === 'rangeStart' ? 'RangeStart' : 'RangeEnd'
    throw refuse(below(where, key), `${name} ${formatAddress(given)} not in network ${network}`)
  }
  const start = within('rangeStart', first)
  const end = within('rangeEnd', last)
  if (start.value > end.value) {
    throw refuse(
      below(where, 'rangeStart'),
      `RangeStart ${formatAddress(start)} not in network ${network} up to the range's end ${formatAddress(end)}`,
    )
  }
  // one outside the subnet is reached by the routes that go with it, as some providers have it
  return { subnet, start, end, gateway: parseOptional(range.gateway, below(where, 'gateway')) ?? first }
}

function parseSubnet(text: string | undefined, where: Where): Cidr {
  const subnet = text === undefined ? undefined : parseCidr(text)
  if (!subnet)
    throw refuse(where, `invalid CIDR address: ${text ?? 'none'}: must be a network such as 10.1.0.0/16`)
  if (!isNetwork(subnet)) {
    const network = formatAddress(networkOf(subnet).address)
    throw refuse(
      where,
      `Network has host bits set. For a subnet mask of length ${subnet.prefixLength} the network address is ${network}: got ${text}`,
    )
  }
  if (subnet.prefixLength > widthOf(subnet.address.family) - 2)
    throw refuse(where, `Network ${text} too small to allocate from`)
  return subnet
}

function parseOptional(text: string | undefined, where: Where): Address | undefined {
  if (text === undefined || text === '') return undefined
  const address = parseAddress(text)
  if (!address) throw refuse(where, `invalid IP address: ${text}`)
  return address
}

/** A range set as configured, and where it stands. */
export interface RangeSetSource {
  path: string
  ranges: readonly { path: string; range: RangeConfiguration }[]
}

/** A list of range sets as a configuration has it, at its path. */
export function sourcesAt(
  path: string,
  sets: readonly (readonly RangeConfiguration[])[] = [],
): RangeSetSource[] {
  return sets.map((set, index) => ({
    path: `${path}[${index}]`,
    ranges: set.map((range, position) => ({ path: `${path}[${index}][${position}]`, range })),
  }))
}

/** The range sets of a configuration, held against one another. */
export function parseRangeSets(sources: readonly RangeSetSource[]): RangeSet[] {
  const sets = sources.map(parseRangeSet)
  for (const [index, set] of sets.entries()) {
    const other = sets
      .slice(0, index)
      .findIndex(before => set.some(range => before.some(one => overlap(range, one))))
    if (other < 0) continue
    throw new CniError(
      code.invalidConfiguration,
      `${sources[index]?.path}: range set ${other} overlaps with ${index}: ${describeSet(set)} with ${describeSet(sets[other] ?? [])} of ${sources[other]?.path}`,
    )
  }
  return sets
}

function parseRangeSet({ path, ranges }: RangeSetSource, position: number): RangeSet {
  if (ranges.length === 0) throw refuse({ path, position }, 'empty range set')
  const parsed = ranges.map(({ range, path }) => parseRange(range, { path, position }))
  for (const [index, range] of parsed.entries()) {
    const where = { path: ranges[index]?.path ?? path, position }
    if (range.start.family !== parsed[0]?.start.family) {
      throw refuse(where, 'mixed address families: a container gets one address of each range set')
    }
    const before = parsed.slice(0, index).find(one => overlap(range, one))
    if (before) throw refuse(where, `subnets ${describeRange(before)} and ${describeRange(range)} overlap`)
  }
  return parsed
}

function overlap(one: Range, other: Range): boolean {
  if (one.start.family !== other.start.family) return false
  return one.start.value <= other.end.value && other.start.value <= one.end.value
}

function describeRange({ start, end }: Range): string {
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

/** Whether the gateway is one of the range's addresses, which is then not handed out. */
export function holdsGateway({ start, end, gateway }: Range): boolean {
  return gateway.family === start.family && start.value <= gateway.value && gateway.value <= end.value
}

/** An address that may be handed out, by its text: the name of its reservation. */
export interface Candidate {
  name: string
  range: Range
}

/** A part of a range, both ends included; empty when `to` is before `from`. */
export interface Segment {
  range: Range
  from: bigint
  to: bigint
}

/**
 * The order of round robin: from the address behind the last reserved to that itself. Without one that lies in the set, from
 * its beginning.
 */
export function segments(set: RangeSet, last: Address | undefined): Segment[] {
  const whole = (range: Range): Segment => ({ range, from: range.start.value, to: range.end.value })
  const home = last && rangeOf(set, last)
  if (!home) return set.map(whole)
  const position = set.indexOf(home)
  return [
    { range: home, from: last.value + 1n, to: home.end.value },
    ...[...set.slice(position + 1), ...set.slice(0, position)].map(whole),
    { range: home, from: home.start.value, to: last.value },
  ]
}

/** The addresses of a set in round robin, without gateways. Lazy: a /64 is never walked. */
export function* candidates(set: RangeSet, last: Address | undefined): Generator<Candidate> {
  for (const segment of segments(set, last)) yield* walk(segment)
}

/** Some address of a set, for those who look at a few from anywhere. */
export function anyAddress(set: RangeSet): Address | undefined {
  const range = set[Math.floor(Math.random() * set.length)]
  if (!range) return undefined
  const { start, end } = range
  const steps = Number(end.value - start.value) * Math.random()
  return { family: start.family, value: start.value + BigInt(Math.floor(steps)) }
}

/** Addresses that differ in their last part only share all text but that: 16 bits for IPv6, 8 for IPv4. */
export function* walk({ range, from, to }: Segment): Generator<Candidate> {
  const { family } = range.start
  const bits = family === 6 ? 16n : 8n
  const mask = (1n << bits) - 1n
  const gateway = range.gateway.family === family ? formatAddress(range.gateway) : undefined
  for (let value = from; value <= to; value = (value | mask) + 1n) {
    const head = formatAddress({ family, value: (value & ~mask) | 1n }).slice(0, -1)
    const first = Number(value & mask)
    const last = (value | mask) <= to ? Number(mask) : Number(to & mask)
    for (let low = first; low <= last; low++) {
      // an IPv6 address that ends in zeros may end in "::"
      const name =
        low === 0 && family === 6
          ? formatAddress({ family, value: value & ~mask })
          : head + low.toString(family === 6 ? 16 : 10)
      if (name !== gateway) yield { name, range }
    }
  }
}

/** An address that somebody asks for, and the key that names it. */
export interface Requested extends Address {
  path: string
}

/**
 * Which set each requested address belongs to. One address is handed out per set, so that whatever is left over cannot be
 * had; undefined stands for a set from which none is asked for.
 */
export function assign(
  sets: readonly RangeSet[],
  requested: readonly Requested[],
): (Requested | undefined)[] {
  const unique = requested.filter(
    (one, index) => requested.findIndex(each => sameAddress(each, one)) === index,
  )
  const assigned = sets.map(set => unique.find(address => rangeOf(set, address)))
  const left = unique.filter(address => !assigned.includes(address))
  if (left.length === 0) return assigned
  const paths = left.map(({ path }) => path).join(', ')
  throw new CniError(
    code.internal,
    `failed to allocate all requested IPs: ${left.map(formatAddress).join(' ')}`,
    {
      details: `asked for by ${paths}; each range set gives one address: ${sets.map(describeSet).join('; ')}`,
    },
  )
}
