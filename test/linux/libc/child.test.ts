/** Processes that this one has started, waited for by descriptor. */
import { expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import { endOf, openProcess } from '../../../chain/linux/libc/child.ts'
import { close, waitReadable } from '../../../chain/linux/libc/file.ts'

test.each<[string, ReturnType<typeof endOf>]>([
  ['exit 0', { status: 0 }],
  ['exit 7', { status: 7 }],
  ['exit 255', { status: 255 }],
  ['kill -KILL $$', { signal: 9 }],
  ['kill -TERM $$', { signal: 15 }],
])('one that does `%s` has ended so, also for whoever has started it', async (script, end) => {
  const child = Bun.spawn(['sh', '-c', script])
  const descriptor = openProcess(child.pid)
  expect(waitReadable(descriptor, 5000)).toBe(true)
  expect([endOf(child.pid), endOf(child.pid)]).toEqual([end, end])
  close(descriptor)
  await child.exited
  expect(child.signalCode === null).toBe('status' in end)
})

test('one that runs is waited for in vain', async () => {
  const child = Bun.spawn(['cat'], { stdin: 'pipe' })
  const descriptor = openProcess(child.pid)
  expect(waitReadable(descriptor, 20)).toBe(false)
  child.stdin.end()
  expect(waitReadable(descriptor, 5000)).toBe(true)
  close(descriptor)
  await child.exited
})

test('of a process that is none of ours, or not there, nothing can be told', () => {
  expect(() => endOf(1)).toThrow('wait for process 1')
  expect(existsSync('/proc/4194303')).toBe(false)
  expect(() => openProcess(4_194_303)).toThrow('pidfd_open of process 4194303')
})
