import { describe, expect, test } from 'bun:test'
import { PacketError } from '../../../../ipam/dhcp/codec.ts'
import { defaultTiming } from '../../../../ipam/dhcp/engine/timing.ts'
import {
  decodeFrame,
  encodeFrame,
  neighbourClaimant,
  neighbourProbe,
} from '../../../../ipam/dhcp/link/neighbour.ts'
import { decodeAdvertisement, encodeSolicitation } from '../../../../ipam/dhcp/slaac/advertisement.ts'
import { leaseOfferIn, readReply } from '../../../../ipam/dhcp/v6/lease-offer.ts'
import { composeMessage, identityOf } from '../../../../ipam/dhcp/v6/message.ts'
import { decodeMessage, encodeMessage } from '../../../../ipam/dhcp/v6/packet.ts'
import { type Client, initialState } from '../../../../ipam/dhcp/v6/types.ts'
import { bytes } from '../captured.ts'
import * as captured from './captured.ts'

const client: Client = { ...identityOf('c1/test-net/eth0'), timing: defaultTiming }
const forever = Number.POSITIVE_INFINITY

describe('router advertisements', () => {
  test('as radvd sends them', () => {
    expect(decodeAdvertisement(captured.radvdAdvertisement)).toEqual({
      router: 'fe80::ff:fe00:901',
      lifetimeSeconds: 12,
      preference: 1,
      managed: true,
      other: false,
      mtu: 1400,
      prefixes: [
        {
          prefix: 'fd00:9::',
          length: 64,
          onLink: true,
          autonomous: true,
          validSeconds: 86400,
          preferredSeconds: 14400,
        },
      ],
      routes: [{ destination: 'fd00:77::/48', preference: -1, lifetimeSeconds: 12 }],
      nameServers: ['fd00:9::53', 'fd00:9::54'].map(value => ({ value, lifetimeSeconds: 4 })),
      search: ['example.org', 'b.example.org'].map(value => ({ value, lifetimeSeconds: 4 })),
    })
  })

  test('as dnsmasq sends them', () => {
    expect(decodeAdvertisement(captured.dnsmasqAdvertisement)).toMatchObject({
      lifetimeSeconds: 1800,
      preference: 0,
      managed: true,
      other: true,
      nameServers: [{ value: 'fd00:9::53', lifetimeSeconds: 1800 }],
    })
  })

  const changed = (at: number, ...values: number[]) => {
    const frame = Uint8Array.from(captured.radvdAdvertisement)
    frame.set(values, at)
    return frame
  }
  /** The same, with the checksum that belongs to it. */
  const summed = (at: number, ...values: number[]) => {
    const whole = decodeFrame(captured.radvdAdvertisement)
    if (!whole) throw new Error('not a frame')
    return encodeFrame({ ...whole, message: Uint8Array.from(changed(at, ...values).subarray(54)) })
  }
  test('a checksum that is recomputed is right', () => {
    expect(summed(54, 134)).toEqual(
      captured.radvdAdvertisement.with(14, 0x60).with(15, 0).with(16, 0).with(17, 0),
    )
  })

  const malformed = (...values: number[]) => summed(captured.radvdAdvertisement.length - 8, ...values)
  test.each([
    ['an option of no length', malformed(1, 0)],
    ['an option that is cut off', malformed(1, 2)],
  ])('%s is refused', (_, frame) => {
    expect(() => decodeAdvertisement(frame)).toThrow(PacketError)
  })

  test('a router is spoken of by its link-local address only', () => {
    const whole = decodeFrame(captured.radvdAdvertisement)
    if (!whole) throw new Error('not a frame')
    const frame = encodeFrame({ ...whole, source: { ...whole.source, address: 'fd00:9::1' } })
    expect(() => decodeAdvertisement(frame)).toThrow('fd00:9::1 is not a link-local address')
  })

  test.each<[string, number, number[]]>([
    ['a prefix of 129 bits', 72, [129]],
    ['a prefix that is preferred for longer than it is valid', 74, [0, 0, 0, 1]],
    ['a link-local prefix', 86, [0xfe, 0x80]],
    ['a multicast prefix', 86, [0xff, 0x02]],
  ])('%s is passed over', (_, at, values) => {
    expect(decodeAdvertisement(summed(at, ...values))).toMatchObject({
      router: 'fe80::ff:fe00:901',
      prefixes: [],
    })
  })

  test.each([
    ['a hop limit of 254: it came through a router', changed(21, 254)],
    ['a wrong checksum', changed(56, 0, 0)],
    ['another type', summed(54, 135)],
    ['a code', summed(55, 1)],
    ['a length of 127 where 168 are summed', changed(18, 0, 127)],
    ['another protocol behind the IPv6 header', changed(20, 17)],
    ['IPv4', changed(12, 8, 0)],
    ['a length of more than there is', changed(18, 4)],
    ['a cut', captured.radvdAdvertisement.subarray(0, 100)],
    ['a frame of nothing', new Uint8Array(20)],
  ])('%s is none', (_, frame) => {
    expect(decodeAdvertisement(frame)).toBeUndefined()
  })

  test('a solicitation says who asks, and has a sound checksum', () => {
    expect(encodeSolicitation('d2:82:41:80:54:84', 'fe80::d082:41ff:fe80:5484')).toEqual(
      captured.solicitation,
    )
  })
})

test('a probe for an address names no sender; whoever has it says so', () => {
  const probe = neighbourProbe('02:00:00:00:00:01', 'fd00:9::12:3456')
  expect(Buffer.from(probe.subarray(0, 6)).toString('hex')).toBe('3333ff123456')
  expect(Buffer.from(probe.subarray(22, 54)).toString('hex')).toBe(
    '00000000000000000000000000000000ff0200000000000000000001ff123456',
  )
  const answer = encodeFrame({
    source: { hardware: '02:00:00:00:00:02', address: 'fe80::2' },
    destination: { hardware: '33:33:00:00:00:01', address: 'ff02::1' },
    message: bytes('8800 0000 20000000 fd000009000000000000000000123456 0201020000000002'),
  })
  expect(neighbourClaimant(answer, 'fd00:9::12:3456')).toBe('02:00:00:00:00:02')
  expect(neighbourClaimant(answer, 'fd00:9::12:3457')).toBeUndefined()
  expect(neighbourClaimant(probe, 'fd00:9::12:3456')).toBeUndefined()
})

describe('DHCPv6', () => {
  test.each([
    ['SOLICIT', captured.solicit, 'solicit'],
    ['REQUEST', captured.request, 'request'],
    ['RELEASE', captured.release, 'release'],
  ] as const)('%s as it was sent', (_, sent, kind) => {
    const grant = leaseOfferIn(
      readReply(client, decodeMessage(captured.keaAdvertise)) as never,
      undefined,
    ) as never
    const { transaction } = decodeMessage(sent)
    const state = {
      ...initialState,
      transaction,
      ...(kind === 'request' ? { offer: grant } : { lease: grant }),
    }
    expect(encodeMessage(composeMessage(client, state, { kind, now: 0 }))).toEqual(sent)
  })

  test('an ADVERTISE of kea', () => {
    const answer = readReply(client, decodeMessage(captured.keaAdvertise))
    expect(leaseOfferIn(answer as never, undefined)).toEqual({
      address: 'fd00:9::200',
      server: '000200000001666430303a393a3a3230302d66643030',
      preference: 0,
      preferredSeconds: 4000,
      validSeconds: 4000,
      renewalSeconds: 1000,
      rebindingSeconds: 2000,
      nameServers: ['fd00:9::54'],
      search: [],
    })
  })

  test('a REPLY of dnsmasq, and one of kea that says how it went', () => {
    expect(readReply(client, decodeMessage(captured.dnsmasqReply))).toMatchObject({
      status: { code: 0, message: 'success' },
      association: { renewalSeconds: 60, rebindingSeconds: 105 },
      nameServers: ['fd00:9::53'],
      search: ['example.org'],
    })
    expect(readReply(client, decodeMessage(captured.keaReleased))).toMatchObject({
      association: { status: { code: 0, message: expect.stringContaining('Lease released') }, addresses: [] },
    })
  })

  const reply = (association: string, more = '') =>
    bytes(`07 000001 0001 0012 ${Buffer.from(client.duid).toString('hex')} 0002 0004 00030001 ${more}
      0003 ${(association.replace(/\s/g, '').length / 2).toString(16).padStart(4, '0')} ${association}`)
  const iaid = client.iaid.toString(16).padStart(8, '0')
  const address = (preferred: string, valid: string) =>
    `0005 0018 fd000009000000000000000000000007 ${preferred} ${valid}`
  test.each([
    [
      'T1 and T2 of zero are the client’s to choose',
      `${iaid} 00000000 00000000 ${address('00000064', '000000c8')}`,
      { renewalSeconds: 50, rebindingSeconds: 80 },
    ],
    [
      'for ever',
      `${iaid} ffffffff ffffffff ${address('ffffffff', 'ffffffff')}`,
      { validSeconds: forever, renewalSeconds: forever },
    ],
    [
      'lifetimes of zero',
      `${iaid} 00000000 00000000 ${address('00000000', '00000000')}`,
      'fd00:9::7 with lifetimes that are zero or contradictory',
    ],
    [
      'preferred for longer than valid',
      `${iaid} 00000000 00000000 ${address('00000002', '00000001')}`,
      'fd00:9::7 with lifetimes that are zero or contradictory',
    ],
    [
      'T1 after T2',
      `${iaid} 00000002 00000001 ${address('00000064', '000000c8')}`,
      'it has no addresses for this client',
    ],
    [
      'another association',
      `00000001 00000000 00000000 ${address('00000064', '000000c8')}`,
      'it has no addresses for this client',
    ],
    ['no addresses left', `${iaid} 00000000 00000000 000d 0006 0002 66756c6c`, 'no addresses: full'],
    ['nothing', `${iaid} 00000000 00000000`, 'it grants no address'],
  ])('%s', (_, association, expected) => {
    const grant = leaseOfferIn(readReply(client, decodeMessage(reply(association))) as never, undefined)
    if (typeof expected === 'string') expect(grant).toBe(expected)
    else expect(grant).toMatchObject(expected)
  })

  test('what is for another client, or names no server, says nothing', () => {
    const other = { ...client, ...identityOf('c2/test-net/eth0') }
    expect(readReply(other, decodeMessage(captured.dnsmasqReply))).toBe('it is for another client')
    const { options, ...rest } = decodeMessage(captured.dnsmasqReply)
    expect(readReply(client, { ...rest, options: options.filter(({ code }) => code !== 2) })).toBe(
      'it names no server',
    )
  })

  test('every cut of a message is refused or read, and nothing else', () => {
    for (const whole of [captured.keaAdvertise, captured.keaReleased, captured.dnsmasqReply]) {
      for (let length = 0; length < whole.length; length++) {
        try {
          readReply(client, decodeMessage(whole.subarray(0, length)))
        } catch (thrown) {
          expect(thrown).toBeInstanceOf(PacketError)
        }
      }
    }
  })
})

test('identities differ with container, network and interface, and stay', () => {
  const identities = ['c1/n/eth0', 'c2/n/eth0', 'c1/m/eth0', 'c1/n/eth1', 'c1/n/eth0'].map(text =>
    Buffer.from(identityOf(text).duid).toString('hex'),
  )
  expect(new Set(identities).size).toBe(4)
  expect(identities[0]).toBe(identities[4] ?? '')
  expect(identities[0]).toMatch(/^0004[0-9a-f]{12}8[0-9a-f]{3}[89ab][0-9a-f]{15}$/)
})
