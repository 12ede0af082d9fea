/** `routes` of IPAM plugins: what is taken, and what a result has of it. */
import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { configuredRoutes } from '../../chain/plugin/configured.ts'
import { routes } from '../../chain/plugin/schema.ts'
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
