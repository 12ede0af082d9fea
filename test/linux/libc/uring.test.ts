/** Calls that a thread of the kernel's makes, and this one waits for when it likes. */
import { expect, test } from 'bun:test'
import { mkdtempSync } from 'node:fs'
import { errno, isErrno } from '../../../chain/linux/libc/errno.ts'
import { close, POLLIN, waitFor } from '../../../chain/linux/libc/file.ts'
import { MSG_DONTWAIT, receive, send } from '../../../chain/linux/libc/socket.ts'
import { accept, bindPackets, connectPackets, listen } from '../../../chain/linux/libc/unix-socket.ts'
import { openRing, type Ring } from '../../../chain/linux/libc/uring.ts'

function ringOf(entries: number): Ring {
  const ring = openRing(entries)
  if (!ring) throw new Error('this kernel gives no ring')
  return ring
}

/** A connection of whole messages: what waits for room at one end, and who reads at the other. */
function connection() {
  const path = `${mkdtempSync('/run/ring-')}/socket`
  const listener = bindPackets(path)
  listen(listener, 1)
  const reader = connectPackets(path)
  const writer = accept(listener) ?? -1
  return {
    ...{ reader, writer },
    /** Messages for which there was room. */
    fill() {
      for (let count = 0; ; count++) {
        try {
          send(writer, new Uint8Array(1000).fill(1), MSG_DONTWAIT)
        } catch (thrown) {
          if (isErrno(thrown, errno.EAGAIN)) return count
          throw thrown
        }
      }
    },
    read() {
      const buffer = new Uint8Array(2000)
      return buffer.slice(0, receive(reader, buffer))
    },
    [Symbol.dispose]() {
      for (const descriptor of [listener, reader, writer]) close(descriptor)
    },
  }
}

const bytesOf = (number: number) => new Uint8Array(100).fill(number)

test('what has no room yet is under way while this thread goes on, and its bytes stay whoever collects', () => {
  const ring = ringOf(4)
  using line = connection()
  const before = line.fill()
  const tickets = [2, 3].map(number => ring.send(line.writer, bytesOf(number)))
  expect(ring.completed()).toEqual([])
  Bun.gc(true)
  for (let count = 0; count < before; count++) line.read()
  const done: number[] = []
  while (done.length < 2) {
    for (const { ticket, result } of ring.completed(1)) {
      expect(result).toBe(100)
      done.push(ticket)
    }
  }
  expect(done.toSorted()).toEqual(tickets)
  expect([line.read(), line.read()].map(each => each[99]).toSorted()).toEqual([2, 3])
})

test('the ring can be read once something is done, and not before', () => {
  const ring = ringOf(2)
  using line = connection()
  expect(waitFor([[ring.descriptor, POLLIN]], 0)).toEqual([0])
  const ticket = ring.send(line.writer, bytesOf(1))
  expect(waitFor([[ring.descriptor, POLLIN]], 10_000)).toEqual([POLLIN])
  expect(ring.completed()).toEqual([{ ticket, result: 100 }])
  expect(waitFor([[ring.descriptor, POLLIN]], 0)).toEqual([0])
})

test('a refusal is the call’s number', () => {
  const ring = ringOf(2)
  const ticket = ring.send(-1, bytesOf(1))
  expect(ring.completed(1)).toEqual([{ ticket, result: -9 }]) // EBADF
})

test('it goes round, and nobody waits for what is not under way', () => {
  const ring = ringOf(2)
  using line = connection()
  expect(ring.completed(1)).toEqual([])
  for (let count = 1; count < 50; count++) {
    ring.send(line.writer, bytesOf(count))
    expect(ring.completed(5)).toEqual([{ ticket: count, result: 100 }])
    expect(line.read()).toEqual(bytesOf(count))
  }
})

test('where the kernel refuses io_uring there is no ring', () => {
  const look = `import { openRing } from '${import.meta.dir}/../../../chain/linux/libc/uring.ts'; console.log(openRing(2))`
  const command = [process.execPath, '-e', look]
  const wrapper = [process.execPath, `${import.meta.dir}/../../fixtures/without-uring.ts`]
  expect(Bun.spawnSync(command).stdout.toString()).toContain('descriptor')
  const { stdout, stderr } = Bun.spawnSync([...wrapper, ...command])
  expect({ stdout: stdout.toString(), stderr: stderr.toString() }).toEqual({
    stdout: 'undefined\n',
    stderr: '',
  })
})
