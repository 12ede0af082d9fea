/** nft's datatypes: their numbers and bytes, and what is left to nft. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { addressText } from '../../../chain/ip/bytes.ts'
import {
  commentData,
  datatypeNamed,
  datatypes,
  keyTypeOf,
  OnlyNft,
  padded,
  prefixBytes,
  typesIn,
} from '../../../chain/linux/nftables/type.ts'

const hex = (name: keyof typeof datatypes, value: string | number) => datatypes[name].encode(value).toHex()

describe('values', () => {
  test.each([
    ['ipv4_addr', '10.1.0.2', '0a010002'],
    ['ipv6_addr', 'fd00::2', 'fd000000000000000000000000000002'],
    ['ether_addr', '02:00:00:00:00:0a', '02000000000a'],
    ['inet_proto', 'tcp', '06'],
    ['inet_proto', 'sctp', '84'],
    ['inet_proto', 47, '2f'],
    ['inet_proto', '255', 'ff'],
    ['inet_service', 80, '0050'],
    ['inet_service', '65535', 'ffff'],
    ['ifname', 'eth0', '65746830000000000000000000000000'],
    ['ifname', 'fifteen-bytes-0', '6669667465656e2d62797465732d3000'],
  ] as const)('of %s: %p is %s', (name, value, bytes) => {
    expect(hex(name, value)).toBe(bytes)
    expect(datatypes[name].encode(value)).toHaveLength(datatypes[name].length)
  })

  test.each([
    ['inet_service', 65536],
    ['inet_service', -1],
    ['inet_service', 80.5],
    ['inet_service', 'http'],
    ['inet_proto', 256],
    ['inet_proto', 'gre'],
    ['inet_proto', -1],
    ['ifname', 'eth*'],
    ['ifname', 'sixteen-bytes-16'],
    ['ifname', 'üüüüüüüü'],
  ] as const)('of %s: %p is left to nft', (name, value) => {
    expect(() => datatypes[name].encode(value)).toThrow(OnlyNft)
  })
})

test('a key’s type is its parts, and each of them has a number of its own', () => {
  const all = Object.values(datatypes)
  expect(new Set(all.map(({ number }) => number)).size).toBe(all.length)
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...all), { minLength: 1, maxLength: 5 }), parts => {
      expect(typesIn(keyTypeOf(parts))).toEqual(parts)
    }),
  )
})

test('types that are not known are left to nft, by name and by number', () => {
  for (const name of ['mark', 'toString', '']) expect(() => datatypeNamed(name)).toThrow(OnlyNft)
  expect(() => typesIn(19)).toThrow(OnlyNft) // mark
  expect(typesIn(0)).toEqual([])
})

test('a part of a concatenation fills whole registers', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 20 }), bytes => {
      const whole = padded(bytes)
      expect(whole.length % 4).toBe(0)
      expect(whole.length - bytes.length).toBeLessThan(4)
      expect(whole.subarray(0, bytes.length)).toEqual(bytes)
      expect(whole.subarray(bytes.length).every(byte => byte === 0)).toBe(true)
    }),
  )
})

test('a prefix has as many ones in its mask as it is long', () => {
  const ones = (mask: Uint8Array) => [...mask].map(byte => byte.toString(2).padStart(8, '0')).join('')
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.nat(128), (bytes, len) => {
      const { start, mask } = prefixBytes({ prefix: { addr: addressText(bytes), len } }, datatypes.ipv6_addr)
      expect(start).toEqual(bytes)
      expect(ones(mask)).toBe('1'.repeat(len).padEnd(128, '0'))
    }),
  )
  expect(() => prefixBytes({ range: ['10.0.0.1', '10.0.0.9'] }, datatypes.ipv4_addr)).toThrow(OnlyNft)
  expect(() => prefixBytes('10.0.0.1', datatypes.ipv4_addr)).toThrow(OnlyNft)
})

test('a comment has its zero, and as many bytes as nft takes', () => {
  expect(commentData('mine').toHex()).toBe('00056d696e6500')
  expect(commentData('x'.repeat(128))).toHaveLength(131)
  expect(() => commentData('x'.repeat(129))).toThrow(OnlyNft)
  expect(() => commentData('ü'.repeat(65))).toThrow(OnlyNft)
})
