/** Memory that several processes share. */
import { expect, test } from 'bun:test'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { close } from '../../../chain/linux/libc/file.ts'
import { createMemory, mapMemory } from '../../../chain/linux/libc/memory.ts'

test('what one mapping writes all others see, and whoever opens it', () => {
  const descriptor = createMemory('a test', 8192)
  const [one, other] = [mapMemory(descriptor, 8192), mapMemory(descriptor, 8192)].map(
    each => new Uint8Array(each),
  )
  expect(one).toHaveLength(8192)
  expect(one?.every(byte => byte === 0)).toBe(true)
  one?.set([1, 2, 3], 8189)
  expect([...(other?.subarray(8189) ?? [])]).toEqual([1, 2, 3])
  expect([...readFileSync(`/proc/self/fd/${descriptor}`).subarray(8189)]).toEqual([1, 2, 3])
  expect(readlinkSync(`/proc/self/fd/${descriptor}`)).toBe('/memfd:a test (deleted)')
  close(descriptor)
  expect(other?.at(-1)).toBe(3)
})

test('a program that is run does not inherit it', () => {
  const descriptor = createMemory('a test', 4096)
  const flags = /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8'))?.[1]
  expect(Number.parseInt(flags ?? '', 8) & 0o2000000).toBe(0o2000000) // O_CLOEXEC
  close(descriptor)
})

test('what cannot be had is refused with its number', () => {
  expect(() => createMemory('x'.repeat(300), 4096)).toThrow('memfd_create')
  expect(() => mapMemory(-1, 4096)).toThrow('mmap')
  const open = () => readdirSync('/proc/self/fd').length
  const before = open()
  expect(() => createMemory('a test', -1)).toThrow('make room for -1 bytes')
  expect(open()).toBe(before)
})
