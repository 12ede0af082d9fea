/** `catena restore`: rules that somebody has flushed come back, and connections that were open go on. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { served } from '../../chain/catena.ts'
import { styleFor } from '../../chain/cli/render.ts'
import { describeRestoration } from '../../chain/cli/restore/print.ts'
import { isIncomplete, type Restoration, restore } from '../../chain/cli/restore/restore.ts'
import { removeNamespace } from '../../chain/linux/netns.ts'
import { type Outside, outsideHost } from '../fixtures/bridge.ts'
import { getHttp, serveHttp } from '../fixtures/http.ts'
import { breakTools, choose, clearRules, iptables, saved } from '../fixtures/iptables.ts'
import { hostNamespace, type Namespace, namespaceAt } from '../fixtures/namespace.ts'
import { type Added, freshNode, seen, type TestNode } from '../fixtures/node.ts'
import { flushRuleset, ruleset } from '../fixtures/ruleset.ts'

setDefaultTimeout(30_000)

const publish = (hostPort: number) => ({
  capabilityArgs: { portMappings: [{ hostPort, containerPort: 80, protocol: 'tcp' }] },
})

const chain = (name: string, subnet: string, backend: 'nftables' | 'iptables') => [
  {
    type: 'bridge',
    bridge: `br-${name}`,
    isDefaultGateway: true,
    ipMasq: true,
    ipMasqBackend: backend,
    macspoofchk: backend === 'nftables',
    ipam: { type: 'host-local', ranges: [[{ subnet }]] },
  },
  { type: 'portmap', backend, capabilities: { portMappings: true } },
  { type: 'firewall', backend },
]

let node: TestNode
let outside: Outside
const host = hostNamespace()
const added: Added[] = []

async function add(...words: Parameters<TestNode['add']>): Promise<Added> {
  const container = await node.add(...words)
  added.push(container)
  return container
}

beforeAll(async () => {
  node = await freshNode()
  outside = outsideHost()
})
afterEach(async () => {
  for (const container of added.splice(0)) await container.del()
  clearRules()
  flushRuleset()
})
afterAll(async () => {
  outside[Symbol.dispose]()
  await node[Symbol.asyncDispose]()
})

const run = (more: { dryRun?: boolean; network?: string } = {}) =>
  restore(seen(), { load: served.load, builtins: served.builtins, dryRun: false, ...more })

/** Per plugin, what became of it. */
const outcomes = ({ attachments }: Restoration, container: Added): Record<string, string> =>
  Object.fromEntries(
    attachments
      .filter(({ containerId }) => containerId === container.containerId)
      .flatMap(({ parts }) => parts.map(({ plugin, outcome, error }) => [plugin, error?.msg ?? outcome])),
  )

const all = (outcome: string) => ({ bridge: outcome, portmap: outcome, firewall: outcome })

/** A connection from outside that stays open: each line that is sent comes back. */
async function stream(container: Namespace, port: number) {
  const server = container.inside(() =>
    Bun.listen({
      hostname: '0.0.0.0',
      port: 80,
      socket: { data: (socket, chunk) => void socket.write(chunk) },
    }),
  )
  let answered = Promise.withResolvers<string>()
  const { opening } = outside.inside(() => ({
    opening: Bun.connect({
      hostname: '192.0.2.1',
      port,
      socket: {
        data: (_, chunk) => answered.resolve(`${chunk}`),
        close: () => answered.reject(new Error('the stream was closed')),
        error: (_, error) => answered.reject(error),
      },
    }),
  }))
  const socket = await opening
  return {
    echo(line: string): Promise<string> {
      answered = Promise.withResolvers<string>()
      socket.write(line)
      return answered.promise
    },
    [Symbol.dispose]() {
      answered.promise.catch(() => {})
      socket.terminate()
      server.stop(true)
    },
  }
}

/** As the outside world sees the container. */
async function clientSeenFrom(container: Namespace): Promise<string> {
  using _server = serveHttp(outside, { port: 8000 })
  return await getHttp(container, { address: '192.0.2.2', port: 8000 }, 3000)
}

describe('by nftables', () => {
  test('two containers have all back after a flush, and an open stream through a published port goes on', async () => {
    node.network('nft', '10.41.0.0/24', chain('nft', '10.41.0.0/24', 'nftables'))
    const web = await add('nft', 'web', publish(8080))
    const api = await add('nft', 'api', publish(8081))
    const before = ruleset()
    using inWeb = namespaceAt(web.netns)
    using inApi = namespaceAt(api.netns)
    {
      using open = await stream(inWeb, 8080)
      expect(await open.echo('before')).toBe('before')
      flushRuleset()
      const looked = await run({ dryRun: true })
      expect(outcomes(looked, web)).toEqual(all('missing'))
      expect(isIncomplete(looked)).toBe(true)
      expect(ruleset()).toBe('')
      const restored = await run()
      expect(outcomes(restored, web)).toEqual(all('restored'))
      expect(outcomes(restored, api)).toEqual(all('restored'))
      expect(isIncomplete(restored)).toBe(false)
      expect(await open.echo('after')).toBe('after')
    }
    expect(sorted(ruleset())).toEqual(sorted(before))
    using _server = serveHttp(inApi, { port: 80, answer: 'api' })
    expect(await getHttp(outside, { address: '192.0.2.1', port: 8081 })).toBe('api')
    expect(await getHttp(host, { address: '127.0.0.1', port: 8081 })).toBe('api')
    expect(await clientSeenFrom(inWeb)).toBe('192.0.2.1')
    for (const container of added.splice(0)) await container.del()
    expect(ruleset()).toBe('')
  })

  test('what is there is not touched, and what is missing of it comes back alone', async () => {
    node.network('part', '10.42.0.0/24', chain('part', '10.42.0.0/24', 'nftables'))
    const web = await add('part', 'web', publish(8080))
    const before = ruleset()
    const untouched = await run()
    expect(outcomes(untouched, web)).toEqual(all('there'))
    expect(describeRestoration(untouched, { style: styleFor({ isTerminal: false }), width: 80 })).toBe(
      '1 of 1 attachments had all their rules',
    )
    expect(ruleset()).toBe(before)
    host.setSysctl('net/ipv4/ip_forward', '0')
    expect(outcomes(await run(), web)).toEqual({ bridge: 'restored', portmap: 'there', firewall: 'there' })
    expect(host.sysctl('net/ipv4/ip_forward')).toBe('1')
    host.run('nft', 'flush', 'set', 'ip', 'catena', 'masquerade_source')
    expect(outcomes(await run(), web)).toEqual({ bridge: 'restored', portmap: 'there', firewall: 'there' })
    expect(sorted(ruleset())).toEqual(sorted(before))
  })

  test('a pair without a bridge has its masquerade and its ports back', async () => {
    const ipam = {
      type: 'host-local',
      ranges: [[{ subnet: '10.49.0.0/24' }]],
      routes: [{ dst: '0.0.0.0/0' }],
    }
    const [, ...others] = chain('pair', '', 'nftables')
    node.network('pair', '10.49.0.0/24', [{ type: 'ptp', ipMasq: true, ipam }, ...others])
    const web = await add('pair', 'web', publish(8080))
    const before = ruleset()
    flushRuleset()
    expect(outcomes(await run(), web)).toEqual({ ptp: 'restored', portmap: 'restored', firewall: 'restored' })
    expect(sorted(ruleset())).toEqual(sorted(before))
    using inWeb = namespaceAt(web.netns)
    expect(await clientSeenFrom(inWeb)).toBe('192.0.2.1')
  })

  test('the address that frames may come from is the one of ADD, whatever the container has given itself', async () => {
    node.network('mac', '10.43.0.0/24', chain('mac', '10.43.0.0/24', 'nftables'))
    const web = await add('mac', 'web')
    const before = ruleset()
    using inWeb = namespaceAt(web.netns)
    inWeb.run('ip', 'link', 'set', 'eth0', 'address', '02:00:00:00:00:66')
    flushRuleset()
    expect(outcomes(await run(), web)).toMatchObject({ bridge: 'restored' })
    expect(sorted(ruleset())).toEqual(sorted(before))
  })
})

/** Lines of a ruleset, without their order in sets and without counters and handles. */
const sorted = (text: string) =>
  text
    .replaceAll(/counter packets \d+ bytes \d+/g, 'counter')
    .split(/[\n,]|elements = \{|\}/)
    .map(line => line.trim())
    .filter(Boolean)
    .sort()

describe('by iptables', () => {
  for (const variant of ['nf_tables', 'legacy'] as const)
    test(`${variant}: chains come back where they were, and an open stream goes on`, async () => {
      using _tools = choose(variant)
      const name = `ipt-${variant.slice(0, 3)}`
      const subnet = variant === 'legacy' ? '10.44.0.0/24' : '10.48.0.0/24'
      node.network(name, subnet, chain(name, subnet, 'iptables'))
      const web = await add(name, `web-${variant}`, publish(8080))
      const before = { nat: saved(variant), filter: saved(variant, 'ip', 'filter') }
      using inWeb = namespaceAt(web.netns)
      {
        using open = await stream(inWeb, 8080)
        expect(await open.echo('before')).toBe('before')
        clearRules()
        flushRuleset()
        expect(outcomes(await run(), web)).toEqual(all('restored'))
        expect(await open.echo('after')).toBe('after')
      }
      expect(saved(variant).sort()).toEqual(before.nat.sort())
      expect(saved(variant, 'ip', 'filter').sort()).toEqual(before.filter.sort())
      using _server = serveHttp(inWeb, { port: 80, answer: 'web' })
      expect(await getHttp(outside, { address: '192.0.2.1', port: 8080 })).toBe('web')
      expect(await clientSeenFrom(inWeb)).toBe('192.0.2.1')
      iptables(variant, 'ip', '-F')
      expect(outcomes(await run(), web)).toMatchObject({ bridge: 'restored', portmap: 'restored' })
      expect(saved(variant).sort()).toEqual(before.nat)
    })

  test('a silent configuration stays with the backend of its ADD, after an attempt that failed, too', async () => {
    using _tools = choose('nf_tables')
    iptables('nf_tables', 'ip', '-A', 'POSTROUTING', '-s', '198.51.100.1', '-j', 'ACCEPT')
    node.network('silent', '10.45.0.0/24')
    const web = await add('silent', 'web', publish(8080))
    expect(saved('nf_tables').some(line => line.includes('CNI-DN-'))).toBe(true)
    flushRuleset()
    {
      using broken = choose('nf_tables')
      // takes all, and what CHECK asks, but for the rules of portmap's chain
      const refuse = `grep -q '^-A CNI-DN-' ${broken.folder}/input && { echo out of order >&2; exit 4; }`
      const pass = `exec iptables-nft-restore "$@" <${broken.folder}/input`
      breakTools(broken, `cat >${broken.folder}/input; ${refuse}; ${pass}`)
      const failed = await run()
      expect(outcomes(failed, web).bridge).toBe('restored')
      expect(outcomes(failed, web).portmap).toContain('out of order')
      expect(isIncomplete(failed)).toBe(true)
    }
    expect(outcomes(await run(), web)).toEqual({ bridge: 'there', portmap: 'restored' })
    expect(saved('nf_tables').some(line => line.includes('CNI-DN-'))).toBe(true)
    expect(ruleset()).not.toContain('table ip catena {')
  })
})

describe('others', () => {
  test('a container that is gone is left alone, one of the Go plugins is told, and the command says 1', async () => {
    node.network('mixed', '10.46.0.0/24')
    const gone = await add('mixed', 'gone', publish(8080))
    await node.add('mixed', 'theirs', { by: 'go', ...publish(8081) })
    expect(isIncomplete(await run())).toBe(false)
    removeNamespace(gone.netns)
    clearRules()
    flushRuleset()
    const { exitCode, stdout } = Bun.spawnSync(
      [process.execPath, `${import.meta.dir}/../../chain/catena.ts`, 'restore', 'mixed'],
      { env: { PATH: process.env.PATH } },
    )
    const told: Restoration = JSON.parse(`${stdout}`)
    expect(exitCode).toBe(1)
    expect(told).toMatchObject({
      version: 1,
      dryRun: false,
      attachments: [
        { containerId: 'theirs', isOurs: false, parts: [], lacking: ['masquerade', 'published ports'] },
      ],
      leftAlone: [{ containerId: 'gone' }],
    })
    expect(ruleset()).toBe('')
    const words = describeRestoration(told, { style: styleFor({ isTerminal: false }), width: 200 })
    expect(words).toContain('other plugins made it')
    expect(words).toContain('gone on mixed left alone')
  })

  test('another program in a chain of ours is named, and what is ours beside it comes back, of a version without CHECK too', async () => {
    node.network('alien', '10.47.0.0/24')
    const web = await add('alien', 'web', publish(8080))
    const path = '/var/lib/cni/results/alien-web-eth0'
    const cached = JSON.parse(await Bun.file(path).text())
    const list = JSON.parse(Buffer.from(cached.config, 'base64').toString())
    const config = JSON.stringify({
      ...list,
      cniVersion: '0.3.1',
      plugins: [...list.plugins, { type: 'cilium-cni' }],
    })
    const ips = cached.result.ips.map((ip: object) => ({ ...ip, version: '4' }))
    const result = { ...cached.result, cniVersion: '0.3.1', ips }
    await Bun.write(
      path,
      JSON.stringify({ ...cached, result, config: Buffer.from(config).toString('base64') }),
    )
    flushRuleset()
    const restored = await run({ network: 'alien' })
    expect(outcomes(restored, web)).toEqual({
      bridge: 'restored',
      portmap: 'restored',
      'cilium-cni': 'foreign',
    })
    expect(isIncomplete(restored)).toBe(false)
  })
})
