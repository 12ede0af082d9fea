import { expect, spyOn, test } from 'bun:test'
import { openPlace } from '../../../ipam/dhcp/port.ts'
import { createRunner, type Machine } from '../../../ipam/dhcp/runner.ts'
import { connect, freshNamespace } from '../../fixtures/namespace.ts'

interface State {
  phase: string
  wakeAt?: number
}
type Event = { now: number; random: () => number } & ({ type: 'start' } | { type: 'timer' })

/** A machine that wants to wake at a time, with a clock that stands still. */
function sleeper(wakeAt: number): Machine<State, Event, string, never> {
  return {
    initial: { phase: 'init' },
    step: () => ({ state: { phase: 'bound', wakeAt }, actions: [] }),
    carryOut: () => undefined,
    settled: () => undefined,
    addressOf: () => undefined,
    surroundings: {
      clock: () => 1000,
      random: () => 0.5,
      log: () => undefined,
      save: () => undefined,
      forget: () => undefined,
      inhabited: () => true,
    },
    retry: 1000,
  }
}

test.each([
  [1500, 500],
  [900, 1],
  // a timer of more milliseconds would be over at once, and again and again
  [1000 + 0xfffffffe * 1000, 0x7fffffff],
  [Number.POSITIVE_INFINITY, 0x7fffffff],
])('what wants to wake at %p is slept for no longer than a timer can', (wakeAt, wait) => {
  using one = freshNamespace('one')
  using other = freshNamespace('other')
  connect({ namespace: one, name: 'eth0' }, { namespace: other, name: 'eth0' })
  const timers = spyOn(globalThis, 'setTimeout')
  try {
    const runner = createRunner(openPlace(one.path, 'eth0'), sleeper(wakeAt))
    runner.happen({ type: 'start' })
    expect(timers.mock.calls.map(([, milliseconds]) => milliseconds)).toEqual([wait])
    runner.close()
  } finally {
    timers.mockRestore()
  }
})
