import { afterEach, describe, expect, test } from 'bun:test'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { loopback } from '../../main/loopback.ts'
import { tuning } from '../../meta/tuning.ts'
import { askUdp, serveUdp } from '../fixtures/http.ts'
import { connect, freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, call, execute, mustCall, mustExecute, peerExecutable } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'

const allowlist = '/etc/cni/tuning/allowlist.conf'
const folder = '/run/cni/tuning'
const mac = '02:00:00:00:00:42'

afterEach(() => {
  rmSync('/etc/cni/tuning', { recursive: true, force: true })
  rmSync(folder, { recursive: true, force: true })
})

/** A container with one end of a cable; the other end is another namespace. */
function wired(name = 'eth0') {
  const container = freshNamespace('container')
  const neighbour = freshNamespace('neighbour')
  connect(
    { namespace: container, name, addresses: ['10.1.0.2/24', 'fd00::2/64'] },
    { namespace: neighbour, name: 'eth0', addresses: ['10.1.0.1/24', 'fd00::1/64'] },
  )
  return {
    container,
    neighbour,
    [Symbol.dispose]() {
      container[Symbol.dispose]()
      neighbour[Symbol.dispose]()
    },
  }
}

function resultFor(container: Namespace, name = 'eth0') {
  return {
    cniVersion: '1.1.0',
    interfaces: [
      { name: 'veth1' },
      { name, mac: container.link(name).address, sandbox: container.path, mtu: 1500 },
    ],
    ips: [
      { address: '10.1.0.2/24', interface: 1 },
      { address: 'fd00::2/64', interface: 1 },
    ],
  }
}

function callFor(container: Namespace, config: object, more: Call = {}): Call {
  const { interface: name = 'eth0' } = more
  return { netns: container, ...more, config: { prevResult: resultFor(container, name), ...config } }
}

const attributesOf = (container: Namespace, name = 'eth0') => {
  const { address, mtu, promiscuous, allMulticast, transmitQueueLength } = container.link(name)
  return { address, mtu, promiscuous, allMulticast, transmitQueueLength }
}

const allAttributes = { mac, mtu: 1400, promisc: true, allmulti: true, txQLen: 321 }
const tuned = { address: mac, mtu: 1400, promiscuous: true, allMulticast: true, transmitQueueLength: 321 }
const backups = () => (existsSync(folder) ? readdirSync(folder) : [])

describe('attributes', () => {
  test('ADD sets what is configured, CHECK agrees, DEL restores what was there', async () => {
    using net = wired()
    const before = attributesOf(net.container)
    const { interfaces } = await mustCall(tuning, 'ADD', callFor(net.container, allAttributes))
    expect(attributesOf(net.container)).toEqual(tuned)
    expect(interfaces).toEqual([
      { name: 'veth1' },
      { name: 'eth0', mac, mtu: 1400, sandbox: net.container.path },
    ])
    await mustCall(tuning, 'CHECK', callFor(net.container, { ...allAttributes, prevResult: { interfaces } }))
    await mustCall(tuning, 'DEL', callFor(net.container, allAttributes))
    expect(attributesOf(net.container)).toEqual(before)
    expect(backups()).toEqual([])
  })

  test('promisc: false and mtu: 0 leave the interface alone, allmulti: false and txQLen: 0 do not', async () => {
    using net = wired()
    setLink(net.container.route, 'eth0', {
      promiscuous: true,
      allMulticast: true,
      transmitQueueLength: 9,
      mtu: 1450,
    })
    const config = { promisc: false, mtu: 0, allmulti: false, txQLen: 0 }
    await mustCall(tuning, 'ADD', callFor(net.container, config))
    expect(attributesOf(net.container)).toMatchObject({
      promiscuous: true,
      mtu: 1450,
      allMulticast: false,
      transmitQueueLength: 0,
    })
    await mustCall(tuning, 'DEL', callFor(net.container, config))
    expect(attributesOf(net.container)).toMatchObject({ allMulticast: true, transmitQueueLength: 9 })
  })

  const macs = ['02:00:00:00:00:01', '02:00:00:00:00:02', '02:00:00:00:00:03', '02:00:00:00:00:04'] as const
  test.each([
    { place: 'mac', config: { mac: macs[0] }, args: '', expected: macs[0] },
    { place: 'CNI_ARGS', config: { mac: macs[0] }, args: `MAC=${macs[1]}`, expected: macs[1] },
    {
      place: 'runtimeConfig.mac',
      config: { mac: macs[0], runtimeConfig: { mac: macs[2] } },
      args: `IgnoreUnknown=1;K8S_POD_NAME=x;MAC=${macs[1]}`,
      expected: macs[2],
    },
    {
      place: 'args.cni.mac',
      config: {
        mac: macs[0],
        runtimeConfig: { mac: macs[2] },
        args: { cni: { mac: macs[3].toUpperCase() } },
      },
      args: `MAC=${macs[1]}`,
      expected: macs[3],
    },
  ])('$place goes before the places above it', async ({ config, args, expected }) => {
    using net = wired()
    await mustCall(tuning, 'ADD', callFor(net.container, config, { args }))
    expect(net.container.link('eth0').address).toBe(expected)
  })

  test('args.cni goes before the configuration, attribute by attribute and sysctl by sysctl', async () => {
    using net = wired()
    const config = {
      mtu: 1400,
      txQLen: 5,
      sysctl: { 'net.ipv4.conf.IFNAME.arp_filter': '1', 'net.ipv4.conf.IFNAME.log_martians': '1' },
      args: { cni: { mtu: 1300, sysctl: { 'net.ipv4.conf.IFNAME.arp_filter': '0' } } },
    }
    await mustCall(tuning, 'ADD', callFor(net.container, config))
    expect(attributesOf(net.container)).toMatchObject({ mtu: 1300, transmitQueueLength: 5 })
    expect(net.container.sysctl('net/ipv4/conf/eth0/arp_filter')).toBe('0')
    expect(net.container.sysctl('net/ipv4/conf/eth0/log_martians')).toBe('1')
  })

  test('sysctls in args.cni alone are enough (the Go plugin panics)', async () => {
    using net = wired()
    const config = { args: { cni: { sysctl: { 'net.ipv4.conf.IFNAME.arp_filter': '1' } } } }
    await mustCall(tuning, 'ADD', callFor(net.container, config))
    expect(net.container.sysctl('net/ipv4/conf/eth0/arp_filter')).toBe('1')
  })

  test('neighbours that know the old hardware address are told the new one', async () => {
    using net = wired()
    using _server = await serveUdp(net.container, { port: 7 })
    const ask = () => askUdp(net.neighbour, { address: '10.1.0.2', port: 7 }, { timeout: 2000 })
    await ask()
    await mustCall(tuning, 'ADD', callFor(net.container, { mac }))
    await ask() // a stale entry would last five seconds (delay_first_probe_time)
  })
})

describe('the backup', () => {
  test("is in the Go plugin's place and form", async () => {
    using net = wired()
    const { address } = net.container.link('eth0')
    await mustCall(tuning, 'ADD', callFor(net.container, { mac, mtu: 1400 }))
    const path = `${folder}/container-1_eth0.json`
    expect(readFileSync(path, 'utf8')).toBe(
      `{\n "mac": "${address}",\n "mtu": 1500,\n "network": "test-net"\n}`,
    )
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })

  test('a second ADD does not overwrite what was there at first', async () => {
    using net = wired()
    const before = attributesOf(net.container)
    await mustCall(tuning, 'ADD', callFor(net.container, { mtu: 1400 }))
    await mustCall(tuning, 'ADD', callFor(net.container, { mtu: 1300, txQLen: 7 }))
    await mustCall(tuning, 'DEL', callFor(net.container, { mtu: 1300 }))
    expect(attributesOf(net.container)).toEqual(before)
  })

  test('what the Go plugin saved, ours restores', async () => {
    using net = wired()
    const before = attributesOf(net.container)
    mustExecute(peerExecutable('tuning'), 'ADD', callFor(net.container, allAttributes))
    expect(attributesOf(net.container)).toEqual(tuned)
    await mustCall(tuning, 'CHECK', callFor(net.container, allAttributes))
    await mustCall(tuning, 'DEL', callFor(net.container, allAttributes))
    expect({ link: attributesOf(net.container), files: backups() }).toEqual({ link: before, files: [] })
  })

  test('what ours saved, the Go plugin restores', async () => {
    using net = wired()
    const before = attributesOf(net.container)
    await mustCall(tuning, 'ADD', callFor(net.container, allAttributes))
    mustExecute(peerExecutable('tuning'), 'CHECK', callFor(net.container, allAttributes))
    mustExecute(peerExecutable('tuning'), 'DEL', callFor(net.container, allAttributes))
    expect({ link: attributesOf(net.container), files: backups() }).toEqual({ link: before, files: [] })
  })

  test('dataDir says where it is kept', async () => {
    using net = wired()
    const dataDir = '/run/elsewhere/deeper'
    await mustCall(tuning, 'ADD', callFor(net.container, { mtu: 1400, dataDir }))
    expect(readdirSync(dataDir)).toEqual(['container-1_eth0.json'])
    await mustCall(tuning, 'DEL', callFor(net.container, { mtu: 1400, dataDir }))
    expect(readdirSync(dataDir)).toEqual([])
  })

  test.each([
    { state: 'is gone', netns: '/run/netns/gone' },
    { state: 'was never named', netns: undefined },
    { state: 'is a file that somebody left', netns: '/run/left-over' },
  ])('is removed when the namespace $state', async ({ netns }) => {
    writeFileSync('/run/left-over', '')
    {
      using net = wired()
      await mustCall(tuning, 'ADD', callFor(net.container, allAttributes))
    }
    expect(backups()).toHaveLength(1)
    await mustCall(tuning, 'DEL', { netns, config: allAttributes })
    await mustCall(tuning, 'DEL', { netns, config: allAttributes })
    expect(backups()).toEqual([])
  })

  test.each(['', '{"mac":', '[]', 'null', '{"mac": 7, "mtu": "x"}', '{"mac": "not one"}'])(
    'DEL gets over one that holds %p',
    async text => {
      using net = wired()
      const before = attributesOf(net.container)
      mkdirSync(folder, { recursive: true })
      writeFileSync(`${folder}/container-1_eth0.json`, text)
      await mustCall(tuning, 'DEL', callFor(net.container, {}))
      expect({ link: attributesOf(net.container), files: backups() }).toEqual({ link: before, files: [] })
    },
  )

  test('DEL after the interface has gone leaves nothing', async () => {
    using net = wired()
    const call = callFor(net.container, allAttributes)
    await mustCall(tuning, 'ADD', call)
    removeLink(net.container.route, 'eth0')
    await mustCall(tuning, 'DEL', call)
    expect(backups()).toEqual([])
  })

  test('GC removes those of its network that no valid attachment owns', async () => {
    using net = wired()
    for (const [name, containerId] of [
      ['test-net', 'alive'],
      ['test-net', 'dead'],
      ['other-net', 'stranger'],
    ] as const) {
      await mustCall(tuning, 'ADD', callFor(net.container, { name, mtu: 1400 }, { containerId }))
    }
    writeFileSync(`${folder}/go_eth0.json`, '{\n "mtu": 1500\n}') // which network's is not known
    const valid = [{ containerID: 'alive', ifname: 'eth0' }]
    await mustCall(tuning, 'GC', { config: { 'cni.dev/valid-attachments': valid } })
    expect(backups().sort()).toEqual(['alive_eth0.json', 'go_eth0.json', 'stranger_eth0.json'])
  })
})

describe('sysctl', () => {
  test.each([
    ['net.ipv4.conf.IFNAME.arp_filter', 'net/ipv4/conf/eth0.5/arp_filter'],
    ['net/ipv4/conf/IFNAME/arp_filter', 'net/ipv4/conf/eth0.5/arp_filter'],
    ['net/ipv4/conf/eth0.5/arp_filter', 'net/ipv4/conf/eth0.5/arp_filter'],
    ['net.ipv4.conf.eth0/5.arp_filter', 'net/ipv4/conf/eth0.5/arp_filter'],
    ['net.ipv4.conf.eth0.5.arp_filter', 'net/ipv4/conf/eth0.5/arp_filter'],
    ['net/ipv4.conf.IFNAME/arp_filter', 'net/ipv4/conf/eth0.5/arp_filter'],
    ['net.ipv6.conf.IFNAME.forwarding', 'net/ipv6/conf/eth0.5/forwarding'],
    ['net.ipv4.conf.all.arp_filter', 'net/ipv4/conf/all/arp_filter'],
    ['net/ipv4/conf.all/arp_filter', 'net/ipv4/conf/all/arp_filter'],
  ])('%s is %s', async (key, path) => {
    using net = wired('eth0.5')
    const config = { sysctl: { [key]: '1' } }
    await mustCall(tuning, 'ADD', callFor(net.container, config, { interface: 'eth0.5' }))
    expect(net.container.sysctl(path)).toBe('1')
    await mustCall(tuning, 'CHECK', callFor(net.container, config, { interface: 'eth0.5' }))
    net.container.setSysctl(path, '0')
    const { json } = await call(tuning, 'CHECK', callFor(net.container, config, { interface: 'eth0.5' }))
    expect(json).toMatchObject({
      code: 999,
      msg: `Error: Tuning configured value of ${key} is 1, current value is 0`,
    })
  })

  test.each([
    ['net.ipv4.ip_local_port_range', '20000 30000'],
    ['net.ipv4.ip_local_reserved_ports', '8081,8080,9000-9002'],
    ['net.ipv4.tcp_keepalive_time', '0x10'],
    ['net.ipv4.tcp_keepalive_time', ' 17 '],
    ['net.ipv6.conf.IFNAME.stable_secret', '2001:db8::1'],
    ['net.ipv6.route.flush', '1'],
  ])('%s = %p: the kernel may spell the same value otherwise', async (key, value) => {
    using net = wired()
    const config = { sysctl: { [key]: value } }
    await mustCall(tuning, 'ADD', callFor(net.container, config))
    await mustCall(tuning, 'CHECK', callFor(net.container, config))
  })

  test('an interface is not needed for them, as beside loopback', async () => {
    using container = freshNamespace()
    const prevResult = await mustCall(loopback, 'ADD', { netns: container, interface: 'lo' })
    const config = { prevResult, sysctl: { 'net.core.somaxconn': '77' } }
    await mustCall(tuning, 'ADD', { netns: container, config })
    expect(container.sysctl('net/core/somaxconn')).toBe('77')
    expect(backups()).toEqual([])
  })

  test.each([
    {
      refusal: 'a value that the kernel refuses',
      sysctl: { 'net.ipv4.tcp_congestion_control': 'no-such-one' },
      error: {
        code: 999,
        msg: 'set sysctl net.ipv4.tcp_congestion_control to "no-such-one": the kernel refuses it',
        details: expect.stringContaining('No such file or directory'),
      },
    },
    {
      refusal: 'text where a number belongs',
      sysctl: { 'net.ipv4.conf.IFNAME.arp_filter': 'yes' },
      error: {
        code: 999,
        msg: 'set sysctl net.ipv4.conf.IFNAME.arp_filter to "yes": the kernel refuses it',
        details: expect.stringContaining('Invalid argument'),
      },
    },
    {
      refusal: 'an empty value',
      sysctl: { 'net.ipv4.conf.IFNAME.arp_filter': '' },
      error: {
        code: 999,
        msg: 'set sysctl net.ipv4.conf.IFNAME.arp_filter to "": the kernel took it and made it "0"',
        details: expect.any(String),
      },
    },
    {
      refusal: 'a key that does not exist',
      sysctl: { 'net.ipv4.conf.IFNAME.no_such': '1' },
      error: {
        code: 999,
        msg: 'sysctl.net.ipv4.conf.IFNAME.no_such: the kernel has no sysctl net.ipv4.conf.IFNAME.no_such in the container',
        details: expect.stringContaining('/proc/sys/net/ipv4/conf/eth0/no_such'),
      },
    },
  ])('$refusal fails ADD, and the ones before are taken back', async ({ sysctl, error }) => {
    using net = wired()
    const before = snapshot()
    const config = { sysctl: { 'net.core.somaxconn': '77', ...sysctl }, mtu: 1400 }
    const { json } = await call(tuning, 'ADD', callFor(net.container, config))
    expect(json).toEqual({ cniVersion: '1.1.0', ...error })
    expect(net.container.sysctl('net/core/somaxconn')).toBe('4096')
    expect(net.container.link('eth0').mtu).toBe(1500)
    expect(difference(before, snapshot())).toEqual({ added: [], gone: [] })
  })

  test('an attribute that the kernel refuses takes back sysctls, other attributes and the backup', async () => {
    using net = wired()
    const before = { ...attributesOf(net.container), files: backups() }
    const config = { ...allAttributes, mtu: 70000, sysctl: { 'net.core.somaxconn': '77' } }
    const { json } = await call(tuning, 'ADD', callFor(net.container, config))
    const msg = expect.stringMatching(/set mtu 70000 on link.*mtu greater than device maximum/)
    expect(json).toMatchObject({ code: 999, msg })
    expect(net.container.sysctl('net/core/somaxconn')).toBe('4096')
    expect({ ...attributesOf(net.container), files: backups() }).toEqual(before)
  })
})

describe('the list of allowed sysctls', () => {
  const allowed = async (list: string | undefined, key: string) => {
    using net = wired()
    if (list !== undefined) {
      mkdirSync('/etc/cni/tuning', { recursive: true })
      writeFileSync(allowlist, list)
    }
    const config = { sysctl: { [key]: '1' } }
    const { json, status } = await call(tuning, 'ADD', callFor(net.container, config))
    const peer = execute(peerExecutable('tuning'), 'ADD', callFor(net.container, config))
    expect(peer.status).toBe(status) // the Go plugin judges alike
    const node = await call(tuning, 'STATUS', { config })
    expect(node.status).toBe(status)
    if (status !== 0) expect([json.code, node.json.code]).toEqual([7, 50])
    return status === 0
  }

  const key = 'net.ipv4.conf.IFNAME.arp_filter'
  test.each([
    { list: undefined, expected: true, why: 'there is none' },
    { list: '', expected: false, why: 'it is empty' },
    { list: '\n  \n', expected: false, why: 'it holds blank lines' },
    { list: `^${key}$\n`, expected: true, why: 'a line matches whole' },
    { list: '  arp_fil  \n', expected: true, why: 'a line matches a part' },
    { list: '^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$\n', expected: true, why: 'a class matches' },
    { list: '^net.ipv4.conf.eth0.arp_filter$', expected: false, why: 'it is the key as written that counts' },
    { list: 'other\n(?i)ARP_FILTER\n', expected: true, why: 'the second line matches, case aside' },
    {
      list: '\\Anet\\.(?P<family>ipv[[:digit:]])\\..*filter\\z',
      expected: true,
      why: "Go's own spellings match",
    },
    { list: 'log_martians', expected: false, why: 'no line matches' },
    { list: '(unclosed', expected: false, why: 'a line is no expression' },
  ])('$list: $expected, since $why', async ({ list, expected }) => {
    expect(await allowed(list, key)).toBe(expected)
  })

  test('a refusal says where the list is, and CHECK and DEL do not ask it', async () => {
    using net = wired()
    mkdirSync('/etc/cni/tuning', { recursive: true })
    writeFileSync(allowlist, 'x\n')
    const config = { sysctl: { 'net.ipv4.conf.eth0.arp_filter': '0' } }
    const { json } = await call(tuning, 'ADD', callFor(net.container, config))
    expect(json.msg).toBe(
      'sysctl.net.ipv4.conf.eth0.arp_filter: Sysctl net.ipv4.conf.eth0.arp_filter is not allowed. Only the following sysctls are allowed: [x]',
    )
    expect(json.details).toContain(allowlist)
    await mustCall(tuning, 'CHECK', callFor(net.container, config))
    await mustCall(tuning, 'DEL', callFor(net.container, config))
  })
})

test.each([
  {
    what: 'the hardware address',
    change: { address: '02:00:00:00:00:99' },
    told: /Tuning configured Ethernet of eth0 is .*, current value is .*:99/,
  },
  {
    what: 'the MTU',
    change: { mtu: 1300 },
    told: /Error: Tuning configured MTU of eth0 is 1400, current value is 1300/,
  },
  {
    what: 'promiscuous mode',
    change: { promiscuous: false },
    told: /Error: Tuning configured promisc of eth0 is true, current value is false/,
  },
  {
    what: 'all-multicast mode',
    change: { allMulticast: false },
    told: /Tuning configured all-multicast mode of eth0 is true, current value is false/,
  },
  {
    what: 'the queue',
    change: { transmitQueueLength: 1 },
    told: /Tuning configured Transmit Queue Length of eth0 is 321, current value is 1/,
  },
])('CHECK notices that $what was changed', async ({ change, told }) => {
  using net = wired()
  await mustCall(tuning, 'ADD', callFor(net.container, allAttributes))
  setLink(net.container.route, 'eth0', change)
  const { json } = await call(tuning, 'CHECK', callFor(net.container, allAttributes))
  expect(json).toMatchObject({ code: 999, msg: expect.stringMatching(told) })
})

test('CHECK tells every difference at once, and that the interface is gone', async () => {
  using net = wired()
  await mustCall(tuning, 'ADD', callFor(net.container, allAttributes))
  setLink(net.container.route, 'eth0', { mtu: 1300, transmitQueueLength: 1 })
  const request = callFor(net.container, allAttributes)
  expect((await call(tuning, 'CHECK', request)).json.msg).toMatch(
    /MTU.*; Error: Tuning configured Transmit Queue/,
  )
  removeLink(net.container.route, 'eth0')
  expect((await call(tuning, 'CHECK', request)).json.msg).toBe(
    `failed to get "eth0": Link not found in ${net.container.path}`,
  )
})

describe('refused before anything is touched', () => {
  test.each([
    {
      config: { sysctl: { 'kernel.shmmax': '1' } },
      msg: 'sysctl.kernel.shmmax: invalid net sysctl key: "kernel.shmmax", because',
    },
    { config: { sysctl: { net: '1' } }, msg: 'sysctl.net: invalid net sysctl key: "net", because' },
    {
      config: { sysctl: { 'net/../kernel/shmmax': '1' } },
      msg: 'sysctl.net/../kernel/shmmax: invalid net sysctl key',
    },
    { config: { sysctl: { '../net.x': '1' } }, msg: 'sysctl.../net.x: invalid net sysctl key' },
    {
      config: { sysctl: { 'net..ipv4.ip_forward': '1' } },
      msg: 'sysctl.net..ipv4.ip_forward: invalid net sysctl key',
    },
    {
      config: { sysctl: { 'net.ipv4.ip_forward': 1 } },
      msg: 'sysctl.net.ipv4.ip_forward: must be a string: got 1',
    },
    {
      config: { sysctl: { 'net.ipv4.ip_forward': '1', 'net/ipv4/ip_forward': '0' } },
      msg: 'sysctl.net/ipv4/ip_forward: duplicated sysctl keys are not allowed: it means the same as sysctl.net.ipv4.ip_forward',
    },
    {
      config: { args: { cni: { sysctl: { 'kernel.x': '1' } } } },
      msg: 'args.cni.sysctl.kernel.x: invalid net sysctl key',
    },
    {
      config: { mac: '02:00:00:00:00' },
      msg: 'mac: invalid args 02:00:00:00:00 for MAC addr: address 02:00:00:00:00: invalid MAC address',
    },
    { config: { args: { cni: { mac: 'x' } } }, msg: 'args.cni.mac: invalid args x for MAC addr' },
    { config: { runtimeConfig: { mac: 'x' } }, msg: 'runtimeConfig.mac: invalid args x for MAC addr' },
    { config: { mtu: -1 }, msg: 'mtu: must be at least 0: got -1' },
    { config: { mtu: '1500' }, msg: 'mtu: must be a number: got "1500"' },
    { config: { txQLen: 1.5 }, msg: 'txQLen: must be an integer: got 1.5' },
    { config: { args: { cni: { txQLen: 1.5 } } }, msg: 'args.cni.txQLen: must be an integer: got 1.5' },
    { config: { promisc: 'yes' }, msg: 'promisc: must be true or false: got "yes"' },
    {
      config: { prevResult: null },
      msg: 'prevResult: tuning: Required prevResult missing: This plugin must be called as chained plugin, missing prevResult from earlier plugin',
    },
  ])('%#: $msg', async ({ config, msg }) => {
    using net = wired()
    const before = { link: attributesOf(net.container), host: snapshot() }
    const request = callFor(net.container, { mtu: 1400, ...config })
    const { json } = await call(tuning, 'ADD', request)
    expect(json).toMatchObject({ code: 7, msg: expect.stringContaining(msg) })
    expect({ link: attributesOf(net.container), host: snapshot() }).toEqual(before)
  })

  test.each(['ADD', 'CHECK'] as const)('%s refuses a sysctl that is written twice', async verb => {
    using net = wired()
    const start = JSON.stringify({ cniVersion: '1.1.0', name: 'x', prevResult: resultFor(net.container) })
    const twice = (sysctl: string) =>
      `${start.slice(0, -1)}, "other": {"a": 1, "b": {"a": 2}}, "sysctl": ${sysctl}}`
    const options = (config: string) => ({ netns: net.container, config })
    const double = twice('{"net.core.somaxconn": "4096", "x\\"{": "", "net.core.somaxconn": "4096"}')
    expect((await call(tuning, verb, options(double))).json).toMatchObject({
      code: 7,
      msg: 'sysctl.net.core.somaxconn: duplicated sysctl keys are not allowed',
    })
    await mustCall(tuning, verb, options(twice('{"net.core.somaxconn": "4096", "net.ipv4.ip_forward": "0"}')))
  })
})

test('the host is as before, whatever was tuned in a container', async () => {
  using host = hostNamespace()
  const before = snapshot(host)
  {
    using net = wired()
    const request = callFor(net.container, { ...allAttributes, sysctl: { 'net.core.somaxconn': '5' } })
    await mustCall(tuning, 'ADD', request)
    await mustCall(tuning, 'DEL', request)
    expect(host.sysctl('net/core/somaxconn')).toBe('4096')
  }
  expect(difference(before, snapshot(host))).toEqual({ added: [], gone: [] })
})
