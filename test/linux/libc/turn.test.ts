/** Waiting for connections beside others: the first that waits gets them. */
import { afterAll, afterEach, expect, test } from 'bun:test'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { close, waitReadable } from '../../../chain/linux/libc/file.ts'
import { awaitTurn, takePlace } from '../../../chain/linux/libc/turn.ts'
import {
  accept,
  bindPackets,
  connectPackets,
  listen,
  receiveMessage,
} from '../../../chain/linux/libc/unix-socket.ts'

const folder = mkdtempSync('/run/turn-')
const path = `${folder}/socket`
const listener = bindPackets(path)
listen(listener, 8)
const children: Bun.Subprocess[] = []

afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill('SIGKILL')
    await child.exited
  }
})
afterAll(() => {
  close(listener)
  rmSync(folder, { recursive: true })
})

/** Processes of the names 1, 2 and so on, which have come to the socket in this order. */
async function waiting(count: number): Promise<void> {
  for (let name = 1; name <= count; name++) {
    const command = [process.execPath, `${import.meta.dir}/../../fixtures/turn.ts`, String(name)]
    const child = Bun.spawn(command, { stdio: ['ignore', 'pipe', 'inherit', listener] })
    children.push(child)
    await child.stdout.getReader().read()
  }
}

/** Who answers a connection that is open until it is disposed of. */
function answered() {
  const connection = connectPackets(path)
  const said = new Uint8Array(1)
  if (!waitReadable(connection, 5000)) throw new Error('nobody answers')
  receiveMessage(connection, said)
  return { by: said[0], [Symbol.dispose]: () => close(connection) }
}

/** Until the first waits again, and does not only come back from the one before. */
async function untilFirstWaits(): Promise<void> {
  const place = `/proc/${children[0]?.pid}/wchan` // proc_pid_wchan(5)
  while (!readFileSync(place, 'utf8').includes('epoll')) await pause(1)
}

test('who comes when all wait is taken by the first, again and again', async () => {
  await waiting(3)
  const answers: (number | undefined)[] = []
  for (let count = 0; count < 12; count++) {
    await untilFirstWaits()
    using one = answered()
    answers.push(one.by)
  }
  expect(answers).toEqual(answers.map(() => 1))
})

test('who comes while the first is busy is taken by the next', async () => {
  await waiting(3)
  using first = answered()
  using second = answered()
  using third = answered()
  expect([first.by, second.by, third.by].toSorted()).toEqual([1, 2, 3])
})

test('nobody who came is nobody, and where another was sooner nobody is waited for', () => {
  const place = takePlace(listener)
  using _place = { [Symbol.dispose]: () => close(place) }
  expect(awaitTurn(place, 0.01)).toBe('nobody')
  expect(accept(listener)).toBeUndefined()
  const connection = connectPackets(path)
  expect(awaitTurn(place, 1)).toBe('somebody')
  close(accept(listener) ?? -1)
  close(connection)
  expect(awaitTurn(place, 0.001)).toBe('nobody')
})
