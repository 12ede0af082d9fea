import { describe, expect, test } from 'bun:test'
import { addressBytes } from '../../../../chain/ip/bytes.ts'
import { defaultTiming } from '../../../../ipam/dhcp/engine/timing.ts'
import { step } from '../../../../ipam/dhcp/v6/lease.ts'
import { identityOf } from '../../../../ipam/dhcp/v6/message.ts'
import {
  encodeOptions,
  type Message,
  messageType,
  type Option,
  option,
} from '../../../../ipam/dhcp/v6/packet.ts'
import {
  type Action,
  type Client,
  type Event,
  initialState,
  type State,
} from '../../../../ipam/dhcp/v6/types.ts'

const client: Client = { ...identityOf('c1/net/eth0'), timing: { ...defaultTiming, probe: 200 } }
const SECOND = 1000

const word = (value: number) => Buffer.from(value.toString(16).padStart(8, '0'), 'hex')
const status = (code: number, words = ''): Option => ({
  code: option.status,
  value: Buffer.concat([Uint8Array.of(0, code), Buffer.from(words)]),
})

interface Answer {
  server?: string
  address?: string
  valid?: number
  preferred?: number
  t1?: number
  t2?: number
  /** Status of the association, or of the message. */
  refused?: number
  failed?: number
  preference?: number
  transaction?: number
  client?: Uint8Array
  more?: Option[]
}

/** A client in a story: what happens to it, at which time, and what it did about it. */
function story(given: Client = client, random = 0.5) {
  let state: State = initialState
  let now = 0
  let done: Action[] = []
  const happen = (event: Record<string, unknown> & { type: Event['type'] }) => {
    const next = step(given, state, { ...event, now, random: () => random } as Event)
    state = next.state
    done = next.actions
    return told
  }
  const told = {
    state: () => state,
    actions: () => done,
    /** Names of the actions: "send solicit", "bound". */
    names: () => done.map(action => (action.type === 'send' ? `send ${action.kind}` : action.type)),
    happen,
    at(time: number) {
      now = time
      return told
    },
    /** Lets the time come that the client waits for. */
    wait() {
      now = state.wakeAt ?? now
      happen({ type: 'timer' })
      return now
    },
    answer(type: 'advertise' | 'reply', answer: Answer = {}) {
      const { server = 'aaaa', address = 'fd00::5', valid = 1000, preferred = valid } = answer
      const inside: Option[] =
        answer.refused === undefined
          ? [
              {
                code: option.address,
                value: Buffer.concat([addressBytes(address), word(preferred), word(valid)]),
              },
            ]
          : [status(answer.refused)]
      const association = Buffer.concat([
        word(given.iaid),
        word(answer.t1 ?? valid / 4),
        word(answer.t2 ?? valid / 2),
        encodeOptions(inside),
      ])
      const message: Message = {
        type: messageType[type],
        transaction: answer.transaction ?? state.transaction,
        options: [
          { code: option.client, value: answer.client ?? given.duid },
          { code: option.server, value: Buffer.from(server, 'hex') },
          { code: option.addresses, value: association },
          ...(answer.failed === undefined ? [] : [status(answer.failed)]),
          ...(answer.preference === undefined
            ? []
            : [{ code: option.preference, value: Uint8Array.of(answer.preference) }]),
          ...(answer.more ?? []),
        ],
      }
      return happen({ type: 'message', message })
    },
    /** Acquires fd00::5 at time 400: 200 of collecting, 200 of probing. */
    acquired(answer: Answer = {}) {
      happen({ type: 'start' }).answer('advertise', answer).wait()
      told.answer('reply', answer).wait()
      return told
    },
  }
  return told
}

describe('acquiring', () => {
  test('SOLICIT, offers collected, REQUEST and a probe, REPLY, and bound when no other host spoke up', () => {
    const one = story().happen({ type: 'start' })
    expect([one.names(), one.state().phase]).toEqual([['send solicit'], 'soliciting'])
    one.answer('advertise')
    expect(one.names()).toEqual([])
    expect(one.wait()).toBe(200)
    expect([one.names(), one.state().phase]).toEqual([['send request', 'probe'], 'requesting'])
    one.answer('reply')
    expect([one.names(), one.state().phase]).toEqual([[], 'verifying'])
    expect(one.wait()).toBe(400)
    expect([one.names(), one.state().phase]).toEqual([['bound'], 'bound'])
    expect(one.state().lease).toMatchObject({ address: 'fd00::5', server: 'aaaa', obtainedAt: 200 })
    expect(one.state().wakeAt).toBe(200 + 250 * SECOND)
  })

  test('the highest preference wins, the first of equal ones, and 255 at once', () => {
    const one = story().happen({ type: 'start' })
    one.answer('advertise', { server: 'aaaa' })
    one.answer('advertise', { server: 'bbbb', preference: 7 })
    one.answer('advertise', { server: 'cccc', preference: 7 })
    one.wait()
    expect(one.state().offer?.server).toBe('bbbb')
    const two = story().happen({ type: 'start' }).answer('advertise', { server: 'dddd', preference: 255 })
    expect(two.names()).toEqual(['send request', 'probe'])
  })

  test.each([
    [0, [0, 1.1, 3.19]],
    [0.5, [0, 1, 3]],
    [1, [0, 1.1, 3.41]],
  ])('the waits for a SOLICIT are about doubled; with %d for chance', (random, expected) => {
    const one = story(client, random).happen({ type: 'start' })
    const sent = [0, one.wait(), one.wait()]
    expect(sent.map(time => Math.round(time) / SECOND)).toEqual(expected)
  })

  test('waits grow until the longest that the daemon allows, and end with its last try', () => {
    const one = story().happen({ type: 'start' })
    const sent = [0]
    while (one.state().phase !== 'stopped') {
      const now = one.wait()
      if (one.names().includes('send solicit')) sent.push(now / SECOND)
    }
    expect(sent).toEqual([0, 1, 3, 7, 15, 31, 63, 125, 187])
    expect(one.actions()).toEqual([
      { type: 'failed', why: 'no more tries: no DHCPv6 server offered an address' },
    ])
  })

  test('a server’s longest wait for a SOLICIT counts', () => {
    const one = story().happen({ type: 'start' })
    const more = [{ code: option.longestSolicit, value: word(60) }]
    one.answer('advertise', { refused: 2, more })
    expect(one.state().longestSolicit).toBe(60 * SECOND)
  })

  test('no addresses: told at the end', () => {
    const one = story().happen({ type: 'start' }).answer('advertise', { refused: 2 })
    expect(one.actions()).toEqual([{ type: 'note', what: 'ignored', why: 'an answer: no addresses' }])
    while (one.state().phase !== 'stopped') one.wait()
    expect(one.state().reason).toBe(
      'no more tries: no DHCPv6 server offered an address: the last answer was no addresses',
    )
  })

  test.each<[string, Answer]>([
    ['another transaction', { transaction: 1 }],
    ['another client', { client: Uint8Array.of(0, 1, 2) }],
    ['lifetimes of zero', { valid: 0 }],
    ['a preferred lifetime longer than the valid one', { preferred: 9999 }],
    ['a link-local address', { address: 'fe80::1' }],
    ['a multicast address', { address: 'ff02::1' }],
    ['T1 after T2', { t1: 9, t2: 8 }],
  ])('an answer with %s changes nothing, at no time', (_, answer) => {
    const one = story().happen({ type: 'start' })
    one.answer('advertise', answer)
    expect(one.state().offer).toBeUndefined()
    one.answer('advertise').wait()
    one.answer('reply', answer)
    expect(one.state().phase).toBe('requesting')
    one.answer('reply').wait()
    const { lease } = one.state()
    one.at(400 + 260 * SECOND).wait()
    one.answer('reply', answer)
    expect([one.state().phase, one.state().lease]).toEqual(['renewing', lease])
  })

  test('ten REQUESTs without answer: from the start, and what was asked for is given back at the end', () => {
    const one = story().happen({ type: 'start' }).answer('advertise')
    one.wait()
    let requests = 1
    while (one.state().phase === 'requesting') {
      one.wait()
      if (one.names().includes('send request')) requests++
    }
    expect([requests, one.state().phase]).toEqual([10, 'soliciting'])
    const two = story({ ...client, timing: { ...client.timing, resendTimeout: 500 } })
    two.happen({ type: 'start' }).answer('advertise').wait()
    two.wait()
    expect(two.names()).toEqual(['send release', 'failed'])
  })

  test('a REPLY without addresses: from the start, at once the first time and then after a second', () => {
    const one = story().happen({ type: 'start' }).answer('advertise')
    one.wait()
    one.answer('reply', { refused: 2 })
    expect(one.names()).toEqual(['note', 'send solicit'])
    one.answer('advertise').wait()
    one.answer('reply', { refused: 4 })
    expect([one.names(), one.state().wakeAt]).toEqual([['note'], 1400])
  })

  test('statuses that say nothing of the address are waited over', () => {
    const one = story().happen({ type: 'start' }).answer('advertise')
    one.wait()
    for (const failed of [1, 5]) expect(one.answer('reply', { failed }).names()).toEqual(['note'])
    expect(one.state().phase).toBe('requesting')
  })

  test('another host has the address: DECLINE, and another one is asked for', () => {
    const one = story().happen({ type: 'start' }).answer('advertise')
    one.wait()
    one.happen({ type: 'conflict', address: 'fd00::5', hardware: '02:00:00:00:00:09' })
    expect(one.names()).toEqual([])
    one.answer('reply')
    expect(one.names()).toEqual(['send decline', 'note', 'send solicit'])
    expect(one.state()).toMatchObject({ phase: 'soliciting', declined: 1 })
    expect(one.state().lease).toBeUndefined()
    one.happen({ type: 'conflict', address: 'fd00::6', hardware: '02:00:00:00:00:09' })
    expect(one.names()).toEqual([])
  })

  test('a release in the middle gives back what a server may have committed', () => {
    expect(story().happen({ type: 'start' }).happen({ type: 'release' }).names()).toEqual(['released'])
    const asked = story().happen({ type: 'start' }).answer('advertise', { preference: 255 })
    expect(asked.happen({ type: 'release' }).names()).toEqual(['send release', 'released'])
  })
})

describe('holding', () => {
  test('RENEW at T1, again after a third of what is left, REBIND at T2, and lost at the end', () => {
    const one = story().acquired()
    const events: [number, string][] = []
    while (one.state().phase !== 'stopped') {
      const now = one.wait()
      for (const name of one.names()) events.push([Math.round((now - 200) / SECOND), name])
    }
    const first = (name: string) => events.find(([, each]) => each === name)?.[0]
    expect([first('send renew'), first('note'), first('send rebind'), first('lost')]).toEqual([
      250, 500, 500, 1000,
    ])
    expect(one.state().reason).toBe('the lease has expired')
  })

  test('a renewal counts from its REPLY; another server’s says nothing before T2', () => {
    const one = story().acquired()
    const now = one.wait()
    expect(one.answer('reply', { server: 'bbbb' }).state().phase).toBe('renewing')
    one.at(now + 100).answer('reply')
    expect(one.actions()).toMatchObject([{ type: 'bound', how: 'renewed', lease: { obtainedAt: now + 100 } }])
    while (one.state().phase !== 'rebinding') one.wait()
    one.answer('reply', { server: 'bbbb' })
    expect(one.actions()).toMatchObject([{ type: 'bound', how: 'renewed', lease: { server: 'bbbb' } }])
  })

  test('lifetimes of zero, or of another address, take nothing away before its time', () => {
    const one = story().acquired()
    one.wait()
    expect(one.answer('reply', { valid: 0, t1: 0, t2: 0 }).names()).toEqual(['note'])
    expect(one.answer('reply', { address: 'fd00::6' }).names()).toEqual(['note'])
    expect(one.state()).toMatchObject({ phase: 'renewing', lease: { address: 'fd00::5' } })
  })

  test('no binding: the same address is requested again, and granted, or lost', () => {
    const one = story().acquired()
    one.wait()
    one.answer('reply', { refused: 3 })
    expect([one.names(), one.state().phase]).toEqual([['note', 'send request'], 'requesting'])
    expect(one.answer('reply').actions()).toMatchObject([{ type: 'bound', how: 'renewed' }])
    one.wait()
    one.answer('reply', { refused: 3 }).answer('reply', { address: 'fd00::6' })
    expect(one.actions()).toMatchObject([
      { type: 'lost', why: expect.stringContaining('it grants fd00::6 instead') },
    ])
  })

  test('no binding at another server: asked once, passed over then, and the lease lives on', () => {
    const one = story().acquired()
    while (one.state().phase !== 'rebinding') one.wait()
    one.answer('reply', { server: 'bbbb', refused: 3 })
    expect(one.names()).toEqual(['note', 'send request'])
    one.answer('reply', { server: 'bbbb', address: 'fd00::6' })
    expect([one.names(), one.state().phase]).toEqual([['send rebind'], 'rebinding'])
    one.answer('reply', { server: 'bbbb', refused: 3 })
    expect(one.names()).toEqual([])
    expect(one.answer('reply').actions()).toMatchObject([{ type: 'bound', how: 'renewed' }])
  })

  test('a lease for ever is never renewed', () => {
    const one = story().acquired({ valid: 0xffffffff, t1: 0xffffffff, t2: 0xffffffff })
    expect(one.state().wakeAt).toBeUndefined()
  })

  test('from disk: asleep, renewing, or lost, as the time is', () => {
    const { lease } = story().acquired().state()
    const adopt = (now: number) => story().at(now).happen({ type: 'adopt', lease })
    expect(adopt(SECOND).state().wakeAt).toBe(200 + 250 * SECOND)
    expect(adopt(300 * SECOND).names()).toEqual(['send renew'])
    expect(adopt(600 * SECOND).names()).toEqual(['note', 'send rebind'])
    expect(adopt(1001 * SECOND).names()).toEqual(['lost'])
  })

  test('confirmed by any server that knows it, for that address only', () => {
    const one = story().happen({ type: 'confirm', address: 'fd00::5' })
    expect(one.names()).toEqual(['send confirm'])
    expect(one.answer('reply', { address: 'fd00::6' }).names()).toEqual(['note'])
    expect(one.answer('reply').actions()).toMatchObject([{ type: 'bound', how: 'confirmed' }])
    const two = story().happen({ type: 'confirm', address: 'fd00::5' }).answer('reply', { refused: 3 })
    expect(two.actions()).toContainEqual({ type: 'failed', why: 'fd00::5 was refused: no binding' })
  })

  test('information only', () => {
    const more = [{ code: option.nameServers, value: addressBytes('fd00::53') }]
    const one = story().happen({ type: 'inform' })
    expect(one.names()).toEqual(['send inform'])
    expect(one.answer('reply', { more }).actions()).toMatchObject([
      { type: 'informed', reply: { nameServers: ['fd00::53'] } },
    ])
    const two = story().happen({ type: 'inform' })
    while (two.state().phase !== 'stopped') two.wait()
    expect(two.actions()).toMatchObject([{ type: 'failed' }])
  })
})
