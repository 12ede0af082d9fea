import { describe, expect, test } from 'bun:test'
import {
  decodeLease,
  decodeLease6,
  encodeLease,
  encodeLease6,
  type StoredLease,
  type StoredLease6,
} from '../../../../ipam/dhcp/daemon/lease-file.ts'
import { decodeOwner, fileName, LEASE_ENDING, stateFolder } from '../../../../ipam/dhcp/daemon/state.ts'

const stored: StoredLease = {
  containerId: 'c1',
  network: 'net',
  ifname: 'eth0',
  netns: '/run/netns/c1',
  netnsIdentity: '0:4/4026532',
  link: 7,
  hardware: '02:00:00:00:00:01',
  broadcast: false,
  provided: [[12, '776562']],
  requested: [3, 1],
  priority: 0,
  lease: {
    ...{
      address: '10.0.0.5',
      prefixLength: 24,
      server: '10.0.0.1',
      serverHardware: '02:00:00:00:00:ff',
      obtainedAt: 1,
    },
    ...{
      leaseSeconds: 120,
      renewalSeconds: 60,
      rebindingSeconds: 105,
      routers: [],
      routes: [],
      nameServers: [],
      search: [],
    },
  },
}

test('a lease comes back from its file as it was, also one for ever', () => {
  expect(decodeLease(encodeLease(stored))).toEqual(stored)
  const times = { leaseSeconds: Infinity, renewalSeconds: Infinity, rebindingSeconds: Infinity }
  const forever = { ...stored, lease: { ...stored.lease, ...times } }
  expect(decodeLease(encodeLease(forever))).toEqual(forever)
})

test('every cut of a file, and every file without one of its parts, is none', () => {
  const text = encodeLease(stored)
  for (let length = 0; length < text.length - 1; length++)
    expect(decodeLease(text.slice(0, length))).toBeUndefined()
  for (const key of [
    'version',
    'containerId',
    'netns',
    'link',
    'provided',
    'requested',
    'lease',
    'hardware',
  ]) {
    const { [key]: _, ...rest } = JSON.parse(text)
    expect(decodeLease(JSON.stringify(rest))).toBeUndefined()
  }
})

test('files are found by plugin and daemon alike', () => {
  expect(stateFolder('/run/cni/dhcp.sock')).toBe('/var/lib/cni/dhcp/run-cni-dhcp.sock')
  const lease = fileName('c1/net/eth0', LEASE_ENDING)
  const note = fileName('c1/net/eth0')
  expect([lease, note].map(name => name.replace(/^[0-9a-f]{32}/, ''))).toEqual(['.lease', '.released'])
  expect(fileName('c2/net/eth0', LEASE_ENDING)).not.toBe(lease)
})

/** As the daemon has written it from its first release on. */
const file6 = {
  version: 1,
  ...{
    containerId: 'c1',
    network: 'net',
    ifname: 'eth0',
    netns: '/run/netns/c1',
    netnsIdentity: '0:4/4026532',
  },
  ...{ link: 7, hardware: '02:00:00:00:00:01', priority: 0, mode: 'auto' },
  lease: {
    held: [
      { address: 'fd00:9::7', prefixLength: 64, standing: 'deprecated' },
      { address: 'fd00:7::1', prefixLength: 64, prefix: 'fd00:7::', standing: 'preferred' },
    ],
    network: {
      routers: [{ address: 'fe80::1', preference: 0, until: 1_800_000 }],
      prefixes: [
        {
          ...{ prefix: 'fd00:7::', length: 64, onLink: true, autonomous: true },
          ...{ validUntil: null, preferredUntil: 600_000 },
        },
      ],
      routes: [{ destination: 'fd00:66::/48', router: 'fe80::1', preference: 1, until: null }],
      nameServers: [{ value: 'fd00:7::53', until: 90_000 }],
      search: [{ value: 'example', until: null }],
    },
    routes: [{ destination: '::/0', router: 'fe80::1' }],
    dhcp: {
      ...{
        address: 'fd00:9::7',
        server: '0001',
        preference: 0,
        nameServers: [],
        search: [],
        obtainedAt: 1000,
      },
      ...{ preferredSeconds: 60, validSeconds: null, renewalSeconds: 30, rebindingSeconds: 48 },
    },
    told: { nameServers: ['fd00:9::53'], search: ['lan'] },
  },
}

describe('a file that another version of the daemon has written', () => {
  test('of IPv6 is read, and written as it was', () => {
    const stored = decodeLease6(JSON.stringify(file6))
    expect(stored?.lease.held.map(({ state }) => state)).toEqual(['deprecated', 'preferred'])
    expect(stored?.lease.otherConfiguration).toEqual({ nameServers: ['fd00:9::53'], search: ['lan'] })
    expect(stored?.lease.network.prefixes[0]).toMatchObject({ validUntil: Infinity, preferredUntil: 600_000 })
    expect(stored?.lease.network.routes[0]?.until).toBe(Infinity)
    expect(stored?.lease.dhcp).toMatchObject({ validSeconds: Infinity, renewalSeconds: 30 })
    expect(JSON.parse(encodeLease6(stored as StoredLease6))).toEqual(file6)
  })

  test('without a server has nothing of one afterwards', () => {
    const { dhcp: _dhcp, told: _told, ...lease } = file6.lease
    const text = JSON.stringify({ ...file6, lease })
    expect(JSON.parse(encodeLease6(decodeLease6(text) as StoredLease6))).toEqual(JSON.parse(text))
  })

  test('with an address that has no text is none', () => {
    for (const held of [[null], [{}], [7]])
      expect(decodeLease6(JSON.stringify({ ...file6, lease: { ...file6.lease, held } }))).toBeUndefined()
  })
})

describe('between two clocks', () => {
  test('each moment of an IPv4 lease is moved, and no duration', () => {
    const { lease } = JSON.parse(encodeLease(stored, 5000))
    expect(lease).toEqual({ ...stored.lease, obtainedAt: 5001 })
  })

  test('each moment of an IPv6 lease is moved, and no duration', () => {
    const moved = JSON.parse(encodeLease6(decodeLease6(JSON.stringify(file6)) as StoredLease6, 5000)).lease
    expect(moved.network).toEqual({
      routers: [{ address: 'fe80::1', preference: 0, until: 1_805_000 }],
      prefixes: [{ ...file6.lease.network.prefixes[0], preferredUntil: 605_000 }],
      routes: file6.lease.network.routes,
      nameServers: [{ value: 'fd00:7::53', until: 95_000 }],
      search: file6.lease.network.search,
    })
    expect(moved.dhcp).toEqual({ ...file6.lease.dhcp, obtainedAt: 6000 })
  })

  test('a number is no time for its name', () => {
    const more = { ...stored, lookedAt: 1, heldUntil: 2, until: 3, lease: { ...stored.lease, seenAt: 4 } }
    expect(JSON.parse(encodeLease(more, 5000))).toMatchObject({
      ...{ lookedAt: 1, heldUntil: 2, until: 3 },
      lease: { seenAt: 4, obtainedAt: 5001 },
    })
    const nothing = { ...file6, spareSeconds: null, lease: { ...file6.lease, restUntil: null } }
    expect(decodeLease6(JSON.stringify(nothing)) as unknown).toMatchObject({
      spareSeconds: null,
      lease: { restUntil: null },
    })
  })
})

test.each([JSON.stringify(file6), encodeLease(stored)])('whose a lease is is said by its file', text => {
  expect(decodeOwner(text)).toEqual({ containerId: 'c1', network: 'net', ifname: 'eth0' })
  expect(decodeOwner(text.slice(0, 40))).toBeUndefined()
})
