/** Neighbour discovery as frames: as it is sent, and whatever may come. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { addressText } from '../../../../chain/ip/bytes.ts'
import { hardwareAddressText } from '../../../../chain/ip/hardware.ts'
import {
  decodeFrame,
  encodeFrame,
  icmpType,
  multicastHardware,
  neighbourClaimant,
  neighbourProbe,
} from '../../../../ipam/dhcp/link/neighbour.ts'

const bytes = (count: number) => fc.uint8Array({ minLength: count, maxLength: count })
const end = fc.record({ hardware: bytes(6).map(hardwareAddressText), address: bytes(16).map(addressText) })
const neighbourly = fc.record({
  source: end,
  destination: end,
  // a type, code 0, and what follows
  message: fc.uint8Array({ minLength: 8, maxLength: 200 }).map(each => each.with(1, 0)),
})

/** Its checksum is filled in. */
const withoutChecksum = (message: Uint8Array) => [...message.subarray(0, 2), ...message.subarray(4)]

test('a message is read as it was written, padded or not', () => {
  fc.assert(
    fc.property(neighbourly, fc.nat(40), (given, padding) => {
      const frame = encodeFrame(given)
      for (const each of [frame, Buffer.concat([frame, new Uint8Array(padding)])]) {
        const found = decodeFrame(each)
        expect(found).toMatchObject({ source: given.source, destination: given.destination })
        expect(withoutChecksum(found?.message ?? new Uint8Array(0))).toEqual(withoutChecksum(given.message))
      }
    }),
  )
})

test('a message that was hurt, or cut, is none', () => {
  fc.assert(
    fc.property(
      neighbourly,
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      fc.nat(),
      (given, at, change, cut) => {
        const frame = encodeFrame(given)
        expect(decodeFrame(frame.subarray(0, cut % frame.length))).toBeUndefined()
        const message = 54 + (at % (frame.length - 54)) // behind both headers
        frame[message] = (frame[message] ?? 0) ^ change
        expect(decodeFrame(frame)).toBeUndefined()
      },
    ),
  )
})

test('what came through a router is no neighbour’s word', () => {
  const end = { hardware: '02:00:00:00:00:01', address: 'fe80::1' }
  const frame = encodeFrame({ source: end, destination: end, message: new Uint8Array(8) })
  expect(decodeFrame(frame)).toBeDefined()
  frame[14 + 7] = 254 // hop limit
  expect(decodeFrame(frame)).toBeUndefined()
})

test.each([
  ['ff02::1', '33:33:00:00:00:01'],
  ['ff02::1:ff00:2', '33:33:ff:00:00:02'],
])('group %s has the hardware address %s', (address, hardware) => {
  expect(multicastHardware(address)).toBe(hardware)
})

describe('a probe', () => {
  const frame = neighbourProbe('02:00:00:00:00:01', 'fd00::5')

  test('asks those that may have the address, from none, for none (RFC 4862, 5.4.2)', () => {
    expect(decodeFrame(frame)).toMatchObject({
      source: { hardware: '02:00:00:00:00:01', address: '::' },
      destination: { hardware: '33:33:ff:00:00:05', address: 'ff02::1:ff00:5' },
    })
    const { message = new Uint8Array(0) } = decodeFrame(frame) ?? {}
    expect([message[0], addressText(message.subarray(8, 24))]).toEqual([
      icmpType.neighbourSolicitation,
      'fd00::5',
    ])
    expect(neighbourClaimant(frame, 'fd00::5')).toBeUndefined()
  })

  test('is answered by whoever has the address, and says so', () => {
    const message = new Uint8Array(24)
    message[0] = icmpType.neighbourAdvertisement
    message.set([0xfd, ...new Uint8Array(14), 5], 8)
    const source = { hardware: '02:00:00:00:00:99', address: 'fe80::99' }
    const answer = encodeFrame({
      source,
      destination: { hardware: '33:33:00:00:00:01', address: 'ff02::1' },
      message,
    })
    expect(neighbourClaimant(answer, 'fd00::5')).toBe('02:00:00:00:00:99')
    expect(neighbourClaimant(answer, 'fd00::6')).toBeUndefined()
  })

  test('of any bytes nothing comes but a claimant or none', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), frame => {
        expect(['string', 'undefined']).toContain(typeof neighbourClaimant(frame, 'fd00::5'))
      }),
      { numRuns: 500 },
    )
  })
})
