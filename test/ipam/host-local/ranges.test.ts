import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { type Address, formatAddress, parseAddress } from '../../../chain/ip/address.ts'
import {
  assign,
  candidates,
  describeSet,
  parseRangeSets,
  type RangeConfiguration,
  rangeOf,
  sizeOf,
  sourcesAt,
} from '../../../ipam/host-local/ranges.ts'

const parse = (sets: RangeConfiguration[][]) => parseRangeSets(sourcesAt('ipam.ranges', sets))
const first = (sets: RangeConfiguration[][]) => parse(sets)[0] ?? []
const address = (text: string) => parseAddress(text) as Address
const requests = (texts: string[]) =>
  texts.map((text, index) => ({ ...address(text), path: `args.cni.ips[${index}]` }))

test.each([
  { subnet: '10.1.2.0/24', expected: '10.1.2.1-10.1.2.254', gateway: '10.1.2.1', size: 253n },
  { subnet: '10.1.2.0/30', expected: '10.1.2.1-10.1.2.2', gateway: '10.1.2.1', size: 1n },
  {
    subnet: '10.1.2.0/24',
    rangeStart: '10.1.2.0',
    expected: '10.1.2.0-10.1.2.254',
    gateway: '10.1.2.1',
    size: 254n,
  },
  {
    subnet: '10.1.2.0/24',
    rangeEnd: '10.1.2.255',
    expected: '10.1.2.1-10.1.2.255',
    gateway: '10.1.2.1',
    size: 254n,
  },
  {
    subnet: '10.1.2.0/24',
    rangeStart: '10.1.2.10',
    rangeEnd: '10.1.2.20',
    expected: '10.1.2.10-10.1.2.20',
    gateway: '10.1.2.1',
    size: 11n,
  },
  { subnet: 'fd00::/126', expected: 'fd00::1-fd00::3', gateway: 'fd00::1', size: 2n },
  {
    subnet: 'FD00:0::/64',
    expected: 'fd00::1-fd00::ffff:ffff:ffff:ffff',
    gateway: 'fd00::1',
    size: (1n << 64n) - 2n,
  },
])('$subnet from $rangeStart to $rangeEnd hands out $expected', ({ expected, gateway, size, ...range }) => {
  const set = first([[range]])
  expect({
    text: describeSet(set),
    gateway: set.map(one => formatAddress(one.gateway)),
    size: sizeOf(set),
  }).toEqual({
    text: expected,
    gateway: [gateway],
    size,
  })
})

test.each([
  ['no subnet', [[{}]], 'ipam.ranges[0][0].subnet: invalid range set 0: invalid CIDR address: none'],
  [
    'an address for a subnet',
    [[{ subnet: '10.1.2.0' }]],
    'ipam.ranges[0][0].subnet: invalid range set 0: invalid CIDR address: 10.1.2.0: must be a network',
  ],
  [
    'host bits',
    [[{ subnet: '10.1.2.3/24' }]],
    'ipam.ranges[0][0].subnet: invalid range set 0: Network has host bits set. For a subnet mask of length 24 the network address is 10.1.2.0: got 10.1.2.3/24',
  ],
  [
    'too small',
    [[{ subnet: '10.1.2.0/31' }]],
    'ipam.ranges[0][0].subnet: invalid range set 0: Network 10.1.2.0/31 too small to allocate from',
  ],
  [
    'too small',
    [[{ subnet: 'fd00::/127' }]],
    'ipam.ranges[0][0].subnet: invalid range set 0: Network fd00::/127 too small to allocate from',
  ],
  [
    'a start outside',
    [[{ subnet: '10.1.2.0/24', rangeStart: '10.1.3.1' }]],
    'ipam.ranges[0][0].rangeStart: invalid range set 0: RangeStart 10.1.3.1 not in network 10.1.2.0/24',
  ],
  [
    'an end outside',
    [[{ subnet: '10.1.2.0/24', rangeEnd: 'fd00::1' }]],
    'ipam.ranges[0][0].rangeEnd: invalid range set 0: RangeEnd fd00::1 not in network 10.1.2.0/24',
  ],
  [
    'an end before the start',
    [[{ subnet: '10.1.2.0/24', rangeStart: '10.1.2.9', rangeEnd: '10.1.2.8' }]],
    "ipam.ranges[0][0].rangeStart: invalid range set 0: RangeStart 10.1.2.9 not in network 10.1.2.0/24 up to the range's end 10.1.2.8",
  ],
  [
    'no address',
    [[{ subnet: '10.1.2.0/24', rangeStart: 'ten' }]],
    'ipam.ranges[0][0].rangeStart: invalid range set 0: invalid IP address: ten',
  ],
  [
    'a gateway that is none',
    [[{ subnet: '10.1.2.0/24', gateway: '10.1.3' }]],
    'ipam.ranges[0][0].gateway: invalid range set 0: invalid IP address: 10.1.3',
  ],
  ['an empty set', [[{ subnet: '10.1.2.0/24' }], []], 'ipam.ranges[1]: invalid range set 1: empty range set'],
  [
    'families mixed',
    [[{ subnet: '10.1.2.0/24' }, { subnet: 'fd00::/64' }]],
    'ipam.ranges[0][1]: invalid range set 0: mixed address families',
  ],
  [
    'ranges that overlap',
    [[{ subnet: '10.1.2.0/24' }, { subnet: '10.1.0.0/16' }]],
    'ipam.ranges[0][1]: invalid range set 0: subnets 10.1.2.1-10.1.2.254 and 10.1.0.1-10.1.255.254 overlap',
  ],
  [
    'sets that overlap',
    [[{ subnet: '10.1.2.0/24' }], [{ subnet: '10.1.2.0/25' }]],
    'ipam.ranges[1]: range set 0 overlaps with 1: 10.1.2.1-10.1.2.126 with 10.1.2.1-10.1.2.254 of ipam.ranges[0]',
  ],
] as [string, RangeConfiguration[][], string][])('%s is refused: %#', (_, sets, message) => {
  expect(() => parse(sets)).toThrow(message)
})

test.each([
  [{ subnet: '10.1.2.0/24', gateway: '169.254.1.1' }],
  [{ subnet: '203.0.113.16/28', gateway: '198.51.100.254' }],
  [{ subnet: '10.1.2.0/24', gateway: 'fd00::1' }],
  [{ subnet: 'fd00::/64', gateway: 'fe80::1' }],
])('a link-local gateway is reached whatever the subnet: %o', range => {
  expect(first([[range]]).map(one => formatAddress(one.gateway))).toEqual([range.gateway])
})

describe('round robin', () => {
  const set = first([
    [
      { subnet: '10.1.0.0/24', rangeStart: '10.1.0.250', rangeEnd: '10.1.0.252', gateway: '10.1.0.251' },
      { subnet: '10.2.0.0/24', rangeStart: '10.2.0.1', rangeEnd: '10.2.0.3', gateway: '10.2.0.3' },
    ],
  ])
  test.each([
    ['from the beginning', undefined, ['10.1.0.250', '10.1.0.252', '10.2.0.1', '10.2.0.2']],
    [
      'from behind the last, which comes last',
      '10.1.0.252',
      ['10.2.0.1', '10.2.0.2', '10.1.0.250', '10.1.0.252'],
    ],
    ['over the end of the last range', '10.2.0.2', ['10.1.0.250', '10.1.0.252', '10.2.0.1', '10.2.0.2']],
    [
      'from the beginning when the last is of no range',
      '10.9.0.1',
      ['10.1.0.250', '10.1.0.252', '10.2.0.1', '10.2.0.2'],
    ],
  ])('goes %s', (_, last, expected) => {
    const found = [...candidates(set, last === undefined ? undefined : address(last))]
    expect(found.map(({ name }) => name)).toEqual(expected)
  })
})

const anyRange = fc
  .record({
    six: fc.boolean(),
    base: fc.bigInt({ min: 0n, max: (1n << 32n) - 1n }),
    bits: fc.integer({ min: 2, max: 9 }),
    low: fc.integer({ min: 0, max: 511 }),
    high: fc.integer({ min: 0, max: 511 }),
    last: fc.option(fc.integer({ min: 0, max: 511 }), { nil: undefined }),
  })
  .map(({ six, base, bits, low, high, last }) => {
    const hosts = 1n << BigInt(bits)
    const network = six ? ((0xfd00n << 112n) | (base << 8n)) & ~(hosts - 1n) : base & ~(hosts - 1n)
    const at = (offset: number) =>
      formatAddress({ family: six ? 6 : 4, value: network + (BigInt(offset) & (hosts - 1n)) })
    const [start, end] = [low, high]
      .map(each => BigInt(each) & (hosts - 1n))
      .toSorted((a, b) => Number(a - b))
    const range = {
      subnet: `${at(0)}/${(six ? 128 : 32) - bits}`,
      rangeStart: at(Number(start)),
      rangeEnd: at(Number(end)),
    }
    return { range, last: last === undefined ? undefined : at(last) }
  })

test('whatever the range and the last address, each address but the gateway comes once, and all are of the range', () => {
  fc.assert(
    fc.property(anyRange, ({ range, last }) => {
      const set = first([[range]])
      const names = [...candidates(set, last === undefined ? undefined : address(last))].map(
        ({ name }) => name,
      )
      expect(new Set(names).size).toBe(names.length)
      expect(BigInt(names.length)).toBe(sizeOf(set))
      for (const name of names) {
        const parsed = address(name)
        expect(formatAddress(parsed)).toBe(name)
        expect(rangeOf(set, parsed)).toBeDefined()
        expect(parsed.value).not.toBe(set[0]?.gateway.value as bigint)
      }
    }),
    { numRuns: 300 },
  )
})

test('the first addresses of a /64 come without walking it', () => {
  const set = first([[{ subnet: 'fd00::/64' }]])
  const walk = candidates(set, address('fd00::fffe'))
  expect([walk.next(), walk.next(), walk.next()].map(({ value }) => (value ? value.name : ''))).toEqual([
    'fd00::ffff',
    'fd00::1:0',
    'fd00::1:1',
  ])
})

test.each([
  ['one of each set', ['10.1.0.5', 'fd00::5'], ['10.1.0.5', 'fd00::5']],
  ['one of them', ['fd00::5'], [undefined, 'fd00::5']],
  ['the same one from two places', ['10.1.0.5', '10.1.0.5'], ['10.1.0.5', undefined]],
] as [string, string[], (string | undefined)[]][])(
  'requested addresses find their sets: %s',
  (_, requested, expected) => {
    const sets = parse([[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00::/64' }]])
    const assigned = assign(sets, requests(requested))
    expect(assigned.map(each => each && formatAddress(each))).toEqual(expected)
  },
)

test.each([
  ['outside of all sets', ['10.9.0.1'], '10.9.0.1'],
  ['two of one set', ['10.1.0.5', '10.1.0.6'], '10.1.0.6'],
])('requested addresses that cannot be had are named: %s', (_, requested, left) => {
  const sets = parse([[{ subnet: '10.1.0.0/24' }]])
  expect(() => assign(sets, requests(requested))).toThrow(`failed to allocate all requested IPs: ${left}`)
})
