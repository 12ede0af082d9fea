import { expect, test } from 'bun:test'
import { decodeFrame } from '../../../../ipam/dhcp/link/frame.ts'
import { type LeaseOffer, readLeaseOffer, resultOf } from '../../../../ipam/dhcp/v4/lease-offer.ts'
import { decodeMessage, type Message } from '../../../../ipam/dhcp/v4/packet.ts'
import { acknowledge, bytes } from '../captured.ts'

const message = decodeMessage(decodeFrame(acknowledge)?.payload ?? new Uint8Array(0))

/** The captured acknowledgement with other options; undefined takes one away. */
function changed(options: Record<number, string | undefined>, rest: Partial<Message> = {}): Message {
  const changed = new Map(message.options)
  for (const [code, value] of Object.entries(options)) {
    if (value === undefined) changed.delete(Number(code))
    else changed.set(Number(code), bytes(value))
  }
  return { ...message, ...rest, options: changed }
}

const usual: LeaseOffer = {
  address: '10.9.0.91',
  prefixLength: 24,
  server: '10.9.0.1',
  leaseSeconds: 120,
  renewalSeconds: 60,
  rebindingSeconds: 105,
  routers: ['10.9.0.1'],
  routes: [
    { destination: '192.168.7.0/24', router: '10.9.0.9' },
    { destination: '0.0.0.0/0', router: '10.9.0.1' },
  ],
  nameServers: [],
  search: [],
}

test('what dnsmasq granted', () => {
  expect(readLeaseOffer(message)).toEqual(usual)
})

const forever = Number.POSITIVE_INFINITY

test.each([
  {
    name: 'no lease time: an hour',
    options: { 51: undefined, 58: undefined, 59: undefined },
    expected: { leaseSeconds: 3600, renewalSeconds: 1800, rebindingSeconds: 3060 },
  },
  {
    name: 'no T1 and T2: half, and 85 percent',
    options: { 58: undefined, 59: undefined },
    expected: { renewalSeconds: 60, rebindingSeconds: 102 },
  },
  {
    name: 'T2 before T1: as if they were not there',
    options: { 58: '00000050', 59: '00000040' },
    expected: { renewalSeconds: 60, rebindingSeconds: 102 },
  },
  {
    name: 'T1 after the end: as if it was not there',
    options: { 58: '000000ff' },
    expected: { renewalSeconds: 60, rebindingSeconds: 102 },
  },
  {
    name: 'a lease for ever',
    options: { 51: 'ffffffff', 58: undefined, 59: undefined },
    expected: { leaseSeconds: forever, renewalSeconds: forever, rebindingSeconds: forever },
  },
  {
    name: 'a lease for ever that is to be renewed at once, again and again: as if T1 was not there',
    options: { 51: 'ffffffff', 58: '00000000', 59: undefined },
    expected: { leaseSeconds: forever, renewalSeconds: forever, rebindingSeconds: forever },
  },
  { name: 'no mask', options: { 1: undefined }, expected: { prefixLength: undefined } },
  { name: 'a mask with holes', options: { 1: 'ff00ff00' }, expected: { prefixLength: undefined } },
  { name: 'a mask for one address', options: { 1: 'ffffffff' }, expected: { prefixLength: 32 } },
  { name: 'a mask for all', options: { 1: '00000000' }, expected: { prefixLength: 0 } },
  {
    name: 'no option 121: the default through the first router',
    options: { 121: undefined, 3: '0a090001 0a090002' },
    expected: {
      routers: ['10.9.0.1', '10.9.0.2'],
      routes: [{ destination: '0.0.0.0/0', router: '10.9.0.1' }],
    },
  },
  {
    name: 'classful routes, in the order A, B, C',
    options: { 121: undefined, 3: undefined, 33: '0a000000 0a090007 ac100000 0a090008 c0a80500 0a090009' },
    expected: {
      routers: [],
      routes: [
        { destination: '10.0.0.0/8', router: '10.9.0.7' },
        { destination: '172.16.0.0/16', router: '10.9.0.8' },
        { destination: '192.168.5.0/24', router: '10.9.0.9' },
      ],
    },
  },
  {
    name: 'a classful default route, which is illegal',
    options: { 121: undefined, 3: undefined, 33: '00000000 0a090007' },
    expected: { routers: [], routes: [] },
  },
  {
    name: 'classless routes of every length',
    options: { 121: '00 0a090001 08 0a 0a090002 19 c0a80780 0a090003 20 c0a80701 00000000' },
    expected: {
      routes: [
        { destination: '0.0.0.0/0', router: '10.9.0.1' },
        { destination: '10.0.0.0/8', router: '10.9.0.2' },
        { destination: '192.168.7.128/25', router: '10.9.0.3' },
        { destination: '192.168.7.1/32', router: '0.0.0.0' },
      ],
    },
  },
  {
    name: 'a classless route that is cut off',
    options: { 121: '08 0a 0a090002 18 c0a807 0a09' },
    expected: { routes: [{ destination: '10.0.0.0/8', router: '10.9.0.2' }] },
  },
  {
    name: 'a classless route of 33 bits',
    options: { 121: '21 c0a8070100 0a090002' },
    expected: { routes: [] },
  },
  {
    name: 'name servers, domain, MTU',
    options: { 6: '01010101 08080808 05', 15: '6578616d706c65 00', 26: '0578' },
    expected: { nameServers: ['1.1.1.1', '8.8.8.8'], domain: 'example', mtu: 1400 },
  },
  { name: 'an MTU below 68', options: { 26: '0043' }, expected: {} },
  { name: 'a domain with a line break', options: { 15: '61 0a 62' }, expected: {} },
  {
    name: 'search domains with compression',
    options: { 119: '0161 0362636400 0178 c002 c002' },
    expected: { search: ['a.bcd', 'x.bcd', 'bcd'] },
  },
  { name: 'a search domain that points to itself', options: { 119: '0161 c000' }, expected: {} },
  { name: 'a search domain that points forward', options: { 119: 'c002 0161 00' }, expected: {} },
  {
    name: 'a search domain that is cut off',
    options: { 119: '016100 05616263' },
    expected: { search: ['a'] },
  },
])('$name', ({ options, expected }) => {
  const grant = readLeaseOffer(changed(options))
  const { prefixLength, ...others } = usual
  const wanted =
    'prefixLength' in expected
      ? { ...others, ...(expected.prefixLength === undefined ? {} : expected) }
      : { ...usual, ...expected }
  expect(grant).toEqual(wanted as LeaseOffer)
  expect(prefixLength).toBe(24)
})

test.each([
  { name: 'no server', given: changed({ 54: undefined }), why: 'it names no server' },
  { name: 'zero seconds', given: changed({ 51: '00000000' }), why: 'its lease is of zero seconds' },
  {
    name: 'no address',
    given: changed({}, { yourAddress: '0.0.0.0' }),
    why: '0.0.0.0 is no address for a host',
  },
  {
    name: 'loopback',
    given: changed({}, { yourAddress: '127.0.0.1' }),
    why: '127.0.0.1 is no address for a host',
  },
  {
    name: 'broadcast',
    given: changed({}, { yourAddress: '255.255.255.255' }),
    why: '255.255.255.255 is no address for a host',
  },
])('of no use: $name', ({ given, why }) => {
  expect(readLeaseOffer(given)).toBe(why)
})

test('a result as the Go plugin makes it, with metric, MTU and DNS', () => {
  const grant: LeaseOffer = {
    ...usual,
    mtu: 1400,
    nameServers: ['1.1.1.1'],
    domain: 'example.org',
    search: ['a.org'],
  }
  expect(
    resultOf({ ...grant, routes: [...grant.routes, { destination: '10.0.0.0/8', router: '0.0.0.0' }] }, 5),
  ).toEqual({
    interfaces: [],
    ips: [{ address: '10.9.0.91/24', gateway: '10.9.0.1' }],
    routes: [
      { dst: '192.168.7.0/24', gw: '10.9.0.9', mtu: 1400, priority: 5 },
      { dst: '0.0.0.0/0', gw: '10.9.0.1', mtu: 1400, priority: 5 },
      { dst: '10.0.0.0/8', scope: 253, mtu: 1400, priority: 5 },
    ],
    dns: { nameservers: ['1.1.1.1'], domain: 'example.org', search: ['a.org'] },
  })
})
