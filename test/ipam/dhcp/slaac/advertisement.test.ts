/** Router advertisements as bytes: what they say, and what of them is passed over or refused. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { addressBytes } from '../../../../chain/ip/bytes.ts'
import { PacketError } from '../../../../ipam/dhcp/codec.ts'
import { decodeFrame, encodeFrame, icmpType } from '../../../../ipam/dhcp/link/neighbour.ts'
import {
  decodeAdvertisement,
  encodeSolicitation,
  prefixText,
} from '../../../../ipam/dhcp/slaac/advertisement.ts'

const router = { hardware: '02:00:00:00:00:fe', address: 'fe80::1' }
const everybody = { hardware: '33:33:00:00:00:01', address: 'ff02::1' }

const seconds = (value: number) => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255]
const head = (flags = 0, lifetime = 1800) => [
  icmpType.routerAdvertisement,
  0,
  0,
  0,
  64,
  flags,
  lifetime >> 8,
  lifetime & 255,
  ...Array(8).fill(0),
]

/** What an advertisement with some options says. */
function read(options: readonly number[] = [], { flags = 0, lifetime = 1800, source = router } = {}) {
  const message = Uint8Array.from([...head(flags, lifetime), ...options])
  return decodeAdvertisement(encodeFrame({ source, destination: everybody, message }))
}

const prefixOption = (prefix: string, { length = 64, flags = 0xc0, valid = 100, preferred = 50 } = {}) => [
  ...[3, 4, length, flags],
  ...[...seconds(valid), ...seconds(preferred), 0, 0, 0, 0],
  ...addressBytes(prefix),
]

test('its flags, its lifetime and whose it is are read', () => {
  expect(read()).toMatchObject({
    router: 'fe80::1',
    lifetimeSeconds: 1800,
    preference: 0,
    managed: false,
    other: false,
  })
  expect(read([], { flags: 0x80 | 0x08, lifetime: 0 })).toMatchObject({
    managed: true,
    other: false,
    preference: 1,
    lifetimeSeconds: 0,
  })
  expect(read([], { flags: 0x40 | 0x18 })).toMatchObject({ managed: false, other: true, preference: -1 })
  expect(read([], { flags: 0x10 })?.preference).toBe(0) // reserved (RFC 4191, 2.2)
})

describe('a prefix', () => {
  test('is read with its flags and times, without the bits behind it', () => {
    expect(
      read(prefixOption('fd00:9::7', { flags: 0x40, valid: 0xffffffff, preferred: 50 }))?.prefixes,
    ).toEqual([
      {
        prefix: 'fd00:9::',
        length: 64,
        onLink: false,
        autonomous: true,
        validSeconds: Number.POSITIVE_INFINITY,
        preferredSeconds: 50,
      },
    ])
  })

  test.each([
    ['link-local', prefixOption('fe80::')],
    ['multicast', prefixOption('ff02::')],
    ['preferred for longer than it is valid', prefixOption('fd00::', { valid: 10, preferred: 11 })],
    ['longer than an address', prefixOption('fd00::', { length: 129 })],
    ['of another length than its option has', [3, 1, 64, 0xc0, 0, 0, 0, 0]],
  ])('that is %s is passed over, and what follows is not', (_, option) => {
    expect(read([...option, ...prefixOption('fd00:9::')])?.prefixes.map(({ prefix }) => prefix)).toEqual([
      'fd00:9::',
    ])
  })
})

describe('other options', () => {
  test.each([
    ['an MTU', [5, 1, 0, 0, ...seconds(1400)], { mtu: 1400 }],
    ['an MTU that no link of IPv6 has', [5, 1, 0, 0, ...seconds(1279)], {}],
    [
      'a route of 48 bits in an option of 16 bytes',
      [24, 2, 48, 0x08, ...seconds(600), ...addressBytes('2001:db8:7::').subarray(0, 8)],
      { routes: [{ destination: '2001:db8:7::/48', preference: 1, lifetimeSeconds: 600 }] },
    ],
    [
      'the default route',
      [24, 1, 0, 0, ...seconds(600)],
      { routes: [{ destination: '::/0', preference: 0, lifetimeSeconds: 600 }] },
    ],
    [
      'a route that its option has no room for',
      [24, 2, 65, 0, ...seconds(600), ...Array(8).fill(1)],
      { routes: [] },
    ],
    ['a route of the reserved preference', [24, 1, 0, 0x10, ...seconds(600)], { routes: [] }],
    [
      'name servers',
      [25, 5, 0, 0, ...seconds(60), ...addressBytes('fd00::53'), ...addressBytes('fd00::54')],
      { nameServers: ['fd00::53', 'fd00::54'].map(value => ({ value, lifetimeSeconds: 60 })) },
    ],
    [
      'a search list',
      [31, 3, 0, 0, ...seconds(0xffffffff), 3, ...Buffer.from('lan'), 0, ...Array(11).fill(0)],
      { search: [{ value: 'lan', lifetimeSeconds: Number.POSITIVE_INFINITY }] },
    ],
    ['one that is unknown', [200, 1, 1, 2, 3, 4, 5, 6], {}],
  ])('%s', (_, option, expected) => {
    const { router: _router, lifetimeSeconds, preference, managed, other, ...found } = read(option) ?? {}
    expect<object>(found).toEqual({ prefixes: [], routes: [], nameServers: [], search: [], ...expected })
  })
})

test.each([
  ['of length zero', [3, 0, 64, 0xc0, 0, 0, 0, 0]],
  ['that goes beyond its end', [3, 4, 64, 0xc0, 0, 0, 0, 0]],
  ['without a length', [3]],
])('an advertisement with an option %s is refused as a whole', (_, option) => {
  expect(() => read([...prefixOption('fd00:9::'), ...option])).toThrow(PacketError)
})

test('one that is not a link-local neighbour’s, or too short, is refused; another message is none', () => {
  expect(() => read([], { source: { ...router, address: 'fd00::1' } })).toThrow(
    'fd00::1 is not a link-local address',
  )
  const short = encodeFrame({
    source: router,
    destination: everybody,
    message: Uint8Array.from(head().slice(0, 15)),
  })
  expect(() => decodeAdvertisement(short)).toThrow('15 bytes of a router advertisement')
  const other = Uint8Array.from(head())
  other[0] = icmpType.neighbourAdvertisement
  expect(
    decodeAdvertisement(encodeFrame({ source: router, destination: everybody, message: other })),
  ).toBeUndefined()
})

test('options of any bytes are read, passed over, or refused as malformed', () => {
  const option = fc.tuple(
    fc.constantFrom(1, 3, 5, 24, 25, 31, 77),
    fc.nat(5),
    fc.uint8Array({ maxLength: 40 }),
  )
  fc.assert(
    fc.property(fc.array(option, { maxLength: 4 }), options => {
      try {
        const found = read(options.flatMap(([type, length, rest]) => [type, length, ...rest]))
        for (const { prefix, length } of found?.prefixes ?? [])
          expect(prefixText(addressBytes(prefix), length)).toBe(prefix)
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(PacketError)
      }
    }),
    { numRuns: 1000 },
  )
})

test('a solicitation tells who asks, once that has an address', () => {
  const read = (address: string) => decodeFrame(encodeSolicitation('02:00:00:00:00:01', address))
  const own = read('fe80::5')
  expect(own).toMatchObject({
    source: { address: 'fe80::5' },
    destination: { hardware: '33:33:00:00:00:02', address: 'ff02::2' },
  })
  expect([...(own?.message.subarray(8) ?? [])]).toEqual([1, 1, 2, 0, 0, 0, 0, 1])
  expect(read('::')?.message).toHaveLength(8) // RFC 4861, 4.1: no source address, no option
})

test('bits behind a prefix are cleared, whatever its length', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.nat(128), (bytes, length) => {
      const bits = (each: Uint8Array) => [...each].map(byte => byte.toString(2).padStart(8, '0')).join('')
      const text = prefixText(bytes, length) ?? ''
      expect(bits(addressBytes(text))).toBe(bits(bytes).slice(0, length).padEnd(128, '0'))
    }),
  )
  expect(prefixText(new Uint8Array(16), 129)).toBeUndefined()
})
