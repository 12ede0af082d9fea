import { describe, expect, test } from 'bun:test'
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { hostLocal } from '../../ipam/host-local.ts'
import { freshNamespace, hostNamespace } from '../fixtures/namespace.ts'
import {
  type Call,
  call,
  execute,
  mustCall,
  mustExecute,
  peerExecutable,
  type Verb,
} from '../fixtures/plugin.ts'
import { dataFolder, reboot, reservations, tree } from './host-local/fixture.ts'

const small = [[{ subnet: '10.1.2.0/29' }]] // 10.1.2.2 to 10.1.2.6

interface Settings extends Call {
  ipam?: object
  network?: object
}

/** host-local on a data folder, in this process. */
function on(dataDir: string, defaults: Settings = {}) {
  const options = (settings: Settings): Call => {
    const { ipam, network, ...rest } = { ...defaults, ...settings }
    return {
      netns: '/run/netns/none',
      config: { type: 'bridge', ipam: { type: 'host-local', dataDir, ranges: small, ...ipam }, ...network },
      ...rest,
    }
  }
  const add = async (containerId: string, settings: Settings = {}): Promise<string[]> => {
    const result = await mustCall(hostLocal, 'ADD', options({ containerId, ...settings }))
    return result.ips.map(({ address }: { address: string }) => address.replace(/\/.*/, ''))
  }
  const ask = (verb: Verb, settings: Settings = {}) => call(hostLocal, verb, options(settings))
  return { add, ask, options }
}

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
    ['what is no address', { args: 'IP=ten' }, 7, 'CNI_ARGS: IP: must be an address: got "ten"'],
    [
      'what is no address',
      { network: { args: { cni: { ips: ['10.1.2.3', ''] } } } },
      7,
      'args.cni.ips[1]: must be an address: got ""',
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
    ['no ipam', { ipam: undefined }, 'ipam: is missing'],
    ['no ranges', { ipam: { type: 'host-local' } }, 'ipam.ranges: no IP ranges specified'],
    ['a host bit in the single range', { ipam: { subnet: '10.1.2.3/24' } }, 'ipam.subnet: has host bits set'],
    [
      'a route without prefix',
      { ipam: { subnet: '10.1.2.0/24', routes: [{ dst: '10.0.0.0' }] } },
      'ipam.routes[0].dst: must be a network with prefix: got "10.0.0.0"',
    ],
    [
      'a missing resolv.conf',
      { ipam: { subnet: '10.1.2.0/24', resolvConf: '/none' } },
      'ipam.resolvConf: cannot open /none',
    ],
    [
      'a resolv.conf that is a folder',
      { ipam: { subnet: '10.1.2.0/24', resolvConf: '/etc' } },
      'ipam.resolvConf: cannot open /etc: read /etc: Is a directory (EISDIR)',
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

describe('a data folder', () => {
  test('that is a file is named, and nothing else happens', async () => {
    using folder = dataFolder()
    writeFileSync(`${folder.path}/file`, '')
    const { json } = await on(`${folder.path}/file`).ask('ADD')
    expect(json).toMatchObject({
      code: 5,
      msg: `ipam.dataDir: cannot keep reservations in ${folder.path}/file/test-net`,
    })
    expect((await on(`${folder.path}/file`).ask('DEL')).status).toBe(0)
  })

  test.each([
    ['read-only', 'mount -t tmpfs -o ro none .', 'Read-only file system (EROFS)'],
    [
      'full',
      'mount -t tmpfs -o size=4k,nr_inodes=4 none . && cd $PWD && mkdir test-net && touch test-net/lock test-net/x',
      'No space left on device (ENOSPC)',
    ],
  ])('that is %s is an error that says so', async (_, mount, reason) => {
    using folder = dataFolder()
    Bun.spawnSync(['sh', '-c', mount], { cwd: folder.path })
    try {
      const { json } = await on(folder.path).ask('ADD')
      expect(json).toMatchObject({ code: 5, details: expect.stringContaining(reason) })
      expect(reservations(folder.path)).not.toHaveProperty(['10.1.2.2'])
    } finally {
      Bun.spawnSync(['umount', folder.path])
    }
  })

  test.each([
    { pages: 0, refused: true },
    { pages: 1, refused: true }, // for round robin, and none for the reservation
    { pages: 2, refused: false },
    { pages: 3, sets: 2, refused: true },
    { pages: 4, sets: 2, refused: false },
  ])(
    'with room for $pages files on its disk leaves whole reservations or none',
    async ({ pages, sets = 1, refused }) => {
      using folder = dataFolder()
      const mount = `mount -t tmpfs -o size=${4 * (pages + 1)}k none . && cd $PWD && echo x >filler` // a page for each file that is not empty
      Bun.spawnSync(['sh', '-c', mount], { cwd: folder.path })
      try {
        const ipam = { ranges: [[{ subnet: '10.1.2.0/24' }], [{ subnet: '10.1.3.0/24' }]].slice(0, sets) }
        const { status, json } = await on(folder.path).ask('ADD', { ipam })
        const expected = refused ? { code: 5, details: expect.stringContaining('ENOSPC') } : {}
        expect({ status, json }).toMatchObject({ status: refused ? 1 : 0, json: expected })
        const written = { '10.1.2.2': 'container-1\r\neth0', '10.1.3.2': 'container-1\r\neth0' }
        const kept = refused ? [] : Object.entries(written).slice(0, sets)
        expect(reservations(folder.path)).toEqual(Object.fromEntries(kept))
      } finally {
        Bun.spawnSync(['umount', folder.path])
      }
    },
  )

  test('that became read-only keeps its reservations, and DEL, CHECK and STATUS say what they can', async () => {
    using folder = dataFolder()
    Bun.spawnSync(['mount', '-t', 'tmpfs', 'none', folder.path])
    try {
      const { add, ask } = on(folder.path)
      await add('c1')
      Bun.spawnSync(['mount', '-o', 'remount,ro', folder.path])
      expect((await ask('CHECK', { containerId: 'c1' })).status).toBe(0)
      expect((await ask('STATUS')).status).toBe(0)
      expect((await ask('DEL', { containerId: 'unknown' })).status).toBe(0)
      expect((await ask('DEL', { containerId: 'c1' })).json).toMatchObject({
        code: 5,
        details: `delete ${folder.path}/test-net/10.1.2.2: Read-only file system (EROFS)`,
      })
      Bun.spawnSync(['mount', '-o', 'remount,rw', folder.path])
      expect((await ask('DEL', { containerId: 'c1' })).status).toBe(0)
      expect(reservations(folder.path)).toEqual({})
    } finally {
      Bun.spawnSync(['umount', folder.path])
    }
  })

  test('that fills up in the middle of an ADD gets the first address back', async () => {
    using folder = dataFolder()
    const mount = 'mount -t tmpfs -o nr_inodes=5 none . && cd $PWD && mkdir test-net && touch test-net/lock' // root, net, lock, 2 more
    Bun.spawnSync(['sh', '-c', mount], { cwd: folder.path })
    try {
      const ipam = { ranges: [[{ subnet: '10.1.2.0/24' }], [{ subnet: '10.1.3.0/24' }]] }
      const { json } = await on(folder.path).ask('ADD', { ipam })
      expect(json).toMatchObject({ code: 5, details: expect.stringContaining('ENOSPC') })
      expect(reservations(folder.path)).toEqual({})
    } finally {
      Bun.spawnSync(['umount', folder.path])
    }
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
        details: `delete ${stuck}: Device or resource busy (EBUSY)`,
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

describe('after a reboot', () => {
  test('a container that comes back under its ID gets its address again, and so does not a live one twice', async () => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path)
    await add('c1')
    await add('c2')
    reboot()
    expect(await add('c2')).toEqual(['10.1.2.3'])
    expect((await ask('ADD', { containerId: 'c2' })).json.msg).toContain(
      'duplicate allocation is not allowed',
    )
    expect(await add('c3')).toEqual(['10.1.2.4'])
    expect(await add('c1', { args: 'IP=10.1.2.2' })).toEqual(['10.1.2.2'])
  })

  test('what is left is taken over when the range is full, and named', async () => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path)
    for (const id of ['c1', 'c2', 'c3', 'c4', 'c5']) await add(id)
    reboot()
    expect((await ask('STATUS')).status).toBe(0)
    const { status, stderr, json } = await ask('ADD', { containerId: 'new' })
    expect(status).toBe(0)
    const address = json.ips[0].address.replace(/\/.*/, '')
    expect(stderr).toMatch(
      new RegExp(`${address} was reserved for container c\\d, interface eth0 before the machine started`),
    )
    expect(reservations(folder.path)[address]).toBe('new\r\neth0')
  })

  test('an address that a link of some namespace has is neither taken over nor given again', async () => {
    using folder = dataFolder()
    using container = freshNamespace()
    container.addAddress('lo', '10.1.2.2/32')
    const ipam = { ranges: [[{ subnet: '10.1.2.0/30' }]] }
    const { add, ask } = on(folder.path, { ipam })
    await add('c1')
    reboot()
    expect((await ask('STATUS')).json.code).toBe(50)
    expect((await ask('ADD', { containerId: 'c2' })).json.msg).toContain('1 of 1 are in use')
    expect((await ask('ADD', { containerId: 'c1' })).json.msg).toContain('duplicate allocation')
    expect((await ask('ADD', { containerId: 'c2', args: 'IP=10.1.2.2' })).json.msg).toContain(
      'is not available',
    )
  })

  test("an address that the host's own link has is not taken over either", async () => {
    using folder = dataFolder()
    using host = hostNamespace()
    host.run('ip', 'address', 'add', '10.1.2.2/32', 'dev', 'lo')
    try {
      const { add, ask } = on(folder.path, { ipam: { ranges: [[{ subnet: '10.1.2.0/30' }]] } })
      await add('c1')
      reboot()
      expect((await ask('ADD', { containerId: 'c2' })).json.msg).toContain('1 of 1 are in use')
    } finally {
      host.run('ip', 'address', 'del', '10.1.2.2/32', 'dev', 'lo')
    }
  })

  test('with many reservations, a container that comes back gets its address, and a living one no second', async () => {
    using folder = dataFolder()
    const ipam = { ranges: [[{ subnet: '10.1.0.0/20' }]] }
    const { add, ask, options } = on(folder.path, { ipam })
    await add('mine')
    mustExecute(peerExecutable('host-local'), 'ADD', options({ containerId: 'theirs' }))
    for (let index = 4; index < 1500; index++) {
      writeFileSync(`${folder.path}/test-net/10.1.${index >> 8}.${index & 255}`, `c${index}\r\neth0`)
    }
    expect((await ask('ADD', { containerId: 'theirs' })).json.msg).toContain(
      '10.1.0.3 has been allocated to theirs',
    )
    expect((await ask('ADD', { containerId: 'c1400' })).json.msg).toContain(
      '10.1.5.120 has been allocated to c1400',
    )
    reboot()
    expect(await add('mine')).toEqual(['10.1.0.2'])
    expect(await add('new')).toEqual(['10.1.5.220'])
  })

  test("the Go plugin's reservations are old by their age, and are not before", async () => {
    using folder = dataFolder()
    const { add, ask, options } = on(folder.path, { ipam: { ranges: [[{ subnet: '10.1.2.0/30' }]] } })
    mustExecute(peerExecutable('host-local'), 'ADD', options({ containerId: 'theirs' }))
    expect((await ask('ADD', { containerId: 'theirs' })).json.msg).toContain('duplicate allocation')
    expect((await ask('ADD', { containerId: 'ours' })).json.msg).toContain('1 of 1 are in use')
    const uptime = Number((await Bun.file('/proc/uptime').text()).split(' ')[0])
    utimesSync(`${folder.path}/test-net/10.1.2.2`, 0, Date.now() / 1000 - uptime - 60)
    expect(await add('theirs')).toEqual(['10.1.2.2'])
  })

  test('of services only, the memory of owners is made again from the files', async () => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path)
    await add('c1')
    unlinkSync('/run/catena/boot')
    symlinkSync('another-boot/1', '/run/catena/boot')
    expect(await add('c1')).toEqual(['10.1.2.2'])
    await ask('DEL', { containerId: 'c1' })
    expect(reservations(folder.path)).toEqual({})
  })
})

describe('a reservation that names nobody', () => {
  test.each([
    ['is empty', ''],
    ['was cut off behind the container', 'c9\r\n'],
    ['is full of zeros', '\0\0\0\0'],
  ])('and %s counts as free, and that is said', async (_, content) => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path, { ipam: { ranges: [[{ subnet: '10.1.2.0/30' }]] } })
    await add('c1')
    await ask('DEL', { containerId: 'c1' })
    writeFileSync(`${folder.path}/test-net/10.1.2.2`, content)
    const { status, stderr } = await ask('ADD', { containerId: 'c2' })
    expect(status).toBe(0)
    expect(stderr).toContain(
      `host-local: ${folder.path}/test-net/10.1.2.2 names no owner (a write was cut off)`,
    )
    expect(reservations(folder.path)).toEqual({ '10.1.2.2': 'c2\r\neth0' })
  })

  test('is found among thousands', async () => {
    using folder = dataFolder()
    mkdirSync(`${folder.path}/test-net`)
    for (let index = 1; index < 1023; index++) {
      writeFileSync(
        `${folder.path}/test-net/10.1.${index >> 8}.${index & 255}`,
        index === 700 ? '' : `c${index}\r\neth0`,
      )
    }
    const ipam = { ranges: [[{ subnet: '10.1.0.0/22' }]] }
    const { add, ask } = on(folder.path, { ipam })
    // few are looked at before an ADD says no; the DEL with which a runtime follows looks at all
    const said = [await ask('ADD'), await ask('DEL')].map(({ stderr }) => stderr).join('')
    expect(said).toContain(`${folder.path}/test-net/10.1.2.188 names no owner (a write was cut off)`)
    expect(await add('container-1')).toEqual(['10.1.2.188'])
  })
})

test('where nothing may be written under /run, addresses are given and freed all the same', async () => {
  using folder = dataFolder()
  reboot()
  writeFileSync('/run/catena', 'no folder')
  try {
    const { add, ask } = on(folder.path)
    expect([await add('c1'), await add('c2')].flat()).toEqual(['10.1.2.2', '10.1.2.3'])
    expect((await ask('ADD', { containerId: 'c1' })).json.msg).toContain('duplicate allocation')
    await ask('DEL', { containerId: 'c1' })
    expect(Object.keys(reservations(folder.path))).toEqual(['10.1.2.3'])
  } finally {
    reboot()
  }
})

test('where /run is full, every address is found and freed all the same', async () => {
  using folder = dataFolder()
  reboot()
  mkdirSync('/run/catena')
  Bun.spawnSync(['mount', '-t', 'tmpfs', '-o', 'size=16k,nr_inodes=9', 'none', '/run/catena'])
  try {
    const { add, ask } = on(folder.path, { ipam: { ranges: [[{ subnet: '10.1.2.0/24' }]] } })
    const ids = Array.from({ length: 40 }, (_, index) => `c${index}`)
    for (const id of ids) await add(id)
    for (const id of ids) expect((await ask('ADD', { containerId: id })).json.msg).toContain('duplicate')
    for (const id of ids) await ask('DEL', { containerId: id })
    expect(reservations(folder.path)).toEqual({})
  } finally {
    Bun.spawnSync(['umount', '/run/catena'])
    reboot()
  }
})

test('an identifier of any length is recognised', async () => {
  using folder = dataFolder()
  const { add, ask, options } = on(folder.path)
  const containerId = 'c'.repeat(5000)
  mustExecute(peerExecutable('host-local'), 'ADD', options({ containerId }))
  expect((await ask('ADD', { containerId })).json.msg).toContain('duplicate allocation')
  await ask('DEL', { containerId })
  expect(reservations(folder.path)).toEqual({})
  await add(containerId)
  mustExecute(peerExecutable('host-local'), 'DEL', options({ containerId }))
  expect(reservations(folder.path)).toEqual({})
})

test('what another program does to the files is seen at once', async () => {
  using folder = dataFolder()
  const { add, ask } = on(folder.path)
  await add('c1')
  unlinkSync(`${folder.path}/test-net/10.1.2.2`)
  writeFileSync(`${folder.path}/test-net/10.1.2.3`, 'c2\r\neth0')
  expect(await add('c1')).toEqual(['10.1.2.4'])
  expect((await ask('ADD', { containerId: 'c2' })).json.msg).toContain('10.1.2.3 has been allocated to c2')
  chmodSync(`${folder.path}/test-net/10.1.2.3`, 0o644)
  await ask('DEL', { containerId: 'c2' })
  expect(Object.keys(reservations(folder.path))).toEqual(['10.1.2.4'])
})

test('the Go plugin is refused what ours has given, and the other way round', async () => {
  using folder = dataFolder()
  const { add, ask, options } = on(folder.path, { args: 'IP=10.1.2.4' })
  await add('ours')
  expect(execute(peerExecutable('host-local'), 'ADD', options({ containerId: 'theirs' })).json.msg).toContain(
    'is not available',
  )
  await ask('DEL', { containerId: 'ours' })
  mustExecute(peerExecutable('host-local'), 'ADD', options({ containerId: 'theirs' }))
  expect((await ask('ADD', { containerId: 'ours' })).json.msg).toContain('is not available')
})
