/** How long a client pauses. */
import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { defaultTiming, pauseAfter } from '../../../../ipam/dhcp/engine/timing.ts'

const pauses = (resendMax: number) =>
  Array.from(
    { length: 10 },
    (_, failures) => pauseAfter({ ...defaultTiming, resendMax }, failures, () => 0.5) / 1000,
  )

test('four times two seconds, then twice as long each time, up to the largest and a second', () => {
  expect(pauses(62_000)).toEqual([2, 2, 2, 2, 8, 16, 32, 63, 63, 63])
  expect(pauses(1_000_000)).toEqual([2, 2, 2, 2, 8, 16, 32, 64, 128, 256])
  expect(pauses(500)).toEqual(Array(10).fill(1.5))
})

test('give or take a second, or the largest pause: never less than nothing, and never without an end', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 100_000 }),
      fc.nat(2000),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (resendMax, failures, random) => {
        const timing = { ...defaultTiming, resendMax }
        const pause = pauseAfter(timing, failures, () => random)
        const middle = pauseAfter(timing, failures, () => 0.5)
        expect(pause).toBeGreaterThanOrEqual(0)
        expect(Math.abs(pause - middle)).toBeLessThanOrEqual(Math.min(1000, resendMax))
        expect(pause).toBeLessThanOrEqual(resendMax + 2000)
      },
    ),
  )
})
