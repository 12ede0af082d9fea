import { expect, test } from 'bun:test'
import { createEventLoop, type Machine, sleepFor } from '../../../../ipam/dhcp/engine/event-loop.ts'
import { openClientLink } from '../../../../ipam/dhcp/link/client-link.ts'
import { connect, freshNamespace } from '../../../fixtures/namespace.ts'

test.each([
  { left: 500, sleep: 500 },
  { left: -100, sleep: 1 },
  { left: 0xfffffffe * 1000, sleep: 0x7fffffff },
  { left: Number.POSITIVE_INFINITY, sleep: 0x7fffffff },
])('of $left ms, a lease sleeps for $sleep: no longer than a timer can', ({ left, sleep }) => {
  expect(sleepFor(left)).toBe(sleep)
})

interface State {
  phase: string
  wakeAt?: number
}
type Event = { now: number; random: () => number } & ({ type: 'start' } | { type: 'timer' })

/** A machine that wants to wake at a time, and a clock that stands still and tells how often it was looked at. */
function sleeper(wakeAt: number, looked: () => void): Machine<State, Event, string, never> {
  return {
    initial: { phase: 'init' },
    step: () => ({ state: { phase: 'bound', wakeAt }, actions: [] }),
    carryOut: () => undefined,
    closeUnneeded: () => undefined,
    addressOf: () => undefined,
    context: {
      clock: () => {
        looked()
        return 1000
      },
      random: () => 0.5,
      log: () => undefined,
      save: () => undefined,
      forget: () => undefined,
      inhabited: () => true,
    },
    retry: 1000,
  }
}

test.each([1000 + 0xfffffffe * 1000, Number.POSITIVE_INFINITY])(
  'a lease that sleeps until %p is not awake again and again meanwhile',
  async wakeAt => {
    using one = freshNamespace('one')
    using other = freshNamespace('other')
    connect({ namespace: one, name: 'eth0' }, { namespace: other, name: 'eth0' })
    let looks = 0
    const loop = createEventLoop(
      openClientLink(one.path, 'eth0'),
      sleeper(wakeAt, () => looks++),
    )
    loop.dispatch({ type: 'start' })
    const before = looks
    const { promise, resolve } = Promise.withResolvers<void>()
    setTimeout(resolve, 50)
    await promise
    expect({ before: before > 0, after: looks - before }).toEqual({ before: true, after: 0 })
    loop.close()
  },
)
