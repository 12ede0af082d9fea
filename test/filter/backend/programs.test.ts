/**
 * What administrators and programs expect of a node with iptables: chains that are obeyed, rules of NAT that come first, ports
 * that can be read, and uninstallers that leave nothing in the way.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { rmSync } from 'node:fs'
import { removeLink } from '../../../chain/linux/netlink/link.ts'
import { bridge } from '../../../main/bridge.ts'
import { firewall } from '../../../meta/firewall.ts'
import { portmap } from '../../../meta/portmap.ts'
import { outsideHost } from '../../fixtures/bridge.ts'
import { chainOf } from '../../fixtures/chain.ts'
import { getHttp, serveHttp } from '../../fixtures/http.ts'
import { choose, variants } from '../../fixtures/iptables.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { peers } from '../../fixtures/plugin.ts'
import {
  addressesIn,
  detectDuplicates,
  expectReached,
  firewalled,
  OUTSIDE,
  serveAll,
} from '../../meta/firewall/place.ts'
import { http, published } from '../../meta/portmap/place.ts'
import { backendsOf, clearHost, families, nodeWide, run, useIptables } from './place.ts'

beforeAll(() => {
  clearHost()
  detectDuplicates('0')
})
afterEach(clearHost)
afterAll(() => {
  clearHost()
  detectDuplicates('1')
})

/** What an administrator or a program types, with the machine's choice of iptables. */
function shell(words: string): string {
  return hostNamespace().run('sh', '-c', `PATH=${process.env.PATH}; ${words}`)
}

/** What containers of the firewall's tests send comes back. */
function outsideOf(): ReturnType<typeof outsideHost> {
  const outside = outsideHost()
  outside.run('ip', 'route', 'add', '10.0.0.0/8', 'via', '192.0.2.1')
  outside.run('ip', 'route', 'add', 'fd00::/16', 'via', '2001:db8::1')
  return outside
}

describe.each(variants)("with the %s variant, an administrator's chain", variant => {
  const rejects = (chain: string) => {
    for (const family of families) {
      run(variant, family, '-N', chain)
      run(variant, family, '-A', chain, '-j', 'REJECT')
    }
  }

  const configurations = [
    { name: 'where the configuration is silent', config: {} },
    { name: 'where it says iptables', config: { backend: 'iptables' } },
    { name: 'where it says nftables', config: { backend: 'nftables' } },
  ]

  test.each(
    ['OPERATOR', 'CNI-ADMIN', 'DOCKER-USER'].flatMap(chain => configurations.map(one => ({ chain, ...one }))),
  )('$chain that rejects is obeyed $name', async ({ chain, config }) => {
    using _choice = choose(variant)
    using outside = outsideOf()
    using container = freshNamespace()
    using _servers = serveAll(outside)
    rejects(chain)
    const attached = firewalled(container, { config: { ...config, iptablesAdminChainName: chain } })
    await attached.add()
    await expectReached(container, OUTSIDE, 'none')
    expect(await attached.check()).toMatchObject({ status: 0 })
    for (const family of families) run(variant, family, '-F', chain)
    await expectReached(container, OUTSIDE, 'both')
    expect(await attached.check()).toMatchObject({ status: 0 })
    await attached.del()
    expect(backendsOf()).toEqual([])
  })

  test('is obeyed where /etc/cni/catena.json says nftables', async () => {
    using _choice = choose(variant)
    using _node = nodeWide({ backend: 'nftables' })
    using outside = outsideOf()
    using container = freshNamespace()
    using _servers = serveAll(outside)
    rejects('OPERATOR')
    const attached = firewalled(container, { config: { iptablesAdminChainName: 'OPERATOR' } })
    await attached.add()
    expect(backendsOf()).toEqual(['nftables'])
    await expectReached(container, OUTSIDE, 'none')
    run(variant, 'ip', '-D', 'FORWARD', '1')
    expect((await attached.check()).json).toMatchObject({
      msg: `iptables (${variant}) no longer leads from FORWARD over CNI-FORWARD to OPERATOR`,
    })
    await attached.del()
  })

  test.each([
    { name: 'on a host that uses iptables', isUsed: true },
    { name: 'on one that does not', isUsed: false },
  ])('may be filled after ADD $name', async ({ isUsed }) => {
    using _choice = choose(variant)
    using outside = outsideOf()
    using one = freshNamespace()
    using other = freshNamespace()
    using _servers = serveAll(outside)
    if (isUsed) useIptables(variant)
    const first = firewalled(one)
    const second = firewalled(other)
    await first.add()
    await second.add()
    expect(backendsOf()).toEqual([isUsed ? variant : 'nftables'])
    await expectReached(one, OUTSIDE, 'both')
    for (const [at, family] of families.entries()) {
      const address = addressesIn(first)[at] ?? ''
      expect(shell(`${family === 'ip' ? 'iptables' : 'ip6tables'} -S CNI-ADMIN`)).toBe('-N CNI-ADMIN\n')
      run(variant, family, '-A', 'CNI-ADMIN', '-s', address, '-j', 'REJECT')
    }
    await expectReached(one, OUTSIDE, 'none')
    await expectReached(other, OUTSIDE, 'both')
    for (const chain of [first, second]) expect(await chain.check()).toMatchObject({ status: 0 })
    await first.del()
    await second.del()
  })
})

/** The address by which a container is seen outside. */
async function seenAs(container: Namespace, outside: Namespace): Promise<string> {
  using _server = serveHttp(outside, { port: 80 })
  return await getHttp(container, { address: '192.0.2.2', port: 80 })
}

describe.each(variants)("with the %s variant, an administrator's rule of nat", variant => {
  test('exempts from masquerade', async () => {
    using _choice = choose(variant)
    using outside = outsideOf()
    using container = freshNamespace()
    run(variant, 'ip', '-t', 'nat', '-I', 'POSTROUTING', '-d', '192.0.2.0/24', '-j', 'ACCEPT')
    const chain = published(container, { mappings: [] })
    await chain.add()
    expect(await seenAs(container, outside)).toMatch(/^10\.1\./)
    run(variant, 'ip', '-t', 'nat', '-D', 'POSTROUTING', '1')
    expect(await seenAs(container, outside)).toBe('192.0.2.1')
    expect(await chain.check()).toMatchObject({ status: 0 })
    await chain.del()
  })

  const moments = ['before ADD', 'after it'].flatMap(moment =>
    ['', 'nftables'].map(backend => ({
      moment,
      backend,
      name: `${moment}, backend ${backend || 'silent'}`,
    })),
  )

  /** After ADD it stands in front of the rules of containers, as it does where these are the Go plugins'. */
  const place = (moment: string) => (moment === 'before ADD' ? '-A' : '-I')

  test.each(moments)('gives a source of its own: $name', async ({ moment, backend }) => {
    using _choice = choose(variant)
    using outside = outsideOf()
    using container = freshNamespace()
    using host = hostNamespace()
    host.addAddress(outside.uplink, '192.0.2.7/24')
    const words = [
      'POSTROUTING',
      '-s',
      '10.1.0.0/16',
      '-d',
      '192.0.2.0/24',
      '-j',
      'SNAT',
      '--to-source',
      '192.0.2.7',
    ]
    const chain = published(container, { mappings: [], bridge: { ipMasqBackend: backend } })
    if (moment === 'before ADD') run(variant, 'ip', '-t', 'nat', place(moment), ...words)
    await chain.add()
    if (moment === 'after it') run(variant, 'ip', '-t', 'nat', place(moment), ...words)
    expect(await seenAs(container, outside)).toBe('192.0.2.7')
    await chain.del()
  })

  test.each(moments)('redirects a published port: $name', async ({ moment, backend }) => {
    using _choice = choose(variant)
    using outside = outsideOf()
    using container = freshNamespace()
    using _published = serveHttp(container, { port: 80, answer: 'container' })
    using _other = serveHttp(hostNamespace(), { port: 9090, answer: 'host' })
    const chain = published(container, { mappings: [http(8080)], config: { backend } })
    const redirect = () =>
      ['PREROUTING', 'OUTPUT'].forEach(hook => {
        const words = ['-p', 'tcp', '--dport', '8080', '-j', 'REDIRECT', '--to-ports', '9090']
        run(variant, 'ip', '-t', 'nat', place(moment), hook, ...words)
      })
    if (moment === 'before ADD') redirect()
    await chain.add()
    if (moment === 'after it') redirect()
    expect(await getHttp(outside, { address: '192.0.2.1', port: 8080 })).toBe('host')
    expect(await getHttp(outside, { address: '2001:db8::1', port: 8080 })).toBe('container')
    await chain.del()
  })

  test('comes first although its table is the later one: appended on a host where iptables was not in use', async () => {
    using _choice = choose(variant)
    using outside = outsideOf()
    using container = freshNamespace()
    using _published = serveHttp(container, { port: 80, answer: 'container' })
    using _other = serveHttp(hostNamespace(), { port: 9090, answer: 'host' })
    const chain = published(container, { mappings: [http(8080)] })
    await chain.add()
    expect(backendsOf()).toEqual(['nftables'])
    const words = ['-p', 'tcp', '--dport', '8080', '-j', 'REDIRECT', '--to-ports', '9090']
    run(variant, 'ip', '-t', 'nat', '-A', 'PREROUTING', ...words)
    expect(await getHttp(outside, { address: '192.0.2.1', port: 8080 })).toBe('host')
    await chain.del()
  })
})

test('tables of the layout before, in which our NAT stood where iptables stands, keep working', async () => {
  using outside = outsideOf()
  using container = freshNamespace()
  using other = freshNamespace()
  const chain = published(container, { mappings: [http(8080)], config: { backend: 'nftables' } })
  await chain.add()
  const host = hostNamespace()
  const before = host
    .run('nft', 'list', 'ruleset')
    .replaceAll('priority dstnat + 5', 'priority dstnat')
    .replaceAll('priority srcnat + 5', 'priority srcnat')
  expect(before).not.toContain('+ 5')
  host.run('nft', 'flush', 'ruleset')
  host.inside(() => Bun.spawnSync(['nft', '-f', '-'], { stdin: Buffer.from(before), stderr: 'inherit' }))
  expect(await chain.check()).toMatchObject({ status: 0 })
  const later = published(other, { mappings: [http(8081)], containerId: 'container-2' })
  await later.add()
  using _one = serveHttp(container, { port: 80, answer: 'one' })
  using _two = serveHttp(other, { port: 80, answer: 'two' })
  expect(await getHttp(outside, { address: '192.0.2.1', port: 8080 })).toBe('one')
  expect(await getHttp(outside, { address: '192.0.2.1', port: 8081 })).toBe('two')
  for (const each of [chain, later]) expect(await each.check()).toMatchObject({ status: 0 })
  await later.del()
  await chain.del()
  expect(backendsOf()).toEqual([])
})

/**
 * nerdctl's search for free ports (pkg/portutil/iptable/iptables_linux.go, iptables.go): what of table nat
 * CNI-HOSTPORT-DNAT leads to, and the ports in it; all are free where that chain is missing.
 */
function portsThatNerdctlSees(): number[] {
  const list = (chain: string) =>
    shell(`iptables -t nat -S ${chain} || true`)
      .split('\n')
      .filter(line => line.startsWith('-A'))
  const chains = list('CNI-HOSTPORT-DNAT').flatMap(rule => / -j (CNI-DN-\S+)/.exec(rule)?.[1] ?? [])
  return chains.flatMap(list).flatMap(rule => Number(/--dport (\d+)/.exec(rule)?.[1] ?? Number.NaN))
}

/** Lima's guest agent (pkg/guestagent/iptables/iptables.go of its releases 0.x and 1.x): DNAT rules of `iptables -t nat -S`. */
function portsThatLimaForwards(): number[] {
  const pattern =
    /(?:-A\s+CNI-DN-\w*\s+)(?:(?:-d\s+)((?:[0-9]{1,3}\.){3}[0-9]{1,3}))?(?:\/32\s+)?.*(?:--dport\s+)(\d+)(?:.*)(?:-j\s+DNAT\s+--to-destination\s+)/
  return shell('iptables -t nat -S')
    .split('\n')
    .flatMap(line => Number(pattern.exec(line)?.[2] ?? Number.NaN))
    .filter(port => !Number.isNaN(port))
}

function removeBridgeAndState(): void {
  using host = hostNamespace()
  removeLink(host.route, 'cni0')
  rmSync('/var/lib/cni/networks', { recursive: true, force: true })
}

const uninstallers = [
  {
    // k3s-killall.sh of get.k3s.io
    name: 'k3s-killall',
    uninstall() {
      removeBridgeAndState()
      for (const tool of ['iptables', 'ip6tables']) {
        const words = `${tool}-save | grep -v KUBE- | grep -v CNI- | grep -iv flannel | ${tool}-restore`
        shell(words)
      }
    },
  },
  {
    // `kubeadm reset` tells its user to flush iptables and to remove what CNI has left
    name: 'kubeadm reset',
    uninstall() {
      removeBridgeAndState()
      for (const tool of ['iptables', 'ip6tables'])
        shell(`${tool} -F && ${tool} -t nat -F && ${tool} -t mangle -F && ${tool} -X`)
    },
  },
]

describe.each(variants)('with the %s variant', variant => {
  test('nerdctl sees which ports are taken, from the first container on, and gives the second another', async () => {
    using _choice = choose(variant)
    using one = freshNamespace()
    using two = freshNamespace()
    const args = 'IgnoreUnknown=1;NERDCTL_CNI_DHCP_HOSTNAME=web'
    const start = async (container: Namespace, containerId: string) => {
      const taken = portsThatNerdctlSees()
      const port = [49153, 49154, 49155].find(free => !taken.includes(free)) ?? 0
      const chain = nerdctls(container, { containerId, args, port })
      await chain.add()
      return { chain, port }
    }
    const first = await start(one, 'first')
    const second = await start(two, 'second')
    expect([first.port, second.port]).toEqual([49153, 49154])
    expect(new Set(portsThatNerdctlSees())).toEqual(new Set([49153, 49154]))
    expect(backendsOf()).toEqual([variant])
    await first.chain.del()
    expect(new Set(portsThatNerdctlSees())).toEqual(new Set([49154]))
    await second.chain.del()
    expect(backendsOf()).toEqual([])
  })

  test("Lima's guest agent finds the ports of a node that uses iptables", async () => {
    using _choice = choose(variant)
    using container = freshNamespace()
    useIptables(variant)
    const chain = published(container, { mappings: [http(8080), http(8443)] })
    await chain.add()
    expect(new Set(portsThatLimaForwards())).toEqual(new Set([8080, 8443]))
    await chain.del()
    expect(portsThatLimaForwards()).toEqual([])
  })

  test.each(uninstallers)(
    "after $name, the host's own server on the port is reached",
    async ({ uninstall }) => {
      using _choice = choose(variant)
      using outside = outsideOf()
      using container = freshNamespace()
      useIptables(variant)
      const chain = nerdctls(container, { containerId: 'web', args: '', port: 8080 })
      await chain.add()
      {
        using _server = serveHttp(container, { port: 80, answer: 'container' })
        expect(await getHttp(outside, { address: '192.0.2.1', port: 8080 })).toBe('container')
      }
      uninstall()
      using _own = serveHttp(hostNamespace(), { port: 8080, answer: 'host' })
      for (const address of ['192.0.2.1', '2001:db8::1'])
        expect(await getHttp(outside, { address, port: 8080 })).toBe('host')
      expect(backendsOf()).toEqual([])
      await chain.del()
    },
  )
})

/** The list that nerdctl writes: bridge, portmap, firewall. */
function nerdctls(container: Namespace, given: { containerId: string; args: string; port: number }) {
  const { containerId, args, port } = given
  const ipam = {
    type: 'host-local',
    ranges: [[{ subnet: '10.4.0.0/24' }], [{ subnet: 'fd00:4::/64' }]],
    routes: [{ dst: '0.0.0.0/0' }],
  }
  const runtimeConfig = { portMappings: [http(port)] }
  return chainOf(
    [
      { plugin: bridge, config: { type: 'bridge', bridge: 'cni0', isGateway: true, ipMasq: true, ipam } },
      { plugin: portmap, config: { type: 'portmap', runtimeConfig } },
      { plugin: firewall, config: { type: 'firewall', ingressPolicy: 'same-bridge' } },
    ],
    { netns: container, containerId, args, path: peers, name: 'bridge' },
  )
}
