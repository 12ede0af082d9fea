/** The life of a lease, whatever protocol it is spoken of in. */
import { describe, expect, test } from 'bun:test'
import { adopt, step } from '../../../../ipam/dhcp/engine/lease.ts'
import { at, initial, lease, party, type State } from './protocol.ts'

const { obtainedAt: _, seconds: __, ...offer } = lease
const bound: State = { ...initial, phase: 'bound', lease, wakeAt: 50_000 }
const requesting: State = { ...initial, phase: 'requesting', offer, wakeAt: 10_000 }
const OTHER = '02:00:00:00:00:99'

/** What is done, in short. */
const brief = (actions: readonly object[]) =>
  actions.map(action => {
    const { type, what, why, how } = action as Record<string, string>
    return [type === 'send' ? undefined : type, what, why ?? how].filter(Boolean).join(': ')
  })
const timerAt = (state: State, now: number) => {
  const next = step(
    party,
    { ...state, wakeAt: Math.min(state.wakeAt ?? now, now) },
    { type: 'timer', ...at(now) },
  )
  return { ...next, did: brief(next.actions) }
}

test('a timer that is not due, or of a client that waits for nothing, changes nothing', () => {
  for (const state of [{ ...bound, wakeAt: 50_000 }, { ...initial }])
    expect(step(party, state, { type: 'timer', ...at(49_999) })).toEqual({ state, actions: [] })
})

describe('a lease that is held', () => {
  test.each([
    { now: 49_999, phase: 'bound', did: [] },
    { now: 50_000, phase: 'renewing', did: ['prolong renewing'] },
    { now: 79_999, phase: 'renewing', did: ['prolong renewing'] },
    {
      now: 80_000,
      phase: 'rebinding',
      did: ['note: rebinding: 10.0.0.1 did not renew the lease', 'prolong rebinding'],
    },
    { now: 100_000, phase: 'stopped', did: ['lost: the lease has expired'] },
  ])('is, at $now, $phase', ({ now, phase, did }) => {
    const next = timerAt(bound, now)
    expect([next.state.phase, ...next.did]).toEqual([phase, ...did])
  })

  test('is asked for again in a phase that has begun, and sleeps on when its clock was put back', () => {
    expect(timerAt({ ...bound, phase: 'renewing' }, 60_000).did).toEqual(['prolong renewing again'])
    expect(timerAt({ ...bound, phase: 'rebinding' }, 90_000).did).toEqual(['prolong rebinding again'])
    const back = timerAt({ ...bound, phase: 'renewing' }, 40_000)
    expect([back.state.phase, back.state.wakeAt]).toEqual(['bound', 50_000])
  })

  test('from before a restart goes on where it is, or is lost', () => {
    const phases = [1000, 60_000, 90_000, 100_000].map(
      now => adopt(party, initial, { lease, ...at(now) }).state.phase,
    )
    expect(phases).toEqual(['bound', 'renewing', 'rebinding', 'stopped'])
    expect(adopt(party, initial, { lease, ...at(1000) }).state.wakeAt).toBe(50_000)
  })

  test('expires also while it is asked for once more', () => {
    expect(timerAt({ ...requesting, lease }, 100_000).did).toEqual(['lost: the lease has expired'])
  })
})

describe('an address that is being verified', () => {
  const verifying: State = { ...requesting, phase: 'verifying', lease, probeUntil: 1200, wakeAt: 1200 }

  test('is bound when no other host spoke up in time', () => {
    expect(timerAt(verifying, 1199).did).toEqual([])
    expect(timerAt(verifying, 1200).did).toEqual(['bound: acquired'])
  })

  test.each([
    ['another host', OTHER, '10.0.0.5', [`decline to ${OTHER}`]],
    ['its own interface', '02:00:00:00:00:01', '10.0.0.5', []],
    ['a host with another address', OTHER, '10.0.0.6', []],
  ])('that %s speaks for', (_, hardware, address, did) => {
    const next = step(party, verifying, { type: 'conflict', address, hardware, ...at(1100) })
    expect(brief(next.actions)).toEqual(did)
  })
})

describe('a conflict', () => {
  const conflict = { type: 'conflict', address: '10.0.0.5', hardware: OTHER, ...at(5) } as const

  test('before the grant is remembered', () => {
    expect(step(party, requesting, conflict)).toEqual({
      state: { ...requesting, claimant: OTHER },
      actions: [],
    })
  })

  test('at any other time is none: the address is the client’s, or unowned yet', () => {
    for (const state of [bound, { ...bound, offer }, { ...requesting, phase: 'selecting' }])
      expect(step(party, state, conflict)).toEqual({ state, actions: [] })
  })
})

describe('an acquisition', () => {
  test('asks again until its end', () => {
    expect(timerAt(requesting, 59_999).did).toEqual(['requesting again'])
  })

  test('that comes to nothing gives back what a server may have committed', () => {
    const next = timerAt(requesting, 60_000)
    expect(next.did).toEqual(['release 10.0.0.5', 'failed: no more tries: no server answered in requesting'])
    expect(next.state).toMatchObject({
      phase: 'stopped',
      reason: 'no more tries: no server answered in requesting',
    })
    const { offer: _, ...withoutOffer } = requesting
    expect(timerAt({ ...withoutOffer, phase: 'selecting' }, 60_000).did).toEqual([
      'failed: no more tries: no server answered in selecting',
    ])
  })

  test('of an address that is held already is the protocol’s to give up', () => {
    expect(timerAt({ ...requesting, lease }, 60_000).did).toEqual(['lost: refused again'])
  })
})

describe('giving back', () => {
  const release = (state: State) => {
    const next = step(party, state, { type: 'release', ...at(5) })
    return [next.state.phase, ...brief(next.actions)]
  }

  test('tells the server of a lease, once', () => {
    expect(release(bound)).toEqual(['stopped', 'release 10.0.0.5', 'released'])
    expect(release({ ...bound, phase: 'stopped' })).toEqual(['stopped', 'released'])
  })

  test('tells it of what was asked for, and not of what was not', () => {
    expect(release(requesting)).toEqual(['stopped', 'release 10.0.0.5', 'released'])
    expect(release({ ...requesting, phase: 'selecting' })).toEqual(['stopped', 'released'])
  })

  test('says which lease it was, for whoever keeps them', () => {
    expect(step(party, bound, { type: 'release', ...at(5) }).actions.at(-1)).toEqual({
      type: 'released',
      lease,
    })
    expect(step(party, requesting, { type: 'release', ...at(5) }).actions.at(-1)).toEqual({
      type: 'released',
    })
  })
})

test('a client that has stopped does nothing any more', () => {
  const stopped: State = { ...bound, phase: 'stopped' }
  for (const now of [50_000, 100_000]) expect(timerAt(stopped, now).did).toEqual([])
})
