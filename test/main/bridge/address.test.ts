/** The hardware address of a bridge that others made: its neighbours know it. */
import { describe, expect, test } from 'bun:test'
import { removeLink } from '../../../chain/linux/netlink/link.ts'
import { freshNetwork, reaches } from '../../fixtures/bridge.ts'
import { freshNamespace, hostNamespace } from '../../fixtures/namespace.ts'
import { mustExecute, peerExecutable } from '../../fixtures/plugin.ts'

describe('a bridge that exists with a hardware address that was never set', () => {
  /** A bridge as an administrator makes it: the kernel chose its address at random, or took its lowest port's. */
  function existing(name: string, { port }: { port: boolean }) {
    const host = hostNamespace()
    host.run('ip', 'link', 'add', name, 'type', 'bridge')
    const far = `${name}f`.slice(-15)
    if (port) {
      // not as low as a container's may be: 'fe' comes after whatever the kernel chooses
      host.run(
        'ip',
        'link',
        'add',
        'wire0',
        'address',
        'fe:ff:ff:ff:ff:01',
        'type',
        'veth',
        'peer',
        'name',
        far,
      )
      host.run('ip', 'link', 'set', 'wire0', 'master', name, 'up')
    }
    host.run('ip', 'link', 'set', name, 'up')
    return {
      address: () => host.link(name).address,
      [Symbol.dispose]() {
        removeLink(host.route, 'wire0')
        host[Symbol.dispose]()
      },
    }
  }

  test.each([
    { port: false, config: {}, name: 'whose gateway the first container brings' },
    { port: true, config: {}, name: 'with a port, whose gateway the first container brings' },
    { port: true, config: { isDefaultGateway: false }, name: 'with a port, which is no gateway' },
    { port: false, config: { isDefaultGateway: false }, name: 'which is no gateway' },
  ])('keeps it when containers join and leave: one $name', async ({ port, config }) => {
    using one = freshNamespace()
    using two = freshNamespace()
    await using network = freshNetwork(config)
    using bridge = existing(network.bridge, { port })
    const before = bridge.address()
    const result = await network.attach(one)
    expect(bridge.address()).toBe(before)
    expect(result.interfaces[0]).toMatchObject({ name: network.bridge, mac: before })
    await network.attach(two)
    expect(bridge.address()).toBe(before)
  })

  test('keeps it where the gateway’s address is there already, and neighbours know it', async () => {
    using host = hostNamespace()
    using one = freshNamespace()
    await using network = freshNetwork()
    using bridge = existing(network.bridge, { port: false })
    host.addAddress(network.bridge, '10.1.0.1/16')
    const before = bridge.address()
    await network.attach(one)
    expect(bridge.address()).toBe(before)
    one.setSysctl('net/ipv4/neigh/eth0/base_reachable_time_ms', '600000')
    expect(await reaches(one, host, '10.1.0.1')).toBe(true)
    expect(one.run('ip', 'neigh', 'show', '10.1.0.1')).toContain(before)
  })

  test('has none once its last port has gone: it gets one that stays', async () => {
    using host = hostNamespace()
    using one = freshNamespace()
    await using network = freshNetwork()
    using bridge = existing(network.bridge, { port: true })
    removeLink(host.route, 'wire0')
    expect(bridge.address()).toBe('00:00:00:00:00:00')
    const result = await network.attach(one)
    const address = bridge.address()
    expect(address).toMatch(/^.[26ae](:[0-9a-f]{2}){5}$/) // locally administered, unicast
    expect(result.interfaces[0]).toMatchObject({ mac: address })
    expect(address).not.toBe(result.interfaces[1]?.mac as string)
  })

  test('keeps it as with the Go plugin', async () => {
    using container = freshNamespace()
    await using network = freshNetwork()
    using bridge = existing(network.bridge, { port: false })
    const before = bridge.address()
    const options = { netns: container, config: network.config }
    mustExecute(peerExecutable('bridge'), 'ADD', options)
    expect(bridge.address()).toBe(before)
    mustExecute(peerExecutable('bridge'), 'DEL', options)
  })
})
