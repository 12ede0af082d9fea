/** An interface that stands on a master: it comes to be in the container, whatever names the host has. */
import { expect } from 'bun:test'
import { PENDING } from '../../chain/interface/create.ts'
import { findMaster, type Master } from '../../chain/interface/master.ts'
import {
  clearSubInterface,
  createSubInterface,
  finishSubInterface,
} from '../../chain/interface/sub-interface.ts'
import { createLink, setLink } from '../../chain/linux/netlink/link.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import { emptyResult } from '../../chain/protocol/result.ts'
import { addingTo } from '../fixtures/attachment.ts'
import { freshNamespace } from '../fixtures/namespace.ts'
import { testOn } from '../kernel/features.ts'

const kind = { type: 'macvlan', mode: 4 } as const

/** A host with a master, and a container. */
function place() {
  const host = freshNamespace('host')
  const container = freshNamespace('container')
  host.createLink({ name: 'phys0', mtu: 1450, kind: { type: 'veth', peer: { name: 'far0' } } })
  setLink(host.route, 'far0', { up: true })
  const adding = addingTo(container)
  const { attachment } = adding
  const master: Master = host.inside(() =>
    findMaster({ master: 'phys0', linkInContainer: false }, container.path),
  )
  return {
    ...{ host, container, adding, attachment, master },
    create: (more: object = {}) =>
      host.inside(() => createSubInterface(container.route, { attachment, master, kind, mtu: 0, ...more })),
    names: () =>
      container
        .links()
        .map(({ name }) => name)
        .filter(name => name !== 'lo'),
    [Symbol.dispose]: () => {
      for (const each of [container, host]) each[Symbol.dispose]()
    },
  }
}

testOn(['macvlan'], 'it stands on the master with its MTU, unfinished, in the container alone', () => {
  using there = place()
  there.create()
  expect(there.container.link('eth0')).toMatchObject({
    kind: 'macvlan',
    mtu: 1450,
    group: PENDING,
    parent: there.master.link.index,
  })
  expect(there.host.links().some(({ kind }) => kind === 'macvlan')).toBe(false)
})

testOn(['macvlan'], 'it has the MTU and the hardware address that are asked for', () => {
  using there = place()
  there.create({ mtu: 1300, mac: '02:00:00:00:00:07' })
  expect(there.container.link('eth0')).toMatchObject({ mtu: 1300, address: '02:00:00:00:00:07' })
})

testOn(
  ['macvlan'],
  'the host may have a link of that name, and what a killed ADD left on the way there goes',
  () => {
    using there = place()
    createLink(there.host.route, { name: 'eth0', kind: { type: 'bridge' } })
    const temporary = `new${ownerOf(there.attachment).id.slice(-8)}`
    createLink(there.container.route, { name: temporary, group: PENDING, kind: { type: 'bridge' } })
    there.create()
    expect(there.container.link('eth0').kind).toBe('macvlan')
    expect(there.host.link('eth0').kind).toBe('bridge')
    expect(clearSubInterface(there.container.route, there.attachment)).toBe('removed')
    expect(there.names()).toEqual([])
  },
)

testOn(['macvlan'], 'a name that is taken in the container is refused, and what has it stays', () => {
  using there = place()
  there.container.createLink({ name: 'eth0', kind: { type: 'bridge' } })
  expect(() => there.create()).toThrow('File exists')
  expect(there.container.link('eth0').kind).toBe('bridge')
  expect(there.names()).toEqual(['eth0'])
})

testOn(['macvlan'], 'what a killed ADD left goes under either name, and what is finished stays', () => {
  using there = place()
  const { container, attachment } = there
  const temporary = `new${ownerOf(attachment).id.slice(-8)}`
  createLink(container.route, { name: temporary, group: PENDING, kind: { type: 'bridge' } })
  expect(clearSubInterface(container.route, attachment)).toBe('removed')
  expect(clearSubInterface(container.route, attachment)).toBe('absent')
  there.create()
  setLink(container.route, 'eth0', { group: 0 })
  expect(clearSubInterface(container.route, attachment)).toBe('absent')
  expect(there.names()).toEqual(['eth0'])
})

testOn(['vlan'], 'one that cannot come up because its master is down says so', () => {
  using there = place()
  setLink(there.host.route, 'phys0', { up: false })
  there.create({ kind: { type: 'vlan', id: 7 } })
  const addresses = { ...emptyResult(), ips: [{ address: '10.1.0.2/24' }] }
  expect(() =>
    there.host.inside(
      () => void finishSubInterface(there.adding, { addresses, announcement: 'none', master: there.master }),
    ),
  ).toThrow('master: phys0 is down, so nothing that stands on it can come up')
  expect(clearSubInterface(there.container.route, there.attachment)).toBe('removed')
  setLink(there.host.route, 'phys0', { up: true })
  there.create({ kind: { type: 'vlan', id: 7 } })
  const { result } = finishSubInterface(there.adding, {
    addresses,
    announcement: 'none',
    master: there.master,
  })
  expect(result.interfaces).toMatchObject([{ name: 'eth0', sandbox: there.container.path }])
})
