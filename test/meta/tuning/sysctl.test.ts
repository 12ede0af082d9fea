/** Sysctls in the container: their keys, their values, and the list of those that are allowed. */
import { afterEach, describe, expect, test } from 'bun:test'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { loopback } from '../../../main/loopback.ts'
import { tuning } from '../../../meta/tuning.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'
import { call, execute, mustCall, peerExecutable } from '../../fixtures/plugin.ts'
import { difference, snapshot } from '../../fixtures/snapshot.ts'
import { allAttributes, allowlist, attributesOf, backups, callFor, folder, wired } from './wired.ts'

afterEach(() => {
  rmSync('/etc/cni/tuning', { recursive: true, force: true })
  rmSync(folder, { recursive: true, force: true })
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
