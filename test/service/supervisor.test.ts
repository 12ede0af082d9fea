/** When the service has more workers started. That it does: life.test.ts. */
import { expect, test } from 'bun:test'
import { areHeld } from '../../chain/service/supervisor.ts'

const busy = (slot: number, calls: number) => ({ slot, state: 'busy', calls }) as const
const before = new Map([
  [0, 10],
  [1, 20],
  [2, 30],
  [3, 40],
])

test.each([
  ['all are with the call that they had before', [busy(0, 10), busy(1, 20), busy(2, 30), busy(3, 40)], true],
  ['half of them are', [busy(0, 10), busy(1, 20), busy(2, 37), busy(3, 44)], true],
  ['most have come to the end of theirs', [busy(0, 10), busy(1, 22), busy(2, 37), busy(3, 44)], false],
  ['one is free', [busy(0, 10), busy(1, 20), busy(2, 30), { slot: 3, state: 'idle', calls: 40 }], false],
  ['the only one is', [busy(0, 10)], true],
  ['the only one has gone on to another', [busy(0, 11)], false],
  ['one is new since', [busy(0, 12), busy(1, 23), busy(7, 0)], false],
] as const)('of workers, %s: more are needed: %#', (_, workers, expected) => {
  expect(areHeld(workers, before)).toBe(expected)
})
