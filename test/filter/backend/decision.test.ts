/** Where a configuration names no backend: what of a node counts as a use of iptables, and what does not. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { decideBackend } from '../../../chain/filter/backend.ts'
import { breakTools, choose, hideTools, variants } from '../../fixtures/iptables.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'
import { mustExecute, peerExecutable, peers } from '../../fixtures/plugin.ts'
import { bridgeConfig, http, published } from '../../meta/portmap/place.ts'
import { backendsOf, clearHost, families, nodeWide, run, useIptables } from './place.ts'

beforeAll(clearHost)
afterEach(clearHost)
afterAll(clearHost)

const CHAIN = 'OPERATOR'

/** Rules of iptables, and of ip6tables, in table filter unless said otherwise. */
const uses: { name: string; rules: string[]; says: RegExp }[] = [
  {
    name: 'a rule in FORWARD',
    rules: ['-A FORWARD -j LOG'],
    says: /a rule in chain FORWARD of table filter/,
  },
  { name: 'a rule in INPUT', rules: ['-A INPUT -p tcp --dport 22 -j ACCEPT'], says: /chain INPUT/ },
  { name: 'a rule in OUTPUT', rules: ['-A OUTPUT -p icmp -j ACCEPT'], says: /chain OUTPUT/ },
  { name: 'a policy', rules: ['-P FORWARD DROP'], says: /the policy of chain FORWARD/ },
  {
    name: 'an exemption from masquerade',
    rules: ['-t nat -I POSTROUTING -o uplink -j ACCEPT'],
    says: /a rule in chain POSTROUTING of table nat/,
  },
  {
    name: 'a redirection',
    rules: ['-t nat -A PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 9090'],
    says: /chain PREROUTING/,
  },
  {
    name: 'chains like those of kube-proxy',
    rules: ['-t nat -N KUBE-SERVICES', '-t nat -A OUTPUT -j KUBE-SERVICES'],
    says: /chain OUTPUT of table nat/,
  },
  {
    name: 'a rule of others behind ours',
    rules: ['-N CNI-FORWARD', '-A FORWARD -j CNI-FORWARD', '-A FORWARD -j REJECT'],
    says: /chain FORWARD/,
  },
  {
    name: "an administrator's chain that is filled, and that ours leads to",
    rules: [
      '-N CNI-FORWARD',
      '-N CNI-ADMIN',
      '-A FORWARD -j CNI-FORWARD',
      '-A CNI-FORWARD -j CNI-ADMIN',
    ].concat('-A CNI-ADMIN -j DROP'),
    says: /a rule in chain CNI-ADMIN/,
  },
  {
    name: "Docker's chain for its user, filled, though nothing leads to it",
    rules: ['-N DOCKER-USER', '-A DOCKER-USER -j DROP'],
    says: /chain DOCKER-USER/,
  },
  { name: 'the chain that the configuration names', rules: [`-N ${CHAIN}`], says: /chain OPERATOR/ },
]

const nothing: { name: string; rules: string[] }[] = [
  { name: 'tables that somebody has only looked at', rules: ['-L', '-t nat -L'] },
  { name: 'an empty chain of others', rules: ['-N BLOCK', '-t nat -N KUBE-MARK-MASQ'] },
  { name: 'a chain of others that nothing leads to', rules: ['-N BLOCK', '-A BLOCK -j DROP'] },
  {
    name: 'rules of other tables',
    rules: ['-t mangle -A FORWARD -j MARK --set-mark 1', '-t raw -A OUTPUT -j TRACE'],
  },
  {
    name: 'chains that a firewall has made for administrators',
    rules: ['-N CNI-FORWARD', `-N ${CHAIN}`, '-A FORWARD -j CNI-FORWARD', `-A CNI-FORWARD -j ${CHAIN}`],
  },
]

describe.each(variants)('with the %s variant', variant => {
  const both = (rules: readonly string[]) => {
    for (const family of families) for (const rule of rules) run(variant, family, ...rule.split(' '))
  }

  test.each(uses)('$name is a use of iptables', async ({ rules, says }) => {
    using _choice = choose(variant)
    both(rules)
    const decision = await decideBackend('', { chain: CHAIN })
    expect(decision).toMatchObject({ backend: 'iptables', variant, why: expect.stringMatching(says) })
  })

  test.each(families)('rules of %s alone are a use', async family => {
    using _choice = choose(variant)
    run(variant, family, '-A', 'FORWARD', '-j', 'LOG')
    expect(await decideBackend('')).toMatchObject({ backend: 'iptables' })
  })

  test.each(nothing)('$name: no use', async ({ rules }) => {
    using _choice = choose(variant)
    both(rules)
    expect(await decideBackend('', { chain: CHAIN })).toMatchObject({ backend: 'nftables' })
  })

  test('what our plugins and the Go plugins have there is no use, nor what they have left', async () => {
    using _choice = choose(variant)
    using one = freshNamespace()
    using other = freshNamespace()
    const config = { backend: 'iptables' }
    const ours = published(one, { mappings: [http(8080)], config, bridge: { ipMasqBackend: 'iptables' } })
    await ours.add()
    const theirs = { netns: other, containerId: 'theirs', path: peers }
    const prevResult = mustExecute(peerExecutable('bridge'), 'ADD', {
      ...theirs,
      config: { ...bridgeConfig, ipMasqBackend: 'iptables' },
    })
    for (const [type, more] of [
      ['portmap', { runtimeConfig: { portMappings: [http(8081)] } }],
      ['firewall', { ingressPolicy: 'same-bridge' }],
    ] as const)
      mustExecute(peerExecutable(type), 'ADD', {
        ...theirs,
        config: { ...config, type, ...more, prevResult },
      })
    expect(backendsOf()).toEqual([variant])
    expect(await decideBackend('', { chain: 'CNI-ADMIN' })).toMatchObject({ backend: 'nftables' })
    await ours.del()
    mustExecute(peerExecutable('bridge'), 'DEL', { ...theirs, config: bridgeConfig })
    expect(await decideBackend('', { chain: 'CNI-ADMIN' })).toMatchObject({ backend: 'nftables' })
  })

  test('rules go where those of others are, if its tools are there, whatever the usual variant is', async () => {
    using _choice = choose(variant === 'legacy' ? 'nf_tables' : 'legacy')
    useIptables(variant)
    using container = freshNamespace()
    const chain = published(container, { mappings: [http(8080)] })
    await chain.add()
    expect(backendsOf()).toEqual([variant])
    expect(await chain.check()).toMatchObject({ status: 0 })
    await chain.del()
    expect(backendsOf()).toEqual([])
  })
})

test('a table of nft with the name of one of iptables is none', async () => {
  using container = freshNamespace()
  Bun.spawnSync([
    'nft',
    'table ip nat { chain postrouting { type nat hook postrouting priority 100; accept; }; }',
  ])
  const chain = published(container, { mappings: [http(8080)] })
  await chain.add()
  expect(backendsOf()).toEqual(['nftables'])
  await chain.del()
})

test('on a host whose iptables is not in use it is nftables', async () => {
  expect(await decideBackend(undefined)).toEqual({
    backend: 'nftables',
    why: 'nothing on this node uses iptables',
    by: 'use',
  })
})

// nerdctl 2: cni.WithArgs("NERDCTL_CNI_DHCP_HOSTNAME", …) with every container, in pkg/ocihook/ocihook.go
test.each([
  { args: 'IgnoreUnknown=1;NERDCTL_CNI_DHCP_HOSTNAME=web', backend: 'iptables' },
  { args: 'NERDCTL_CNI_DHCP_HOSTNAME=;IgnoreUnknown=1', backend: 'iptables' },
  { args: 'IgnoreUnknown=1;K8S_POD_NAME=NERDCTL_web', backend: 'nftables' },
  { args: '', backend: 'nftables' },
] as const)('CNI_ARGS $args: $backend', async ({ args, backend }) => {
  expect(await decideBackend('', { args })).toMatchObject({ backend })
})

describe('/etc/cni/catena.json', () => {
  test('says nftables, though the node uses iptables, and nerdctl calls', async () => {
    using _node = nodeWide({ backend: 'nftables' })
    useIptables('nf_tables')
    expect(await decideBackend('', { args: 'NERDCTL_CNI_DHCP_HOSTNAME=web' })).toMatchObject({
      backend: 'nftables',
      why: '/etc/cni/catena.json says so',
    })
  })

  test('says iptables, though it is not in use', async () => {
    using _node = nodeWide({ backend: 'iptables', 'x-note': 'fleet' })
    expect(await decideBackend('')).toMatchObject({ backend: 'iptables', variant: 'nf_tables' })
  })

  test("is behind the configuration's word", async () => {
    using _node = nodeWide({ backend: 'iptables' })
    expect(await decideBackend('nftables')).toMatchObject({ backend: 'nftables', by: 'configuration' })
  })

  test.each([{}, { backend: '' }, { other: 7 }])('%j says nothing', async document => {
    using _node = nodeWide(document)
    expect(await decideBackend('')).toMatchObject({ backend: 'nftables', by: 'use' })
  })

  test.each([
    { text: '{"backend":', says: /^\/etc\/cni\/catena\.json: must be JSON$/ },
    { text: '', says: /^\/etc\/cni\/catena\.json: must be JSON$/ },
    { text: '[]', says: /^\/etc\/cni\/catena\.json: must be a JSON object$/ },
    {
      text: '{"backend":"ipfw"}',
      says: /^\/etc\/cni\/catena\.json: backend: must be "nftables" or "iptables": got "ipfw"$/,
    },
  ])('$text is refused, and DEL needs no answer', async ({ text, says }) => {
    using container = freshNamespace()
    const chain = published(container, { mappings: [http(8080)] })
    await chain.add()
    {
      using _node = nodeWide(text)
      expect(decideBackend('')).rejects.toThrow(says)
      await chain.del()
    }
    expect(backendsOf()).toEqual([])
  })
})

describe('where iptables is used', () => {
  test('and its tools are not installed, it is nftables', async () => {
    useIptables('nf_tables')
    using _tools = hideTools()
    using container = freshNamespace()
    const chain = published(container, { mappings: [http(8080)] })
    await chain.add()
    expect(await decideBackend('')).toMatchObject({
      backend: 'nftables',
      why: expect.stringMatching(/^iptables is not installed, though this node uses it/),
    })
    expect(await chain.check()).toMatchObject({ status: 0 })
    await chain.del()
  })
})

test.each(['exit 1', 'echo no kernel support >&2; exit 3', 'kill -SEGV $$'])(
  'tools that do not work (%s) are found out, and nftables stands in',
  async script => {
    using choice = choose('nf_tables')
    useIptables('nf_tables')
    breakTools(choice, script)
    using container = freshNamespace()
    const chain = published(container, { mappings: [http(8080)] })
    await chain.add()
    expect(backendsOf()).toEqual(['nftables'])
    expect(await chain.check()).toMatchObject({ status: 0 })
    await chain.del()
    expect(backendsOf()).toEqual([])
  },
)
