/** A container's interface comes to be once: what a killed ADD left gives way, what is alive does not. */
import { describe, expect, test } from 'bun:test'
import { readdirSync } from 'node:fs'
import {
  createOnce,
  interfaceIn,
  markFinished,
  PENDING,
  removePending,
} from '../../chain/interface/create.ts'
import { createLink, removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import type { Transport } from '../../chain/linux/netlink/socket.ts'
import { removeNamespace } from '../../chain/linux/netns.ts'
import { noIpam } from '../../chain/plugin/ipam.ts'
import { addingTo } from '../fixtures/attachment.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'

const kind = { type: 'veth', peer: { name: 'peer0' } } as const
const pending = (route: Transport) => createLink(route, { name: 'eth0', kind, group: PENDING })
const creation = { create: pending, clear: (route: Transport) => removePending(route, 'eth0') }
const names = (container: Namespace) =>
  container
    .links()
    .map(({ name }) => name)
    .sort()

test('a link is known for unfinished by its group until it is finished, and then says whose it is', () => {
  using host = freshNamespace()
  pending(host.route)
  markFinished(host.route, 'eth0', 'mine')
  expect(host.link('eth0')).toMatchObject({ group: 0, alias: 'mine' })
  expect(removePending(host.route, 'eth0')).toBe('absent')
  expect(names(host)).toContain('eth0')
})

test('without a word on whose it is, what it says stays', () => {
  using host = freshNamespace()
  pending(host.route)
  setLink(host.route, 'eth0', { alias: 'somebody’s' })
  markFinished(host.route, host.link('eth0').index)
  expect(host.link('eth0')).toMatchObject({ group: 0, alias: 'somebody’s' })
})

test('an unfinished one is cleared away once', () => {
  using host = freshNamespace()
  pending(host.route)
  expect(removePending(host.route, 'eth0')).toBe('removed')
  expect(removePending(host.route, 'eth0')).toBe('absent')
})

test('who makes an interface waits by the namespace itself, whatever it is called', () => {
  using one = freshNamespace()
  using other = freshNamespace()
  const again = `${one.path}-again`
  Bun.spawnSync(['touch', again])
  Bun.spawnSync(['mount', '--bind', one.path, again])
  using _again = { [Symbol.dispose]: () => void removeNamespace(again) }
  expect(interfaceIn(again, 'eth0')).toBe(interfaceIn(one.path, 'eth0'))
  expect(interfaceIn(other.path, 'eth0')).not.toBe(interfaceIn(one.path, 'eth0'))
  expect(interfaceIn(one.path, 'eth1')).not.toBe(interfaceIn(one.path, 'eth0'))
  expect(interfaceIn('/run/netns/none', 'eth0')).toContain('/run/netns/none')
})

describe('creating', () => {
  test('waits for whoever is at the same name, and says at once how it is undone', async () => {
    using container = freshNamespace()
    using adding = addingTo(container)
    await createOnce(adding, creation)
    expect(adding.waitedFor).toEqual([interfaceIn(container.path, 'eth0')])
    expect(adding.undoing).toEqual(['delete what was begun of eth0', 'delete eth0'])
    expect(names(container)).toEqual(['eth0', 'lo', 'peer0'])
    adding.fail()
    expect(names(container)).toEqual(['lo'])
  })

  test('undoes what it has finished, too', async () => {
    using container = freshNamespace()
    using adding = addingTo(container)
    await createOnce(adding, creation)
    markFinished(container.route, 'eth0')
    adding.fail()
    expect(names(container)).toEqual(['lo'])
  })

  test('clears away what a killed ADD left, and has its addresses given back before it takes new ones', async () => {
    using container = freshNamespace()
    pending(container.route)
    const before = container.link('eth0').index
    let released = 0
    const ipam = {
      ...noIpam,
      async remove() {
        released++
        expect(names(container)).toEqual(['lo'])
      },
    }
    using adding = addingTo(container, { ipam })
    await createOnce(adding, creation)
    expect(released).toBe(1)
    expect(container.link('eth0').index).not.toBe(before)
  })

  test('is refused where the interface is alive, which is described, and left', async () => {
    using container = freshNamespace()
    const { address } = container.createLink({ name: 'eth0', kind })
    const ipam = { ...noIpam, remove: () => Promise.reject(new Error('released')) }
    using adding = addingTo(container, { ipam })
    await expect(createOnce(adding, creation)).rejects.toMatchObject({
      code: 999,
      message: `interface eth0 already exists in ${container.path}`,
      details: `it is a veth with hardware address ${address}: a second ADD for a live attachment, or another network`,
    })
    expect(adding.undoing).toEqual(['delete what was begun of eth0'])
    adding.fail()
    expect(names(container)).toEqual(['eth0', 'lo', 'peer0'])
  })

  test('names what else was taken', async () => {
    using container = freshNamespace()
    container.createLink({ name: 'peer0', kind: { type: 'veth', peer: { name: 'other0' } } })
    using adding = addingTo(container)
    await expect(createOnce(adding, { ...creation, other: 'veth1234 on the host' })).rejects.toMatchObject({
      message: 'veth1234 on the host already exists',
      details: expect.stringContaining(
        `eth0 of container ${container.name} is attached in another namespace`,
      ),
    })
    await expect(createOnce(adding, creation)).rejects.toThrow('File exists')
  })

  test('passes on any other refusal, and takes back what came of it', async () => {
    using container = freshNamespace()
    using adding = addingTo(container)
    const half = {
      ...creation,
      create(route: Transport) {
        pending(route)
        throw new Error('no memory for the answer')
      },
    }
    await expect(createOnce(adding, half)).rejects.toThrow('no memory for the answer')
    adding.fail()
    expect(names(container)).toEqual(['lo'])
  })

  test('hands its socket over for undoing, and has no other left open', async () => {
    using container = freshNamespace()
    const opened = () => readdirSync('/proc/self/fd').length
    const before = opened()
    const adding = addingTo(container)
    await createOnce(adding, creation)
    expect(opened()).toBe(before + 1)
    adding[Symbol.dispose]()
    expect(opened()).toBe(before)
  })

  test('does not take away again what another has made since under the name', async () => {
    using container = freshNamespace()
    using adding = addingTo(container)
    await createOnce(adding, creation)
    removeLink(container.route, 'eth0')
    expect(() => adding.fail()).not.toThrow()
  })
})
