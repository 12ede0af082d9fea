import { expect, test } from 'bun:test'
import { mkdirSync, writeFileSync } from 'node:fs'
import fc from 'fast-check'
import { formatAddress, parseAddress } from '../../../chain/ip/address.ts'
import { ipv4At, ipv6At, occupancyOf } from '../../../ipam/host-local/occupancy.ts'
import { candidates, parseRangeSets, segments, sourcesAt } from '../../../ipam/host-local/ranges.ts'
import { dataFolder } from './fixture.ts'

const setOf = (...subnets: string[]) =>
  parseRangeSets(sourcesAt('ranges', [subnets.map(subnet => ({ subnet }))]))[0] ?? []

test('any IPv4 address in bytes is the number that it is', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 0xffffffffn }), value => {
      const text = formatAddress({ family: 4, value })
      expect(ipv4At(Buffer.from(`xx${text}\0`), 2)).toBe(Number(value))
    }),
  )
})

test('any IPv6 address in bytes is the groups that it is', () => {
  const group = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff }))
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), expected => {
      const value = expected.reduce((all, each) => (all << 16n) | BigInt(each), 0n)
      const groups = new Uint16Array(8).fill(0xffff)
      const isAddress = ipv6At(Buffer.from(`${formatAddress({ family: 6, value })}\0`), 0, groups)
      expect({ isAddress, groups: [...groups] }).toEqual({ isAddress: true, groups: expected })
    }),
    { numRuns: 1000 },
  )
})

test.each([
  'lock',
  'last_reserved_ip.0',
  '.catena-10.1.2.3',
  '10.1.2',
  '10.1.2.256',
  '10.300.2.1',
  'fd00:1',
  'fd00::g',
  '1:2:3:4:5:6:7:8:9',
  '',
])('the name %p is no address', name => {
  const bytes = Buffer.from(`${name}\0`)
  expect({ four: ipv4At(bytes, 0), six: ipv6At(bytes, 0, new Uint16Array(8)) }).toEqual({
    four: -1,
    six: false,
  })
})

test.each([
  ['IPv4', ['10.1.2.0/26', '10.9.0.0/28']],
  ['IPv6', ['fd00::/122', 'fd00:0:0:1::/124']],
  ['too large for a map', ['fd00::/64']],
])('the first address without a file is the first of round robin without one: %s', (_, subnets) => {
  const set = setOf(...subnets)
  const some = [...take(candidates(set, undefined), 90)].map(({ name }) => name)
  fc.assert(
    fc.property(fc.subarray(some), fc.constantFrom(undefined, ...some), (taken, last) => {
      using folder = dataFolder()
      const network = `${folder.path}/test-net`
      mkdirSync(network)
      for (const name of [...taken, 'lock', 'last_reserved_ip.0', '10.77.0.1'])
        writeFileSync(`${network}/${name}`, '')
      const from = last === undefined ? undefined : parseAddress(last)
      const { count, firstFree } = occupancyOf(network, set)
      let found: string | undefined
      for (const segment of segments(set, from)) found ??= firstFree(segment)?.name
      let expected: string | undefined
      for (const { name } of take(candidates(set, from), 1000)) if (!taken.includes(name)) expected ??= name
      expect({ count, found }).toEqual({ count: taken.length, found: expected })
    }),
    { numRuns: 60 },
  )
})

function* take<T>(values: Iterable<T>, count: number): Generator<T> {
  let taken = 0
  for (const value of values) {
    if (taken++ === count) return
    yield value
  }
}
