import { describe, expect, test } from 'bun:test'
import {
  connectSystemBus,
  DbusError,
  NoBusError,
  ownerOfName,
  socketsIn,
} from '../../../chain/linux/dbus/connection.ts'
import { startBus } from '../../fixtures/dbus.ts'

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
