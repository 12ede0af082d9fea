/** Links that are deleted by a thread of the kernel's while this one goes on: what is gone by then, and what is told later. */
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { readdirSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { errno, SystemError } from '../../../chain/linux/libc/errno.ts'
import { close } from '../../../chain/linux/libc/file.ts'
import { send } from '../../../chain/linux/libc/socket.ts'
import { openRing, type Ring } from '../../../chain/linux/libc/uring.ts'
import { findLink, type Link, removeLink } from '../../../chain/linux/netlink/link.ts'
import { finishRemovals, leaveRemovals, removeFromLists } from '../../../chain/linux/netlink/removal.ts'
import { openTransport } from '../../../chain/linux/netlink/socket.ts'
import { openNamespace } from '../../../chain/linux/netns.ts'
import { linesOf, type Observed, observe } from '../../../chain/linux/observer.ts'
import { connect, freshNamespace, hostNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { type Feature, testOn } from '../../kernel/features.ts'

const host = hostNamespace()
afterAll(() => host[Symbol.dispose]())

let late: string[] = []
/** From here on removals are left, to a ring of the kernel's or one that is played. */
const leave = (open?: () => Ring | undefined) => leaveRemovals(({ message }) => late.push(message), open)

beforeEach(() => {
  late = []
  leave()
})
afterEach(() => {
  finishRemovals('all')
  leave(() => undefined)
})

/** A pair with one end on the host and eth0 in a container. */
function pairInto(container: Namespace, name = 'early0'): Link {
  connect({ namespace: host, name }, { namespace: container, name: 'eth0' })
  return host.link(name)
}

const remove = (link: Pick<Link, 'index' | 'name'>) => removeFromLists({ route: host.route }, link)

const namesIn = (namespace: Namespace) => namespace.links().map(({ name }) => name)

/** Milliseconds of the one in the middle. */
function timeOf(count: number, body: () => void, before: () => void): number {
  const times = Array.from({ length: count }, () => {
    before()
    const began = performance.now()
    body()
    return performance.now() - began
  })
  return times.toSorted((one, other) => one - other)[count >> 1] ?? 0
}

describe('a pair', () => {
  test('is gone from both namespaces, by name and by index, and its names can be had again at once', () => {
    using container = freshNamespace('early')
    for (let count = 0; count < 30; count++) {
      const { index, name } = pairInto(container)
      const inside = container.link('eth0').index
      expect(remove({ index, name })).toBe('removed')
      expect([index, name].map(each => findLink(host.route, each))).toEqual([undefined, undefined])
      expect([inside, 'eth0'].map(each => findLink(container.route, each))).toEqual([undefined, undefined])
      expect(readdirSync('/sys/class/net')).not.toContain(name)
      expect(namesIn(container)).toEqual(['lo'])
    }
    expect(late).toEqual([])
  })

  test('is not waited for to the end', () => {
    using container = freshNamespace('early')
    let link = { index: 0, name: '' }
    const create = () => {
      finishRemovals('all')
      link = pairInto(container)
    }
    const left = timeOf(15, () => remove(link), create)
    const whole = timeOf(15, () => removeLink(host.route, link.index), create)
    console.log(`left ${left.toFixed(1)} ms, whole ${whole.toFixed(1)} ms`)
    expect(left).toBeLessThan(0.7 * whole)
  })

  test('does not keep its namespace', async () => {
    for (let count = 0; count < 10; count++) {
      const container = freshNamespace('early')
      const other = freshNamespace('other')
      connect({ namespace: container, name: 'out' }, { namespace: other, name: 'in' })
      remove(pairInto(container))
      container[Symbol.dispose]()
      // the kernel takes away what was in it: so it has gone
      while (findLink(other.route, 'in')) await pause(5)
      other[Symbol.dispose]()
    }
  })

  test('that is not there is none, and what nobody can delete is refused at once', () => {
    expect(remove({ index: 99_999, name: 'nowhere' })).toMatch(/absent|removed/) // it has gone, by whatever hand
    expect(() => remove({ index: 1, name: 'lo' })).toThrow('delete lo: Operation not supported')
  })

  test('is told of to who watches', () => {
    using container = freshNamespace('early')
    const seen: Observed[] = []
    const link = pairInto(container)
    {
      using _watching = observe(each => seen.push(each))
      remove(link)
      expect(() => remove({ index: 1, name: 'lo' })).toThrow()
    }
    const changes = seen.filter(({ changes }) => changes)
    expect(changes.flatMap(each => [...linesOf(each)])).toEqual(['delete early0', 'delete lo'])
    expect(changes.map(({ refusal }) => refusal !== undefined)).toEqual([false, true])
  })
})

/** Makes a link of a container's that stands on one of the host's. */
const onStand = (container: Namespace, ...kind: string[]) =>
  host.run(...'ip link add link stand0 name eth0 netns'.split(' '), container.path, 'type', ...kind)
const makers = {
  macvlan: (container: Namespace) => onStand(container, 'macvlan'),
  tap: (container: Namespace) => container.run('ip', 'tuntap', 'add', 'dev', 'eth0', 'mode', 'tap'),
}
const othersMakers: [Feature, (container: Namespace) => unknown][] = [
  ['vlan', container => onStand(container, 'vlan', 'id', '7')],
  ['ipvlan', container => onStand(container, 'ipvlan')],
  ['dummy', container => container.createLink({ name: 'eth0', kind: { type: 'dummy' } })],
]

/** Deletes one a dozen times, and then the namespace. */
async function makeAndRemove(make: (container: Namespace) => unknown): Promise<void> {
  const container = freshNamespace('early')
  const other = freshNamespace('other')
  connect({ namespace: container, name: 'out' }, { namespace: other, name: 'in' })
  const namespace = openNamespace(container.path)
  for (let count = 0; count < 12; count++) {
    make(container)
    const { index, name } = container.link('eth0')
    expect(removeFromLists({ route: container.route, namespace }, { index, name })).toBe('removed')
    expect([index, name].map(each => findLink(container.route, each))).toEqual([undefined, undefined])
  }
  close(namespace)
  container[Symbol.dispose]()
  while (findLink(other.route, 'in')) await pause(5) // goes with the namespace
  other[Symbol.dispose]()
  expect(late).toEqual([])
}

describe('in another namespace', () => {
  const kind = { type: 'veth', peer: { name: 'stand1' } } as const
  beforeEach(() => void host.createLink({ name: 'stand0', kind }))
  afterEach(() => void removeLink(host.route, 'stand0'))
  const title = 'is gone, its name can be had again at once, and the namespace is kept by nobody'

  test.each(Object.entries(makers))(`a %s ${title}`, (_, make) => makeAndRemove(make))
  for (const [feature, make] of othersMakers)
    testOn([feature], `a ${feature} ${title}`, () => makeAndRemove(make))

  test.each(Object.entries(makers))('a %s is not waited for to the end', (_, make) => {
    using container = freshNamespace('early')
    const namespace = openNamespace(container.path)
    const place = { route: container.route, namespace }
    let link = { index: 0, name: '' }
    const create = () => {
      finishRemovals('all')
      make(container)
      link = container.link('eth0')
    }
    const left = timeOf(9, () => removeFromLists(place, link), create)
    const whole = timeOf(9, () => removeLink(container.route, link.index), create)
    close(namespace)
    console.log(`left ${left.toFixed(1)} ms, whole ${whole.toFixed(1)} ms`)
    expect(left).toBeLessThan(0.7 * whole)
  })
})

test('a link of this very namespace is found under that name as well', () => {
  using container = freshNamespace('early')
  const namespace = openNamespace('/proc/thread-self/ns/net')
  const link = pairInto(container)
  expect(removeFromLists({ route: host.route, namespace }, link)).toBe('removed')
  expect([findLink(host.route, link.index), namesIn(container)]).toEqual([undefined, ['lo']])
  close(namespace)
})

test('many at once are gone one after the other, and nothing of them stays open', () => {
  using container = freshNamespace('early')
  const links = Array.from({ length: 40 }, (_, count) => {
    connect({ namespace: host, name: `many${count}` }, { namespace: container, name: `eth${count}` })
    return host.link(`many${count}`)
  })
  const open = () => readdirSync('/proc/self/fd').length
  const before = open()
  for (const link of links) {
    expect(remove(link)).toBe('removed')
    expect(findLink(host.route, link.name)).toBeUndefined()
  }
  expect(open()).toBeGreaterThan(before)
  finishRemovals('all')
  expect(open()).toBe(before)
  expect({ inside: namesIn(container), late }).toEqual({ inside: ['lo'], late: [] })
})

test('while thousands of things happen to other links, each goes as it should', async () => {
  using container = freshNamespace('early')
  host.createLink({ name: 'busy0', kind: { type: 'bridge' } })
  const change = (mtu: number) => `link set busy0 mtu ${mtu}\n`
  const changes = Array.from({ length: 30_000 }, (_, count) => change(1400 + (count % 50))).join('')
  const crowd = Bun.spawn(['ip', '-batch', '-'], { stdin: Buffer.from(changes) })
  let removed = 0
  for (; crowd.exitCode === null && removed < 40; removed++) {
    const { index, name } = pairInto(container)
    expect(remove({ index, name })).toBe('removed')
    expect(findLink(host.route, index)).toBeUndefined()
    await pause(0)
  }
  crowd.kill()
  removeLink(host.route, 'busy0')
  expect(removed).toBeGreaterThan(5)
})

describe('where the kernel', () => {
  const realRing = () => openRing(2) as Ring

  test.each([
    ['gives no ring', () => undefined],
    [
      'has no thread',
      () => ({
        ...realRing(),
        send() {
          throw new SystemError('io_uring_enter', errno.EAGAIN)
        },
      }),
    ],
    [
      'has one that cannot ask',
      () => {
        const ring = realRing()
        return { ...ring, send: (_: number, bytes: Uint8Array) => ring.send(-1, bytes) }
      },
    ],
  ])('%s, this one asks, and waits', (_, open) => {
    leave(open)
    using container = freshNamespace('early')
    const { index, name } = pairInto(container)
    const before = readdirSync('/proc/self/fd').length
    expect(remove({ index, name })).toBe('removed')
    expect([findLink(host.route, index), namesIn(container)]).toEqual([undefined, ['lo']])
    expect(remove({ index, name })).toBe('absent')
    expect(readdirSync('/proc/self/fd').length).toBe(before)
  })

  /** A thread that is slow: somebody else deletes the link, and what is asked then is about another. */
  function slowRing(other: number): Ring & { ask(): void } {
    const idle = openTransport(0)
    let asked: { socket: number; bytes: Uint8Array } | undefined
    let isTime = false
    return {
      descriptor: idle.descriptor,
      send(socket, bytes) {
        asked = { socket, bytes }
        removeLink(host.route, new DataView(bytes.buffer).getInt32(20, true)) // struct nlmsghdr, then ifi_index at 4
        return 7
      },
      ask: () => {
        isTime = true
      },
      completed() {
        if (!isTime || !asked) return []
        new DataView(asked.bytes.buffer).setInt32(20, other, true)
        return [{ ticket: 7, result: send(asked.socket, asked.bytes) }]
      },
    }
  }

  test.each([
    ['refuses late, that is told with the name', 1, [/^delete early0: Operation not supported/]],
    ['finds nothing late, that is nothing', 99_999, []],
  ])('%s', (_, other, told) => {
    const ring = slowRing(other)
    leave(() => ring)
    using container = freshNamespace('early')
    expect(remove(pairInto(container))).toBe('removed')
    finishRemovals()
    expect(late).toEqual([])
    ring.ask()
    finishRemovals()
    expect(late).toEqual(told.map(words => expect.stringMatching(words)))
  })
})
