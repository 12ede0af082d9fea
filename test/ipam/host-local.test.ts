import { describe, expect, test } from 'bun:test'
import { readdirSync, writeFileSync } from 'node:fs'
import { hostLocal } from '../../ipam/host-local.ts'
import { call, mustExecute, peerExecutable } from '../fixtures/plugin.ts'
import { dataFolder, on, reservations, type Settings, tree } from './host-local/fixture.ts'

describe('ADD', () => {
  test('gives one address of each range set, with gateway, routes and the DNS of resolvConf', async () => {
    using folder = dataFolder()
    writeFileSync(`${folder.path}/resolv.conf`, 'nameserver 10.1.2.1\nsearch a b\n')
    const { ask } = on(folder.path)
    const { json } = await ask('ADD', {
      ipam: {
        ranges: [[{ subnet: '10.1.2.0/24', gateway: '10.1.2.254' }], [{ subnet: 'fd00::/64' }]],
        routes: [{ dst: '0.0.0.0/0' }, { dst: 'fd01::/16', gw: 'fd00::9', mtu: 1400, table: 0 }],
        resolvConf: `${folder.path}/resolv.conf`,
      },
    })
    expect(json).toEqual({
      cniVersion: '1.1.0',
      dns: { nameservers: ['10.1.2.1'], search: ['a', 'b'] },
      ips: [
        { address: '10.1.2.1/24', gateway: '10.1.2.254' },
        { address: 'fd00::2/64', gateway: 'fd00::1' },
      ],
      routes: [{ dst: '0.0.0.0/0' }, { dst: 'fd01::/16', gw: 'fd00::9', mtu: 1400, table: 0 }],
    })
  })

  test('writes the files of the Go plugin: lock, reservation with CRLF, round robin, with their modes', async () => {
    using folder = dataFolder()
    await on(folder.path).add('c1')
    expect(tree(folder.path)).toEqual([
      'test-net 755 ""',
      'test-net/10.1.2.2 600 "c1\\r\\neth0"',
      'test-net/last_reserved_ip.0 600 "10.1.2.2"',
      'test-net/lock 750 ""',
    ])
  })

  test('goes round: what was freed comes last', async () => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path)
    const given = [await add('c1'), await add('c2')]
    await ask('DEL', { containerId: 'c1' })
    for (const id of ['c3', 'c4', 'c5', 'c6']) given.push(await add(id))
    expect(given.flat()).toEqual(['2', '3', '4', '5', '6', '2'].map(last => `10.1.2.${last}`))
  })

  test('puts the old single range before `ranges`, and those of the runtime before both', async () => {
    using folder = dataFolder()
    const ipam = { subnet: '10.2.0.0/24', rangeStart: '10.2.0.9', ranges: [[{ subnet: '10.3.0.0/24' }]] }
    const network = { runtimeConfig: { ipRanges: [[{ subnet: '10.4.0.0/24' }]] } }
    expect(await on(folder.path).add('c1', { ipam, network })).toEqual(['10.4.0.2', '10.2.0.9', '10.3.0.2'])
  })

  test.each([
    ['CNI_ARGS', { args: 'IP=10.1.2.5' }],
    ['CNI_ARGS with a prefix, among others', { args: 'IgnoreUnknown=1;K8S_POD_NAME=p;IP=10.1.2.5/24' }],
    ['args.cni.ips', { network: { args: { cni: { ips: ['10.1.2.5'] } } } }],
    ['runtimeConfig.ips', { network: { runtimeConfig: { ips: ['10.1.2.5/16'] } } }],
    ['keys in whatever case', { network: { RuntimeConfig: { IPs: ['10.1.2.5'] } } }],
  ] as [string, Settings][])('gives the address that %s asks for', async (_, settings) => {
    using folder = dataFolder()
    expect(await on(folder.path).add('c1', settings)).toEqual(['10.1.2.5'])
  })

  test.each([
    ['its own gateway', { args: 'IP=10.1.2.1' }, 999, "requested ip 10.1.2.1 is subnet's gateway"],
    ['an address outside', { args: 'IP=10.9.9.9' }, 999, 'failed to allocate all requested IPs: 10.9.9.9'],
    ['the network', { args: 'IP=10.1.2.0' }, 999, 'failed to allocate all requested IPs: 10.1.2.0'],
    ['the broadcast address', { args: 'IP=10.1.2.7' }, 999, 'failed to allocate all requested IPs: 10.1.2.7'],
    [
      'an address of the other family',
      { network: { runtimeConfig: { ips: ['fd00::5/64'] } } },
      999,
      'failed to allocate all requested IPs: fd00::5',
    ],
    [
      'what is no address',
      { args: 'IP=ten' },
      7,
      'CNI_ARGS: IP: error parsing value of pair "IP=ten": invalid IP address ten',
    ],
    [
      'what is no address',
      { network: { args: { cni: { ips: ['10.1.2.3', ''] } } } },
      7,
      'args.cni.ips[1]: invalid IP address ',
    ],
    [
      'what is no list',
      { network: { runtimeConfig: { ips: '10.1.2.3' } } },
      7,
      'runtimeConfig.ips: must be a list',
    ],
  ] as [string, Settings, number, string][])('refuses %s: %#', async (_, settings, code, message) => {
    using folder = dataFolder()
    const { status, json } = await on(folder.path).ask('ADD', settings)
    expect({ status, code: json.code, msg: json.msg }).toEqual({
      status: 1,
      code,
      msg: expect.stringContaining(message),
    })
    expect(reservations(folder.path)).toEqual({})
  })

  test.each([
    [
      { args: 'IP=10.9.9.9' },
      'asked for by CNI_ARGS: IP; each range set gives one address: 10.1.2.1-10.1.2.6',
    ],
    [
      { network: { args: { cni: { ips: ['10.1.2.3', '10.1.2.4'] } } } },
      'asked for by args.cni.ips[1]; each range set gives one address: 10.1.2.1-10.1.2.6',
    ],
    [
      { network: { runtimeConfig: { ips: ['10.1.2.1'] } } },
      'runtimeConfig.ips[0] asks for it; of 10.1.2.0/29',
    ],
  ] as [Settings, string][])(
    'names the key of a requested address that cannot be had: %#',
    async (settings, details) => {
      using folder = dataFolder()
      expect((await on(folder.path).ask('ADD', settings)).json.details).toBe(details)
    },
  )

  test('refuses a requested address that another container has, and names it', async () => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path)
    await add('c1')
    const { json } = await ask('ADD', { containerId: 'c2', args: 'IP=10.1.2.2' })
    expect(json).toMatchObject({
      code: 999,
      msg: 'failed to allocate for range 0: requested IP address 10.1.2.2 is not available in range set 10.1.2.1-10.1.2.6',
      details: `CNI_ARGS: IP asks for it; ${folder.path}/test-net/10.1.2.2 reserves it for container c1, interface eth0`,
    })
  })

  test('refuses a second address for the same interface, and leaves the first', async () => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path)
    await add('c1')
    const { json } = await ask('ADD', { containerId: 'c1' })
    expect(json.msg).toBe(
      'failed to allocate for range 0: 10.1.2.2 has been allocated to c1, duplicate allocation is not allowed',
    )
    expect(await add('c1', { interface: 'net1' })).toEqual(['10.1.2.3'])
    expect(Object.keys(reservations(folder.path))).toEqual(['10.1.2.2', '10.1.2.3'])
  })

  test('of a full range says how many of how many are in use', async () => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path)
    for (const id of ['c1', 'c2', 'c3', 'c4', 'c5']) await add(id)
    const { json } = await ask('ADD', { containerId: 'c6' })
    expect(json).toMatchObject({
      code: 999,
      msg: 'failed to allocate for range 0: no IP addresses available in range set: 10.1.2.1-10.1.2.6: 5 of 5 are in use',
    })
  })

  test('is all or nothing: a full second range gives the first address back', async () => {
    using folder = dataFolder()
    const ipam = { ranges: [[{ subnet: '10.3.0.0/24' }], [{ subnet: '10.4.0.0/30' }]] }
    const { add, ask } = on(folder.path, { ipam })
    await add('c1')
    const before = reservations(folder.path)
    expect((await ask('ADD', { containerId: 'c2' })).json.msg).toContain(
      'failed to allocate for range 1: no IP',
    )
    expect(reservations(folder.path)).toEqual(before)
  })

  test.each([
    ['no ipam', { ipam: undefined }, "IPAM config missing 'ipam' key"],
    ['no ranges', { ipam: { type: 'host-local' } }, 'ipam.ranges: no IP ranges specified'],
    [
      'a host bit in the single range',
      { ipam: { subnet: '10.1.2.3/24' } },
      'ipam.subnet: invalid range set 0: Network has host bits set.',
    ],
    [
      'a route without prefix',
      { ipam: { subnet: '10.1.2.0/24', routes: [{ dst: '10.0.0.0' }] } },
      'ipam.routes[0].dst: invalid CIDR address: 10.0.0.0: must be a network with prefix: got "10.0.0.0"',
    ],
    [
      'a gateway of the single range that is none',
      { ipam: { subnet: '10.1.2.0/24', gateway: '10.1.3' } },
      'ipam.gateway: invalid range set 0: invalid IP address: 10.1.3',
    ],
    [
      'the single range when one of `ranges` overlaps it',
      { ipam: { subnet: '10.1.2.0/24', ranges: [[{ subnet: '10.1.0.0/16' }]] } },
      'ipam.ranges[0]: range set 0 overlaps with 1: 10.1.0.1-10.1.255.254 with 10.1.2.1-10.1.2.254 of ipam',
    ],
    [
      'a range of the runtime that overlaps a configured one',
      {
        ipam: { ranges: [[{ subnet: '10.1.2.0/24' }]] },
        runtimeConfig: { ipRanges: [[{ subnet: '10.1.2.0/25' }]] },
      },
      'ipam.ranges[0]: range set 0 overlaps with 1: 10.1.2.1-10.1.2.254 with 10.1.2.1-10.1.2.126 of runtimeConfig.ipRanges[0]',
    ],
    [
      'an end of a range of the runtime outside of its subnet',
      { ipam: {}, runtimeConfig: { ipRanges: [[{ subnet: '10.1.2.0/25', rangeEnd: '10.1.2.200' }]] } },
      'runtimeConfig.ipRanges[0][0].rangeEnd: invalid range set 0: RangeEnd 10.1.2.200 not in network 10.1.2.0/25',
    ],
    [
      'a missing resolv.conf',
      { ipam: { subnet: '10.1.2.0/24', resolvConf: '/none' } },
      'ipam.resolvConf: open /none: no such file or directory',
    ],
    [
      'a resolv.conf that is a folder',
      { ipam: { subnet: '10.1.2.0/24', resolvConf: '/etc' } },
      'ipam.resolvConf: open /etc: read /etc: Is a directory (EISDIR)',
    ],
    [
      'two sets of a family in an old version',
      { cniVersion: '0.2.0', ipam: { ranges: [[{ subnet: '10.1.2.0/24' }], [{ subnet: '10.1.3.0/24' }]] } },
      'ipam.ranges: CNI version 0.2.0 does not support more than 1 address per family',
    ],
  ])('refuses %s with the key', async (_, config, message) => {
    const { status, json } = await call(hostLocal, 'ADD', { config, netns: '/run/netns/none' })
    expect({ status, code: json.code, msg: json.msg }).toEqual({
      status: 1,
      code: 7,
      msg: expect.stringContaining(message),
    })
  })
})

describe('DEL', () => {
  test('frees what ADD gave, and is a success twice', async () => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path)
    await add('c1')
    await add('c2')
    const outcomes = [await ask('DEL', { containerId: 'c1' }), await ask('DEL', { containerId: 'c1' })]
    expect(outcomes.map(({ status, stdout }) => ({ status, stdout }))).toEqual([
      { status: 0, stdout: '' },
      { status: 0, stdout: '' },
    ])
    expect(Object.keys(reservations(folder.path))).toEqual(['10.1.2.3'])
  })

  test('of what was never there makes no folder', async () => {
    using folder = dataFolder()
    expect((await on(folder.path).ask('DEL')).status).toBe(0)
    expect(readdirSync(folder.path)).toEqual([])
  })

  test.each([
    ['ranges that overlap', { ranges: [[{ subnet: '10.1.2.0/24' }], [{ subnet: '10.1.2.0/24' }]] }],
    ['no ranges', { ranges: undefined }],
    ['ranges of the wrong type', { ranges: 'all', routes: 7, resolvConf: ['/none'] }],
    ['other ranges', { ranges: [[{ subnet: '10.9.0.0/24' }]] }],
  ])('frees with %s in the configuration', async (_, ipam) => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path)
    await add('c1')
    expect((await ask('DEL', { containerId: 'c1', ipam, args: 'no pair', netns: undefined })).status).toBe(0)
    expect(reservations(folder.path)).toEqual({})
  })

  test('frees the oldest format, which names the container alone, unless there is the newer', async () => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path)
    await add('c1')
    writeFileSync(`${folder.path}/test-net/10.1.2.4`, 'c1\n')
    await ask('DEL', { containerId: 'c1' })
    expect(Object.keys(reservations(folder.path))).toEqual(['10.1.2.4'])
    await ask('DEL', { containerId: 'c1' })
    expect(reservations(folder.path)).toEqual({})
  })

  test('frees what the Go plugin gave, and the other way round', async () => {
    using folder = dataFolder()
    const { add, ask, options } = on(folder.path)
    const peer = peerExecutable('host-local')
    mustExecute(peer, 'ADD', options({ containerId: 'theirs' }))
    expect(await add('ours')).toEqual(['10.1.2.3'])
    await ask('DEL', { containerId: 'theirs' })
    mustExecute(peer, 'DEL', options({ containerId: 'ours' }))
    expect(reservations(folder.path)).toEqual({})
  })
})

describe('CHECK', () => {
  test('finds the address of a container, whoever gave it', async () => {
    using folder = dataFolder()
    const { add, ask, options } = on(folder.path)
    await add('ours')
    mustExecute(peerExecutable('host-local'), 'ADD', options({ containerId: 'theirs' }))
    const statuses = [
      await ask('CHECK', { containerId: 'ours' }),
      await ask('CHECK', { containerId: 'theirs' }),
    ]
    expect(statuses.map(({ status }) => status)).toEqual([0, 0])
  })

  test("fails where there is none, and where the address of prevResult is another container's", async () => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path)
    expect((await ask('CHECK')).json.msg).toBe(
      'host-local: Failed to find address added by container container-1',
    )
    await add('c1')
    await add('c2')
    const network = { prevResult: { cniVersion: '1.1.0', ips: [{ address: '10.1.2.3/29' }] } }
    expect((await ask('CHECK', { containerId: 'c1', network })).json.msg).toBe(
      'address 10.1.2.3/29 of prevResult is not reserved for this container',
    )
  })
})

describe('STATUS', () => {
  test('is code 50 with the numbers of every set when one is full', async () => {
    using folder = dataFolder()
    const ipam = {
      ranges: [[{ subnet: '10.3.0.0/24' }], [{ subnet: '10.4.0.0/30' }], [{ subnet: 'fd00::/120' }]],
    }
    const { add, ask } = on(folder.path, { ipam })
    expect((await ask('STATUS')).status).toBe(0)
    await add('c1')
    const { status, json } = await ask('STATUS')
    expect({ status, json }).toMatchObject({
      status: 1,
      json: {
        code: 50,
        msg: 'no IP addresses available in range set: 10.4.0.1-10.4.0.2',
        details: expect.stringContaining(
          '10.3.0.1-10.3.0.254: 1 of 253 in use; 10.4.0.1-10.4.0.2: 1 of 1 in use; fd00::1-fd00::ff: 1 of 254 in use',
        ),
      },
    })
  })

  test('is fine, and makes nothing, where the runtime brings the ranges with ADD', async () => {
    using folder = dataFolder()
    expect((await on(folder.path, { ipam: { ranges: undefined } }).ask('STATUS')).status).toBe(0)
    expect(readdirSync(folder.path)).toEqual([])
  })

  test('refuses a configuration that ADD would refuse', async () => {
    using folder = dataFolder()
    const ipam = { ranges: [[{ subnet: '10.1.2.3/24' }]] }
    expect((await on(folder.path).ask('STATUS', { ipam })).json).toMatchObject({ code: 7 })
  })
})

describe('GC', () => {
  test('frees what no valid attachment owns, in both formats and whoever wrote it, and nothing else', async () => {
    using folder = dataFolder()
    const { add, ask, options } = on(folder.path)
    await add('alive')
    await add('alive', { interface: 'net1' })
    await add('dead')
    mustExecute(peerExecutable('host-local'), 'ADD', options({ containerId: 'theirs' }))
    const network = `${folder.path}/test-net`
    writeFileSync(`${network}/10.1.2.6`, 'alive')
    writeFileSync(`${network}/10.9.9.9`, 'dead-old')
    writeFileSync(`${network}/10.9.9.8`, '')
    writeFileSync(`${network}/notes`, 'of an operator')
    const valid = { 'cni.dev/valid-attachments': [{ containerID: 'alive', ifname: 'eth0' }] }
    const { status, stderr } = await ask('GC', { network: valid })
    expect({ status, left: Object.keys(reservations(folder.path)) }).toEqual({
      status: 0,
      left: ['10.1.2.2', '10.1.2.6', 'notes'],
    })
    expect(stderr).toContain(`${network}/10.9.9.8 names no owner`)
    expect(await add('c2', { args: 'IP=10.1.2.3' })).toEqual(['10.1.2.3'])
  })

  test('frees the others when one cannot be freed, and names that', async () => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path)
    for (const id of ['c1', 'c2', 'c3']) await add(id)
    const stuck = `${folder.path}/test-net/10.1.2.3`
    Bun.spawnSync(['mount', '--bind', stuck, stuck])
    try {
      const { json } = await ask('GC', { network: { 'cni.dev/valid-attachments': [] } })
      expect(json).toMatchObject({
        code: 5,
        msg: `1 reservations of ${folder.path}/test-net could not be freed`,
        details: expect.stringMatching(new RegExp(`^delete ${stuck}: .*busy \\(EBUSY\\)$`)), // each C library has its words
      })
      expect(Object.keys(reservations(folder.path))).toEqual(['10.1.2.3'])
      expect((await ask('CHECK', { containerId: 'c2' })).status).toBe(0)
    } finally {
      Bun.spawnSync(['umount', stuck])
    }
  })

  test('of a network without a folder is a success', async () => {
    using folder = dataFolder()
    expect((await on(folder.path).ask('GC')).status).toBe(0)
  })
})
