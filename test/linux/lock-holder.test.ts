/** Who holds a lock, as the error of whoever gave up waiting says it. */
import { afterEach, expect, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { close, lockPlace, O_CREAT, O_RDWR, open } from '../../chain/linux/libc/file.ts'
import { takeLock } from '../../chain/linux/lock.ts'
import { describeHolders } from '../../chain/linux/lock-holder.ts'

const folder = mkdtempSync('/run/holders-')
const file = `${folder}/lock`
afterEach(() => rmSync(file, { force: true }))

const UNKNOWN = 'a process that /proc does not show'

/** A process that holds the file's lock, under a command line of the test's. */
async function holder(command: string, environment: Record<string, string> = {}, argv0 = 'sh') {
  const script = `exec 9>>${file}; flock -s 9; echo held; read -r _`
  const child = Bun.spawn(['sh', '-c', script, command], {
    stdin: 'pipe',
    stdout: 'pipe',
    env: { PATH: process.env.PATH, ...environment },
    argv0,
  })
  const reader = child.stdout.getReader()
  await reader.read()
  return {
    pid: child.pid,
    async [Symbol.asyncDispose]() {
      child.stdin.end()
      await child.exited
    },
  }
}

test('a file that is not locked, or not there, has no holder who can be seen', () => {
  expect(describeHolders(file)).toBe(UNKNOWN)
  close(open(file, O_RDWR | O_CREAT, 0o600))
  expect(describeHolders(file)).toBe(UNKNOWN)
})

test('a process is told by its number, its command and its age', () => {
  using _held = takeLock(file)
  expect(describeHolders(file)).toMatch(
    new RegExp(`^process ${process.pid} \\(\\S.*, running for \\d+ s\\)$`),
  )
})

test('a plugin is told by its verb, and by that of its own environment alone', async () => {
  await using held = await holder('/opt/cni/bin/bridge', { NOT_CNI_COMMAND: 'DEL', CNI_COMMAND: 'ADD' })
  expect(describeHolders(file)).toMatch(
    new RegExp(`^process ${held.pid} \\(sh -c .*/opt/cni/bin/bridge, ADD, running for \\d+ s\\)$`),
  )
})

test("a worker of the warm service is told without the service's age, and where its call is to be seen", async () => {
  await using held = await holder('', { CNI_COMMAND: 'ADD' }, 'catena serve --worker --slot=0')
  expect(describeHolders(file)).toBe(`process ${held.pid} (a worker: catena serve --status says at what)`)
})

test('a long command line is cut, and of many holders three are told', async () => {
  await using _one = await holder('x'.repeat(300))
  expect(describeHolders(file)).toMatch(/^process \d+ \(.{160}…, running for \d+ s\)$/)
  await using _two = await holder('two')
  await using _three = await holder('three')
  await using _four = await holder('four')
  await using _five = await holder('five')
  const told = describeHolders(file)
  expect(told.match(/process \d+/g)).toHaveLength(3)
  expect(told).toMatch(/ and 2 more$/)
})

test('of a lock on one place in a file its holder alone is told', () => {
  const [one, other] = [open(file, O_RDWR | O_CREAT, 0o600), open(file, O_RDWR, 0o600)]
  try {
    const place = { high: 3, low: 0xfffffff0 }
    expect(lockPlace(one, place, { type: 'exclusive', what: 'a name' })).toBe(true)
    expect(describeHolders(file, place)).toContain(`process ${process.pid} `)
    expect(describeHolders(file, { ...place, low: 7 })).toBe(UNKNOWN)
    expect(describeHolders(file, { high: 0, low: 0xfffffff0 })).toBe(UNKNOWN)
    expect(lockPlace(other, place, { type: 'exclusive', what: 'a name' })).toBe(false) // one who waits holds nothing
  } finally {
    for (const each of [one, other]) close(each)
  }
  expect(describeHolders(file, { high: 3, low: 0xfffffff0 })).toBe(UNKNOWN)
})
