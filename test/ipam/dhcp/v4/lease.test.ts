import { describe, expect, test } from 'bun:test'
import { defaultTiming, pauseAfter } from '../../../../ipam/dhcp/engine/timing.ts'
import { step } from '../../../../ipam/dhcp/v4/lease.ts'
import type { Message } from '../../../../ipam/dhcp/v4/packet.ts'
import { initialState } from '../../../../ipam/dhcp/v4/types.ts'
import { type Answer, client, OTHER, SECOND, SERVER, story } from './story.ts'

describe('acquiring', () => {
  test('DISCOVER, OFFER, REQUEST and a probe, ACK, and bound when no other host spoke up', () => {
    const one = story()
    one.happen({ type: 'start' })
    expect([one.names(), one.state().phase]).toEqual([['send discover'], 'selecting'])
    one.answer({ type: 'offer' })
    expect([one.names(), one.state().phase]).toEqual([['send request', 'probe'], 'requesting'])
    one.answer({ type: 'acknowledge' })
    expect([one.names(), one.state().phase]).toEqual([[], 'verifying'])
    expect(one.wait()).toBe(200)
    expect([one.names(), one.state().phase]).toEqual([['bound'], 'bound'])
    expect(one.state().lease).toMatchObject({
      address: '10.0.0.5',
      server: '10.0.0.1',
      serverHardware: SERVER,
      obtainedAt: 0,
    })
    expect(one.state().wakeAt).toBe(500 * SECOND)
  })

  test('an ACK after the time for objections binds at once', () => {
    const one = story()
    one.happen({ type: 'start' })
    one.answer({ type: 'offer' })
    one.at(300).answer({ type: 'acknowledge' })
    expect(one.names()).toEqual(['bound'])
  })

  test('DISCOVER is sent after 0, 10 and 30 s, and after a pause from the start, until there are no more tries', () => {
    const one = story()
    one.happen({ type: 'start' })
    const sent: number[] = [0]
    let now = 0
    while (one.state().phase !== 'stopped') {
      now = one.wait()
      if (one.names().includes('send discover')) sent.push(now)
    }
    expect(sent.map(time => time / SECOND)).toEqual([0, 10, 30, 72, 82, 102, 144, 154, 174])
    expect(now).toBe(208 * SECOND)
    expect(one.actions()).toEqual([{ type: 'failed', why: 'no more tries: no server offered an address' }])
  })

  test('each try is a new transaction, which says for how long it has been tried', () => {
    let draws = 0
    const random = () => ++draws / 10
    const begun = step(client, initialState, { type: 'start', now: 0, random }).state
    const again = step(client, { ...begun, sends: 0, wakeAt: 72_000 }, { type: 'timer', now: 72_000, random })
    expect(again.state.transaction).not.toBe(begun.transaction)
    expect(again.actions[0]).toMatchObject({ message: { seconds: 72, transaction: again.state.transaction } })
  })

  test('a request that no server acknowledges: what it may have committed is given back', () => {
    const one = story()
    one.happen({ type: 'start' })
    one.at(207 * SECOND).answer({ type: 'offer' })
    one.wait()
    expect(one.names()).toEqual(['send release', 'failed'])
    expect(one.sent()).toMatchObject({
      to: { hardware: SERVER, address: '10.0.0.1' },
      message: { clientAddress: '10.0.0.5' },
    })
  })

  test.each([
    { name: 'another transaction', answer: { type: 'offer', transaction: 7 } },
    { name: 'another client', answer: { type: 'offer', hardware: OTHER } },
    { name: 'an acknowledgement of nothing', answer: { type: 'acknowledge' } },
    { name: 'a refusal of nothing', answer: { type: 'nak' } },
    { name: 'zero seconds', answer: { type: 'offer', seconds: 0 } },
    { name: 'no server', answer: { type: 'offer', server: '0.0.0.0' } },
  ] as { name: string; answer: Answer }[])('an answer of $name changes nothing', ({ answer }) => {
    const one = story()
    one.happen({ type: 'start' })
    const before = one.state()
    one.answer(answer)
    expect(one.state()).toEqual(before)
    expect(one.names().filter(name => name !== 'note')).toEqual([])
  })

  test.each([
    { name: 'another server', answer: { type: 'acknowledge', server: '10.0.0.2' } },
    { name: 'another address', answer: { type: 'acknowledge', address: '10.0.0.6' } },
    { name: 'a late offer', answer: { type: 'offer', server: '10.0.0.2' } },
    { name: 'a refusal of another server', answer: { type: 'nak', server: '10.0.0.2' } },
  ] as { name: string; answer: Answer }[])('while requesting, $name changes nothing', ({ answer }) => {
    const one = story()
    one.happen({ type: 'start' })
    one.answer({ type: 'offer' })
    const before = one.state()
    one.answer(answer)
    expect(one.state()).toEqual(before)
  })

  test('a first refusal: from the start at once; a second: after a pause', () => {
    const one = story()
    one.happen({ type: 'start' })
    one.answer({ type: 'offer' })
    one.answer({ type: 'nak' })
    expect(one.names()).toEqual(['note', 'send discover'])
    one.answer({ type: 'offer' })
    one.answer({ type: 'nak' })
    expect(one.names()).toEqual(['note'])
    expect(one.wait()).toBe(2 * SECOND)
    expect(one.names()).toEqual(['send discover'])
  })
})

describe('an address that another host has', () => {
  test('is declined when the server has granted it, and another one asked for', () => {
    const one = story()
    one.happen({ type: 'start' })
    one.answer({ type: 'offer' })
    one.answer({ type: 'acknowledge' })
    one.happen({ type: 'conflict', address: '10.0.0.5', hardware: OTHER })
    expect(one.names()).toEqual(['send decline', 'note', 'send discover'])
    expect(one.sent()).toMatchObject({
      to: { address: '255.255.255.255' },
      message: { clientAddress: '0.0.0.0' },
    })
    expect(one.state()).toMatchObject({ phase: 'selecting', declined: 1 })
    expect(one.state().lease).toBeUndefined()
  })

  test('that spoke before the acknowledgement is remembered', () => {
    const one = story()
    one.happen({ type: 'start' })
    one.answer({ type: 'offer' })
    one.happen({ type: 'conflict', address: '10.0.0.5', hardware: OTHER })
    expect(one.names()).toEqual([])
    one.answer({ type: 'acknowledge' })
    expect(one.names()).toEqual(['send decline', 'note', 'send discover'])
  })

  test('a second time costs ten seconds (RFC 2131, 3.1.5)', () => {
    const one = story()
    one.happen({ type: 'start' })
    for (let round = 0; round < 2; round++) {
      one.answer({ type: 'offer' })
      one.answer({ type: 'acknowledge' })
      one.happen({ type: 'conflict', address: '10.0.0.5', hardware: OTHER })
    }
    expect(one.names()).toEqual(['send decline', 'note'])
    expect(one.wait()).toBe(10 * SECOND)
    expect(one.names()).toEqual(['send discover'])
  })

  test.each([
    { name: 'our own voice', conflict: { address: '10.0.0.5', hardware: client.hardware } },
    { name: 'another address', conflict: { address: '10.0.0.6', hardware: OTHER } },
  ])('$name is no conflict', ({ conflict }) => {
    const one = story()
    one.happen({ type: 'start' })
    one.answer({ type: 'offer' })
    one.answer({ type: 'acknowledge' })
    one.happen({ type: 'conflict', ...conflict })
    expect(one.state().phase).toBe('verifying')
  })
})

describe('an address that is to be confirmed', () => {
  test('is asked for without a server, and bound without a probe: its user has it already', () => {
    const one = story()
    one.happen({ type: 'confirm', address: '10.0.0.5' })
    const { options } = (one.sent() as { message: Message }).message
    expect([[...(options.get(50) ?? [])], options.has(54)]).toEqual([[10, 0, 0, 5], false])
    one.answer({ type: 'offer' })
    expect(one.names()).toEqual([])
    one.answer({ type: 'acknowledge', address: '10.0.0.6' })
    expect(one.names()).toEqual(['note'])
    one.answer({ type: 'acknowledge' })
    expect(one.actions()).toMatchObject([{ type: 'bound', how: 'confirmed' }])
  })

  test('may be refused', () => {
    const one = story()
    one.happen({ type: 'confirm', address: '10.0.0.5' })
    one.answer({ type: 'nak' })
    expect(one.actions()).toEqual([{ type: 'failed', why: '10.0.0.5 was refused by 10.0.0.1' }])
  })
})

test('pauses: four times 2 s, then 8, 16, 32, 64, 64, give or take a second, and never beyond the largest', () => {
  const pauses = (random: number, resendMax = 62_000) =>
    Array.from(
      { length: 9 },
      (_, index) => pauseAfter({ ...defaultTiming, resendMax }, index, () => random) / SECOND,
    )
  expect(pauses(0.5)).toEqual([2, 2, 2, 2, 8, 16, 32, 63, 63])
  expect(pauses(0)).toEqual([1, 1, 1, 1, 7, 15, 31, 62, 62])
  expect(Math.max(...pauses(0.999, 500))).toBeLessThan(2.1)
})

test('a message that comes at a time when nothing is asked changes nothing', () => {
  const one = story().acquired()
  const before = one.state()
  for (const type of ['offer', 'acknowledge', 'nak'] as const) one.answer({ type })
  expect(one.state()).toEqual(before)
})

test('whatever happens in whatever order, the client stops or waits for something', () => {
  for (let round = 0; round < 3000; round++) {
    const one = story()
    one.happen({ type: 'start' })
    for (let index = 0; index < 30; index++) {
      const chance = Math.random()
      if (chance < 0.3) one.answer({ type: 'offer', seconds: 1 + Math.floor(Math.random() * 100) })
      else if (chance < 0.55)
        one.answer({ type: 'acknowledge', seconds: 1 + Math.floor(Math.random() * 100) })
      else if (chance < 0.65) one.answer({ type: 'nak' })
      else if (chance < 0.7) one.happen({ type: 'conflict', address: '10.0.0.5', hardware: OTHER })
      else one.wait()
      const { phase, wakeAt, lease } = one.state()
      expect(phase === 'stopped' || wakeAt !== undefined).toBe(true)
      if (phase === 'bound') expect(lease).toBeDefined()
    }
  }
})
