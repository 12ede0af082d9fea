import { expect, test } from 'bun:test'
import { dhcp } from '../../../ipam/dhcp.ts'
import { bridge } from '../../../main/bridge.ts'
import { macvlan } from '../../../main/macvlan.ts'
import { connect, freshNamespace, hostNamespace } from '../../fixtures/namespace.ts'
import { call, mustCall } from '../../fixtures/plugin.ts'
import { daemon, dnsmasq, lan, udhcpd } from './network.ts'

test('a bridge with dhcp: the container has its address and route, they are checked, renewed and given back', async () => {
  using host = hostNamespace()
  host.createLink({ name: 'dhcp0', address: '02:00:00:00:09:01', kind: { type: 'bridge' } }, '10.9.0.1/24')
  try {
    await using _server = await udhcpd(host, { interface: 'dhcp0' }, 'option lease 4')
    await using dhcpDaemon = await daemon()
    using container = freshNamespace('container')
    const config = {
      type: 'bridge',
      bridge: 'dhcp0',
      ipam: { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket },
    }
    const attachment = { config, netns: container, delegates: [dhcp] }
    const result = await mustCall(bridge, 'ADD', attachment)
    expect(container.addresses('eth0')).toEqual([result.ips[0].address])
    expect(container.routes().map(({ destination, gateway }) => ({ destination, gateway }))).toContainEqual({
      destination: '0.0.0.0',
      gateway: '10.9.0.1',
    })
    await dhcpDaemon.event('renewed')
    await mustCall(bridge, 'CHECK', { ...attachment, config: { ...config, prevResult: result } })
    await mustCall(bridge, 'DEL', { ...attachment, config: { ...config, prevResult: result } })
    await dhcpDaemon.event('released')
    expect(container.links().map(({ name }) => name)).toEqual(['lo'])
  } finally {
    host.run('ip', 'link', 'delete', 'dhcp0')
  }
})

test('a macvlan with dhcp: two containers on the LAN of their host', async () => {
  using network = lan()
  await using server = await dnsmasq(network.namespace, {})
  await using dhcpDaemon = await daemon()
  using host = hostNamespace()
  connect({ namespace: host, name: 'lan0' }, { namespace: network.namespace, name: 'host0' })
  network.namespace.run('ip', 'link', 'set', 'host0', 'master', 'br0')
  try {
    using one = freshNamespace('one')
    using two = freshNamespace('two')
    const config = {
      type: 'macvlan',
      master: 'lan0',
      ipam: { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket },
    }
    const calls = [one, two].map((netns, index) => ({
      config,
      netns,
      containerId: `c${index}`,
      delegates: [dhcp],
    }))
    const results = await Promise.all(calls.map(each => mustCall(macvlan, 'ADD', each)))
    expect(new Set(results.map(({ ips }) => ips[0].address)).size).toBe(2)
    expect([one, two].map(each => each.addresses('eth0'))).toEqual(results.map(({ ips }) => [ips[0].address]))
    for (const each of calls) await mustCall(macvlan, 'DEL', each)
    await server.says(/DHCPRELEASE/)
    await server.says(/DHCPRELEASE/)
  } finally {
    host.run('ip', 'link', 'delete', 'lan0')
  }
})

test('an ADD that fails after the address was taken gives it back', async () => {
  using network = lan()
  await using server = await dnsmasq(network.namespace, {}, '--dhcp-option=121,192.168.7.0/24,172.31.0.1')
  await using dhcpDaemon = await daemon()
  using host = hostNamespace()
  connect({ namespace: host, name: 'lan0' }, { namespace: network.namespace, name: 'host0' })
  network.namespace.run('ip', 'link', 'set', 'host0', 'master', 'br0')
  try {
    using container = freshNamespace('container')
    const ipam = { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket, request: [{ option: '121' }] }
    const config = { type: 'macvlan', master: 'lan0', ipam }
    const outcome = await call(macvlan, 'ADD', { config, netns: container, delegates: [dhcp] })
    expect(outcome.json.msg).toContain('192.168.7.0/24')
    await dhcpDaemon.event('released')
    await server.says(/DHCPRELEASE/)
    expect(container.links().map(({ name }) => name)).toEqual(['lo'])
  } finally {
    host.run('ip', 'link', 'delete', 'lan0')
  }
})
