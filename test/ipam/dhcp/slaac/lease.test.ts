import { describe, expect, test } from 'bun:test'
import { addressBytes } from '../../../../chain/ip/bytes.ts'
import { decodeLease6, encodeLease6 } from '../../../../ipam/dhcp/daemon/lease-file.ts'
import { defaultTiming } from '../../../../ipam/dhcp/engine/timing.ts'
import type { Mode } from '../../../../ipam/dhcp/schema.ts'
import type { Advertisement } from '../../../../ipam/dhcp/slaac/advertisement.ts'
import { step } from '../../../../ipam/dhcp/slaac/lease.ts'
import { problemOf } from '../../../../ipam/dhcp/slaac/lifetimes.ts'
import {
  type Action,
  type Client,
  type Event,
  initialState,
  type State,
} from '../../../../ipam/dhcp/slaac/types.ts'
import { identityOf } from '../../../../ipam/dhcp/v6/message.ts'
import { encodeOptions, messageType, option } from '../../../../ipam/dhcp/v6/packet.ts'
import { advertisement, MADE, OTHER, prefix, ROUTER } from './advertised.ts'

const LINK_LOCAL = 'fe80::aa:bbff:fecc:dd'

/** An attachment in a story: what happens to it, at which time, and what is done about it. */
function story(mode: Mode, timing: Partial<typeof defaultTiming> = {}) {
  const client: Client = { ...identityOf('c1/net/eth0'), mode, timing: { ...defaultTiming, ...timing } }
  let state: State = initialState
  let now = 0
  let done: Action[] = []
  const happen = (event: Record<string, unknown> & { type: Event['type'] }) => {
    const next = step(client, state, { ...event, now, random: () => 0.5 } as Event)
    state = next.state
    done = next.actions
    return told
  }
  const told = {
    state: () => state,
    actions: () => done,
    names: () => done.map(action => (action.type === 'send' ? `send ${action.kind}` : action.type)),
    happen,
    now: () => now,
    at(time: number) {
      now = time
      return told
    },
    start: () => happen({ type: 'start', linkLocal: LINK_LOCAL }),
    hear: (more: Partial<Advertisement> = {}) =>
      happen({ type: 'advertisement', advertisement: advertisement(more) }),
    wait() {
      expect(state.wakeAt).toBeGreaterThanOrEqual(now) // else it would never sleep
      now = state.wakeAt ?? now
      return happen({ type: 'timer' })
    },
    waitUntil(isThere: () => boolean) {
      for (let turns = 0; !isThere(); turns++) {
        if (turns > 1000 || state.wakeAt === undefined)
          throw new Error(`it never came: ${JSON.stringify(state)}`)
        told.wait()
      }
      return told
    },
    /** A server's answer to what was sent last. */
    serve(type: 'advertise' | 'reply', { valid = 1000, nameServers = [] as string[] } = {}) {
      const seconds = (value: number) => Buffer.from(value.toString(16).padStart(8, '0'), 'hex')
      const inside = Buffer.concat([addressBytes('fd00:9::7'), seconds(valid), seconds(valid)])
      const association = Buffer.concat([
        seconds(client.iaid),
        seconds(0),
        seconds(0),
        encodeOptions([{ code: option.address, value: inside }]),
      ])
      const options = [
        { code: option.client, value: client.duid },
        { code: option.server, value: Uint8Array.of(0xaa, 0xaa) },
        { code: option.preference, value: Uint8Array.of(255) },
        { code: option.addresses, value: association },
        { code: option.nameServers, value: Buffer.concat(nameServers.map(addressBytes)) },
      ]
      const { transaction = 0 } = state.dhcp ?? {}
      return happen({ type: 'message', message: { type: messageType[type], transaction, options } })
    },
    leased: () =>
      told
        .serve('advertise')
        .serve('reply')
        .waitUntil(() => state.phase === 'held'),
  }
  return told
}

const held = (one: ReturnType<typeof story>) =>
  one.state().lease.held.map(({ address, prefixLength, state }) => `${address}/${prefixLength} ${state}`)

describe('acquiring', () => {
  test('auto: a prefix makes an address, which is probed for', () => {
    const one = story('auto').start()
    expect(one.names()).toEqual(['solicit'])
    expect(one.at(10).hear().names()).toEqual(['probe'])
    one.wait()
    expect([one.now(), one.names(), held(one)]).toEqual([210, ['bound'], [`${MADE}/64 preferred`]])
    expect(one.state().lease.routes).toEqual([{ destination: '::/0', router: ROUTER }])
  })

  test('auto: M asks a server, and A makes an address beside it', () => {
    const one = story('auto').start().hear({ managed: true })
    expect(one.names()).toEqual(['probe', 'send solicit'])
    one.leased()
    expect(held(one)).toEqual(['fd00:9::7/64 preferred', `${MADE}/64 preferred`])
  })

  test('auto: M alone', () => {
    const one = story('auto')
      .start()
      .hear({ managed: true, prefixes: [prefix({ autonomous: false })] })
    expect(one.names()).toEqual(['send solicit'])
    expect(held(one.leased())).toEqual(['fd00:9::7/64 preferred'])
  })

  test('auto: O asks a server for other things, and does without when it is silent', () => {
    const told = story('auto').start().hear({ other: true })
    expect(told.names()).toEqual(['probe', 'send inform'])
    told.wait().serve('reply', { nameServers: ['fd00:9::53'] })
    told.waitUntil(() => told.state().phase === 'held')
    expect(told.state().lease.otherConfiguration).toEqual({ nameServers: ['fd00:9::53'], search: [] })
    const silent = story('auto').start().hear({ other: true })
    silent.waitUntil(() => silent.state().phase === 'held')
    expect(silent.now()).toBe(defaultTiming.timeout)
    expect(silent.names()).toEqual(['note', 'bound'])
  })

  test('slaac: no server is asked, whatever a router says', () => {
    const one = story('slaac').start().hear({ managed: true, other: true })
    expect(one.names()).toEqual(['probe'])
  })

  test('dhcp: a server is asked at once; the router may come before or after, or not at all', () => {
    const before = story('dhcp').start()
    expect(before.names()).toEqual(['solicit', 'send solicit'])
    expect(held(before.hear().leased())).toEqual(['fd00:9::7/64 preferred'])
    const after = story('dhcp').start().serve('advertise').serve('reply').wait()
    expect(after.state().phase).toBe('acquiring')
    expect(after.hear().names()).toEqual(['bound'])
    const never = story('dhcp').start().leased()
    expect([never.now(), held(never), never.state().lease.routes]).toEqual([
      12_000,
      ['fd00:9::7/128 preferred'],
      [],
    ])
  })

  test.each(['auto', 'slaac'] as const)('%s: three solicitations, four seconds apart, and no more', mode => {
    const one = story(mode).start()
    const sent = [0]
    while (one.state().phase !== 'stopped') if (one.wait().names().includes('solicit')) sent.push(one.now())
    expect([sent, one.now()]).toEqual([[0, 4000, 8000], 12_000])
    expect(one.actions()).toEqual([
      { type: 'failed', why: 'no IPv6 address: no router has answered a solicitation' },
    ])
  })

  test.each<[string, Mode, Partial<Advertisement>]>([
    ['no prefix', 'auto', { prefixes: [] }],
    [
      'a prefix that is not autonomous',
      'slaac',
      { prefixes: [prefix({ autonomous: false })], managed: true },
    ],
    ['a prefix of 56 bits', 'auto', { prefixes: [prefix({ length: 56 })] }],
    ['a prefix of no time', 'auto', { prefixes: [prefix({ validSeconds: 0, preferredSeconds: 0 })] }],
  ])('a router that advertises %s is told, and another one waited for', (_, mode, heard) => {
    const one = story(mode).start().hear(heard)
    expect(one.names()).toEqual(['note'])
    one.hear({ router: OTHER, prefixes: [prefix({ prefix: 'fd00:8::' })] })
    one.waitUntil(() => one.state().phase === 'held')
    expect(held(one)).toEqual(['fd00:8::aa:bbff:fecc:dd/64 preferred'])
    const alone = story(mode).start().hear(heard)
    alone.waitUntil(() => alone.state().phase === 'stopped')
    expect(alone.state().reason).toStartWith(`no IPv6 address: router ${ROUTER} advertises n`)
  })

  test('somebody has the address: an error that names both, and what a server gave is given back', () => {
    const one = story('auto').start().hear({ managed: true }).serve('advertise').serve('reply')
    one.happen({ type: 'conflict', address: MADE, hardware: '02:00:00:00:00:09' })
    expect(one.names()).toEqual(['send release', 'failed'])
    expect(one.state().reason).toBe(`no IPv6 address: ${MADE} is in use by 02:00:00:00:00:09`)
  })

  test('a server that fails fails the whole', () => {
    const one = story('auto', { resendTimeout: 1000 }).start().hear({ managed: true })
    one.waitUntil(() => one.state().phase === 'stopped')
    expect(one.actions()).toMatchObject([
      { type: 'failed', why: expect.stringContaining('no DHCPv6 server') },
    ])
  })

  test('released in the middle', () => {
    const one = story('auto').start().hear({ managed: true }).serve('advertise').happen({ type: 'release' })
    expect([one.names(), one.state().phase]).toEqual([['send release', 'released'], 'stopped'])
  })
})

describe('holding', () => {
  const acquired = (mode: Mode = 'slaac', more: Partial<Advertisement> = {}) => {
    const one = story(mode).start().hear(more)
    return one.waitUntil(() => one.state().phase === 'held')
  }

  test('without a router, what it said ends in its order; when it comes back, all does', () => {
    const one = acquired('slaac', { lifetimeSeconds: 70 })
    one.wait()
    expect([one.now(), held(one), one.names()]).toEqual([
      50_000,
      [`${MADE}/64 deprecated`],
      ['address', 'note', 'bound'],
    ])
    one.wait()
    expect([one.now(), one.actions()[0]]).toEqual([
      70_000,
      { type: 'routes', added: [], removed: [{ destination: '::/0', router: ROUTER }] },
    ])
    one.wait()
    expect([one.now(), held(one)]).toEqual([100_000, [`${MADE}/64 gone`]])
    expect(problemOf(one.state())).toBe(`${MADE}: no router advertises the prefix any longer`)
    one.at(500_000).hear()
    expect(one.names()).toEqual(['address', 'note', 'routes', 'note', 'bound'])
    expect([held(one), problemOf(one.state())]).toEqual([[`${MADE}/64 preferred`], undefined])
  })

  test('advertisements that come keep it all as it is, and are saved when much time has passed', () => {
    const one = acquired()
    expect(one.at(10_000).hear().names()).toEqual([])
    expect(one.at(40_000).hear().actions()).toMatchObject([{ type: 'bound', how: 'refreshed' }])
    expect(held(one.at(85_000).hear())).toEqual([`${MADE}/64 preferred`])
  })

  test('an advertisement cannot take an address away at once', () => {
    const one = acquired('slaac', { prefixes: [prefix({ validSeconds: 100_000, preferredSeconds: 90_000 })] })
    one.at(10_000).hear({ prefixes: [prefix({ validSeconds: 0, preferredSeconds: 0 })] })
    expect(held(one)).toEqual([`${MADE}/64 deprecated`])
    one.waitUntil(() => held(one)[0] === `${MADE}/64 gone`)
    expect(one.now()).toBe(10_000 + 7_200_000)
  })

  test('the default route is that of the preferred router that is there', () => {
    const one = acquired('slaac', { lifetimeSeconds: 30 })
    one.hear({ router: OTHER, preference: 1 })
    expect(one.state().lease.routes).toEqual([{ destination: '::/0', router: OTHER }])
    one.hear({ router: OTHER, preference: -1 })
    expect(one.state().lease.routes).toEqual([{ destination: '::/0', router: ROUTER }])
    one.wait()
    expect([one.now(), one.state().lease.routes]).toEqual([30_000, [{ destination: '::/0', router: OTHER }]])
    one.hear({ router: OTHER, lifetimeSeconds: 0 })
    expect(one.state().lease.routes).toEqual([])
  })

  test('a prefix that comes later makes no address: the result of ADD is what the container has', () => {
    const one = acquired()
    one.hear({ prefixes: [prefix(), prefix({ prefix: 'fd00:8::' })] })
    expect(held(one)).toEqual([`${MADE}/64 preferred`])
    expect(one.state().lease.routes).toContainEqual({ destination: 'fd00:8::/64' })
  })

  test('a lost lease takes its address; an address of a prefix stays, and without one it is over', () => {
    const both = story('auto')
      .start()
      .hear({ managed: true, prefixes: [prefix({ validSeconds: 99_999 })] })
      .leased()
    both.waitUntil(() => held(both)[0] === 'fd00:9::7/64 gone')
    expect([both.state().phase, problemOf(both.state())]).toEqual([
      'held',
      'fd00:9::7: the lease has expired',
    ])
    const alone = story('dhcp').start().hear().leased()
    alone.waitUntil(() => alone.state().phase === 'stopped')
    expect(alone.names()).toEqual(['address', 'lost'])
    expect(alone.state().reason).toBe('the lease has expired')
  })

  test('a renewal is told; an address is deprecated when its server is silent for too long', () => {
    const one = story('dhcp').start().hear({ lifetimeSeconds: 9000 }).leased()
    one.waitUntil(() => one.names().includes('send renew'))
    expect(one.serve('reply').names()).toEqual(['bound'])
    expect(one.actions()).toMatchObject([{ how: 'renewed' }])
  })

  test('released: what a server gave is given back, what was made is not', () => {
    expect(acquired().happen({ type: 'release' }).names()).toEqual(['released'])
    expect(story('dhcp').start().hear().leased().happen({ type: 'release' }).names()).toEqual([
      'send release',
      'released',
    ])
  })

  test('from disk: a router is asked what holds, the server when it would have been, and time goes on', () => {
    const { lease } = story('auto').start().hear({ managed: true }).leased().state()
    const own = {
      ...{ containerId: 'c1', network: 'net', ifname: 'eth0', netns: '/n', netnsIdentity: '1/2', link: 3 },
      ...{ hardware: '02:00:00:00:00:01', priority: 0, mode: 'auto' as const },
    }
    const stored = decodeLease6(encodeLease6({ ...own, lease }, 0))?.lease
    expect(stored).toEqual(lease)
    const adopt = (now: number) => story('auto').at(now).happen({ type: 'adopt', lease })
    expect(adopt(20_000).names()).toEqual(['solicit'])
    expect(adopt(600_000).names()).toEqual(['solicit', 'send renew', 'address', 'note', 'bound'])
    expect(held(adopt(99_000))).toEqual(['fd00:9::7/64 preferred', `${MADE}/64 deprecated`])
  })

  test('from disk after a long silence: what the container has stays until routers had the time to say that it holds', () => {
    const heard = { prefixes: [prefix(), prefix({ prefix: 'fd00:8::', autonomous: false })] }
    const { lease } = acquired('slaac', { ...heard, lifetimeSeconds: 30 }).state()
    const adopt = () => story('slaac', { timeout: 1000 }).at(600_000).happen({ type: 'adopt', lease })
    const again = adopt()
    expect(again.names()).toEqual(['solicit', 'address', 'note', 'bound'])
    expect(held(again)).toEqual([`${MADE}/64 deprecated`])
    expect(again.at(601_000).hear(heard).names()).toEqual(['address', 'note', 'bound'])
    expect(again.state().lease.routes).toEqual(lease.routes)
    const silent = adopt()
    silent.waitUntil(() => silent.state().lease.routes.length === 0)
    expect([silent.now(), held(silent)]).toEqual([603_000, [`${MADE}/64 gone`]])
  })

  test('times on disk are those of the wall’s clock, and for ever stays', () => {
    const one = acquired('slaac', {
      prefixes: [prefix({ validSeconds: Infinity, preferredSeconds: Infinity })],
    })
    const own = {
      ...{ containerId: 'c1', network: 'net', ifname: 'eth0', netns: '/n', netnsIdentity: '1/2', link: 3 },
      ...{ hardware: '02:00:00:00:00:01', priority: 0, mode: 'slaac' as const },
    }
    const text = encodeLease6({ ...own, lease: one.state().lease }, 5000)
    const { network } = decodeLease6(text)?.lease ?? one.state().lease
    expect(network.routers[0]?.until).toBe(1_800_000 + 5000)
    expect(network.prefixes[0]?.validUntil).toBe(Number.POSITIVE_INFINITY)
    for (let length = 0; length < text.length - 1; length += 7)
      expect(decodeLease6(text.slice(0, length))).toBeUndefined()
  })
})

describe('confirming', () => {
  const confirm = (mode: Mode, ...addresses: string[]) =>
    story(mode).happen({ type: 'confirm', linkLocal: LINK_LOCAL, addresses })

  test('an address of a prefix that is advertised', () => {
    const one = confirm('slaac', MADE).hear({ prefixes: [prefix(), prefix({ prefix: 'fd00:8::' })] })
    expect(one.actions()).toMatchObject([{ type: 'bound', how: 'confirmed' }])
    expect(held(one)).toEqual([`${MADE}/64 preferred`])
  })

  test('an address of no advertised prefix is not', () => {
    expect(confirm('slaac', 'fd00:7::1').hear().actions()).toEqual([
      { type: 'failed', why: 'fd00:7::1: no router advertises a prefix of it' },
    ])
  })

  test('the one that is of no prefix is the server’s to confirm', () => {
    const one = confirm('auto', MADE, 'fd00:9::7').hear({ managed: true })
    expect(one.names()).toEqual(['send confirm'])
    expect(one.serve('reply').actions()).toMatchObject([{ type: 'bound', how: 'confirmed' }])
    expect(confirm('dhcp', 'fd00:9::7').names()).toEqual(['solicit', 'send confirm'])
  })

  test('where there was none of a prefix, the server is asked alone', () => {
    const one = confirm('auto', 'fd00:9::7').hear({ managed: true })
    expect(one.names()).toEqual(['send confirm'])
    expect(held(one.serve('reply'))).toEqual(['fd00:9::7/64 preferred'])
  })

  test('where there was none of a server, none is asked for', () => {
    const one = confirm('auto', MADE).hear({ managed: true })
    expect(one.actions()).toMatchObject([{ type: 'bound', how: 'confirmed' }])
    expect(held(one)).toEqual([`${MADE}/64 preferred`])
  })

  test('a container that came back asks for the address that it had', () => {
    for (const mode of ['auto', 'dhcp'] as const) {
      const one = story(mode).happen({ type: 'start', linkLocal: LINK_LOCAL, earlierAddress: 'fd00:9::9' })
      if (mode === 'auto') one.hear({ managed: true })
      expect(one.state().dhcp?.earlierAddress).toBe('fd00:9::9')
    }
  })
})
