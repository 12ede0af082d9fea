import { describe, expect, test } from 'bun:test'
import { PacketError } from '../../../../ipam/dhcp/codec.ts'
import {
  arpClaimant,
  arpProbe,
  checksum,
  decodeFrame,
  encodeFrame,
} from '../../../../ipam/dhcp/link/frame.ts'
import { decodeMessage, encodeMessage, type Message } from '../../../../ipam/dhcp/v4/packet.ts'
import { acknowledge, bytes, discover, offer, release, request } from '../captured.ts'

const payloadOf = (frame: Uint8Array) => decodeFrame(frame)?.payload ?? new Uint8Array(0)
const hex = (value: Uint8Array | undefined) => value && Buffer.from(value).toString('hex')

const none = '0.0.0.0'
const client = '5e:b8:2b:9f:c8:9d'
const base: Message = {
  operation: 'request',
  transaction: 0x1753b091,
  seconds: 0,
  broadcast: false,
  clientAddress: none,
  yourAddress: none,
  nextServer: none,
  relay: none,
  hardware: client,
  options: new Map(),
}
const options = (given: Record<number, string>) =>
  new Map(Object.entries(given).map(([code, value]) => [Number(code), bytes(value)]))
const identifier = '0063312f6e65742f65746830'
const granted = {
  54: '0a090001',
  51: '00000078',
  58: '0000003c',
  59: '00000069',
  1: 'ffffff00',
  28: '0a0900ff',
  3: '0a090001',
  121: '18c0a8070a090009000a090001',
}
const reply = { ...base, operation: 'reply', yourAddress: '10.9.0.91', nextServer: '10.9.0.1' } as const

const captured: { name: string; frame: Uint8Array; message: Message }[] = [
  {
    name: 'DISCOVER of the Go client',
    frame: discover,
    message: { ...base, options: options({ 53: '01', 55: '790301', 57: '05dc', 61: identifier }) },
  },
  {
    name: 'REQUEST of the Go client',
    frame: request,
    message: {
      ...base,
      options: options({
        50: '0a09005b',
        53: '03',
        54: '0a090001',
        55: '790301',
        57: '05dc',
        61: identifier,
      }),
    },
  },
  {
    name: 'RELEASE of the Go client',
    frame: release,
    message: {
      ...base,
      transaction: 0xab423cd3,
      clientAddress: '10.9.0.91',
      options: options({ 53: '07', 54: '0a090001', 61: identifier }),
    },
  },
  {
    name: 'OFFER of dnsmasq',
    frame: offer,
    message: { ...reply, options: options({ 53: '02', ...granted }) },
  },
  {
    name: 'ACK of dnsmasq',
    frame: acknowledge,
    message: { ...reply, options: options({ 53: '05', ...granted }) },
  },
]

describe.each(captured)('$name', ({ frame, message }) => {
  test('decodes', () => {
    const { options: found, ...rest } = decodeMessage(payloadOf(frame))
    const { options: expected, ...fixed } = message
    expect(rest).toEqual(fixed)
    expect(Object.fromEntries([...found].map(([code, value]) => [code, hex(value)]))).toEqual(
      Object.fromEntries([...expected].map(([code, value]) => [code, hex(value)])),
    )
  })

  test('every cut of it is refused or ends in fewer options', () => {
    const payload = payloadOf(frame)
    for (let length = 0; length < payload.length; length++) {
      try {
        expect(decodeMessage(payload.subarray(0, length)).options.size).toBeLessThanOrEqual(
          message.options.size,
        )
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(PacketError)
      }
    }
  })
})

test.each(captured.slice(0, 3))('we send the bytes that the Go client sends: $name', ({ frame, message }) => {
  const { source, destination } = decodeFrame(frame) ?? {}
  if (!source || !destination) throw new Error('the captured frame cannot be read')
  expect(hex(encodeFrame({ source, destination, payload: encodeMessage(message) }))).toBe(hex(frame) ?? '')
})

const fixed = hex(payloadOf(discover).subarray(0, 240)) ?? ''
const withOptions = (text: string) => decodeMessage(bytes(`${fixed} ${text}`)).options

test('parts of one option are one value (RFC 3396)', () => {
  expect(hex(withOptions('0f026161 0c0162 0f016300 ff').get(15))).toBe('616163')
  const long = new Map([[77, new Uint8Array(600).fill(7)]])
  const again = decodeMessage(encodeMessage({ ...base, options: long })).options
  expect(hex(again.get(77))).toBe('07'.repeat(600))
})

test('option 52 adds the fields of file and server name, in this order', () => {
  const message = Uint8Array.from(bytes(`${fixed} 340103 0f0161 ff`))
  message.set(bytes('0f0162 ff'), 108)
  message.set(bytes('0f0163 ff'), 44)
  expect(Buffer.from(decodeMessage(message).options.get(15) ?? []).toString()).toBe('abc')
})

test.each([
  { name: 'a length beyond the end', text: '3504 01' },
  { name: 'a code without a length', text: '35' },
  { name: 'an overload of a kind that does not exist', text: '340104 ff' },
])('$name is refused', ({ text }) => {
  expect(() => withOptions(text)).toThrow(PacketError)
})

test('padding between options, a missing end and what follows the end do not matter', () => {
  expect(withOptions('00 00 350105 00').get(53)?.[0]).toBe(5)
  expect(withOptions('350105 ff 3501').get(53)?.[0]).toBe(5)
})

test.each([
  { name: 'another operation', at: 0, value: 3 },
  { name: 'another kind of hardware', at: 1, value: 6 },
  { name: 'hardware addresses of another length', at: 2, value: 16 },
  { name: 'no cookie', at: 236, value: 0 },
])('a message with $name is refused', ({ at, value }) => {
  const message = Uint8Array.from(payloadOf(discover))
  message[at] = value
  expect(() => decodeMessage(message)).toThrow(PacketError)
})

test.each([
  { name: 'another protocol than IPv4', at: 12, value: 0x86 },
  { name: 'another version', at: 14, value: 0x65 },
  { name: 'a header that is too short', at: 14, value: 0x44 },
  { name: 'a header beyond the end', at: 14, value: 0x4f },
  { name: 'a length beyond the end', at: 16, value: 0x7f },
  { name: 'a fragment', at: 20, value: 0x20 },
  { name: 'another protocol than UDP', at: 23, value: 6 },
  { name: 'a wrong checksum', at: 24, value: 0 },
  { name: 'a datagram longer than its packet', at: 38, value: 0x7f },
  { name: 'a datagram shorter than its header', at: 39, value: 7, and: [38, 0] },
])('a frame with $name is passed over', ({ at, value, and }) => {
  const frame = Uint8Array.from(acknowledge)
  frame[at] = value
  if (and) frame[and[0] ?? 0] = and[1] ?? 0
  expect(decodeFrame(frame)).toBeUndefined()
})

test('every cut of a frame is passed over, and padding behind it too', () => {
  for (let length = 0; length < acknowledge.length; length++) {
    expect(decodeFrame(acknowledge.subarray(0, length))).toBeUndefined()
  }
  expect(decodeFrame(Buffer.concat([acknowledge, new Uint8Array(7)]))?.payload.length).toBe(301)
})

test('reading any bytes ends, in a message or in PacketError', () => {
  const noise = new Uint8Array(600)
  for (let round = 0; round < 20_000; round++) {
    crypto.getRandomValues(noise)
    noise.set(payloadOf(acknowledge).subarray(0, 3))
    noise.set([0x63, 0x82, 0x53, 0x63], 236)
    try {
      decodeMessage(noise.subarray(0, 240 + (round % 360)))
    } catch (thrown) {
      if (!(thrown instanceof PacketError)) throw thrown
    }
    decodeFrame(noise)
    arpClaimant(noise, none)
  }
})

test('the checksum of RFC 1071, section 3', () => {
  expect(checksum(bytes('0001 f203 f4f5 f6f7'))).toBe(0xffff - 0xddf2)
})

test('an ARP probe asks for an address without giving one', () => {
  expect(hex(arpProbe(client, '10.9.0.5'))).toBe(
    hex(
      bytes(`
      ffffffffffff 5eb82b9fc89d 0806 # Ethernet
      0001 0800 06 04 0001           # Ethernet, IPv4, lengths, request
      5eb82b9fc89d 00000000          # sender
      000000000000 0a090005          # target
    `),
    ),
  )
})

test.each([
  { name: 'an answer for the address', sender: '0a090005', target: '0a090009', conflicts: true },
  { name: 'a question of its owner', sender: '0a090005', target: '0a090001', conflicts: true },
  { name: 'a question for it', sender: '0a090009', target: '0a090005', conflicts: false },
  { name: 'a probe as ours', sender: '00000000', target: '0a090005', conflicts: false },
])('$name: $conflicts', ({ sender, target, conflicts }) => {
  const frame = bytes(
    `ffffffffffff 020000000007 0806 0001 0800 06 04 0002 020000000007 ${sender} 000000000000 ${target}`,
  )
  expect(arpClaimant(frame, '10.9.0.5')).toBe(conflicts ? '02:00:00:00:00:07' : undefined)
  for (let length = 0; length < frame.length; length++) {
    expect(arpClaimant(frame.subarray(0, length), '10.9.0.5')).toBeUndefined()
  }
})
