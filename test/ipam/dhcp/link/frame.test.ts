/** UDP in IPv4 in Ethernet, and ARP: as it is sent, and whatever may come. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { addressText } from '../../../../chain/ip/bytes.ts'
import { hardwareAddressText } from '../../../../chain/ip/hardware.ts'
import { close } from '../../../../chain/linux/libc/file.ts'
import { send } from '../../../../chain/linux/libc/socket.ts'
import { ETH_P_IP, openLinkSocket } from '../../../../chain/linux/packet-socket.ts'
import {
  arpClaimant,
  arpProbe,
  BROADCAST_HARDWARE,
  checksum,
  decodeFrame,
  encodeFrame,
} from '../../../../ipam/dhcp/link/frame.ts'
import { watchProgram } from '../../../fixtures/capture.ts'
import { connect, freshNamespace } from '../../../fixtures/namespace.ts'

const bytes = (count: number) => fc.uint8Array({ minLength: count, maxLength: count })
const endpoint = fc.record({
  hardware: bytes(6).map(hardwareAddressText),
  address: bytes(4).map(addressText),
  port: fc.nat(65535),
})
const datagram = fc.record({
  source: endpoint,
  destination: endpoint,
  payload: fc.uint8Array({ maxLength: 1472 }),
})

test('a datagram is read as it was written, padded or not', () => {
  fc.assert(
    fc.property(datagram, fc.nat(46), (given, padding) => {
      const frame = encodeFrame(given)
      const padded = Buffer.concat([frame, new Uint8Array(padding)])
      for (const each of [frame, padded]) {
        const found = decodeFrame(each)
        expect(found && { ...found, payload: Uint8Array.from(found.payload) }).toEqual(given)
      }
    }),
  )
})

test('a frame that was hurt in its IP header, or cut, is none', () => {
  fc.assert(
    fc.property(
      datagram,
      fc.integer({ min: 14, max: 33 }),
      fc.integer({ min: 1, max: 255 }),
      fc.nat(),
      (given, at, change, cut) => {
        const frame = encodeFrame(given)
        expect(decodeFrame(frame.subarray(0, cut % frame.length))).toBeUndefined()
        frame[at] = (frame[at] ?? 0) ^ change
        expect(decodeFrame(frame)).toBeUndefined()
      },
    ),
  )
})

test('a datagram that says to be longer than its packet is none, though there is padding behind it', () => {
  fc.assert(
    fc.property(datagram, fc.integer({ min: 1, max: 40 }), (given, more) => {
      const frame = Buffer.concat([encodeFrame(given), new Uint8Array(40)])
      frame.writeUInt16BE(frame.readUInt16BE(38) + more, 38) // of the UDP header
      expect(decodeFrame(frame)).toBeUndefined()
    }),
  )
})

test('of any bytes nothing comes but a datagram or none, and whose an address is', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), frame => {
      expect(['object', 'undefined']).toContain(typeof decodeFrame(frame))
      expect(['string', 'undefined']).toContain(typeof arpClaimant(frame, '10.0.0.5'))
    }),
    { numRuns: 500 },
  )
})

test('the checksum over what has its checksum in it is zero (RFC 1071)', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 2, maxLength: 101 }), data => {
      const whole = Uint8Array.from([...data, ...(data.length % 2 ? [0] : []), 0, 0])
      const sum = checksum(whole)
      whole.set([sum >> 8, sum & 255], whole.length - 2)
      expect(checksum(whole)).toBe(0)
    }),
  )
  // RFC 1071, 3: the words 0001 f203 f4f5 f6f7 add up to ddf2
  expect(checksum(Uint8Array.fromHex('0001f203f4f5f6f7'))).toBe(~0xddf2 & 0xffff)
})

test('both checksums are what others take for right', async () => {
  using one = freshNamespace('one')
  using other = freshNamespace('other')
  connect({ namespace: one, name: 'eth0' }, { namespace: other, name: 'eth0' })
  const { index, address: hardware } = one.link('eth0')
  using heard = watchProgram(other, ['tcpdump', '-l', '-n', '-vv', '-i', 'eth0', 'udp port 67'])
  await heard.line(/listening on/)
  const descriptor = one.inside(() => openLinkSocket(index, ETH_P_IP))
  const source = { hardware, address: '10.0.0.5', port: 68 }
  const destination = { hardware: BROADCAST_HARDWARE, address: '10.0.0.1', port: 67 }
  send(descriptor, encodeFrame({ source, destination, payload: Buffer.from('odd') }))
  close(descriptor)
  await heard.line(/10\.0\.0\.5\.68 > 10\.0\.0\.1\.67/)
  expect(heard.lines().join('\n')).not.toMatch(/bad (udp )?cksum/)
})

describe('ARP', () => {
  const probe = arpProbe('02:00:00:00:00:01', '10.0.0.5')

  test('a probe asks for an address, and says that it has none', () => {
    expect(probe.length).toBe(42)
    for (const address of ['10.0.0.5', '0.0.0.0']) {
      const claimant = arpClaimant(probe, address)
      expect(claimant).toBe(address === '0.0.0.0' ? '02:00:00:00:00:01' : (undefined as never))
    }
  })

  test('whoever has the address, and says so, is told; and none in a frame that is cut', () => {
    const said = Uint8Array.from(probe)
    said.set([10, 0, 0, 5], 28)
    expect(arpClaimant(said, '10.0.0.5')).toBe('02:00:00:00:00:01')
    expect(arpClaimant(said, '10.0.0.6')).toBeUndefined()
    for (let length = 0; length < said.length; length++)
      expect(arpClaimant(said.subarray(0, length), '10.0.0.5')).toBeUndefined()
    said[15] = 6 // another kind of network than Ethernet
    expect(arpClaimant(said, '10.0.0.5')).toBeUndefined()
  })
})
