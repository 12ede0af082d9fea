/** Messages of D-Bus as bytes: as libdbus has them, and whatever somebody else sends. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { type Call, DbusCodecError, decodeMessage, encodeCall } from '../../../chain/linux/dbus/codec.ts'

const bytes = (text: string) => Uint8Array.fromHex(text.replace(/#.*$/gm, '').replaceAll(/\s/g, ''))

/** What dbus-send (libdbus 1.14.10) sends. */
const captured = [
  {
    name: 'strings',
    call: {
      serial: 2,
      destination: 'org.fedoraproject.FirewallD1',
      path: '/org/fedoraproject/FirewallD1',
      interface: 'org.fedoraproject.FirewallD1.zone',
      member: 'addSource',
      args: ['trusted', '10.1.0.2/32'],
    },
    sent: `
      6c 01 00 01               # little endian, METHOD_CALL, no flags, version 1
      1c 00 00 00 02 00 00 00   # 28 bytes of body, serial 2
      a0 00 00 00               # 160 bytes of fields
      01 01 6f 00 1d 00 00 00 2f6f72672f6665646f726170726f6a6563742f4669726577616c6c4431 00 00 00
      02 01 73 00 21 00 00 00 6f72672e6665646f726170726f6a6563742e4669726577616c6c44312e7a6f6e65 00 000000000000
      03 01 73 00 09 00 00 00 616464536f75726365 00 000000000000
      06 01 73 00 1c 00 00 00 6f72672e6665646f726170726f6a6563742e4669726577616c6c4431 00 000000
      08 01 67 00 02 7373 00    # signature "ss"
      07 00 00 00 74727573746564 00
      0b 00 00 00 31302e312e302e322f3332 00`,
  },
  {
    name: 'booleans between strings',
    call: {
      serial: 2,
      destination: 'a.b',
      path: '/x',
      interface: 'a.b',
      member: 'c',
      args: [true, 'x', false],
    },
    sent: `
      6c 01 00 01 10 00 00 00 02 00 00 00 49 00 00 00
      01 01 6f 00 02 00 00 00 2f78 00 0000000000
      02 01 73 00 03 00 00 00 612e62 00 00000000
      03 01 73 00 01 00 00 00 63 00 000000000000
      06 01 73 00 03 00 00 00 612e62 00 00000000
      08 01 67 00 03 627362 00 00000000000000
      01 00 00 00
      01 00 00 00 78 00 0000
      00 00 00 00`,
  },
]

test.each(captured)('a call with $name is, byte for byte, what libdbus sends', ({ call, sent }) => {
  expect(encodeCall(call).toHex()).toBe(bytes(sent).toHex())
})

test('a call without arguments has no signature and no body', () => {
  const message = encodeCall({ serial: 1, destination: 'a.b', path: '/x', interface: 'a.b', member: 'c' })
  expect(decodeMessage(message)).toEqual({ message: { type: 1, values: [] }, length: message.length })
})

/** An answer to call 7 with true, "x" and 5. */
const answers = {
  little: bytes(`
    6c 02 01 01 10 00 00 00 09 00 00 00 11 00 00 00
    05 01 75 00 07 00 00 00
    08 01 67 00 03 627375 00 00000000000000
    01 00 00 00 01 00 00 00 78 00 00 00 05 00 00 00`),
  big: bytes(`
    42 02 01 01 00 00 00 10 00 00 00 09 00 00 00 11
    05 01 75 00 00 00 00 07
    08 01 67 00 03 627375 00 00000000000000
    00 00 00 01 00 00 00 01 78 00 00 00 00 00 00 05`),
}

describe.each(Object.entries(answers))('an answer in %s endian', (_, answer) => {
  test('is read', () => {
    expect(decodeMessage(answer)).toEqual({
      message: { type: 2, replySerial: 7, values: [true, 'x', 5] },
      length: answer.length,
    })
  })

  test('is waited for until it is all there, and what follows is left', () => {
    for (let length = 0; length < answer.length; length++)
      expect(decodeMessage(answer.subarray(0, length))).toBeUndefined()
    expect(decodeMessage(Buffer.concat([answer, answer]))?.length).toBe(answer.length)
  })

  test('whose inner lengths are wrong is an error, never something else', () => {
    for (let at = 16; at < answer.length; at++) {
      const broken = Uint8Array.from(answer)
      broken[at] = 0xff
      try {
        expect(decodeMessage(broken)?.length).toBe(answer.length)
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(DbusCodecError)
      }
    }
  })
})

test.each([
  ['fields', 12],
  ['body', 4],
])('a length of %s that no message has is an error at once, and never a message without end', (_, at) => {
  for (const length of [0xffffffff, 0xfffffff0, 0x80000000, 0x7fffffff]) {
    const broken = Uint8Array.from(answers.little)
    new DataView(broken.buffer).setUint32(at, length, true)
    expect(() => decodeMessage(broken)).toThrow(DbusCodecError)
  }
})

test('values of a type that is not understood end the list', () => {
  const answer = Uint8Array.from(answers.little)
  answer.set(Buffer.from('bas'), 29) // b, then an array of strings
  expect(decodeMessage(answer)?.message.values).toEqual([true])
})

test('what does not begin with a byte order is no message', () => {
  expect(() => decodeMessage(new Uint8Array(16))).toThrow(DbusCodecError)
})

const name = fc.stringMatching(/^[a-z][a-z0-9]{0,9}(\.[a-z]{1,9}){0,3}$/)
const call: fc.Arbitrary<Call> = fc.record({
  serial: fc.integer({ min: 1, max: 0xffffffff }),
  destination: name,
  path: name.map(text => `/${text.replaceAll('.', '/')}`),
  interface: name,
  member: name,
  args: fc.array(fc.oneof(fc.string({ unit: 'grapheme' }), fc.boolean()), { maxLength: 8 }),
})

test('the arguments of any call are read as they were written, and so much of it is a message', () => {
  fc.assert(
    fc.property(call, fc.uint8Array({ maxLength: 20 }), (given, more) => {
      const sent = encodeCall(given)
      expect(decodeMessage(Buffer.concat([sent, more]))).toEqual({
        message: { type: 1, values: [...(given.args ?? [])] },
        length: sent.length,
      })
    }),
  )
})

test('a call that is not all there is waited for, and no bytes are anything but a message or none', () => {
  fc.assert(
    fc.property(call, fc.nat(), fc.nat(), fc.nat(255), (given, cut, at, byte) => {
      const sent = encodeCall(given)
      expect(decodeMessage(sent.subarray(0, cut % sent.length))).toBeUndefined()
      const broken = Uint8Array.from(sent)
      broken[at % sent.length] = byte
      try {
        decodeMessage(broken)
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(DbusCodecError)
      }
    }),
    { numRuns: 300 },
  )
})

test('an error has its name, and who sent it is told by the bus', () => {
  const error = bytes(`
    6c 03 01 01 00 00 00 00 09 00 00 00 25 00 00 00
    05 01 75 00 07 00 00 00
    04 01 73 00 03 00 00 00 612e62 00 00000000
    07 01 73 00 04 00 00 00 3a312e37 00 000000`)
  expect(decodeMessage(error)?.message).toEqual({
    type: 3,
    replySerial: 7,
    errorName: 'a.b',
    sender: ':1.7',
    values: [],
  })
})
