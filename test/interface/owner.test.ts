/** Whose a container's interface is: what the host knows, whatever stands in the container. */
import { afterEach, describe, expect, test } from 'bun:test'
import { rmSync, writeFileSync } from 'node:fs'
import {
  findPeer,
  lentDevice,
  otherOwner,
  otherThan,
  recordInterface,
  releaseInterface,
  releaseStaleInterfaces,
  sayLeft,
  staleLoans,
} from '../../chain/interface/owner.ts'
import { createLink, setLink } from '../../chain/linux/netlink/link.ts'
import { attachmentHash, ownerOf } from '../../chain/plugin/owner.ts'
import { attachmentOf } from '../fixtures/attachment.ts'
import { silentIo } from '../fixtures/io.ts'
import { connect, freshNamespace, type Namespace } from '../fixtures/namespace.ts'

const FOLDER = '/run/catena/interfaces'
afterEach(() => rmSync(FOLDER, { recursive: true, force: true }))

const one = attachmentOf('one')
const sameOnOther = attachmentOf('one', { network: 'other-net' })
const device = { name: 'phys0', index: 7, permanentAddress: '02:00:00:00:00:07' }
const place = { netns: '/run/netns/one', index: 4 }

describe('a record of an interface', () => {
  test('tells the device that was lent, to the attachment that was lent it', () => {
    expect(lentDevice(one)).toBeUndefined()
    recordInterface(one, { ...place, device })
    expect([lentDevice(one), lentDevice(sameOnOther), lentDevice(attachmentOf('two'))]).toEqual([
      device,
      undefined,
      undefined,
    ])
  })

  test('goes with whoever has it, once, and not with another', () => {
    recordInterface(one, { ...place, device })
    releaseInterface(sameOnOther)
    expect(lentDevice(one)).toEqual(device)
    releaseInterface(one)
    releaseInterface(one)
    expect(lentDevice(one)).toBeUndefined()
  })

  test('of the next network takes the place of the last one’s', () => {
    recordInterface(one, { ...place, device })
    recordInterface(sameOnOther, { ...place, device: { ...device, name: 'phys1' } })
    expect([lentDevice(one), lentDevice(sameOnOther)?.name]).toEqual([undefined, 'phys1'])
  })

  test.each([
    '',
    '{',
    '[]',
    '{}',
    '{"owner":7,"netns":"/x","index":1}',
    '{"owner":"x","netns":"/x","index":1,"device":7}',
  ])('that reads %p is none, and goes with the next one', text => {
    recordInterface(one, { ...place, device })
    writeFileSync(`${FOLDER}/${attachmentHash(one)}.json`, text)
    expect(lentDevice(one)).toBeUndefined()
    releaseInterface(one)
    expect(staleLoans('test-net', [])).toEqual([])
  })
})

describe('GC', () => {
  const recorded = () => {
    recordInterface(one, { ...place, device })
    recordInterface(attachmentOf('two'), place)
    recordInterface(attachmentOf('three', { network: 'other-net' }), { ...place, device })
    recordInterface(attachmentOf('alive'), { ...place, device })
  }
  const valid = [{ containerId: 'alive', ifname: 'eth0' }]

  test('finds the devices that dead attachments of the network were lent', () => {
    recorded()
    const loans = staleLoans('test-net', valid)
    expect(loans).toMatchObject([{ netns: place.netns, device }])
    for (const { forget } of loans) forget()
    expect([lentDevice(one), lentDevice(attachmentOf('alive'))]).toEqual([undefined, device])
  })

  test('forgets what else was theirs; what has to come home first stays noted', () => {
    recorded()
    releaseStaleInterfaces('test-net', valid)
    expect([lentDevice(one), lentDevice(attachmentOf('alive'))]).toEqual([device, device])
    recordInterface(attachmentOf('two'), { ...place, device })
    releaseStaleInterfaces('test-net', [...valid, { containerId: 'one', ifname: 'eth0' }])
    expect(lentDevice(attachmentOf('two'))).toEqual(device)
  })
})

/** A container whose eth0 has its other end on a host of its own. */
function attached() {
  const host = freshNamespace('host')
  const container = freshNamespace('container')
  createLink(host.route, { name: 'first0', kind: { type: 'bridge' } }) // so that the ends have not one number
  connect({ namespace: container, name: 'eth0' }, { namespace: host, name: 'veth0' })
  const peerOf = (name = 'eth0') =>
    host.inside(() =>
      findPeer({ host: host.route, container: container.route, netns: container.path }, container.link(name)),
    )
  return {
    host,
    container,
    peerOf,
    [Symbol.dispose]: () => {
      for (const each of [container, host]) each[Symbol.dispose]()
    },
  }
}

describe('the host’s end', () => {
  test('of a pair is found from the container’s', () => {
    using there = attached()
    expect(there.peerOf()).toMatchObject({ name: 'veth0', kind: 'veth' })
  })

  test('is none where both ends are the container’s, whatever indexes it has chosen to look like another’s', () => {
    using there = attached() // another container, whose pair is to be taken for its own
    using liar = freshNamespace('liar')
    using inner = freshNamespace('inner')
    const [wanted, its] = [there.host.link('veth0').index, there.container.link('eth0').index]
    const pair = `ip link add name eth0 index ${its} type veth peer name lie1 index ${wanted}`
    liar.run(...pair.split(' '))
    const peer = () =>
      there.host.inside(() =>
        findPeer({ host: there.host.route, container: liar.route, netns: liar.path }, liar.link('eth0')),
      )
    expect(liar.link('eth0')).toMatchObject({ index: its, parent: wanted })
    expect(peer()).toBeUndefined()
    liar.run('ip', 'link', 'set', 'lie1', 'netns', inner.name)
    expect(inner.link('lie1').index).toBe(wanted)
    expect(peer()).toBeUndefined()
  })

  test('is found where the container’s namespace is the host’s own, and is none for who only numbers its links so', () => {
    using host = freshNamespace('host')
    using liar = freshNamespace('liar')
    for (const each of [host, liar])
      each.run(...'ip link add name eth0 index 31 type veth peer name veth0 index 32'.split(' '))
    const peerBy = (netns: string) =>
      host.inside(() => findPeer({ host: host.route, container: liar.route, netns }, liar.link('eth0')))
    const own = host.inside(() =>
      findPeer(
        { host: host.route, container: host.route, netns: '/proc/thread-self/ns/net' },
        host.link('eth0'),
      ),
    )
    expect(own).toMatchObject({ name: 'veth0', index: 32 })
    expect(peerBy(liar.path)).toBeUndefined()
  })

  test('is none of another namespace’s, and none of what is no pair', () => {
    using there = attached()
    using elsewhere = freshNamespace('elsewhere')
    connect({ namespace: there.container, name: 'eth1' }, { namespace: elsewhere, name: 'veth0' })
    expect(there.peerOf('eth1')).toBeUndefined()
    there.container.createLink({ name: 'br0', kind: { type: 'bridge' } })
    expect(there.peerOf('br0')).toBeUndefined()
  })
})

describe('another owner', () => {
  const two = ownerOf(attachmentOf('two')).comment
  const ask = (
    { host, container }: { host: Namespace; container: Namespace },
    netns: string | undefined = container.path,
  ) =>
    host.inside(() =>
      otherOwner(
        { attachment: one, netns },
        { host: host.route, container: container.route },
        container.link('eth0'),
      ),
    )

  test('is known by the alias of the host’s end, and not by what the container writes on its own', () => {
    using there = attached()
    expect(ask(there)).toBeUndefined()
    setLink(there.container.route, 'eth0', { alias: two })
    expect(ask(there)).toBeUndefined()
    setLink(there.host.route, 'veth0', { alias: two })
    expect(ask(there)).toBe(two)
    setLink(there.host.route, 'veth0', { alias: ownerOf(one).comment })
    expect(ask(there)).toBeUndefined()
  })

  test('is known by a record about that very interface', () => {
    using there = attached()
    const { container } = there
    const { index } = container.link('eth0')
    recordInterface(sameOnOther, { netns: container.path, index })
    expect(ask(there)).toBe(ownerOf(sameOnOther).comment)
    expect(ask(there, '/run/netns/other')).toBeUndefined()
    recordInterface(sameOnOther, { netns: container.path, index: index + 1 }) // one that was there before
    expect(ask(there)).toBeUndefined()
  })

  test('is by the alias, where both say something', () => {
    using there = attached()
    recordInterface(sameOnOther, { netns: there.container.path, index: there.container.link('eth0').index })
    setLink(there.host.route, 'veth0', { alias: ownerOf(one).comment })
    expect(ask(there)).toBeUndefined()
    setLink(there.host.route, 'veth0', { alias: 'written by hand' })
    expect(ask(there)).toBe(ownerOf(sameOnOther).comment)
  })

  test('is none by a comment that names none, or oneself', () => {
    expect([undefined, '', 'by hand', ownerOf(one).comment].map(each => otherThan(one, each))).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ])
    expect(otherThan(one, two)).toBe(two)
  })

  test('is named to whoever reads the log of a DEL', () => {
    const io = silentIo({})
    sayLeft(io, 'eth0 in /run/netns/one', two)
    expect(io.said()).toBe(
      'eth0 in /run/netns/one is left alone: it belongs to another attachment (net: test-net, if: eth0, id: two)\n',
    )
  })
})
