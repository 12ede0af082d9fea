/** A container's veth pair: made whole, and taken away by whoever it belongs to. */
import { describe, expect, test } from 'bun:test'
import { markFinished, PENDING } from '../../chain/interface/create.ts'
import {
  createPair,
  type PairSpec,
  removeHostEnds,
  removeInside,
  removePair,
  removePendingPair,
} from '../../chain/interface/pair.ts'
import { changeBridgePort, createLink, findLink, setLink } from '../../chain/linux/netlink/link.ts'
import type { Attachment } from '../../chain/plugin/define.ts'
import { hostEndName, ownerOf } from '../../chain/plugin/owner.ts'
import { attachmentOf } from '../fixtures/attachment.ts'
import { silentIo } from '../fixtures/io.ts'
import { connect, freshNamespace } from '../fixtures/namespace.ts'

function place() {
  const host = freshNamespace('host')
  const container = freshNamespace('container')
  const attachment = attachmentOf(container.name)
  const io = silentIo({})
  const request = { attachment, netns: container.path as string | undefined, io }
  const create = (more: Partial<PairSpec> = {}) =>
    host.inside(() => createPair(host.route, { attachment, netns: container.path, mtu: 0, ...more }))
  const finish = (of: Attachment = attachment) =>
    markFinished(host.route, hostEndName(of), ownerOf(of).comment)
  const links = () =>
    [host, container].map(each =>
      each
        .links()
        .map(({ name }) => name)
        .filter(name => name !== 'lo'),
    )
  return {
    ...{ host, container, attachment, request, io, create, finish, links },
    remove: (more: Partial<typeof request> = {}) =>
      host.inside(() => removePair(host.route, { ...request, ...more })),
    [Symbol.dispose]: () => {
      for (const each of [container, host]) each[Symbol.dispose]()
    },
  }
}

describe('a pair is made', () => {
  test('with both ends under their final names, the host’s up, and known for unfinished', () => {
    using there = place()
    const made = there.create()
    const name = hostEndName(there.attachment)
    expect(made).toMatchObject({ name, kind: 'veth', up: true, group: PENDING })
    expect(there.links()).toEqual([[name], ['eth0']])
    expect(there.container.link('eth0').parent).toBe(made.index)
    there.finish()
    expect(there.host.link(name)).toMatchObject({ group: 0, alias: ownerOf(there.attachment).comment })
  })

  test('with an MTU and a hardware address inside, on a bridge, with settings of its port', () => {
    using there = place()
    const { index: master } = there.host.createLink({ name: 'cni0', kind: { type: 'bridge' } })
    const name = hostEndName(there.attachment)
    const settings = [changeBridgePort(name, { hairpin: true })]
    const made = there.create({ mtu: 1400, mac: '02:00:00:00:00:07', master, settings })
    expect(made).toMatchObject({ mtu: 1400, master, port: { hairpin: true } })
    expect(there.container.link('eth0')).toMatchObject({ mtu: 1400, address: '02:00:00:00:00:07' })
  })

  test.each([0, -1])('with the kernel’s MTU where %p is asked for', mtu => {
    using there = place()
    expect(there.create({ mtu }).mtu).toBe(1500)
  })

  test('or nothing of it, and the refusal has the words of who wanted it', () => {
    using there = place()
    there.container.createLink({ name: 'eth0', kind: { type: 'bridge' } })
    expect(() => there.create()).toThrow('File exists')
    expect(() => there.create({ explain: () => new Error('it is taken') })).toThrow('it is taken')
    expect(there.links()).toEqual([[], ['eth0']])
    expect(() => there.create({ netns: '/run/netns/none' })).toThrow('/run/netns/none')
  })

  test('and a setting that is refused is no matter of the pair’s', () => {
    using there = place()
    const settings = [changeBridgePort(hostEndName(there.attachment), { hairpin: true })] // it is on no bridge
    expect(() => there.create({ settings, explain: () => new Error('it is taken') })).toThrow(
      /port|bridge|supported/i,
    )
    expect(removePendingPair(there.host.route, there.attachment)).toBe('removed')
    expect(there.links()).toEqual([[], []])
  })
})

describe('DEL', () => {
  test('takes it by the host’s end, without the container', () => {
    using there = place()
    there.create()
    there.finish()
    expect(there.remove({ netns: undefined })).toBe('removed')
    expect(there.remove({ netns: undefined })).toBe('absent')
    expect(there.links()).toEqual([[], []])
  })

  test('takes one that other plugins have named by the container’s end', () => {
    using there = place()
    connect({ namespace: there.host, name: 'vethABCD' }, { namespace: there.container, name: 'eth0' })
    expect(there.remove({ netns: undefined })).toBe('absent')
    expect(there.remove()).toBe('removed')
    expect(there.links()).toEqual([[], []])
  })

  test('leaves what is another attachment’s, at either end, and says so', () => {
    using there = place()
    const other = attachmentOf(there.container.name, { network: 'other-net' })
    there.create()
    setLink(there.host.route, hostEndName(there.attachment), { alias: ownerOf(other).comment })
    expect(there.remove()).toBe('absent')
    expect(there.links()).toEqual([[hostEndName(there.attachment)], ['eth0']])
    expect(there.io.said().split('\n')).toEqual([
      `${hostEndName(there.attachment)} is left alone: it belongs to another attachment (net: other-net, if: eth0, id: ${there.container.name})`,
      expect.stringMatching(/^eth0 in .* is left alone: /),
      '',
    ])
  })

  test('takes the container’s own, though another one has the name of the host’s end', () => {
    using there = place()
    const other = attachmentOf('other')
    createLink(there.host.route, {
      name: hostEndName(there.attachment),
      kind: { type: 'veth', peer: { name: 'far0' } },
    })
    setLink(there.host.route, hostEndName(there.attachment), { alias: ownerOf(other).comment })
    connect({ namespace: there.host, name: 'vethABCD' }, { namespace: there.container, name: 'eth0' })
    expect(there.remove()).toBe('removed')
    expect(there.links()).toEqual([expect.arrayContaining([hostEndName(there.attachment), 'far0']), []])
  })

  test('finds nothing in a container that is gone', () => {
    using there = place()
    const netns = '/run/netns/none'
    expect(there.host.inside(() => removeInside(there.host.route, { ...there.request, netns }))).toBe(
      'absent',
    )
  })
})

describe('what a killed ADD left', () => {
  test('is cleared away, and what is finished stays', () => {
    using there = place()
    there.create()
    expect(removePendingPair(there.host.route, there.attachment)).toBe('removed')
    expect(removePendingPair(there.host.route, there.attachment)).toBe('absent')
    there.create()
    there.finish()
    expect(removePendingPair(there.host.route, there.attachment)).toBe('absent')
  })

  test('is left to whoever it says that it belongs to', () => {
    using there = place()
    there.create()
    setLink(there.host.route, hostEndName(there.attachment), {
      alias: ownerOf(attachmentOf('other')).comment,
    })
    expect(removePendingPair(there.host.route, there.attachment)).toBe('absent')
  })
})

test('GC takes the host ends of the owners that are picked: finished ones, under the name that is theirs', () => {
  using host = freshNamespace('host')
  const [dead, alive, unfinished, copied] = ['dead', 'alive', 'unfinished', 'copied'].map(id =>
    attachmentOf(id),
  ) as [Attachment, Attachment, Attachment, Attachment]
  const make = (name: string, of: Attachment, group = 0) => {
    createLink(host.route, { name, group, kind: { type: 'veth', peer: { name: `p${name}` } } })
    setLink(host.route, name, { alias: ownerOf(of).comment })
  }
  for (const each of [dead, alive]) make(hostEndName(each), each)
  make(hostEndName(unfinished), unfinished, PENDING) // its ADD may be at work
  make('vethcopy', copied) // its alias is somebody's copy
  removeHostEnds(host.route, owner => owner !== ownerOf(alive).id)
  const left = [dead, alive, unfinished].map(each => findLink(host.route, hostEndName(each)) !== undefined)
  expect([...left, findLink(host.route, 'vethcopy') !== undefined]).toEqual([false, true, true, true])
})
