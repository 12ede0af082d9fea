/** From a new link in the container to ADD's result, and away again. */
import { afterEach, describe, expect, test } from 'bun:test'
import { rmSync } from 'node:fs'
import { PENDING } from '../../chain/interface/create.ts'
import {
  collectStale,
  expectedMtu,
  findInterface,
  finishInterface,
  placeOn,
  removeFinished,
} from '../../chain/interface/finish.ts'
import { lentDevice, recordInterface } from '../../chain/interface/owner.ts'
import { noIpam } from '../../chain/plugin/ipam.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import { recordsIn } from '../../chain/plugin/state.ts'
import { CniError } from '../../chain/protocol/error.ts'
import { emptyResult } from '../../chain/protocol/result.ts'
import { addingTo, attachmentOf } from '../fixtures/attachment.ts'
import { silentIo } from '../fixtures/io.ts'
import { freshNamespace } from '../fixtures/namespace.ts'

afterEach(() => rmSync('/run/catena/interfaces', { recursive: true, force: true }))

const kind = { type: 'veth', peer: { name: 'peer0' } } as const
const ips = [{ address: '10.1.0.2/24', gateway: '10.1.0.1' }]
const addresses = { ...emptyResult(), ips, routes: [{ dst: '0.0.0.0/0' }], dns: { domain: 'x' } }

/** A container with an interface that was just made, its other end up. */
function begun() {
  const container = freshNamespace()
  container.createLink({ name: 'eth0', kind, group: PENDING, up: false })
  container.run('ip', 'link', 'set', 'peer0', 'up')
  return container
}

const recorded = () => recordsIn('interfaces', () => true).recorded()

describe('finishing', () => {
  test('puts addresses and routes there, and tells what is where', () => {
    using container = begun()
    using adding = addingTo(container)
    const { result, link } = finishInterface(adding, { addresses, announcement: 'none' })
    expect(result).toEqual({
      ...addresses,
      interfaces: [{ name: 'eth0', mac: link.address, sandbox: container.path }],
      ips: [{ address: '10.1.0.2/24', gateway: '10.1.0.1', interface: 0 }],
    })
    expect(container.addresses('eth0')).toEqual(['10.1.0.2/24'])
    expect(container.routes()).toContainEqual(
      expect.objectContaining({ destination: '0.0.0.0', gateway: '10.1.0.1' }),
    )
    expect(container.link('eth0')).toMatchObject({ up: true, group: 0 })
  })

  test('says whose it is from then on, and no longer when it fails', () => {
    using container = begun()
    using adding = addingTo(container)
    finishInterface(adding, { addresses, announcement: 'none' })
    expect(recorded()).toHaveLength(1)
    expect(adding.undoing).toEqual(['forget whose eth0 is'])
    adding.fail()
    expect(recorded()).toEqual([])
  })

  test('leaves it unfinished where the addresses are refused', () => {
    using container = begun()
    using adding = addingTo(container)
    const wrong = { ...addresses, ips: [{ address: '10.1.0.2/33' }] }
    expect(() => finishInterface(adding, { addresses: wrong, announcement: 'none' })).toThrow('10.1.0.2/33')
    expect(container.link('eth0').group).toBe(PENDING)
    expect(recorded()).toEqual([])
  })

  test.each([
    { announcement: 'none', notify: '0' },
    { announcement: 'when up', notify: '1' },
    { announcement: 'again', notify: '1' },
  ] as const)(
    'with announcement "$announcement" the kernel tells the neighbours: $notify',
    ({ announcement, notify }) => {
      using container = begun()
      using adding = addingTo(container)
      finishInterface(adding, { addresses, announcement })
      const keys = ['net/ipv4/conf/eth0/arp_notify', 'net/ipv6/conf/eth0/ndisc_notify']
      expect(keys.map(key => container.sysctl(key))).toEqual([notify, notify])
    },
  )
})

test('all addresses are on the one interface, wherever the IPAM plugin had them', () => {
  const place = { name: 'eth0', sandbox: '/run/netns/one' }
  const other = {
    ...addresses,
    interfaces: [{ name: 'x' }, { name: 'y' }],
    ips: [{ address: '10.1.0.2/24', interface: 1 }],
  }
  expect(placeOn(other, place)).toMatchObject({
    interfaces: [place],
    ips: [{ address: '10.1.0.2/24', interface: 0 }],
  })
  expect(other.ips[0]?.interface).toBe(1)
})

test.each([
  { reported: undefined, configured: 1400, expected: 1400 },
  { reported: 1300, configured: 1400, expected: 1300 },
  { reported: 0, configured: 1400, expected: 1400 },
  { reported: undefined, configured: 0, expected: undefined },
  { reported: undefined, configured: -1, expected: undefined },
])(
  'CHECK expects MTU $expected where a later plugin reported $reported and $configured is configured',
  row => {
    const { reported, configured, expected } = row
    const place = { netns: '/run/netns/one', name: 'eth0' }
    const own = { name: 'eth0', sandbox: place.netns, ...(reported === undefined ? {} : { mtu: reported }) }
    expect(expectedMtu({ ...emptyResult(), interfaces: [own] }, { ...place, configured })).toBe(
      expected as number,
    )
  },
)

test('an interface is found as it is, or not', () => {
  using container = begun()
  expect(findInterface(container.path, 'eth0')).toMatchObject({ kind: 'veth' })
  expect(findInterface(container.path, 'eth1')).toBeUndefined()
  expect(() => findInterface('/run/netns/none', 'eth0')).toThrow(expect.objectContaining({ code: 8 }))
})

describe('DEL', () => {
  test('gives the addresses back while the interface is there, then takes it, and forgets it', async () => {
    using container = begun()
    using adding = addingTo(container)
    finishInterface(adding, { addresses, announcement: 'none' })
    let wasThere = false
    const ipam = {
      ...noIpam,
      remove: async () => {
        wasThere = container.links().some(({ name }) => name === 'eth0')
      },
    }
    const request = { attachment: adding.attachment, netns: container.path, ipam, io: silentIo({}) }
    await removeFinished(request)
    expect([wasThere, container.links().length, recorded()]).toEqual([true, 1, []])
    await removeFinished(request)
    await removeFinished({ ...request, netns: undefined })
  })

  test('takes every step, and tells all that failed', async () => {
    using container = begun()
    using adding = addingTo(container)
    finishInterface(adding, { addresses, announcement: 'none' })
    const ipam = { ...noIpam, remove: () => Promise.reject(new CniError(11, 'the pool is busy')) }
    const removing = removeFinished({
      attachment: adding.attachment,
      netns: container.path,
      ipam,
      io: silentIo({}),
    })
    await expect(removing).rejects.toMatchObject({
      code: 11,
      message: 'release the addresses: the pool is busy',
    })
    expect([container.links().length, recorded()]).toEqual([1, []])
  })

  test('leaves an interface that is another attachment’s by now', async () => {
    using container = begun()
    const other = attachmentOf(container.name, { network: 'other-net' })
    recordInterface(other, { netns: container.path, index: container.link('eth0').index })
    const io = silentIo({})
    await removeFinished({
      attachment: attachmentOf(container.name),
      netns: container.path,
      ipam: noIpam,
      io,
    })
    expect(io.said()).toContain('is left alone')
    expect(container.link('eth0')).toBeDefined()
    expect(recorded()).toHaveLength(1)
  })
})

test('GC forgets what dead attachments had, though the addresses cannot be collected', async () => {
  const place = { netns: '/run/netns/one', index: 4 }
  for (const id of ['dead', 'alive']) recordInterface(attachmentOf(id), place)
  recordInterface(attachmentOf('lent'), { ...place, device: { name: 'phys0', index: 7 } })
  const ipam = { ...noIpam, gc: () => Promise.reject(new Error('no pool')) }
  const valid = [{ containerId: 'alive', ifname: 'eth0' }]
  await expect(collectStale({ network: 'test-net', valid, ipam })).rejects.toThrow(
    'release stale addresses: no pool',
  )
  expect(recorded()).toHaveLength(2)
  expect(lentDevice(attachmentOf('lent'))).toBeDefined()
  expect(ownerOf(attachmentOf('alive')).id).toBeDefined()
})
