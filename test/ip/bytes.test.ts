import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { Address4, Address6 } from 'ip-address'
import { addressBytes, addressText, coveredBits } from '../../chain/ip/bytes.ts'

const octets = fc.uint8Array({ minLength: 4, maxLength: 4 })
/** Zeros are frequent, since the shortening of runs of them is what goes wrong. */
const groups = fc.array(
  fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.integer({ min: 0, max: 0xffff })),
  {
    minLength: 8,
    maxLength: 8,
  },
)
const sixteen = groups.map(all => Uint8Array.from(all.flatMap(group => [group >> 8, group & 255])))

describe('beside the library ip-address', () => {
  test('IPv4 addresses are written and read alike', () => {
    fc.assert(
      fc.property(octets, bytes => {
        const text = addressText(bytes)
        expect(text).toBe(Address4.fromByteArray([...bytes]).correctForm())
        expect(addressBytes(text)).toEqual(bytes)
      }),
    )
  })

  test('IPv6 addresses are written and read alike, in every way to write them', () => {
    fc.assert(
      fc.property(sixteen, bytes => {
        const theirs = Address6.fromUnsignedByteArray([...bytes])
        expect(addressText(bytes)).toBe(theirs.correctForm())
        for (const text of [
          theirs.correctForm(),
          theirs.canonicalForm(),
          theirs.to4in6(),
          theirs.correctForm().toUpperCase(),
        ]) {
          expect(addressBytes(text)).toEqual(bytes)
        }
      }),
      { numRuns: 500 },
    )
  })

  test('what is no IPv6 address for one is none for the other', () => {
    const piece = fc.constantFrom(
      '0',
      '1',
      'f',
      '12',
      'ffff',
      '10000',
      'g',
      ':',
      ':',
      '::',
      '.',
      '1.2.3.4',
      '256',
      '-',
      ' ',
      '',
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), pieces => {
        const text = pieces.join('')
        fc.pre(text.includes(':') && !/[/%]/.test(text))
        expect([text, isAddress(text)]).toEqual([text, Address6.isValid(text)])
      }),
      { numRuns: 5000 },
    )
  })
})

function isAddress(text: string): boolean {
  try {
    addressBytes(text)
    return true
  } catch (thrown) {
    if (thrown instanceof RangeError) return false
    throw thrown
  }
}

test.each([
  '',
  '1.2.3',
  '1.2.3.4.5',
  '1.2.3.256',
  '01.2.3.4', // octal elsewhere: refused rather than misread (CVE-2021-29923)
  '1.2.3.4/24',
  ' 1.2.3.4',
  '1.2.3.4\n',
  '1.2.3.-4',
  '0x1.2.3.4',
  '1::2::3',
  ':::',
  ':1:2:3:4:5:6:7:8',
  '1:2:3:4:5:6:7',
  '1:2:3:4:5:6:7:8:9',
  '1:2:3:4:5:6:7:8::',
  '12345::',
  'fe80::1%eth0',
  '::1.2.3.4:5',
  '1.2.3.4::',
  '::1.2.3.256',
  'localhost',
])('%j is not an internet address', text => {
  expect(() => addressBytes(text)).toThrow(
    new RangeError(`${JSON.stringify(text)} is not an internet address`),
  )
})

test.each([
  ['0:0:0:0:0:0:0:0', '::'],
  ['0:0:0:0:0:0:0:1', '::1'],
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'], // RFC 5952, 4.2.3: of two runs as long, the first
  ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'], // 4.2.2: a single group is not shortened
  ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'], // 4.2.3: the longest run
  ['2001:DB8::AAAA', '2001:db8::aaaa'], // 4.3: lower case
])('%s is written as RFC 5952 wants: %s', (text, canonical) => {
  expect(addressText(addressBytes(text))).toBe(canonical)
})

test('bytes that are no address are refused', () => {
  expect(() => addressText(new Uint8Array(5))).toThrow('4 or 16 bytes, not 5')
})

test('a prefix covers the first bits of an address, byte by byte', () => {
  const covered = (prefixLength: number) => [0, 1, 2, 3].map(at => coveredBits(prefixLength, at))
  expect(covered(0)).toEqual([0, 0, 0, 0])
  expect(covered(1)).toEqual([0x80, 0, 0, 0])
  expect(covered(15)).toEqual([0xff, 0xfe, 0, 0])
  expect(covered(24)).toEqual([0xff, 0xff, 0xff, 0])
  expect(covered(32)).toEqual([0xff, 0xff, 0xff, 0xff])
})
