import { describe, expect, test } from 'bun:test'
import { errno } from '../../../chain/linux/libc/errno.ts'
import { close } from '../../../chain/linux/libc/file.ts'
import {
  changeBridgePort,
  createLink,
  findLink,
  listLinks,
  readLinkMessage,
  removeLink,
  setLink,
} from '../../../chain/linux/netlink/link.ts'
import { isRefusal, request } from '../../../chain/linux/netlink/socket.ts'
import { openNamespace } from '../../../chain/linux/netns.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'
import { testOn } from '../../kernel/features.ts'
import { bridgePort } from './captured.ts'

test('a port of a bridge, as the kernel tells of it', () => {
  expect(readLinkMessage({ type: 16, flags: 0, sequence: 0, payload: bridgePort })).toMatchObject({
    index: 4,
    name: 'veth0',
    kind: 'veth',
    up: true,
    loopback: false,
    promiscuous: false,
    allMulticast: false,
    state: 'up',
    mtu: 1500,
    address: 'c6:fd:e8:50:06:40',
    transmitQueueLength: 1000,
    promiscuity: 1,
    parent: 3,
    master: 2,
    data: {},
    port: { state: 3, hairpin: true, isolated: true },
  })
})

test('a veth is created up, a port of its bridge, its peer in another namespace under its final name, in one request', () => {
  using host = freshNamespace()
  using container = freshNamespace()
  const bridge = host.createLink({ name: 'cni0', kind: { type: 'bridge' } })
  const place = openNamespace(container.path)
  try {
    const peer = { name: 'eth0', namespace: place, mtu: 1400, address: '02:00:00:00:00:07' }
    const kind = { type: 'veth', peer } as const
    createLink(host.route, { name: 'veth0', up: true, mtu: 1400, master: bridge.index, kind })
  } finally {
    close(place)
  }
  const { up, mtu, master, kind, parent } = host.link('veth0')
  const inner = container.link('eth0')
  expect({ up, mtu, master, kind, parent }).toEqual({
    up: true,
    mtu: 1400,
    master: bridge.index,
    kind: 'veth',
    parent: inner.index,
  })
  expect({ up: inner.up, mtu: inner.mtu, address: inner.address }).toEqual({
    up: false,
    mtu: 1400,
    address: '02:00:00:00:00:07',
  })
})

test.each([
  { name: 'its MTU', settings: { mtu: 1280 }, seen: { mtu: 1280 } },
  {
    name: 'its hardware address',
    settings: { address: '02:aa:00:00:00:01' },
    seen: { address: '02:aa:00:00:00:01' },
  },
  { name: 'its alias', settings: { alias: 'net1 container-1' }, seen: { alias: 'net1 container-1' } },
  { name: 'its queue', settings: { transmitQueueLength: 7 }, seen: { transmitQueueLength: 7 } },
  { name: 'promiscuity', settings: { promiscuous: true }, seen: { promiscuous: true, promiscuity: 1 } },
  { name: 'all multicast', settings: { allMulticast: true }, seen: { allMulticast: true } },
  { name: 'up', settings: { up: true }, seen: { up: true } },
  { name: 'two at once', settings: { up: true, mtu: 1300 }, seen: { up: true, mtu: 1300 } },
])('of a link that exists, $name is set, and nothing else', ({ settings, seen }) => {
  using host = freshNamespace()
  createLink(host.route, { name: 'one', kind: { type: 'veth', peer: { name: 'two' } } })
  const { state: _, ...before } = host.link('one')
  setLink(host.route, 'one', settings)
  const { state: __, ...after } = host.link('one')
  expect(after).toEqual({ ...before, ...seen })
})

test('what was set is taken back', () => {
  using host = freshNamespace()
  const bridge = host.createLink({ name: 'cni0', kind: { type: 'bridge' } })
  const settings = { up: true, promiscuous: true, alias: 'mine', master: bridge.index }
  const kind = { type: 'veth', peer: { name: 'two' } } as const
  const { index } = host.createLink({ name: 'one', kind, ...settings })
  setLink(host.route, index, { up: false, promiscuous: false, alias: '', master: 0, name: 'renamed' })
  const { up, promiscuous, alias, master } = host.link('renamed')
  expect({ up, promiscuous, alias, master }).toEqual({
    up: false,
    promiscuous: false,
    alias: undefined,
    master: undefined,
  })
})

test('a port of a bridge is made a hairpin, then isolated, one not undoing the other', () => {
  using host = freshNamespace()
  const { index: master } = host.createLink({ name: 'cni0', kind: { type: 'bridge' } })
  host.createLink({ name: 'one', master, kind: { type: 'veth', peer: { name: 'two' } } })
  const seen = () => {
    const { hairpin, isolated } = host.link('one').port ?? {}
    return { hairpin, isolated }
  }
  expect(seen()).toEqual({ hairpin: false, isolated: false })
  request(host.route, changeBridgePort('one', { hairpin: true }))
  request(host.route, changeBridgePort('one', { isolated: true }))
  expect(seen()).toEqual({ hairpin: true, isolated: true })
  request(host.route, changeBridgePort('one', { hairpin: false }))
  expect(seen()).toEqual({ hairpin: false, isolated: true })
})

test('removing a link twice is a success twice; its peer and its addresses go with it', () => {
  using host = freshNamespace()
  host.createLink({ name: 'one', kind: { type: 'veth', peer: { name: 'two' } } }, '10.1.0.1/24')
  expect(removeLink(host.route, 'one')).toBe('removed')
  expect(removeLink(host.route, 'one')).toBe('absent')
  expect(listLinks(host.route).map(({ name }) => name)).toEqual(['lo'])
})

test('a link that is not there is an answer, not an error', () => {
  using host = freshNamespace()
  expect([findLink(host.route, 'none'), findLink(host.route, 4711)]).toEqual([undefined, undefined])
  expect(removeLink(host.route, 4711)).toBe('absent')
})

test('a name that is taken is refused with EEXIST, and what has it stays', () => {
  using host = freshNamespace()
  const before = host.createLink({ name: 'cni0', kind: { type: 'bridge' } })
  let thrown: unknown
  try {
    createLink(host.route, { name: 'cni0', kind: { type: 'bridge' } })
  } catch (error) {
    thrown = error
  }
  expect(isRefusal(thrown, errno.EEXIST)).toBe(true)
  expect(host.link('cni0').index).toBe(before.index)
})

test('the loopback is known as one', () => {
  using host = freshNamespace()
  const { loopback, kind, mtu } = host.link('lo')
  expect({ loopback, kind, mtu }).toEqual({ loopback: true, kind: undefined, mtu: 65536 })
})

describe('kinds', () => {
  const parented = [
    { kind: { type: 'macvlan', mode: 4 }, data: { mode: 4 } },
    { kind: { type: 'ipvlan', mode: 1 }, data: { mode: 1 } },
    { kind: { type: 'vlan', id: 42 }, data: { vlan: 42, vlanProtocol: 0x8100 } },
  ] as const
  for (const { kind, data } of parented) {
    testOn([kind.type], `a ${kind.type} stands on its parent and is read as it was made`, () => {
      using host = freshNamespace()
      const parent = host.createLink({ name: 'one', kind: { type: 'veth', peer: { name: 'two' } } })
      const made = host.createLink({ name: 'made', parent: parent.index, kind })
      expect({ kind: made.kind, parent: made.parent, data: made.data }).toEqual({
        kind: kind.type,
        parent: parent.index,
        data,
      })
    })
  }

  for (const { kind, data } of [
    { kind: { type: 'dummy' }, data: {} },
    { kind: { type: 'vrf', table: 1001 }, data: { table: 1001 } },
  ] as const) {
    testOn([kind.type], `a ${kind.type} is read as it was made`, () => {
      using host = freshNamespace()
      const made = host.createLink({ name: 'made', kind })
      expect({ kind: made.kind, data: made.data }).toEqual({ kind: kind.type, data })
    })
  }

  testOn(['bridge-vlan'], 'a bridge filters VLANs from the moment that it is told to', () => {
    using host = freshNamespace()
    const made = host.createLink({ name: 'cni0', kind: { type: 'bridge', vlanFiltering: false } })
    expect(made.data.vlanFiltering).toBe(false)
    host.run('ip', 'link', 'set', 'cni0', 'type', 'bridge', 'vlan_filtering', '1')
    expect(host.link('cni0').data.vlanFiltering).toBe(true)
  })
})
