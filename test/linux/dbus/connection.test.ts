import { describe, expect, test } from 'bun:test'
import { DbusCodecError, decodeMessage, encodeCall } from '../../../chain/linux/dbus/codec.ts'
import {
  connectSystemBus,
  DbusError,
  NoBusError,
  ownerOfName,
  socketsIn,
} from '../../../chain/linux/dbus/connection.ts'
import { startBus } from '../../fixtures/dbus.ts'

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

test.each([
  ['unix:path=/run/dbus/system_bus_socket', ['/run/dbus/system_bus_socket']],
  ['unix:path=/a%20b,guid=00ff', ['/a b']],
  ['unix:guid=00ff,abstract=/tmp/x', ['\0/tmp/x']],
  ['tcp:host=localhost,port=1;unix:path=/a;unix:path=/b', ['/a', '/b']],
  ['unix:path=/100%,guid=00ff', []],
  ['', []],
])('the sockets of address %p', (address, sockets) => {
  expect(socketsIn(address)).toEqual(sockets)
})

describe('on a real bus', () => {
  test('calls are answered in any number, and errors are told by their names', async () => {
    await using started = await startBus()
    using bus = await connectSystemBus(`unix:path=/run/none;${started.address}`)
    expect(await ownerOfName(bus, 'org.freedesktop.DBus')).toBe('org.freedesktop.DBus')
    expect(await ownerOfName(bus, 'org.example.Absent')).toBeUndefined()
    const absent = { destination: 'org.example.Absent', path: '/', interface: 'a.b', member: 'C' }
    const failed = await bus.call(absent).catch(error => error)
    expect(failed).toBeInstanceOf(DbusError)
    expect(failed.error).toBe('org.freedesktop.DBus.Error.ServiceUnknown')
    const many = Array.from({ length: 200 }, () => ownerOfName(bus, 'org.freedesktop.DBus'))
    expect(new Set(await Promise.all(many))).toEqual(new Set(['org.freedesktop.DBus']))
  })

  test('a bus that ends fails the calls that wait, and all that follow', async () => {
    const started = await startBus({ 'org.example.Slow': '/bin/cat /dev/zero' })
    using bus = await connectSystemBus(started.address)
    const slow = { destination: 'org.example.Slow', path: '/', interface: 'a.b', member: 'C' }
    const waiting = bus.call(slow).catch(error => error)
    await started[Symbol.asyncDispose]()
    expect(await waiting).toBeInstanceOf(NoBusError)
    expect(await bus.call(slow).catch(error => error)).toBeInstanceOf(NoBusError)
  })

  test.each([
    ['REJECTED DBUS_COOKIE_SHA1\r\n', 'the bus does not take us in: REJECTED DBUS_COOKIE_SHA1'],
    ['DATA\r\nOK 00ff\r\nnonsense, and more of it', 'not with its byte order'],
  ])('somebody who says %p is no bus', async (words, message) => {
    using server = Bun.listen({
      unix: '/run/no-bus',
      socket: { data: socket => void socket.write(words), open() {} },
    })
    expect(server.unix).toBe('/run/no-bus')
    await expect(connectSystemBus('unix:path=/run/no-bus')).rejects.toThrow(message)
  })

  test('where there is none, the reason is told for each address', async () => {
    await expect(connectSystemBus('unix:path=/run/none;unix:abstract=none')).rejects.toThrow(
      /^\/run\/none: there is no socket \(ENOENT\); @none: /,
    )
    await expect(connectSystemBus('tcp:host=localhost')).rejects.toThrow('no address of a Unix socket')
  })
})
