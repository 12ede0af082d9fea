/** Where a decision shows, and that an attachment keeps its own for life. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { bridge } from '../../../main/bridge.ts'
import { ptp } from '../../../main/ptp.ts'
import { firewall } from '../../../meta/firewall.ts'
import { portmap } from '../../../meta/portmap.ts'
import { outsideHost } from '../../fixtures/bridge.ts'
import { getHttp, serveHttp } from '../../fixtures/http.ts'
import { choose, variants } from '../../fixtures/iptables.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'
import {
  call,
  mustCall,
  mustExecute,
  ourExecutable,
  ours,
  peerExecutable,
  peers,
} from '../../fixtures/plugin.ts'
import { firewalled } from '../../meta/firewall/place.ts'
import { bridgeConfig, http, published } from '../../meta/portmap/place.ts'
import { backendsOf, clearHost, nodeWide, run, useIptables } from './place.ts'

beforeAll(clearHost)
afterEach(clearHost)
afterAll(clearHost)

const changes = variants.flatMap(variant => [
  {
    name: `the node has come to use iptables (${variant})`,
    variant,
    backend: 'nftables' as const,
    before: () => {},
    after: () => {
      useIptables(variant)
      run(variant, 'ip', '-t', 'nat', '-A', 'POSTROUTING', '-d', '203.0.113.0/24', '-j', 'ACCEPT')
    },
  },
  {
    name: `the node no longer uses iptables (${variant})`,
    variant,
    backend: variant,
    before: () => useIptables(variant),
    after: () => run(variant, 'ip', '-D', 'INPUT', '-s', '203.0.113.9', '-j', 'DROP'),
  },
])

describe.each(changes)('when $name', ({ variant, backend, before, after }) => {
  test('CHECK looks at what ADD has chosen, traffic goes on, the next container is of the new kind, DEL takes both', async () => {
    using _choice = choose(variant)
    using outside = outsideHost()
    using one = freshNamespace()
    using two = freshNamespace()
    using _one = serveHttp(one, { port: 80, answer: 'one' })
    using _two = serveHttp(two, { port: 80, answer: 'two' })
    before()
    const first = published(one, { mappings: [http(8080)], containerId: 'first' })
    await first.add()
    expect(backendsOf()).toEqual([backend])
    after()
    expect(await first.check()).toMatchObject({ status: 0 })
    const second = published(two, { mappings: [http(8081)], containerId: 'second' })
    await second.add()
    expect(new Set(backendsOf())).toEqual(new Set([variant, 'nftables']))
    for (const chain of [first, second]) expect(await chain.check()).toMatchObject({ status: 0 })
    expect(await getHttp(outside, { address: '192.0.2.1', port: 8080 })).toBe('one')
    expect(await getHttp(outside, { address: '192.0.2.1', port: 8081 })).toBe('two')
    await first.del()
    expect(await second.check()).toMatchObject({ status: 0 })
    await second.del()
    expect(backendsOf()).toEqual([])
  })

  test('so does the firewall', async () => {
    using _choice = choose(variant)
    using one = freshNamespace()
    using two = freshNamespace()
    before()
    const first = firewalled(one)
    await first.add()
    expect(backendsOf()).toEqual([backend])
    after()
    expect(await first.check()).toMatchObject({ status: 0 })
    const second = firewalled(two)
    await second.add()
    expect(new Set(backendsOf())).toEqual(new Set([variant, 'nftables']))
    for (const chain of [first, second]) expect(await chain.check()).toMatchObject({ status: 0 })
    await first.del()
    expect(await second.check()).toMatchObject({ status: 0 })
    await second.del()
    expect(backendsOf()).toEqual([])
  })

  test('a port that one kind holds is refused to a container of the other, naming its publisher', async () => {
    using _choice = choose(variant)
    using one = freshNamespace()
    using two = freshNamespace()
    before()
    const first = published(one, { mappings: [http(8080)], containerId: 'first' })
    await first.add()
    after()
    const { json } = await call(portmap, 'ADD', {
      netns: two,
      containerId: 'second',
      config: {
        type: 'portmap',
        runtimeConfig: { portMappings: [http(8080)] },
        prevResult: { cniVersion: '1.1.0', ips: [{ address: '10.1.0.77/16' }] },
      },
    })
    expect(json).toMatchObject({
      msg: expect.stringMatching(/^host port 8080\/tcp is taken .* id: first\)$/),
    })
    await first.del()
    expect(backendsOf()).toEqual([])
  })
})

test.each(variants)('what the Go plugins have made (%s), CHECK looks at in iptables', async variant => {
  using _choice = choose(variant)
  using container = freshNamespace()
  const chain = published(container, { mappings: [http(8080)] })
  const options = { netns: container, path: peers, environment: { PATH: process.env.PATH } }
  const prevResult = mustExecute(peerExecutable('bridge'), 'ADD', {
    ...options,
    config: { ...bridgeConfig, ipMasqBackend: 'iptables' },
  })
  mustExecute(peerExecutable('portmap'), 'ADD', {
    ...options,
    config: {
      type: 'portmap',
      backend: 'iptables',
      runtimeConfig: { portMappings: [http(8080)] },
      prevResult,
    },
  })
  mustExecute(peerExecutable('firewall'), 'ADD', { ...options, config: { type: 'firewall', prevResult } })
  const silently = (config: object) => ({ ...options, config: { ...config, prevResult } })
  const ports = { type: 'portmap', runtimeConfig: { portMappings: [http(8080)] } }
  expect(await call(bridge, 'CHECK', silently(bridgeConfig))).toMatchObject({ status: 0 })
  expect(await call(portmap, 'CHECK', silently(ports))).toMatchObject({ status: 0 })
  expect(await call(firewall, 'CHECK', silently({ type: 'firewall' }))).toMatchObject({ status: 0 })
  run(variant, 'ip', '-D', 'CNI-FORWARD', '2')
  expect((await call(firewall, 'CHECK', silently({ type: 'firewall' }))).json).toMatchObject({
    msg: expect.stringContaining('iptables rule CNI-FORWARD'),
  })
  await mustCall(firewall, 'DEL', silently({ type: 'firewall' }))
  await chain.del()
  expect(backendsOf()).toEqual([])
})

const ipam = { type: 'host-local', subnet: '10.1.0.0/16' }
const silent = [
  {
    plugin: bridge,
    config: { type: 'bridge', bridge: 'cni0', ipMasq: true, ipam },
    what: 'addresses are masqueraded',
  },
  { plugin: ptp, config: { type: 'ptp', ipMasq: true, ipam }, what: 'addresses are masqueraded' },
  { plugin: portmap, config: { type: 'portmap' }, what: 'ports are published' },
  { plugin: firewall, config: { type: 'firewall' }, what: 'packets are accepted' },
]

describe.each(silent)('STATUS of $plugin.name', ({ plugin, config, what }) => {
  const status = () => call(plugin, 'STATUS', { config, path: peers })

  test('says nftables where iptables is not in use', async () => {
    expect(await status()).toMatchObject({
      status: 0,
      stdout: '',
      stderr: `${what} by nftables, because nothing on this node uses iptables\n`,
    })
  })

  test('says iptables, and what shows its use', async () => {
    useIptables('nf_tables')
    expect(await status()).toMatchObject({
      status: 0,
      stderr: `${what} by iptables (nf_tables), because this node uses it: a rule in chain INPUT of table filter of iptables (nf_tables)\n`,
    })
  })

  test('names the file that decides for the node', async () => {
    using _node = nodeWide({ backend: 'nftables' })
    expect((await status()).stderr).toBe(`${what} by nftables, because /etc/cni/catena.json says so\n`)
  })

  test('refuses what the file must not say', async () => {
    using _node = nodeWide({ backend: 'both' })
    expect(await status()).toMatchObject({ status: 1, json: { code: 7 } })
  })
})

test('an explicit backend needs no words', async () => {
  for (const { plugin, config } of silent) {
    const key = 'ipam' in config ? 'ipMasqBackend' : 'backend'
    const options = { config: { ...config, [key]: 'nftables' }, path: peers }
    expect(await call(plugin, 'STATUS', options)).toMatchObject({ status: 0, stderr: '' })
  }
})

test('portmap warns where iptables drops what is forwarded, and publishes all the same', async () => {
  using container = freshNamespace()
  const chain = published(container, { mappings: [http(8080)] })
  const result = await chain.add()
  await mustCall(portmap, 'DEL', { netns: container, config: { type: 'portmap' } })
  run('nf_tables', 'ip', '-P', 'FORWARD', 'DROP')
  const config = { type: 'portmap', runtimeConfig: { portMappings: [http(8080)] }, prevResult: result }
  const { status, stderr } = await call(portmap, 'ADD', { netns: container, config })
  expect(status).toBe(0)
  expect(stderr).toMatch(
    /^portmap: FORWARD of iptables drops what no rule accepts: ports published on 10\.1\.\S+ and fd00:1::\S+ are reached from outside only where the plugin firewall follows/,
  )
  await chain.del()
})

describe('catena list', () => {
  /** The command, with a network of two plugins. */
  function place() {
    const folder = mkdtempSync('/run/list-')
    const network = {
      cniVersion: '1.1.0',
      name: 'listed',
      plugins: [
        {
          type: 'bridge',
          bridge: 'list0',
          isGateway: true,
          ipMasq: true,
          ipam: { ...ipam, subnet: '10.44.0.0/24' },
        },
        { type: 'portmap', capabilities: { portMappings: true } },
        { type: 'firewall' },
      ],
    }
    writeFileSync(`${folder}/10-listed.conflist`, JSON.stringify(network))
    const catena = (words: string[], terminal = false) => {
      const command = [ourExecutable('catena'), ...words]
      const { exitCode, stdout, stderr } = Bun.spawnSync(
        terminal ? ['script', '-qec', command.join(' '), '/dev/null'] : command,
        { env: { NETCONFPATH: folder, CNI_PATH: ours, PATH: process.env.PATH, TERM: 'xterm' } },
      )
      if (exitCode !== 0) throw new Error(`catena ${words.join(' ')}: ${stdout}${stderr}`)
      return stdout.toString()
    }
    return { catena, [Symbol.dispose]: () => rmSync(folder, { recursive: true }) }
  }

  test('shows what keeps the rules of each attachment, to programs and to people', async () => {
    using one = freshNamespace()
    using two = freshNamespace()
    using node = place()
    const ports = (hostPort: number) => ['--cap-args', JSON.stringify({ portMappings: [http(hostPort)] })]
    node.catena(['add', 'listed', one.name, '--container-id', 'one', ...ports(8080)])
    useIptables('nf_tables')
    node.catena(['add', 'listed', two.name, '--container-id', 'two', ...ports(8081)])
    const all = (backend: string) => ({ masquerade: backend, ports: backend, firewall: backend })
    const listed = JSON.parse(node.catena(['list', 'listed'])) as { containerId: string; backends: object }[]
    expect(listed.map(({ containerId, backends }) => [containerId, backends])).toEqual([
      ['one', all('nftables')],
      ['two', all('iptables')],
    ])
    const shown = node.catena(['list', 'listed'], true)
    expect(shown).toContain('rules in nftables')
    expect(shown).toContain('rules in iptables')
    for (const [{ name }, id] of [[one, 'one'] as const, [two, 'two'] as const])
      node.catena(['del', 'listed', name, '--container-id', id])
  })
})
