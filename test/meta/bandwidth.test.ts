/** What is made in the kernel and taken away again; what is refused; beside the Go plugin. */
import { describe, expect, test } from 'bun:test'
import { listFilters } from '../../chain/linux/netlink/filter.ts'
import { createLink, findLink, removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { findDiscipline, handleOf, newDiscipline, removeDiscipline } from '../../chain/linux/netlink/qdisc.ts'
import { request } from '../../chain/linux/netlink/socket.ts'
import { bandwidth } from '../../meta/bandwidth.ts'
import { connect, freshNamespace } from '../fixtures/namespace.ts'
import { type Call, call, execute, mustCall, mustExecute, peerExecutable } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'
import { connected, ifbs, leftBy, limits, Mbit, nothing, sharedIfb } from './bandwidth/pair.ts'
import { throughput } from './bandwidth/throughput.ts'

describe('beside the Go plugin', () => {
  const peer = () => peerExecutable('bandwidth')

  test.each([
    limits,
    { ingressRate: 123, ingressBurst: 456, egressRate: 123, egressBurst: 456 },
    { ingressRate: 100_000 * Mbit, ingressBurst: 800 * Mbit, egressRate: 7 * Mbit, egressBurst: 77_777 },
  ])('the kernel has the same afterwards: %p', async config => {
    const views: unknown[] = []
    for (const add of [
      (options: Call) => mustCall(bandwidth, 'ADD', options),
      (options: Call) => mustExecute(peer(), 'ADD', options),
    ]) {
      using net = connected()
      const { route } = net.host
      const { interfaces } = await add(net.callFor(config))
      const outside = net.host.link(net.end).index
      const ifb = net.host.link(sharedIfb)
      views.push({
        interfaces: interfaces.map(({ name }: { name: string }) => name.replace(/\d+$/, '')),
        disciplines: [outside, ifb.index].map(index => findDiscipline(route, index, 'root')),
        hook: findDiscipline(route, outside, 'ingress'),
        filters: listFilters(route, outside, handleOf(0xffff)).map(filter => ({
          ...filter,
          redirectTo: filter.redirectTo === ifb.index,
        })),
        ifb: [ifb.mtu, ifb.transmitQueueLength, ifb.up],
      })
      removeLink(route, sharedIfb)
    }
    expect(views[0]).toEqual(views[1])
  })

  test('its CHECK and its DEL take ours, and ours take its', async () => {
    using net = connected()
    await mustCall(bandwidth, 'ADD', net.callFor(limits))
    mustExecute(peer(), 'CHECK', net.callFor(limits))
    mustExecute(peer(), 'DEL', net.callFor(limits))
    expect(ifbs(net.host)).toEqual([])
    await mustCall(bandwidth, 'DEL', net.callFor(limits))
    mustExecute(peer(), 'ADD', net.callFor(limits))
    await mustCall(bandwidth, 'CHECK', net.callFor(limits))
    await mustCall(bandwidth, 'DEL', net.callFor(limits))
    expect(leftBy(net.host, net.end)).toEqual(nothing)
  })

  test('its second interface of a container fails, ours beside it does not, and DEL of one leaves the other', async () => {
    using net = connected(['eth0', 'eth1'])
    mustExecute(peer(), 'ADD', net.callFor(limits))
    const second = net.callFor(limits, { interface: 'eth1' })
    expect(execute(peer(), 'ADD', second).status).toBe(1)
    await mustCall(bandwidth, 'DEL', { ...second, netns: undefined, interface: 'eth7', containerId: 'other' })
    // what its failed ADD left on the host's end of eth1
    removeDiscipline(net.host.route, net.host.link(net.endOf('eth1')).index, 'root')
    await mustCall(bandwidth, 'ADD', second)
    await mustCall(bandwidth, 'DEL', second)
    await mustCall(bandwidth, 'CHECK', net.callFor(limits))
  })
})

describe('CHECK', () => {
  type Net = ReturnType<typeof connected>
  test.each([
    {
      what: 'the shape of the host end is gone',
      told: /^veth\d+ has noqueue where tbf was$/,
      breaks: (net: Net) => void removeDiscipline(net.host.route, net.host.link(net.end).index, 'root'),
    },
    {
      what: 'the rate is another',
      told: /Rate doesn't match: that of veth\d+ is 1000, not 12500000/,
      breaks: (net: Net) => retouch(net, { rate: 1000n }),
    },
    {
      what: 'the burst is another',
      told: /burst of veth\d+ is 12, not 156250/,
      breaks: (net: Net) => retouch(net, { ticks: 12 }),
    },
    {
      what: 'the limit is another',
      told: /Limit doesn't match: that of veth\d+ is 9, not 437500/,
      breaks: (net: Net) => retouch(net, { limit: 9 }),
    },
    {
      what: 'the hook is gone',
      told: /^veth\d+ has no hook/,
      breaks: (net: Net) => void removeDiscipline(net.host.route, net.host.link(net.end).index, 'ingress'),
    },
    {
      what: 'the filter is gone',
      told: /the filters of veth\d+ are not as they were: 0 there, 1 expected/,
      breaks: (net: Net) => {
        const { index } = net.host.link(net.end)
        removeDiscipline(net.host.route, index, 'ingress')
        request(
          net.host.route,
          newDiscipline(index, { kind: 'ingress' }, { handle: handleOf(0xffff), parent: 'ingress' }),
        )
      },
    },
    {
      what: 'the ifb is gone',
      told: /the link that takes traffic from eth0 is gone/,
      breaks: (net: Net) => void removeLink(net.host.route, sharedIfb),
    },
    {
      what: 'the ifb is down',
      told: /bwp\w+ is down/,
      breaks: (net: Net) => setLink(net.host.route, sharedIfb, { up: false }),
    },
    {
      what: 'the ifb does not shape',
      told: /bwp\w+ has \w+ where tbf was|bwp\w+ has no queueing discipline/,
      breaks: (net: Net) => void removeDiscipline(net.host.route, net.host.link(sharedIfb).index, 'root'),
    },
    {
      what: 'the ifb is another one',
      told: /the filters of veth\d+ are not as they were/,
      breaks: (net: Net) => {
        removeLink(net.host.route, sharedIfb)
        createLink(net.host.route, { name: sharedIfb, up: true, kind: { type: 'ifb' } })
      },
    },
  ])('notices that $what', async ({ breaks, told }) => {
    using net = connected()
    await mustCall(bandwidth, 'ADD', net.callFor(limits))
    await mustCall(bandwidth, 'CHECK', net.callFor(limits))
    breaks(net)
    const { json } = await call(bandwidth, 'CHECK', net.callFor(limits))
    expect(json).toMatchObject({ code: 999, msg: expect.stringMatching(told) })
    await mustCall(bandwidth, 'DEL', net.callFor(limits))
    expect(leftBy(net.host, net.end)).toEqual(nothing)
  })

  function retouch(net: Net, change: object) {
    const { index } = net.host.link(net.end)
    const bucket = { rate: 12_500_000n, ticks: 156_250, limit: 437_500, burst: 125_000, ...change }
    removeDiscipline(net.host.route, index, 'root')
    request(
      net.host.route,
      newDiscipline(index, { kind: 'tbf', ...bucket }, { handle: handleOf(1), parent: 'root' }),
    )
  }

  test('notices that a subnet has been added or taken away', async () => {
    using net = connected()
    const config = { ...limits, unshapedSubnets: ['10.0.0.0/8'] }
    await mustCall(bandwidth, 'ADD', net.callFor(config))
    const wider = { ...limits, unshapedSubnets: ['10.0.0.0/8', 'fd00::/8'] }
    const { json } = await call(bandwidth, 'CHECK', net.callFor(wider))
    expect(json.msg).toMatch(
      /^the filters of veth\d+ are not as they were: 1 there, 2 expected; the filters of/,
    )
  })
})

describe('DEL', () => {
  test.each([
    { what: 'the namespace is gone', change: { netns: '/run/netns/gone' } },
    { what: 'the namespace was never named', change: { netns: undefined } },
    { what: 'there is no prevResult and nothing from the runtime', change: { config: {} } },
    {
      what: 'the configuration has changed',
      change: { config: { ingressRate: 1e9, ingressBurst: 8 * Mbit, shapedSubnets: ['::/0'] } },
    },
  ])('removes the ifb though $what, twice', async ({ change }) => {
    using net = connected()
    const config = { runtimeConfig: { bandwidth: limits } }
    await mustCall(bandwidth, 'ADD', net.callFor(config))
    await mustCall(bandwidth, 'DEL', { ...net.callFor(config), ...change })
    expect(ifbs(net.host)).toEqual([])
    await mustCall(bandwidth, 'DEL', { ...net.callFor(config), ...change })
  })

  test('lets traffic through again, unlimited, where the pair stays', async () => {
    using net = connected()
    const before = snapshot()
    await mustCall(bandwidth, 'ADD', net.callFor(limits))
    await mustCall(bandwidth, 'DEL', net.callFor(limits))
    expect(difference(before, snapshot())).toEqual({ added: [], gone: [] })
    const rate = await throughput({ from: net.container, to: net.host, address: '10.0.0.1' })
    expect(rate).toBeGreaterThan(5 * limits.egressRate)
  })

  test('leaves what another program has put on the host end', async () => {
    using net = connected()
    const { index } = net.host.link(net.end)
    const own = newDiscipline(
      index,
      { kind: 'htb', defaultClass: 0 },
      { handle: handleOf(7), parent: 'root' },
    )
    request(net.host.route, own)
    await mustCall(bandwidth, 'DEL', net.callFor(limits))
    expect(leftBy(net.host, net.end).root).toBe('htb')
    const before = snapshot()
    const { json } = await call(bandwidth, 'ADD', net.callFor(limits))
    expect(json.msg).toBe(`${net.end} has a queueing discipline already: htb`)
    expect(difference(before, snapshot())).toEqual({ added: [], gone: [] })
  })
})

describe('ADD', () => {
  test('takes everything back when a later step fails', async () => {
    using net = connected()
    const { route } = net.host
    const { index } = net.host.link(net.end)
    createLink(route, { name: 'elsewhere', up: true, kind: { type: 'ifb' } })
    request(route, newDiscipline(index, { kind: 'ingress' }, { handle: handleOf(0xffff), parent: 'ingress' }))
    net.host.run(
      'tc',
      'filter',
      'add',
      'dev',
      net.end,
      'parent',
      'ffff:',
      'u32',
      'match',
      'u32',
      '0',
      '0',
      'action',
      'mirred',
      'egress',
      'redirect',
      'dev',
      'elsewhere',
    )
    const before = snapshot()
    const { json } = await call(bandwidth, 'ADD', net.callFor(limits))
    expect(json).toMatchObject({
      code: 999,
      msg: `${net.end} has a hook for incoming packets already: ingress`,
    })
    expect(difference(before, snapshot())).toEqual({ added: [], gone: [] })
    removeLink(route, 'elsewhere')
  })

  test('replaces what its own predecessor left, when that was killed', async () => {
    using net = connected()
    for (const config of [limits, { ...limits, unshapedSubnets: ['10.9.0.0/16'] }, limits]) {
      await mustCall(bandwidth, 'ADD', net.callFor(config))
      await mustCall(bandwidth, 'CHECK', net.callFor(config))
    }
    expect(ifbs(net.host)).toEqual([sharedIfb])
  })

  test.each([
    { what: 'no interfaces in prevResult', interfaces: () => [], msg: 'prevResult: no interfaces provided' },
    {
      what: 'another host interface',
      interfaces: () => [{ name: 'other0' }],
      msg: /^no veth peer of container interface found in host ns: veth\d+ is not in prevResult$/,
    },
  ])('refuses $what', async ({ interfaces, msg }) => {
    using net = connected()
    const prevResult = { interfaces: interfaces() }
    const { json } = await call(bandwidth, 'ADD', net.callFor({ ...limits, prevResult }))
    expect(json).toMatchObject({ code: 999, msg: expect.stringMatching(msg) })
    expect(leftBy(net.host, net.end)).toEqual(nothing)
  })

  test.each([
    {
      what: 'no pair',
      interface: 'alone',
      msg: 'container interface alone has no veth peer: interface "alone" was not a veth interface',
    },
    {
      what: 'a pair that ends elsewhere',
      interface: 'far0',
      msg: /^veth peer with index \d+ is not in host ns$/,
    },
    {
      what: 'no interface',
      interface: 'none',
      msg: 'container interface none has no veth peer: could not look up "none": Link not found',
    },
  ])('refuses $what', async ({ interface: name, msg }) => {
    using net = connected()
    using far = freshNamespace('far')
    net.container.createLink({ name: 'alone', kind: { type: 'ifb' } })
    connect({ namespace: net.container, name: 'far0' }, { namespace: far, name: 'far1' })
    const { json } = await call(bandwidth, 'ADD', net.callFor(limits, { interface: name }))
    expect(json).toMatchObject({ code: 999, msg: expect.stringMatching(msg) })
  })
})

test('GC removes the ifbs of its network that no valid attachment owns, and those of the Go plugin that serve no attachment', async () => {
  using net = connected(['eth0', 'eth1', 'eth2'])
  const of = (containerId: string, name: string, network = 'test-net') => ({
    ...net.callFor({ ...limits, name: network }, { interface: name }),
    containerId,
  })
  await mustCall(bandwidth, 'ADD', of('alive', 'eth0'))
  await mustCall(bandwidth, 'ADD', of('dead', 'eth1'))
  await mustCall(bandwidth, 'ADD', of('stranger', 'eth2', 'other-net'))
  const kept = ifbs(net.host).filter(name => !net.host.link(name).alias?.includes('id: dead'))
  createLink(net.host.route, { name: 'bwp000000000000', up: true, kind: { type: 'ifb' } }) // serves no attachment
  createLink(net.host.route, { name: 'ifb7', kind: { type: 'ifb' } }) // not a plugin's
  const valid = [{ containerID: 'alive', ifname: 'eth0' }]
  await mustCall(bandwidth, 'GC', { config: { 'cni.dev/valid-attachments': valid } })
  expect(ifbs(net.host)).toEqual([...kept, 'ifb7'])
  for (const name of [...kept, 'ifb7']) removeLink(net.host.route, name)
})

test('GC leaves an ifb of the Go plugin that a pair still sends to', async () => {
  using net = connected()
  mustExecute(peerExecutable('bandwidth'), 'ADD', net.callFor({ ...limits, name: 'other-net' }))
  const [name = ''] = ifbs(net.host)
  await mustCall(bandwidth, 'GC', { config: { 'cni.dev/valid-attachments': [] } })
  expect(findLink(net.host.route, name)).toBeDefined()
  removeLink(net.host.route, name)
})

test('STATUS is content with this kernel', async () => {
  const before = snapshot()
  await mustCall(bandwidth, 'STATUS')
  expect(difference(before, snapshot())).toEqual({ added: [], gone: [] })
})

// CRI-O gives every pod with a bandwidth annotation this burst: 4 GB less one byte, in bits
test.each([34359738359, 34359738367])(
  'a burst of %d bits is limited as ADD says, and CHECK agrees',
  async burst => {
    using net = connected()
    const config = { ingressRate: 1e6, ingressBurst: burst, egressRate: 1e6, egressBurst: burst }
    const result = await mustCall(bandwidth, 'ADD', net.callFor(config))
    const { index } = net.host.link(net.end)
    expect(findDiscipline(net.host.route, index, 'root')?.bucket).toMatchObject({
      rate: 125_000n,
      limit: 0xffffffff,
    })
    await mustCall(bandwidth, 'CHECK', net.callFor({ ...config, prevResult: result }))
    await mustCall(bandwidth, 'DEL', net.callFor(config))
    expect(leftBy(net.host, net.end)).toEqual(nothing)
  },
)

test('empty lists of subnets are none: those that the runtime gives count', async () => {
  using net = connected()
  const config = {
    shapedSubnets: [],
    unshapedSubnets: [],
    runtimeConfig: { bandwidth: { ingressRate: 1e6, ingressBurst: 1e6, shapedSubnets: ['10.9.0.0/16'] } },
  }
  await mustCall(bandwidth, 'ADD', net.callFor(config))
  const { index } = net.host.link(net.end)
  expect(findDiscipline(net.host.route, index, 'root')?.kind).toBe('htb') // some traffic passes it by
  await mustCall(bandwidth, 'DEL', net.callFor(config))
})

describe('refused before anything is touched', () => {
  test.each([
    [{ ingressRate: -1, ingressBurst: 8 }, 'ingressRate: must be at least 0: got -1'],
    [{ egressRate: 8.5, egressBurst: 8 }, 'egressRate: must be an integer: got 8.5'],
    [{ egressRate: '8', egressBurst: 8 }, 'egressRate: must be a number: got "8"'],
    [{ ingressRate: 8000 }, 'ingressBurst: if rate is set, burst must also be set: ingressRate is'],
    [{ egressBurst: 8000 }, 'egressRate: if burst is set, rate must also be set: egressBurst is'],
    [{ egressRate: 7, egressBurst: 8000 }, 'egressRate: must be at least 8 (bits per second): got 7'],
    [{ egressRate: 8000, egressBurst: 7 }, 'egressBurst: must be at least 8 (bits): got 7'],
    [
      { ingressRate: 1e10, ingressBurst: 800 },
      'ingressBurst: must be more, because at ingressRate 10000000000 it is gone in less than a microsecond: got 800',
    ],
    [
      { ingressRate: 8000, ingressBurst: 2 ** 35 },
      'ingressBurst: burst cannot be more than 4GB: must be at most 34359738367 (bits): got 34359738368',
    ],
    [
      { runtimeConfig: { bandwidth: { ingressRate: -5 } } },
      'runtimeConfig.bandwidth.ingressRate: must be at least 0: got -5',
    ],
    [
      { runtimeConfig: { bandwidth: { egressRate: 8000 } } },
      'runtimeConfig.bandwidth.egressBurst: if rate is set, burst must also be set: runtimeConfig.bandwidth.egressRate is',
    ],
    [
      { unshapedSubnets: ['10.0.0.0/8', 'hello'] },
      'unshapedSubnets[1]: must be an address with prefix length: got "hello"',
    ],
    [
      { shapedSubnets: ['10.0.0.0/33'] },
      'shapedSubnets[0]: must be an address with prefix length: got "10.0.0.0/33"',
    ],
    [
      { shapedSubnets: ['10.0.0.0/8'], unshapedSubnets: ['::/0'] },
      'shapedSubnets: cannot be set together with unshapedSubnets: one of them says it all',
    ],
    [
      { prevResult: null },
      'prevResult: bandwidth: Required prevResult missing: This plugin must be called as chained plugin, missing prevResult from earlier plugin',
    ],
  ])('%j', async (config, msg) => {
    using net = connected()
    const before = snapshot()
    const { json } = await call(bandwidth, 'ADD', net.callFor(config))
    expect(json).toMatchObject({ code: 7, msg })
    expect(difference(before, snapshot())).toEqual({ added: [], gone: [] })
  })

  test('a version that has no interfaces in results', async () => {
    using net = connected()
    const { json } = await call(bandwidth, 'ADD', net.callFor({ ...limits, cniVersion: '0.2.0' }))
    expect(json).toMatchObject({ code: 1, msg: 'incompatible CNI versions' })
  })
})
