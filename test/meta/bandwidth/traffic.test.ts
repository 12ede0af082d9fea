/** What comes through: measured traffic, in both directions and families, and which of it is limited. */
import { describe, expect, test } from 'bun:test'
import { findDiscipline } from '../../../chain/linux/netlink/qdisc.ts'
import { bandwidth } from '../../../meta/bandwidth.ts'
import { mustCall } from '../../fixtures/plugin.ts'
import { connected, ifbs, leftBy, limits, Mbit, nothing, sharedIfb } from './pair.ts'
import { throughput } from './throughput.ts'

describe('traffic', () => {
  test.each([
    { family: 'IPv4', inside: '10.0.0.2', outside: '10.0.0.1' },
    { family: 'IPv6', inside: 'fd00:0::2', outside: 'fd00:0::1' },
  ])(
    '$family is limited to the rate, give or take 5 in a hundred, in both directions',
    async ({ inside, outside }) => {
      using net = connected()
      const { host, container } = net
      await mustCall(bandwidth, 'ADD', net.callFor(limits))
      const ingress = await throughput({ from: host, to: container, address: inside })
      const egress = await throughput({ from: container, to: host, address: outside })
      for (const share of [ingress / limits.ingressRate, egress / limits.egressRate]) {
        expect(share).toBeGreaterThan(0.95)
        expect(share).toBeLessThan(1.05)
      }
    },
  )

  test.each([
    { subnets: { unshapedSubnets: ['10.0.0.9/29', 'fd00:0::9/128'] }, limited: '10.0.0.1', free: '10.0.0.9' },
    { subnets: { unshapedSubnets: ['10.0.0.9/29', 'fd00:0::9/128'] }, limited: '10.0.0.1', free: '10.0.0.9' },
    { subnets: { shapedSubnets: ['10.0.0.0/30', 'fd00:0::/125'] }, limited: 'fd00:0::1', free: 'fd00:0::9' },
  ])('with $subnets, $limited is limited and $free is not', async ({ subnets, limited, free }) => {
    using net = connected()
    const { host, container } = net
    host.addAddress(net.end, 'fd00:0::9/64')
    const config = { ...limits, ...subnets }
    await mustCall(bandwidth, 'ADD', net.callFor(config))
    await mustCall(bandwidth, 'CHECK', net.callFor(config))
    const inside = limited.includes(':') ? 'fd00:0::2' : '10.0.0.2'
    const ingress = (source: string) => throughput({ from: host, to: container, address: inside, source })
    const egress = (address: string) => throughput({ from: container, to: host, address })
    expect(Math.abs((await ingress(limited)) / limits.ingressRate - 1)).toBeLessThan(0.05)
    expect(Math.abs((await egress(limited)) / limits.egressRate - 1)).toBeLessThan(0.05)
    expect(await ingress(free)).toBeGreaterThan(5 * limits.ingressRate)
    expect(await egress(free)).toBeGreaterThan(5 * limits.egressRate)
    await mustCall(bandwidth, 'DEL', net.callFor(config))
    expect(leftBy(host, net.end)).toEqual(nothing)
  })

  test('the two interfaces of a container on one network have limits of their own', async () => {
    using net = connected(['eth0', 'eth1'])
    const second = { ...limits, egressRate: 60 * Mbit }
    await mustCall(bandwidth, 'ADD', net.callFor(limits))
    await mustCall(bandwidth, 'ADD', net.callFor(second, { interface: 'eth1' }))
    expect(ifbs(net.host)).toEqual([sharedIfb, expect.stringMatching(/^bwp[0-9a-f]{12}$/)].sort())
    await mustCall(bandwidth, 'CHECK', net.callFor(limits))
    await mustCall(bandwidth, 'CHECK', net.callFor(second, { interface: 'eth1' }))
    await mustCall(bandwidth, 'DEL', net.callFor(limits))
    await mustCall(bandwidth, 'CHECK', net.callFor(second, { interface: 'eth1' }))
    const rate = await throughput({ from: net.container, to: net.host, address: '10.1.0.1' })
    expect(Math.abs(rate / second.egressRate - 1)).toBeLessThan(0.05)
    await mustCall(bandwidth, 'DEL', net.callFor(second, { interface: 'eth1' }))
    expect(ifbs(net.host)).toEqual([])
  })
})

describe('limits', () => {
  test('the result tells of the link that takes traffic from the container', async () => {
    using net = connected()
    const { interfaces } = await mustCall(bandwidth, 'ADD', net.callFor(limits))
    const { address, alias, mtu, transmitQueueLength, up } = net.host.link(sharedIfb)
    expect(interfaces).toEqual([
      { name: net.end },
      { name: 'eth0', sandbox: net.container.path },
      { name: sharedIfb, mac: address },
    ])
    expect({ mtu, transmitQueueLength, up }).toEqual({ mtu: 1500, transmitQueueLength: 0, up: true })
    expect(alias).toContain('net: test-net, if: eth0, id: container-1')
  })

  test.each([
    { what: 'none', config: {} },
    { what: 'zeroes', config: { ingressRate: 0, ingressBurst: 0, egressRate: 0, egressBurst: 0 } },
    {
      what: 'a zero of the configuration, which goes before the runtime',
      config: { ingressRate: 0, runtimeConfig: { bandwidth: limits } },
    },
    { what: 'subnets without rates', config: { unshapedSubnets: ['10.0.0.0/8'] } },
  ])('$what: prevResult passes through', async ({ config }) => {
    using net = connected()
    const { interfaces } = await mustCall(bandwidth, 'ADD', net.callFor(config))
    expect(interfaces).toHaveLength(2)
    expect(leftBy(net.host, net.end)).toEqual(nothing)
    await mustCall(bandwidth, 'CHECK', net.callFor(config))
  })

  test.each([
    {
      config: { ingressRate: 8000, ingressBurst: 8000 },
      expected: { root: 'tbf', hook: undefined, ifbs: [] },
    },
    {
      config: { egressRate: 8000, egressBurst: 8000 },
      expected: { root: 'noqueue', hook: 'ingress', ifbs: [sharedIfb] },
    },
  ])('$config limits one direction', async ({ config, expected }) => {
    using net = connected()
    await mustCall(bandwidth, 'ADD', net.callFor(config))
    expect<object>(leftBy(net.host, net.end)).toEqual(expected)
    await mustCall(bandwidth, 'DEL', net.callFor(config))
    expect(leftBy(net.host, net.end)).toEqual(nothing)
  })

  test.each([
    { rate: 10 * Mbit, burst: 4294967295, why: 'as containerd sends it: seven minutes worth' },
    { rate: 8000, burst: 4294967295, why: 'days worth' },
    { rate: 123, burst: 456, why: "the Go plugin's own example" },
    { rate: 100_000 * Mbit, burst: 800 * Mbit, why: 'more bytes per second than fit 32 bits' },
    { rate: 40 * Mbit, burst: 2 ** 32, why: 'the most' },
  ])(
    'rate $rate with burst $burst ($why) is in the kernel as it is in the configuration',
    async ({ rate, burst }) => {
      for (const subnets of [{}, { unshapedSubnets: ['10.0.0.0/8'] }]) {
        using net = connected()
        // as containerd spells the keys
        const config = {
          ...subnets,
          runtimeConfig: {
            bandwidth: { IngressRate: rate, IngressBurst: burst, EgressRate: rate, EgressBurst: burst },
          },
        }
        await mustCall(bandwidth, 'ADD', net.callFor(config))
        await mustCall(bandwidth, 'CHECK', net.callFor(config))
        const found = findDiscipline(net.host.route, net.host.link(sharedIfb).index, 'root')
        const bytes = Math.floor(rate / 8)
        expect(found?.bucket?.rate).toBe(BigInt(bytes))
        expect(found?.bucket?.limit).toBe(
          Math.min(Math.floor(bytes * 0.025) + Math.floor(burst / 8), 0xffffffff),
        )
      }
    },
  )
})
