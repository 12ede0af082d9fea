/** Which containers reach which: `ingressPolicy`, with nftables. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { firewall } from '../../../meta/firewall.ts'
import { askUdp, serveUdp } from '../../fixtures/http.ts'
import { freshNamespace, hostNamespace } from '../../fixtures/namespace.ts'
import { call, mustCall, peers } from '../../fixtures/plugin.ts'
import {
  addressesIn,
  detectDuplicates,
  elements,
  expectReached,
  firewalled,
  nft,
  OUTSIDE,
  outsideHost,
  removeBridges,
  seeBridged,
  serveAll,
  threeContainers,
} from './place.ts'

const nftables = { backend: 'nftables' }

beforeAll(() => detectDuplicates('0'))
afterAll(() => detectDuplicates('1'))

afterEach(() => {
  nft('flush', 'ruleset')
  removeBridges()
})

describe('ingressPolicy', () => {
  test.each([
    { ingressPolicy: 'open', fromSibling: 'both', fromOther: 'both', bridged: '1' },
    { ingressPolicy: 'same-bridge', fromSibling: 'both', fromOther: 'none', bridged: '1' },
    { ingressPolicy: 'isolated', fromSibling: 'none', fromOther: 'none', bridged: '1' },
    { ingressPolicy: 'isolated', fromSibling: 'none', fromOther: 'none', bridged: '0' },
  ] as const)(
    '$ingressPolicy (bridge-nf-call-iptables $bridged): a container is reached by its sibling ($fromSibling), from another bridge ($fromOther), from outside and by the host',
    async ({ ingressPolicy, fromSibling, fromOther, bridged }) => {
      using _bridged = seeBridged(bridged)
      using outside = outsideHost()
      using host = hostNamespace()
      using place = threeContainers()
      const { one, sibling, other } = place
      const config = { ...nftables, ingressPolicy }
      const first = firewalled(one, { config })
      const chains = [first, firewalled(sibling, { config }), firewalled(other, { config, number: 2 })]
      for (const chain of chains) await chain.add()
      using _servers = serveAll(one, outside)
      const addresses = addressesIn(first)
      await expectReached(sibling, addresses, fromSibling)
      await expectReached(other, addresses, fromOther)
      await expectReached(outside, addresses, 'both')
      await expectReached(host, addresses, 'both')
      await expectReached(one, OUTSIDE, 'both')
      for (const chain of chains) expect(await chain.check()).toMatchObject({ status: 0 })
      for (const chain of chains) await chain.del()
      expect(nft('list', 'ruleset')).toBe('')
    },
  )

  test.each([
    { what: 'frame between ports', bridged: '0' as const, without: [] },
    {
      what: 'packet within the bridge',
      bridged: '1' as const,
      without: ['delete', 'table', 'bridge', 'catena'],
    },
  ])('isolated: not even a single $what gets through, in either direction', async ({ bridged, without }) => {
    using _bridged = seeBridged(bridged)
    using place = threeContainers()
    const first = firewalled(place.one, { config: { ...nftables, ingressPolicy: 'isolated' } })
    const neighbour = firewalled(place.sibling, { config: nftables })
    await first.add()
    await neighbour.add()
    if (without.length > 0) nft(...without)
    const ends = [
      { from: place.sibling, to: place.one, address: addressesIn(first)[0] },
      { from: place.one, to: place.sibling, address: addressesIn(neighbour)[0] },
    ]
    for (const { from, to, address } of ends) {
      // known already, so that no question about it has to be answered first
      const mac = to.link('eth0').address
      from.run('ip', 'neigh', 'replace', address, 'lladdr', mac, 'dev', 'eth0', 'nud', 'permanent')
      using server = await serveUdp(to, { port: 5000 })
      await expect(askUdp(from, { address, port: 5000 }, { timeout: 300 })).rejects.toThrow('no answer')
      expect(server.clients).toEqual([])
    }
    await first.del()
    await neighbour.del()
  })

  test('behind ptp, each container is a network of its own', async () => {
    using place = threeContainers()
    const config = { ...nftables, ingressPolicy: 'same-bridge' }
    const first = firewalled(place.one, { config, through: 'ptp' })
    const second = firewalled(place.other, { config, through: 'ptp', number: 2 })
    await first.add()
    await second.add()
    using _servers = serveAll(place.one)
    await expectReached(place.other, addressesIn(first), 'none')
    expect(await second.check()).toMatchObject({ status: 0 })
    await second.del()
    await first.del()
    expect(nft('list', 'ruleset')).toBe('')
  })

  test('a bridge is fenced until its last container has gone', async () => {
    using place = threeContainers()
    const { one, sibling, other } = place
    const config = { ...nftables, ingressPolicy: 'same-bridge' }
    const first = firewalled(one, { config })
    const second = firewalled(sibling, { config })
    const far = firewalled(other, { config, number: 2 })
    for (const chain of [first, second, far]) await chain.add()
    using _servers = serveAll(other)
    const to = addressesIn(far)
    await second.del()
    await expectReached(one, to, 'none')
    await first.del()
    const policies = elements().filter(element => element.includes('policy_'))
    expect(policies.filter(element => element.includes('cni1'))).toEqual([])
    expect(policies.filter(element => element.includes('cni2'))).toHaveLength(6)
    const open = firewalled(one, { config: nftables })
    await open.add()
    await expectReached(one, to, 'both')
    await open.del()
    await far.del()
    expect(nft('list', 'ruleset')).toBe('')
  })

  test('another policy replaces the one that a container had', async () => {
    using place = threeContainers()
    const { one, sibling } = place
    const first = firewalled(one, { config: { ...nftables, ingressPolicy: 'isolated' } })
    await first.add()
    const neighbour = firewalled(sibling, { config: nftables })
    await neighbour.add()
    using _servers = serveAll(one)
    const addresses = addressesIn(first)
    await expectReached(sibling, addresses, 'none')
    const change = (ingressPolicy: string) =>
      mustCall(firewall, 'ADD', {
        netns: one,
        containerId: one.name,
        config: { ...nftables, name: 'net-1', ingressPolicy, prevResult: first.result },
      })
    await change('same-bridge')
    sibling.run('ip', 'neigh', 'flush', 'all') // who did not answer is asked again at once
    await expectReached(sibling, addresses, 'both')
    expect(elements()).toContain('ip policy_bridge cni1')
    await change('open')
    await mustCall(firewall, 'DEL', { containerId: sibling.name, config: { name: 'net-1' } })
    expect(elements().filter(element => !element.includes('forwarded'))).toEqual([])
    await first.del()
  })

  test('the bridge is the one that the host end is on, whatever prevResult lists first', async () => {
    using container = freshNamespace()
    const config = { ...nftables, ingressPolicy: 'isolated' }
    const chain = firewalled(container, { config })
    await chain.add()
    const [bridge, hostEnd, inside] = chain.result.interfaces
    const again = (interfaces: object[]) =>
      call(firewall, 'ADD', {
        netns: container,
        containerId: container.name,
        config: {
          ...config,
          name: 'net-1',
          prevResult: {
            ...chain.result,
            interfaces,
            ips: chain.result.ips.map(({ address }: { address: string }) => ({ address })),
          },
        },
      })
    for (const interfaces of [[inside, hostEnd], [hostEnd], [inside, hostEnd, bridge]]) {
      expect(await again(interfaces)).toMatchObject({ status: 0 })
      expect(elements()).toContain('ip6 policy_bridge cni1')
      expect(elements()).toContain(`bridge isolated_port ${hostEnd.name}`)
    }
    expect((await again([inside])).json).toMatchObject({
      code: 7,
      msg: expect.stringMatching(/^ingressPolicy: /),
    })
    await chain.del()
  })
})

test('containers that come and go at once leave nothing, and no policy is lost', async () => {
  using places = new DisposableStack()
  const config = { ...nftables, ingressPolicy: 'isolated' }
  const chains = Array.from({ length: 6 }, () => firewalled(places.use(freshNamespace()), { config }))
  for (const chain of chains) await chain.add()
  const plugin = async (verb: 'ADD' | 'DEL', at: number) => {
    const child = Bun.spawn([process.execPath, 'meta/firewall.ts'], {
      cwd: `${import.meta.dir}/../../..`,
      stdin: Buffer.from(
        JSON.stringify({ cniVersion: '1.1.0', name: 'net-1', ...config, prevResult: chains[at]?.result }),
      ),
      env: {
        PATH: process.env.PATH,
        CNI_COMMAND: verb,
        CNI_CONTAINERID: `other-${at}`,
        CNI_IFNAME: 'eth0',
        CNI_NETNS: '/run/none',
        CNI_PATH: peers,
      },
    })
    expect(await child.exited, await child.stdout.text()).toBe(0)
  }
  // each takes over an address from the one before: additions and removals of one bridge's last members
  for (let round = 0; round < 3; round++) {
    await Promise.all(chains.map((_, at) => plugin('ADD', at)))
    const [, ...others] = chains.map((_, at) => at)
    await Promise.all(others.map(at => plugin('DEL', at)))
    expect(elements().filter(element => element.includes('policy_bridge'))).toEqual([
      'ip policy_bridge cni1',
      'ip6 policy_bridge cni1',
    ])
    await Promise.all([plugin('DEL', 0), plugin('ADD', 1)])
    expect(elements()).toContain('ip policy_bridge cni1')
    await Promise.all(chains.map((_, at) => plugin('DEL', at)))
    expect(nft('list', 'ruleset')).toBe('')
  }
  for (const chain of chains) await chain.del()
})

describe('CHECK notices', () => {
  const harms = (addresses: [string, string], port: string): [string, string][] => [
    ['delete table ip catena', 'table ip catena is missing'],
    ['delete table bridge catena', 'table bridge catena is missing'],
    [`delete element ip catena forwarded { ${addresses[0]} }`, 'ip catena forwarded'],
    [`delete element ip6 catena forwarded { ${addresses[1]} }`, 'ip6 catena forwarded'],
    [`delete element ip catena policy_member { cni1 . ${addresses[0]} }`, 'ip catena policy_member'],
    ['delete element ip6 catena policy_bridge { cni1 }', 'ip6 catena policy_bridge'],
    ['delete element ip catena policy_inside { cni1 . cni1 }', 'ip catena policy_inside'],
    [`delete element ip6 catena isolated { cni1 . ${addresses[1]} }`, 'ip6 catena isolated'],
    [`delete element bridge catena isolated_port { ${port} }`, 'bridge catena isolated_port'],
    ['flush chain ip catena forward', 'chain ip catena forward has 0 rules instead of 6'],
    ['insert rule ip6 catena forward accept', 'chain ip6 catena forward has 7 rules instead of 6'],
    ['flush chain bridge catena forward', 'chain bridge catena forward has 0 rules instead of 2'],
    ['flush chain ip6 catena overrides', 'chain ip6 catena overrides no longer jumps to CNI-ADMIN'],
  ]

  test.each(harms(['', ''], '').map((_, at) => at))('harm number %d', async at => {
    using container = freshNamespace()
    const chain = firewalled(container, { config: { ...nftables, ingressPolicy: 'isolated' } })
    await chain.add()
    expect(await chain.check()).toMatchObject({ status: 0 })
    const [command = '', words] = harms(addressesIn(chain), chain.result.interfaces[1].name)[at] ?? []
    nft(command)
    expect((await chain.check()).json).toMatchObject({ msg: expect.stringContaining(words ?? 'nothing') })
    await chain.del()
    expect(nft('list', 'ruleset')).toBe('')
  })
})
