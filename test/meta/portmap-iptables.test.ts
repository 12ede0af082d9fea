import { afterAll, afterEach, describe, expect, test } from 'bun:test'
import { rmSync } from 'node:fs'
import { removeLink } from '../../chain/linux/netlink/link.ts'
import { portmap } from '../../meta/portmap.ts'
import { askUdp, getHttp, serveHttp, serveUdp } from '../fixtures/http.ts'
import { choose, clearRules, iptables, saved, variants } from '../fixtures/iptables.ts'
import { reachesLocalhost } from '../fixtures/localnet.ts'
import { freshNamespace, hostNamespace } from '../fixtures/namespace.ts'
import { call, mustCall, mustExecute, peerExecutable } from '../fixtures/plugin.ts'
import { chained, families, ownRules, published } from './portmap/iptables.ts'
import { http, outsideHost, removeBridges } from './portmap/place.ts'

afterEach(() => clearRules())

afterAll(removeBridges)

describe.each(variants)('with the %s variant', variant => {
  test('a published port is reached from outside, from the host, from 127.0.0.1, from a sibling and from the container itself', async () => {
    using _choice = choose(variant)
    using host = hostNamespace()
    using outside = outsideHost()
    using one = freshNamespace()
    using other = freshNamespace()
    const first = published(one, {
      mappings: [http(8080), { hostPort: 53, containerPort: 53, protocol: 'udp' }],
    })
    const sibling = published(other, { mappings: [], containerId: 'container-2' })
    await first.add()
    await sibling.add()
    using _server = serveHttp(one, { port: 80 })
    using _names = await serveUdp(one, { port: 53 })
    const gateway = first.result.ips[0].gateway
    expect(await getHttp(outside, { address: '192.0.2.1', port: 8080 })).toBe('192.0.2.2')
    expect(await getHttp(outside, { address: '2001:db8::1', port: 8080 })).toBe('2001:db8::2')
    expect(await askUdp(outside, { address: '192.0.2.1', port: 53 }, { text: 'hello' })).toBe(
      '192.0.2.2 hello',
    )
    expect(await getHttp(host, { address: '192.0.2.1', port: 8080 })).toBe('192.0.2.1')
    expect(await getHttp(host, { address: '127.0.0.1', port: 8080 })).toBe(gateway)
    expect(await getHttp(other, { address: '192.0.2.1', port: 8080 })).toBe(gateway)
    expect(await getHttp(one, { address: '192.0.2.1', port: 8080 })).toBe(gateway)
    expect(await getHttp(one, { address: '2001:db8::1', port: 8080 })).toBe('fd00:1::1')
    expect(await first.check()).toMatchObject({ status: 0 })
    await sibling.del()
    await first.del()
    expect(ownRules(variant)).toEqual([])
    await expect(getHttp(outside, { address: '192.0.2.1', port: 8080 }, 500)).rejects.toThrow('8080')
  })

  test('packets for 127.0.0.0/8 that arrive from a container are dropped', async () => {
    using _choice = choose(variant)
    using host = hostNamespace()
    using container = freshNamespace()
    const chain = published(container, { mappings: [http(8080)] })
    await chain.add()
    expect(host.sysctl('net/ipv4/conf/cni0/route_localnet')).toBe('1')
    const { gateway } = chain.result.ips[0]
    expect(await reachesLocalhost(container, gateway)).toBe(false)
    expect(await chain.check()).toMatchObject({ status: 0 })
    clearRules('filter')
    expect(await reachesLocalhost(container, gateway)).toBe(true)
    expect((await chain.check()).json.msg).toMatch(/^rule INPUT .* is missing in table filter of ip$/)
    await chain.del()
  })

  test.each(inputs)('rules are those of the Go plugin: $name', async ({ config, mappings }) => {
    using _choice = choose(variant)
    const prepare = () => {
      clearRules()
      if (config.externalSetMarkChain) for (const family of families) iptables(variant, family, '-N', 'MARKS')
    }
    // ip6tables-legacy 1.8.9 takes rules for the same that differ in ports, so that the Go plugin leaves some out there.
    const compared = variant === 'legacy' && mappings.length > 1 ? (['ip'] as const) : families
    const rules = () => compared.map(family => saved(variant, family))
    const options = { netns: '/run/netns/none', config: chained(config, mappings) }
    prepare()
    await mustCall(portmap, 'ADD', options)
    const own = rules()
    mustExecute(peerExecutable('portmap'), 'CHECK', options)
    mustExecute(peerExecutable('portmap'), 'DEL', options)
    expect(ownRules(variant)).toEqual([])
    const shared = rules()
    prepare()
    mustExecute(peerExecutable('portmap'), 'ADD', options)
    expect(own).toEqual(rules())
    if (compared === families) await mustCall(portmap, 'CHECK', options)
    await mustCall(portmap, 'DEL', options)
    expect(rules()).toEqual(shared)
  })

  test('a mapping that has changed replaces the one before', async () => {
    using _choice = choose(variant)
    const options = (hostPort: number) => ({
      netns: '/run/netns/none',
      config: chained({}, [http(hostPort)]),
    })
    await mustCall(portmap, 'ADD', options(8080))
    await mustCall(portmap, 'ADD', options(9090))
    const rules = ownRules(variant).join('\n')
    expect(rules).toContain('9090')
    expect(rules).not.toContain('8080')
    await mustCall(portmap, 'DEL', options(9090))
    expect(ownRules(variant)).toEqual([])
  })

  test('two interfaces of one container share a chain: DEL of one leaves what the other has', async () => {
    using _choice = choose(variant)
    using container = freshNamespace()
    const first = published(container, { mappings: [http(8080)] })
    const second = published(container, {
      mappings: [http(8081)],
      interface: 'eth1',
      bridge: {
        bridge: 'cni9',
        isDefaultGateway: false,
        isGateway: true,
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.9.0.0/16' }], [{ subnet: 'fd00:9::/64' }]] },
      },
    })
    await first.add()
    const before = ownRules(variant)
    await second.add()
    using _server = serveHttp(container, { port: 80 })
    expect(await getHttp(hostNamespace(), { address: '127.0.0.1', port: 8080 })).toMatch(/^10\.1\./)
    expect(await getHttp(hostNamespace(), { address: '127.0.0.1', port: 8081 })).toMatch(/^10\.9\./)
    expect(await first.check()).toMatchObject({ status: 0 })
    expect(await second.check()).toMatchObject({ status: 0 })
    await second.del()
    expect(ownRules(variant).toSorted()).toEqual(before.toSorted())
    expect(await getHttp(hostNamespace(), { address: '127.0.0.1', port: 8080 })).toMatch(/^10\.1\./)
    expect(await first.check()).toMatchObject({ status: 0 })
    await first.del()
    expect(ownRules(variant)).toEqual([])
  })

  test('what the Go plugin has taken away of one interface does not come back with another', async () => {
    using _choice = choose(variant)
    const options = (name: string, hostPort: number) => ({
      netns: '/run/netns/none',
      interface: name,
      config: chained({}, [http(hostPort)], name),
    })
    await mustCall(portmap, 'ADD', options('eth0', 8080))
    await mustCall(portmap, 'ADD', options('eth1', 8081))
    mustExecute(peerExecutable('portmap'), 'DEL', options('eth0', 8080))
    await mustCall(portmap, 'ADD', options('eth1', 8081))
    expect(ownRules(variant).join('\n')).toContain('8081')
    expect(ownRules(variant).join('\n')).not.toContain('8080')
    await mustCall(portmap, 'DEL', options('eth1', 8081))
    expect(ownRules(variant)).toEqual([])
  })

  test('127.0.0.1 still leads to a container after the last one of the nftables backend has gone', async () => {
    using _choice = choose(variant)
    using host = hostNamespace()
    using one = freshNamespace()
    using other = freshNamespace()
    // A bridge on which that door was not opened yet.
    const network = {
      name: 'net-8',
      bridge: { bridge: 'cni8', ipam: { type: 'host-local', subnet: '10.8.0.0/16' } },
    }
    const first = published(one, { ...network, mappings: [http(8080)] })
    const second = published(other, {
      ...network,
      mappings: [http(8081)],
      containerId: 'container-2',
      config: { backend: 'nftables' },
    })
    await second.add()
    await first.add()
    await second.del()
    expect(host.run('nft', 'list', 'tables')).not.toContain('catena')
    using _server = serveHttp(one, { port: 80 })
    expect(await getHttp(host, { address: '127.0.0.1', port: 8080 })).toMatch(/^10\.8\./)
    await first.del()
    removeLink(host.route, 'cni8')
    rmSync('/run/catena/localnet/cni8')
  })

  test('conditions let through what they say, and nothing else', async () => {
    using _choice = choose(variant)
    using outside = outsideHost()
    using one = freshNamespace()
    using two = freshNamespace()
    const fenced = published(one, {
      mappings: [http(8080)],
      config: { backend: undefined, conditionsV4: ['!', '-s', '192.0.2.0/24'] },
    })
    const admitted = published(two, {
      mappings: [http(8081)],
      containerId: 'container-2',
      config: { conditionsV4: ['-s', '192.0.2.2', '-i', outside.uplink] },
    })
    await fenced.add()
    await admitted.add()
    using _one = serveHttp(one, { port: 80 })
    using _two = serveHttp(two, { port: 80 })
    await expect(getHttp(outside, { address: '192.0.2.1', port: 8080 }, 500)).rejects.toThrow('8080')
    expect(await getHttp(outside, { address: '192.0.2.1', port: 8081 })).toBe('192.0.2.2')
    expect(await admitted.check()).toMatchObject({ status: 0 })
    await fenced.del()
    await admitted.del()
  })

  test('conditions that iptables does not take are refused with its own words, and nothing is left', async () => {
    using _choice = choose(variant)
    const { json } = await call(portmap, 'ADD', {
      netns: '/run/netns/none',
      config: chained({ conditionsV4: ['--sorce', '10.0.0.0/8'] }, [http(8080)]),
    })
    expect(json).toMatchObject({
      code: 7,
      msg: 'conditionsV4: iptables does not take ["--sorce","10.0.0.0/8"]',
      details: expect.stringContaining('sorce'),
    })
    expect(ownRules(variant)).toEqual([])
  })

  test('a mark chain of others that is not there is named', async () => {
    using _choice = choose(variant)
    const { json } = await call(portmap, 'ADD', {
      netns: '/run/netns/none',
      config: chained({ externalSetMarkChain: 'KUBE-MARK-MASQ' }, [http(8080)]),
    })
    expect(json).toMatchObject({ code: 999, details: expect.stringContaining('KUBE-MARK-MASQ') })
    expect(ownRules(variant)).toEqual([])
  })

  test.each([
    {
      name: 'an entry',
      harm: ['-F', 'CNI-HOSTPORT-DNAT'],
      says: /CNI-HOSTPORT-DNAT .*8080.* in table nat of ip$/,
    },
    {
      name: 'a jump to the entries',
      harm: ['-D', 'PREROUTING', '1'],
      says: /PREROUTING .* in table nat of ip$/,
    },
    { name: 'the mark', harm: ['-F', 'CNI-HOSTPORT-SETMARK'], says: /CNI-HOSTPORT-SETMARK .*0x2000/ },
  ])('CHECK notices that $name has gone, and the next ADD makes it again', async ({ harm, says }) => {
    using _choice = choose(variant)
    const options = { netns: '/run/netns/none', config: chained({}, [http(8080)]) }
    await mustCall(portmap, 'ADD', options)
    iptables(variant, 'ip', ...harm)
    const { status, json } = await call(portmap, 'CHECK', options)
    expect({ status, msg: json.msg }).toEqual({ status: 1, msg: expect.stringMatching(says) })
    await mustCall(portmap, 'ADD', options)
    await mustCall(portmap, 'CHECK', options)
    await mustCall(portmap, 'DEL', options)
  })

  test('GC deletes what no valid attachment owns, whoever made it, and leaves other networks alone', async () => {
    using _choice = choose(variant)
    const options = (containerId: string, name = 'test-net') => ({
      netns: '/run/netns/none',
      containerId,
      config: { ...chained({}, [http(8000 + Number(containerId))]), name },
    })
    await mustCall(portmap, 'ADD', options('1'))
    mustExecute(peerExecutable('portmap'), 'ADD', options('2'))
    mustExecute(peerExecutable('portmap'), 'ADD', options('3'))
    await mustCall(portmap, 'ADD', options('4'))
    await mustCall(portmap, 'ADD', options('5', 'other-net'))
    mustExecute(peerExecutable('portmap'), 'ADD', options('6', 'other-net'))
    const valid = ['3', '4'].map(containerID => ({ containerID, ifname: 'eth0' }))
    await mustCall(portmap, 'GC', { config: { type: 'portmap', 'cni.dev/valid-attachments': valid } })
    const ports = saved(variant).flatMap(line =>
      / DNAT$/.test(line) ? [] : (/--dports (\d+)/.exec(line)?.[1] ?? []),
    )
    expect(ports.toSorted()).toEqual(['8003', '8004', '8005', '8006'])
    for (const id of ['3', '4']) await mustCall(portmap, 'DEL', options(id))
    for (const id of ['5', '6']) await mustCall(portmap, 'DEL', options(id, 'other-net'))
    expect(ownRules(variant)).toEqual([])
  })
})

const inputs: { name: string; config: Record<string, unknown>; mappings: object[] }[] = [
  { name: 'one port', config: {}, mappings: [http(8080)] },
  {
    name: 'protocols, host addresses of both families, none in particular',
    config: {},
    mappings: [
      http(8080, { hostIP: '192.0.2.1' }),
      http(8081, { hostIP: '2001:db8::1' }),
      http(8082, { hostIP: '0.0.0.0' }),
      http(8083, { hostIP: '::' }),
      { hostPort: 53, containerPort: 5353, protocol: 'udp' },
      { hostPort: 54, containerPort: 54, protocol: 'sctp' },
      http(8080, { hostIP: '192.0.2.2' }),
    ],
  },
  {
    name: 'more ports than a rule takes',
    config: {},
    mappings: Array.from({ length: 31 }, (_, at) => http(9000 + at)),
  },
  { name: 'no masquerade', config: { snat: false }, mappings: [http(8080)] },
  { name: 'masquerade of all', config: { masqAll: true }, mappings: [http(8080)] },
  { name: 'another mark', config: { markMasqBit: 31 }, mappings: [http(8080)] },
  { name: "others' mark", config: { externalSetMarkChain: 'MARKS' }, mappings: [http(8080)] },
  {
    name: 'conditions',
    config: {
      conditionsV4: ['!', '-s', '192.0.2.0/24', '-i', 'eth9'],
      conditionsV6: ['-d', '2001:db8::/32'],
    },
    mappings: [http(8080)],
  },
]
