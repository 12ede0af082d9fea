/** `ipMasqBackend: "iptables"` of bridge and ptp, beside the Go plugins, with either variant of iptables. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { masqueradeChain } from '../../../chain/filter/iptables/masquerade.ts'
import { removeLink } from '../../../chain/linux/netlink/link.ts'
import { bridge } from '../../../main/bridge.ts'
import { ptp } from '../../../main/ptp.ts'
import { outsideHost } from '../../fixtures/bridge.ts'
import { getHttp, serveHttp } from '../../fixtures/http.ts'
import { choose, clearRules, iptables, saved, variants } from '../../fixtures/iptables.ts'
import { freshNamespace, hostNamespace } from '../../fixtures/namespace.ts'
import { call, mustCall, mustExecute, peerExecutable, peers } from '../../fixtures/plugin.ts'

const families = ['ip', 'ip6'] as const
const ipam = {
  type: 'static',
  addresses: [
    { address: '10.2.0.2/24', gateway: '10.2.0.1' },
    { address: 'fd00:2::2/64', gateway: 'fd00:2::1' },
  ],
  routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
}
const configs = {
  bridge: { type: 'bridge', bridge: 'masq0', isGateway: true, ipMasq: true, ipMasqBackend: 'iptables', ipam },
  ptp: { type: 'ptp', ipMasq: true, ipMasqBackend: 'iptables', ipam },
}

beforeAll(() => clearRules()) // other tests' shared chains stay
afterEach(() => clearRules())

afterAll(() => {
  using host = hostNamespace()
  removeLink(host.route, 'masq0')
})

const variantsOfPlugins = variants.flatMap(variant =>
  [bridge, ptp].map(plugin => ({ variant, plugin, name: plugin.name as keyof typeof configs })),
)

describe.each(variantsOfPlugins)('$name with the $variant variant', ({ variant, plugin, name }) => {
  const config = configs[name]
  const rules = () => families.map(family => saved(variant, family))
  const none = [[], []]

  test('what a container sends comes from the host, and from itself within its network', async () => {
    using _choice = choose(variant)
    using outside = outsideHost()
    using container = freshNamespace()
    const options = { netns: container, config, path: peers }
    await mustCall(plugin, 'ADD', options)
    using _outside = serveHttp(outside, { port: 80 })
    using _host = serveHttp(hostNamespace(), { port: 81, address: '10.2.0.1' })
    expect(await getHttp(container, { address: '192.0.2.2', port: 80 })).toBe('192.0.2.1')
    expect(await getHttp(container, { address: '2001:db8::2', port: 80 })).toBe('2001:db8::1')
    expect(await getHttp(container, { address: '10.2.0.1', port: 81 })).toBe('10.2.0.2')
    await mustCall(plugin, 'DEL', options)
    expect(rules()).toEqual(none)
  })

  test('rules are those of the Go plugin, and either takes away what the other made', async () => {
    using _choice = choose(variant)
    using container = freshNamespace()
    const options = { netns: container, config, path: peers }
    const peer = peerExecutable(name)
    const prevResult = await mustCall(plugin, 'ADD', options)
    const own = rules()
    await mustCall(plugin, 'CHECK', { ...options, config: { ...config, prevResult } })
    mustExecute(peer, 'DEL', { ...options, config: { ...config, prevResult } })
    expect(rules()).toEqual(none)
    mustExecute(peer, 'ADD', options)
    expect(own).toEqual(rules())
    await mustCall(plugin, 'DEL', { config, path: peers }) // without the namespace
    expect(rules()).toEqual(none)
    await mustCall(plugin, 'DEL', options)
  })

  test('CHECK notices that a rule has gone', async () => {
    using _choice = choose(variant)
    using container = freshNamespace()
    const options = { netns: container, config, path: peers }
    const prevResult = await mustCall(plugin, 'ADD', options)
    const checked = { ...options, config: { ...config, prevResult } }
    await mustCall(plugin, 'CHECK', checked)
    iptables(variant, 'ip6', '-F', 'POSTROUTING')
    expect((await call(plugin, 'CHECK', checked)).json.msg).toMatch(
      /^rule POSTROUTING -s fd00:2::2 .* in table nat of ip6$/,
    )
    await mustCall(plugin, 'DEL', options)
  })

  test('the other backend takes it away as well', async () => {
    using _choice = choose(variant)
    using container = freshNamespace()
    const options = { netns: container, config, path: peers }
    await mustCall(plugin, 'ADD', options)
    await mustCall(plugin, 'DEL', { ...options, config: { ...config, ipMasqBackend: 'nftables' } })
    expect(rules()).toEqual(none)
  })

  test('GC takes away what no valid attachment owns, of both backends, whoever made it', async () => {
    using _choice = choose(variant)
    using ours = freshNamespace()
    using theirs = freshNamespace()
    using valid = freshNamespace()
    using older = freshNamespace()
    const addressed = (last: number, ipMasqBackend = 'iptables') => ({
      ...config,
      ipMasqBackend,
      ipam: { type: 'static', addresses: [{ address: `10.2.0.${last}/24`, gateway: '10.2.0.1' }] },
    })
    const options = { path: peers }
    const peer = peerExecutable(name)
    await mustCall(plugin, 'ADD', { ...options, netns: ours, containerId: 'ours', config: addressed(12) })
    mustExecute(peer, 'ADD', { ...options, netns: theirs, containerId: 'theirs', config: addressed(13) })
    mustExecute(peer, 'ADD', {
      ...options,
      netns: older,
      containerId: 'older',
      config: addressed(14, 'nftables'),
    })
    await mustCall(plugin, 'ADD', { ...options, netns: valid, containerId: 'valid', config: addressed(15) })
    const attachments = [{ containerID: 'valid', ifname: 'eth0' }]
    await mustCall(plugin, 'GC', {
      ...options,
      config: { ...addressed(15), 'cni.dev/valid-attachments': attachments },
    })
    const left = `${rules().flat().join('\n')}\n${hostNamespace().run('nft', 'list', 'ruleset')}`
    expect([12, 13, 14, 15].filter(last => left.includes(`10.2.0.${last}`))).toEqual([15])
    for (const [containerId, netns] of Object.entries({ ours, theirs, older, valid }))
      await mustCall(plugin, 'DEL', { ...options, netns, containerId, config: addressed(15) })
    expect(rules()).toEqual(none)
  })

  test('two interfaces of one container on one network: DEL of one leaves the masquerade of the other', async () => {
    using _choice = choose(variant)
    using container = freshNamespace()
    const second = {
      interface: 'eth1',
      config: {
        ...config,
        isGateway: false,
        ipam: { type: 'static', addresses: [{ address: '10.3.0.2/24', gateway: '10.3.0.1' }] },
      },
    }
    const options = { netns: container, config, path: peers }
    await mustCall(plugin, 'ADD', options)
    const before = rules()
    await mustCall(plugin, 'ADD', { ...options, ...second })
    expect(rules().flat().join()).toContain('10.3.0.2')
    expect(rules().flat().join()).toContain('10.2.0.2')
    await mustCall(plugin, 'DEL', { ...options, ...second })
    expect(rules()).toEqual(before)
    await mustCall(plugin, 'DEL', options)
    expect(rules()).toEqual(none)
  })
})

test("of several addresses, each one's network is let through before anything is masqueraded", () => {
  const attachment = { network: 'test-net', containerId: 'container-1', ifname: 'eth0' }
  const sources = [
    { address: '10.2.0.2', network: '10.2.0.0/24' },
    { address: '10.3.0.2', network: '10.3.0.0/24' },
  ]
  const { parts } = masqueradeChain(attachment, sources)
  expect(parts.ip?.rules.map(words => [words.at(-1), words[words.indexOf('-d') + 1]])).toEqual([
    ['ACCEPT', '10.2.0.0/24'],
    ['ACCEPT', '10.3.0.0/24'],
    ['MASQUERADE', '224.0.0.0/4'],
  ])
  expect(parts.ip?.enter.map(({ args }) => args[1])).toEqual(['10.2.0.2', '10.3.0.2'])
  expect(parts.ip6).toBeUndefined()
})

test.each([bridge, ptp])('$name refuses an unknown backend before anything is touched', async plugin => {
  using container = freshNamespace()
  const before = hostNamespace().links().length
  const { json } = await call(plugin, 'ADD', {
    netns: container,
    config: { ...configs.bridge, type: plugin.name, bridge: 'masq9', ipMasqBackend: 'ipfw' },
    path: peers,
  })
  expect(json).toMatchObject({
    code: 7,
    msg: expect.stringMatching(/^ipMasqBackend: unknown ipmasq backend "ipfw", must be /),
  })
  expect(hostNamespace().links()).toHaveLength(before)
})
