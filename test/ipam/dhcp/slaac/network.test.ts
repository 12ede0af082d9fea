import { expect, test } from 'bun:test'
import type { Advertisement } from '../../../../ipam/dhcp/slaac/advertisement.ts'
import { emptyNetwork, learn, prefixLengthOf, routesAt } from '../../../../ipam/dhcp/slaac/network.ts'
import { advertisement, MADE, OTHER, prefix, ROUTER } from './advertised.ts'

const heard = (more: Partial<Advertisement>, now = 0, network = emptyNetwork) =>
  learn(network, advertisement(more), now)

test('routes: on the link where no address is, one way to each place, by preference', () => {
  const route = (destination: string, preference: 1 | 0 | -1, lifetimeSeconds = 100) => ({
    destination,
    preference,
    lifetimeSeconds,
  })
  const first = heard({ routes: [route('fd00:77::/48', -1), route('fd00:66::/48', 0, 0)] })
  const network = heard({ router: OTHER, lifetimeSeconds: 0, routes: [route('fd00:77::/48', 1)] }, 0, first)
  expect(routesAt(network, [], 10)).toEqual([
    { destination: 'fd00:9::/64' },
    { destination: 'fd00:77::/48', router: OTHER },
    { destination: '::/0', router: ROUTER },
  ])
  expect(routesAt(network, [MADE], 10)[0]).toEqual({ destination: 'fd00:77::/48', router: OTHER })
})

test('the longest prefix on the link counts', () => {
  const network = heard({ prefixes: [prefix({ length: 48, prefix: 'fd00:9::' }), prefix()] })
  expect(prefixLengthOf(network, 'fd00:9::7', 0)).toBe(64)
  expect(prefixLengthOf(network, 'fd00:9:0:1::7', 0)).toBe(48)
  expect(prefixLengthOf(network, 'fd00:8::7', 0)).toBe(128)
  expect(prefixLengthOf(network, 'fd00:9::7', 100_000)).toBe(128)
})

test('of thousands of prefixes and routers few are kept', () => {
  const prefixes = Array.from({ length: 2000 }, (_, index) =>
    prefix({ prefix: `fd00:${index.toString(16)}::` }),
  )
  let network = heard({ prefixes })
  for (let index = 0; index < 2000; index++)
    network = heard({ router: `fe80::${index.toString(16)}` }, 0, network)
  expect([network.prefixes.length, network.routers.length]).toEqual([16, 16])
})

test('what is over makes room for what comes', () => {
  let network = emptyNetwork
  for (let index = 0; index < 40; index++) {
    const name = index.toString(16)
    const prefixes = [prefix({ prefix: `fd00:${name}::` })]
    const routes = [{ destination: `fd01:${name}::/48`, preference: 0 as const, lifetimeSeconds: 50 }]
    const more = { router: `fe80::${name}`, lifetimeSeconds: 50, prefixes, routes }
    network = heard(more, index * 60_000, network)
  }
  expect(network.routers.map(({ address }) => address)).toEqual(['fe80::27'])
  expect(network.routes.map(({ destination }) => destination)).toEqual(['fd01:27::/48'])
  expect(network.prefixes.map(each => each.prefix)).toEqual(['fd00:26::', 'fd00:27::'])
})

test('name servers and domains last as long as they are said to, and go when they are taken back', () => {
  const say = (lifetimeSeconds: number) => ({
    nameServers: [{ value: 'fd00:9::53', lifetimeSeconds }],
    search: [{ value: 'example.org', lifetimeSeconds }],
  })
  const first = heard(say(10))
  expect([first.nameServers, first.search].map(([each]) => each?.until)).toEqual([10_000, 10_000])
  const none = { nameServers: [], search: [] }
  expect(heard(say(0), 1000, first)).toMatchObject(none)
  expect(heard({}, 20_000, first)).toMatchObject(none)
})
