/** A lease that is held: renewed, rebound, lost, given back; and taken up after a restart. */
import { describe, expect, test } from 'bun:test'
import { step } from '../../../../ipam/dhcp/v4/lease.ts'
import type { Message } from '../../../../ipam/dhcp/v4/packet.ts'
import type { Lease } from '../../../../ipam/dhcp/v4/types.ts'
import { client, SECOND, SERVER, story } from './story.ts'

describe('a lease', () => {
  test('is renewed at T1 by unicast to its server, from its address', () => {
    const one = story().acquired()
    expect(one.wait()).toBe(500 * SECOND)
    expect(one.sent()).toMatchObject({
      kind: 'renew',
      from: '10.0.0.5',
      to: { hardware: SERVER, address: '10.0.0.1' },
      message: { clientAddress: '10.0.0.5' },
    })
    one.at(501 * SECOND).answer({ type: 'acknowledge' })
    expect(one.names()).toEqual(['bound'])
    expect(one.state()).toMatchObject({
      phase: 'bound',
      wakeAt: 1001 * SECOND,
      lease: { obtainedAt: 501 * SECOND },
    })
  })

  test('that its server does not renew is asked for by broadcast from T2 on, until it ends', () => {
    const one = story().acquired()
    const sent: string[] = []
    let now = 0
    while (one.state().phase !== 'stopped') {
      now = one.wait()
      for (const name of one.names()) if (name.startsWith('send')) sent.push(`${now / SECOND} ${name}`)
    }
    const seconds = (kind: string) =>
      sent.filter(line => line.endsWith(kind)).map(line => Math.floor(Number(line.split(' ')[0])))
    expect(seconds('renew')).toEqual([500, 510, 530, 710, 720, 740, 813, 823, 832, 844, 846, 847])
    expect(seconds('rebind')).toEqual([850, 860, 880, 960, 970, 980, 993, 995, 997])
    expect(now).toBe(1000 * SECOND)
    expect(one.actions()).toMatchObject([{ type: 'lost', why: 'the lease has expired' }])
  })

  test('of seconds is asked for more than once before it ends', () => {
    const one = story().acquired(8)
    const kinds: string[] = []
    while (one.state().phase !== 'stopped') {
      one.wait()
      kinds.push(...one.names())
    }
    expect(kinds.filter(kind => kind === 'send renew').length).toBeGreaterThanOrEqual(2)
    expect(kinds.filter(kind => kind === 'send rebind').length).toBeGreaterThanOrEqual(2)
  })

  test('may be renewed by another server after T2', () => {
    const one = story().acquired()
    one.at(850 * SECOND).happen({ type: 'timer' })
    one.answer({ type: 'acknowledge', server: '10.0.0.9' })
    expect(one.names()).toEqual(['bound'])
    expect(one.state().lease?.server).toBe('10.0.0.9')
  })

  test('for ever never wakes anybody', () => {
    expect(story().acquired(0xffffffff).state().wakeAt).toBeUndefined()
  })

  test('that is refused is asked for once more, and goes on when the same address is granted', () => {
    const one = story().acquired()
    one.wait()
    one.answer({ type: 'nak' })
    expect(one.names()).toEqual(['note', 'send discover'])
    expect([...((one.actions()[1] as { message: Message }).message.options.get(50) ?? [])]).toEqual([
      10, 0, 0, 5,
    ])
    one.answer({ type: 'offer' })
    expect(one.names()).toEqual(['send request'])
    one.answer({ type: 'acknowledge' })
    expect(one.names()).toEqual(['bound'])
  })

  test('that is refused is lost when another address is offered, or none', () => {
    const one = story().acquired()
    one.wait()
    one.answer({ type: 'nak' })
    const refused = one.state()
    one.answer({ type: 'offer', address: '10.0.0.6' })
    expect(one.actions()).toMatchObject([
      { type: 'lost', why: 'the address was refused, and 10.0.0.6 offered instead' },
    ])
    const end = step(client, { ...refused, wakeAt: 0 }, { type: 'timer', now: 510 * SECOND, random: () => 0 })
    expect(end.actions).toMatchObject([{ type: 'lost' }])
  })

  test('is refused before T2 by its own server only', () => {
    const one = story().acquired()
    one.wait()
    one.answer({ type: 'nak', server: '10.0.0.9' })
    expect(one.state().phase).toBe('renewing')
  })

  test('is released by unicast, once', () => {
    const one = story().acquired()
    one.happen({ type: 'release' })
    expect(one.names()).toEqual(['send release', 'released'])
    expect(one.sent()).toMatchObject({ from: '10.0.0.5', to: { hardware: SERVER, address: '10.0.0.1' } })
    one.happen({ type: 'release' })
    expect(one.names()).toEqual(['released'])
  })

  test('that is only asked for is released as well, in case the server has committed it', () => {
    const one = story()
    one.happen({ type: 'start' })
    one.happen({ type: 'release' })
    expect(one.names()).toEqual(['released'])
    const two = story()
    two.happen({ type: 'start' })
    two.answer({ type: 'offer' })
    two.happen({ type: 'release' })
    expect(two.names()).toEqual(['send release', 'released'])
  })
})

describe('after a restart', () => {
  const lease: Lease = story().acquired().state().lease as Lease

  test.each([
    { name: 'before T1', now: 100, phase: 'bound', names: [], wakeAt: 500 },
    { name: 'after T1', now: 600, phase: 'renewing', names: ['send renew'], wakeAt: 610 },
    { name: 'after T2', now: 900, phase: 'rebinding', names: ['note', 'send rebind'], wakeAt: 910 },
  ] as const)('$name: $phase', ({ now, phase, names, wakeAt }) => {
    const one = story().at(now * SECOND)
    one.happen({ type: 'adopt', lease })
    expect({ phase: one.state().phase, names: one.names(), wakeAt: one.state().wakeAt }).toEqual({
      phase,
      names: [...names],
      wakeAt: wakeAt * SECOND,
    })
  })

  test('after its end it is lost', () => {
    const one = story().at(1000 * SECOND)
    one.happen({ type: 'adopt', lease })
    expect(one.names()).toEqual(['lost'])
  })
})
