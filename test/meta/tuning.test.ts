import { afterEach, describe, expect, test } from 'bun:test'
import { rmSync } from 'node:fs'
import { removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { tuning } from '../../meta/tuning.ts'
import { askUdp, serveUdp } from '../fixtures/http.ts'
import { hostNamespace } from '../fixtures/namespace.ts'
import { call, mustCall } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'
import { allAttributes, attributesOf, backups, callFor, folder, mac, tuned, wired } from './tuning/wired.ts'

afterEach(() => {
  rmSync('/etc/cni/tuning', { recursive: true, force: true })
  rmSync(folder, { recursive: true, force: true })
})

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
