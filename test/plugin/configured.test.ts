/** What is derived from configuration: routes, name servers and modes, and how the rest is refused. */
import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { configuredDns, configuredRoutes, modeNumber } from '../../chain/plugin/configured.ts'
import { dns, routes } from '../../chain/plugin/schema.ts'
import { parseResult } from '../../chain/protocol/result.ts'

const read = (given: unknown) => configuredRoutes(routes.parse(given))

test.each([
  { name: 'a destination alone', given: { dst: '0.0.0.0/0' }, result: { dst: '0.0.0.0/0' } },
  {
    name: 'host bits of a destination stay',
    given: { dst: '10.1.2.3/16' },
    result: { dst: '10.1.2.3/16' },
  },
  {
    name: 'IPv6 in any spelling',
    given: { dst: 'FD00:0:0::1/64', gw: 'fd00::1' },
    result: { dst: 'fd00::1/64', gw: 'fd00::1' },
  },
  { name: 'an empty gateway is none', given: { dst: '10.0.0.0/8', gw: '' }, result: { dst: '10.0.0.0/8' } },
  {
    name: 'numbers, zero too',
    given: { dst: '10.0.0.0/8', mtu: 1400, advmss: 1360, priority: 0, table: 100, scope: 253 },
    result: { dst: '10.0.0.0/8', mtu: 1400, advmss: 1360, priority: 0, table: 100, scope: 253 },
  },
  {
    name: 'keys that are unknown are left out',
    given: { dst: '10.0.0.0/8', metric: 7 },
    result: { dst: '10.0.0.0/8' },
  },
])('$name', ({ given, result }) => {
  expect(read([given])).toEqual([result])
})

test('none named, none there', () => {
  expect(read(undefined)).toEqual([])
})

test.each([
  [{ dst: '10.0.0.0' }, 'invalid CIDR address: 10.0.0.0: must be a network with prefix'],
  [{ dst: '10.0.0.0/33' }, 'invalid CIDR address: 10.0.0.0/33'],
  [{ dst: '' }, 'invalid CIDR address: '],
  [{ dst: '10.0.0.0/8', gw: '10.0.0.1/8' }, 'invalid IP address: 10.0.0.1/8'],
])('%j is refused: %s', (given, words) => {
  expect(() => routes.parse([given])).toThrow(words)
})

test('a route without a destination, and numbers that are none, are refused', () => {
  for (const given of [{}, { dst: '10.0.0.0/8', mtu: '1400' }, { dst: '10.0.0.0/8', priority: 1.5 }])
    expect(routes.safeParse([given]).success).toBe(false)
})

const octets = (count: number) => fc.tuple(...Array.from({ length: count }, () => fc.nat(255)))
const inet4 = octets(4).map(parts => parts.join('.'))

test('whatever is taken can stand in a result, and is the same when it is read from there', () => {
  const given = fc.record(
    {
      dst: fc.tuple(inet4, fc.nat(32)).map(([address, length]) => `${address}/${length}`),
      gw: inet4,
      mtu: fc.nat(65535),
      priority: fc.nat(),
      table: fc.nat(),
    },
    { requiredKeys: ['dst'] },
  )
  fc.assert(
    fc.property(fc.array(given, { maxLength: 4 }), all => {
      const result = read(all)
      expect(parseResult({ cniVersion: '1.1.0', routes: result }, '1.1.0').routes).toEqual(result)
    }),
  )
})

test.each([
  [undefined, undefined],
  [{}, undefined],
  [{ domain: '' }, undefined],
  [{ nameservers: [] }, {}],
  [{ nameservers: [], domain: 'cluster.local' }, { domain: 'cluster.local' }],
  [
    { nameservers: ['10.0.0.1'], domain: '', search: ['a', 'b'], options: ['ndots:5'] },
    { nameservers: ['10.0.0.1'], search: ['a', 'b'], options: ['ndots:5'] },
  ],
])('dns %j names %j', (given, named) => {
  expect(configuredDns(dns.parse(given))).toEqual(named as never)
})

const modes = { bridge: 4, vepa: 2 }

test('a mode is a number of the kernel’s', () => {
  expect([
    modeNumber('bridge', { modes, kind: 'macvlan' }),
    modeNumber('vepa', { modes, kind: 'macvlan' }),
  ]).toEqual([4, 2])
})

test.each(['', 'Bridge', 'toString', '__proto__'])('mode "%s" is refused with those that there are', mode => {
  expect(() => modeNumber(mode, { modes, kind: 'macvlan' })).toThrow(
    expect.objectContaining({
      code: 7,
      message: `mode: unknown macvlan mode: ${JSON.stringify(mode)}`,
      details: 'it must be one of bridge, vepa',
    }),
  )
})
