/** Messages between processes of one machine, what comes beside them, and who has sent them. */
import { afterAll, expect, test } from 'bun:test'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { close, O_RDONLY, open } from '../../../chain/linux/libc/file.ts'
import {
  accept,
  bindPackets,
  connectPackets,
  isListening,
  listen,
  messageAtHand,
  peerOf,
  receiveMessage,
  sendMessage,
} from '../../../chain/linux/libc/unix-socket.ts'

const folder = mkdtempSync('/run/libc-')
const listener = bindPackets(`${folder}/socket`)
listen(listener, 4)
afterAll(() => {
  close(listener)
  rmSync(folder, { recursive: true })
})

/** Two ends of a connection. */
function connected() {
  const caller = connectPackets(`${folder}/socket`)
  const called = accept(listener) ?? -1
  return {
    caller,
    called,
    [Symbol.dispose]() {
      close(caller)
      close(called)
    },
  }
}

const openDescriptors = () => readdirSync('/proc/self/fd').length

test('a message arrives whole, with the descriptors beside it', () => {
  using ends = connected()
  const buffer = new Uint8Array(100)
  const before = openDescriptors()
  const sent = [0, 1, 2].map(() => open('/dev/null', O_RDONLY))
  sendMessage(ends.caller, Uint8Array.of(7, 8), sent)
  for (const descriptor of sent) close(descriptor)
  const { length, descriptors, isCut } = receiveMessage(ends.called, buffer)
  expect([[...buffer.subarray(0, length)], descriptors.length, isCut]).toEqual([[7, 8], 3, false])
  expect(openDescriptors()).toBe(before + 3)
  for (const descriptor of descriptors) close(descriptor)
})

test('a message that the buffer, or descriptors that the room for them, cannot take is known to be cut', () => {
  using ends = connected()
  sendMessage(ends.caller, new Uint8Array(11))
  expect(receiveMessage(ends.called, new Uint8Array(10))).toEqual({
    length: 10,
    descriptors: [],
    isCut: true,
  })
  sendMessage(ends.caller, new Uint8Array(1), Array(9).fill(0))
  const { descriptors, isCut } = receiveMessage(ends.called, new Uint8Array(10))
  expect([descriptors.length, isCut]).toEqual([8, true])
  for (const descriptor of descriptors) close(descriptor)
})

test('a message that has come is at hand, one that is still to come is not waited for', () => {
  using ends = connected()
  const buffer = new Uint8Array(10)
  expect(messageAtHand(ends.called, buffer)).toBeUndefined()
  sendMessage(ends.caller, Uint8Array.of(1, 2, 3))
  expect(messageAtHand(ends.called, buffer)).toEqual({ length: 3, isCut: false })
  expect([...buffer.subarray(0, 3)]).toEqual([1, 2, 3])
  sendMessage(ends.caller, new Uint8Array(11))
  expect(messageAtHand(ends.called, buffer)).toEqual({ length: 10, isCut: true })
})

test('descriptors beside a message that is taken from what is at hand are nobody’s', () => {
  using ends = connected()
  const before = openDescriptors()
  sendMessage(ends.caller, Uint8Array.of(1), [0, 1, 2])
  expect(messageAtHand(ends.called, new Uint8Array(10))).toEqual({ length: 1, isCut: false })
  expect(openDescriptors()).toBe(before)
})

test('the end of a connection is a message of nothing', () => {
  using ends = connected()
  const other = connectPackets(`${folder}/socket`)
  const called = accept(listener) ?? -1
  close(other)
  expect(messageAtHand(called, new Uint8Array(10))).toEqual({ length: 0, isCut: false })
  expect(receiveMessage(called, new Uint8Array(10)).length).toBe(0)
  expect(() => sendMessage(called, Uint8Array.of(1))).toThrow('EPIPE')
  close(called)
  expect(messageAtHand(ends.called, new Uint8Array(10))).toBeUndefined()
})

test('who has called is known, and who listens', () => {
  using ends = connected()
  expect(peerOf(ends.called)).toEqual({ process: process.pid, user: process.getuid?.() ?? -1 })
  expect([listener, ends.called, 0].map(isListening)).toEqual([true, false, false])
})
