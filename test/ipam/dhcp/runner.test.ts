import { expect, test } from 'bun:test'
import { sleepFor } from '../../../ipam/dhcp/runner.ts'

test.each([
  { left: 500, sleep: 500 },
  { left: -100, sleep: 1 },
  { left: 0xfffffffe * 1000, sleep: 0x7fffffff },
  { left: Number.POSITIVE_INFINITY, sleep: 0x7fffffff },
])('of $left ms, a lease sleeps for $sleep: no longer than a timer can', ({ left, sleep }) => {
  expect(sleepFor(left)).toBe(sleep)
})

test('the longest sleep is one that a timer of this runtime really sleeps', async () => {
  const asleep = Promise.withResolvers<string>()
  const timer = setTimeout(() => asleep.resolve('woken'), sleepFor(Number.POSITIVE_INFINITY))
  setTimeout(() => asleep.resolve('asleep'), 20)
  expect(await asleep.promise).toBe('asleep')
  clearTimeout(timer)
})
