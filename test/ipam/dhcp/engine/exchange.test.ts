/** An exchange with servers, whatever they speak: how long an answer is waited for, and what becomes of one. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import {
  accept,
  bind,
  lose,
  phaseEnd,
  probe,
  returnOffer,
  sleepUntilRenewal,
  still,
  stop,
  transmit,
} from '../../../../ipam/dhcp/engine/exchange.ts'
import { at, client, initial, lease, party, protocol, type State } from './protocol.ts'

const { obtainedAt: _, seconds: __, ...offer } = lease
const selecting: State = { ...initial, phase: 'selecting' }
const requesting: State = { ...initial, phase: 'requesting', offer }

describe('a message that is sent', () => {
  test('is waited for twice as long each time, and never past the acquisition’s end', () => {
    let state = selecting
    const waits: number[] = []
    let now = 0
    for (let sends = 0; sends < 4; sends++) {
      const next = transmit(party, state, at(now))
      expect(next.actions).toEqual([{ type: 'send', what: 'selecting' }])
      state = next.state
      waits.push((state.wakeAt ?? 0) - now)
      now = state.wakeAt ?? 0
    }
    expect(waits).toEqual([10_000, 20_000, 30_000, 0]) // until 60 s
    expect(state.sends).toBe(4)
  })

  test('with a lease is waited for a third of what is left of the phase, but not for nothing', () => {
    const waitOf = (phase: string, now: number) =>
      (transmit(party, { ...initial, phase, lease, deadline: 0 }, at(now)).state.wakeAt ?? 0) - now
    expect(waitOf('renewing', 50_000)).toBe(10_000) // of 30 s until T2
    expect(waitOf('renewing', 70_000)).toBeCloseTo(3333, 0)
    expect(waitOf('renewing', 79_900)).toBe(100) // a quarter of a second would be past T2
    expect(waitOf('rebinding', 97_000)).toBe(1000)
    expect(waitOf('rebinding', 99_400)).toBe(250)
  })

  test('is none where the phase has nothing to say', () => {
    expect(transmit(party, initial, at(0))).toEqual(still(initial))
  })
})

test.each([
  [{}, 60_000],
  [{ phase: 'renewing', lease }, 80_000],
  [{ phase: 'rebinding', lease }, 100_000],
  [{ phase: 'requesting', lease, deadline: 60_000 }, 60_000],
  [{ phase: 'requesting', lease, deadline: 160_000 }, 100_000],
])('a phase of %j ends at %p', (state, end) => {
  expect(phaseEnd(protocol, { ...initial, ...state })).toBe(end)
})

describe('others are asked whether they have the address', () => {
  const asked = transmit(party, requesting, at(1000))

  test('that is offered, for as long as the probe takes', () => {
    const { state, actions } = probe(client, asked, at(1000))
    expect(actions).toEqual([...asked.actions, { type: 'probe', address: '10.0.0.5' }])
    expect(state.probeUntil).toBe(1200)
  })

  test('but not without an offer, for a lease that is held, or where it is not asked for', () => {
    const withLease = { ...asked, state: { ...asked.state, lease } }
    const { offer: _, ...withoutOffer } = asked.state
    const unwilling = { ...client, timing: { ...client.timing, probe: 0 } }
    expect(probe(client, withLease, at(1000))).toBe(withLease)
    expect(probe(client, { ...asked, state: withoutOffer }, at(1000)).actions).toEqual(asked.actions)
    expect(probe(unwilling, asked, at(1000))).toBe(asked)
  })
})

describe('what a server has granted', () => {
  const grant = { lease, now: 1000, confirms: false }

  test('is the client’s once others had the time to object', () => {
    expect(accept({ ...requesting, probeUntil: 1200 }, grant)).toEqual({
      state: { ...requesting, probeUntil: 1200, lease, phase: 'verifying', wakeAt: 1200 },
      actions: [],
    })
    const late = accept({ ...requesting, probeUntil: 900 }, grant)
    expect(late?.actions).toEqual([{ type: 'bound', lease, how: 'acquired' }])
  })

  test('is not, where another host has said that it is its own', () => {
    expect(accept({ ...requesting, claimant: '02:00:00:00:00:99' }, grant)).toBeUndefined()
  })

  test('goes on where it is held already: there is no other to ask', () => {
    for (const state of [
      { ...requesting, lease },
      { ...initial, phase: 'renewing', lease },
    ])
      expect(accept(state, grant)?.actions).toEqual([{ type: 'bound', lease, how: 'renewed' }])
    expect(accept({ ...requesting, claimant: 'x' }, { ...grant, confirms: true })?.actions).toEqual([
      { type: 'bound', lease, how: 'confirmed' },
    ])
  })

  test('leaves nothing of the exchange behind when it is bound', () => {
    const passing = { probeUntil: 1, claimant: 'x', excludedServer: '10.0.0.9', wakeAt: 7, sends: 3 }
    const state: State = { ...requesting, ...passing }
    expect(bind(state, lease, 'acquired').state).toEqual({
      phase: 'bound',
      deadline: 60_000,
      sends: 0,
      lease,
      wakeAt: 50_000,
    })
  })
})

test('a lease for ever never wakes anybody', () => {
  const forEver = { ...lease, renewalSeconds: Number.POSITIVE_INFINITY }
  expect(sleepUntilRenewal({ ...initial, wakeAt: 7 }, forEver).state).not.toHaveProperty('wakeAt')
})

describe('what a server may have committed', () => {
  test('is given back where it was asked for', () => {
    expect(returnOffer(party, requesting, at(7))).toEqual([{ type: 'send', what: 'release 10.0.0.5' }])
  })

  test('and nothing is, where there was only an offer, or none', () => {
    expect([
      returnOffer(party, { ...selecting, offer }, at(7)),
      returnOffer(party, selecting, at(7)),
    ]).toEqual([[], []])
  })
})

test('whoever has stopped says why, and never wakes again', () => {
  const awake: State = { ...requesting, wakeAt: 7 }
  expect(stop(awake, { type: 'failed', why: 'no more tries' }, ['first'])).toEqual({
    state: { ...requesting, phase: 'stopped', reason: 'no more tries' } as State,
    actions: ['first', { type: 'failed', why: 'no more tries' }],
  })
  expect(stop(initial, { type: 'released' }).state.reason).toBe('released')
  expect(lose({ ...initial, lease }, lease, 'it was refused').actions).toEqual([
    { type: 'lost', lease, why: 'it was refused' },
  ])
})

test('no client is kept waiting past a phase’s end, whenever it is asked', () => {
  const phase = fc.constantFrom('renewing', 'rebinding')
  fc.assert(
    fc.property(phase, fc.integer({ min: 50_000, max: 99_999 }), fc.nat(5), (phase, now, sends) => {
      const state = { ...initial, phase, lease, sends }
      const end = Math.max(now, phaseEnd(protocol, state))
      const { wakeAt = Number.NaN } = transmit(party, state, at(now)).state
      expect(wakeAt).toBeGreaterThanOrEqual(now)
      expect(wakeAt).toBeLessThanOrEqual(end)
    }),
  )
})
