/** Addresses in text and as numbers, held against a library and against what Go takes. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { Address4, Address6 } from 'ip-address'
import {
  type Address,
  addressAfter,
  contains,
  formatAddress,
  formatCidr,
  isNetwork,
  lastOf,
  networkOf,
  overlaps,
  parseAddress,
  parseCidr,
} from '../../chain/ip/address.ts'
import { widthOf } from '../../chain/ip/family.ts'

const four = fc.bigInt({ min: 0n, max: 2n ** 32n - 1n }).map((value): Address => ({ family: 4, value }))

/** Groups that are often zero, since that is what the short form is about. */
const group = fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: 0xffffn }))
const six = fc
  .array(group, { minLength: 8, maxLength: 8 })
  .map((groups): Address => ({ family: 6, value: groups.reduce((sum, each) => (sum << 16n) | each, 0n) }))
  .filter(({ value }) => value >> 32n !== 0xffffn)
const any = fc.oneof(four, six)
const network = any.chain(address =>
  fc.nat({ max: widthOf(address.family) }).map(prefixLength => ({ address, prefixLength })),
)

/** The library's short form keeps a single group of zeros as "0" and takes the first of the longest runs, as RFC 5952 wants. */
const canonical = ({ family, value }: Address) =>
  family === 4 ? Address4.fromBigInt(value).correctForm() : Address6.fromBigInt(value).correctForm()

describe('against the library', () => {
  test('every address has the same text', () => {
    fc.assert(fc.property(any, address => expect(formatAddress(address)).toBe(canonical(address))))
  })

  test('every text leads back to its address, the long and the upper-case form too', () => {
    fc.assert(
      fc.property(any, address => {
        expect(parseAddress(formatAddress(address))).toEqual(address)
        if (address.family === 4) return
        const long = Address6.fromBigInt(address.value).canonicalForm()
        expect(parseAddress(long.toUpperCase())).toEqual(address)
      }),
    )
  })

  test('networks have the same first and last address', () => {
    fc.assert(
      fc.property(network, cidr => {
        const text = formatCidr(cidr)
        const theirs = cidr.address.family === 4 ? new Address4(text) : new Address6(text)
        expect(networkOf(cidr).address.value).toBe(theirs.startAddress().bigInt())
        expect(lastOf(cidr).value).toBe(theirs.endAddress().bigInt())
      }),
    )
  })

  test('what ours takes for IPv6, the library takes as well', () => {
    const noise = fc.string({ unit: fc.constantFrom(...'0123456789abcdefF:.%/'), maxLength: 24 })
    fc.assert(
      fc.property(noise, text => {
        const parsed = parseAddress(text)
        if (!parsed) return
        expect(text.includes(':') ? Address6.isValid(text) : Address4.isValid(text)).toBe(true)
      }),
      { numRuns: 5000 },
    )
  })
})

test('a network contains its first and last address and not their neighbours', () => {
  fc.assert(
    fc.property(network, cidr => {
      const first = networkOf(cidr).address
      const last = lastOf(cidr)
      expect([first, last].map(address => contains(cidr, address))).toEqual([true, true])
      if (cidr.prefixLength === 0) return
      expect(contains(cidr, addressAfter(last))).toBe(false)
      expect(contains(cidr, addressAfter(first, -1n))).toBe(false)
    }),
  )
})

test('networks overlap exactly when one contains the first address of the other', () => {
  fc.assert(
    fc.property(network, network, (one, other) => {
      const expected = contains(one, networkOf(other).address) || contains(other, networkOf(one).address)
      expect(overlaps(one, other)).toBe(expected)
      expect(overlaps(one, networkOf(one))).toBe(true)
    }),
  )
})

test.each([
  ['10.1.0.5', '10.1.0.5'],
  ['::ffff:10.1.0.5', '10.1.0.5'],
  ['::FFFF:0a01:0005', '10.1.0.5'],
  ['::', '::'],
  ['2001:DB8::0:1', '2001:db8::1'],
  ['1:2:3:4:5:6:7.8.9.10', '1:2:3:4:5:6:708:90a'],
  ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
  ['1:0:0:2:3:0:0:4', '1::2:3:0:0:4'],
  ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
])('%s is %s', (text, expected) => {
  const parsed = parseAddress(text)
  expect(parsed && formatAddress(parsed)).toBe(expected)
})

test.each([
  '',
  '10.1.0',
  '10.1.0.256',
  '10.1.0.05',
  '10.1.0.5 ',
  '10.1.0.-5',
  '0x0a.1.0.5',
  '1:2:3:4:5:6:7',
  '1:2:3:4:5:6:7:8:9',
  '1::2::3',
  '1::2:3:4:5:6:7:8',
  ':1:2:3:4:5:6:7',
  ':::',
  '12345::',
  'fe80::1%eth0',
  '1.2.3.4::',
  '::1.2.3.4:5',
])('%p is no address', text => {
  expect(parseAddress(text)).toBeUndefined()
})

test.each([
  '10.1.0.5',
  '10.1.0.5/',
  '10.1.0.5/33',
  '10.1.0.5/033',
  '10.1.0.5/-1',
  '10.1.0.5/0x8',
  '10.1.0.5/ 8',
  '::1/129',
  '::ffff:10.1.0.5/95',
  '::ffff:10.1.0.5/129',
  '/24',
  'x/8',
])('%p is no address with prefix', text => {
  expect(parseCidr(text)).toBeUndefined()
})

test.each([
  ['10.1.0.5/024', '10.1.0.5/24'],
  ['10.1.0.5/0000000', '10.1.0.5/0'],
  ['fd00::5/0064', 'fd00::5/64'],
  ['::ffff:10.1.0.5/120', '10.1.0.5/24'],
  ['::ffff:10.1.0.5/16', '10.1.0.5/16'],
])('%p is read as Go reads it: %p', (text, canonical) => {
  const cidr = parseCidr(text)
  expect(cidr && formatCidr(cidr)).toBe(canonical)
})

test.each([
  ['10.1.0.5/16', '10.1.0.5/16', false],
  ['10.1.0.0/16', '10.1.0.0/16', true],
  ['FD00:0::/64', 'fd00::/64', true],
  ['0.0.0.0/0', '0.0.0.0/0', true],
])('%s keeps its host bits: %s, a network: %p', (text, expected, whole) => {
  const parsed = parseCidr(text)
  expect(parsed && [formatCidr(parsed), isNetwork(parsed)]).toEqual([expected, whole])
})
