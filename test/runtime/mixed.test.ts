/** A real chain whose plugins are ours and the Go ones, mixed: ours in this process, theirs as processes, either adding what the other deletes. */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { builtins } from '../../chain/catena.ts'
import {
  addNetworkList,
  checkNetworkList,
  delNetworkList,
  gcNetworkList,
  parseNetworkList,
  parseResult,
  type RuntimeAttachment,
  type RuntimeOptions,
  type Step,
} from '../../chain/runtime/network.ts'
import { getHttp, serveHttp } from '../fixtures/http.ts'
import { connect, freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { ourExecutable, peerExecutable } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'

type Side = 'ours' | 'theirs'
const types = ['bridge', 'host-local', 'tuning', 'portmap'] as const
type Sides = Readonly<Record<(typeof types)[number], Side>>

type Backend = 'iptables' | 'nftables'

/** What the backends are for theirs; ours has nftables alone. */
const listFor = (backend: Backend) =>
  parseNetworkList(
    JSON.stringify({
      cniVersion: '1.1.0',
      name: 'mixed',
      plugins: [
        {
          type: 'bridge',
          bridge: 'mixed0',
          isDefaultGateway: true,
          ipMasq: true,
          ipMasqBackend: backend,
          hairpinMode: true,
          ipam: { type: 'host-local', ranges: [[{ subnet: '10.33.0.0/24' }], [{ subnet: 'fd00:33::/64' }]] },
        },
        { type: 'tuning', sysctl: { 'net.core.somaxconn': '512' } },
        { type: 'portmap', backend, capabilities: { portMappings: true } },
      ],
    }),
  )

let outside: Namespace
beforeAll(() => {
  outside = freshNamespace('outside')
  using host = hostNamespace()
  connect(
    { namespace: host, name: 'uplink0', addresses: ['192.0.2.1/24', '2001:db8::1/64'] },
    { namespace: outside, name: 'eth0', addresses: ['192.0.2.2/24', '2001:db8::2/64'] },
  )
})
afterAll(() => outside[Symbol.dispose]())

/**
 * CNI_PATH with each plugin from its side. What the runtime itself calls of ours runs in this process. Their DEL cleans
 * up for both backends, and fails with iptables 1.8.9 where it had no rules: it gets the programs of one backend.
 */
function runtimeWith(
  sides: Sides,
  backend: Backend,
): RuntimeOptions & { steps: Step[]; [Symbol.dispose](): void } {
  const folder = mkdtempSync('/run/mixed-')
  for (const type of types) {
    const file = sides[type] === 'ours' ? ourExecutable(type) : peerExecutable(type)
    symlinkSync(file, `${folder}/${type}`)
  }
  const programs = `${folder}/programs`
  mkdirSync(programs)
  for (const program of backend === 'nftables' ? ['nft'] : ['iptables', 'ip6tables', 'nft']) {
    symlinkSync(Bun.which(program) ?? program, `${programs}/${program}`)
  }
  const steps: Step[] = []
  return {
    path: [folder],
    environment: { ...process.env, PATH: programs },
    builtins: { ...builtins, executable: ourExecutable('catena') },
    steps,
    onStep: step => void steps.push(step),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true }),
  }
}

function attachmentOf(namespace: Namespace): RuntimeAttachment {
  const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }]
  return {
    containerId: namespace.name,
    netns: namespace.path,
    ifname: 'eth0',
    capabilityArgs: { portMappings },
  }
}

/**
 * The host without what host-local keeps to be fast or fair: the address given last, and an index that is believed only
 * where the reservations agree with it. Bridge and tables stay between containers, so a first round comes before.
 */
function hostState(): string[] {
  return snapshot().filter(line => !/\/last_reserved_ip\.|^file \/run\/catena\/host-local\//.test(line))
}

interface Round {
  backend: Backend
  adding: RuntimeOptions
  deleting: RuntimeOptions
}

/** One container from ADD to DEL. */
async function round(
  { backend, adding, deleting }: Round,
  use: (container: Namespace) => Promise<void> = async () => {},
) {
  const list = listFor(backend)
  using container = freshNamespace()
  const attachment = attachmentOf(container)
  const result = parseResult(await addNetworkList(list, attachment, { ...adding, undo: true }), '1.1.0')
  await use(container)
  await checkNetworkList(list, attachment, adding)
  await delNetworkList(list, attachment, deleting)
  return { result, links: container.links().map(({ name }) => name) }
}

const all = (side: Side): Sides => ({ bridge: side, 'host-local': side, tuning: side, portmap: side })
const both = (sides: Sides) => ({ add: sides, del: sides })
const ours = all('ours')
const theirs = all('theirs')
const theirBridge = both({ ...ours, bridge: 'theirs' })
const ourBridge = both({ ...theirs, bridge: 'ours' })

test.each<{ name: string; add: Sides; del: Sides; backend: Backend }>([
  { name: 'all ours', ...both(ours), backend: 'nftables' },
  { name: 'all theirs', ...both(theirs), backend: 'nftables' },
  { name: 'their bridge on our host-local, tuning and portmap', ...theirBridge, backend: 'nftables' },
  { name: 'their bridge on our host-local, tuning and portmap', ...theirBridge, backend: 'iptables' },
  { name: 'our bridge on their host-local, tuning and portmap', ...ourBridge, backend: 'nftables' },
  { name: 'our bridge on their host-local, tuning and portmap', ...ourBridge, backend: 'iptables' },
  { name: 'added by theirs, deleted by ours', add: theirs, del: ours, backend: 'nftables' },
  { name: 'added by theirs, deleted by ours', add: theirs, del: ours, backend: 'iptables' },
])('$name ($backend): published, checked, deleted, nothing left', async ({ add, del, backend }) => {
  using adding = runtimeWith(add, backend)
  using deleting = runtimeWith(del, backend)
  const given = { backend, adding, deleting }
  await round(given)
  const before = hostState()
  const { result, links } = await round(given, async container => {
    using server = serveHttp(container, { port: 80 })
    for (const address of ['192.0.2.1', '2001:db8::1']) await getHttp(outside, { address, port: 8080 })
    expect(server.clients).toEqual(['192.0.2.2', '2001:db8::2'])
    expect(container.sysctl('net/core/somaxconn')).toBe('512')
  })
  expect(result.ips.map(({ gateway }) => gateway)).toEqual(['10.33.0.1', 'fd00:33::1'])
  expect(links).toEqual(['lo'])
  expect(difference(before, hostState())).toEqual({ added: [], gone: [] })
  expect([...adding.steps, ...deleting.steps].filter(({ error }) => error)).toEqual([])
})

test('added by ours, deleted by theirs: they succeed, and our GC sweeps what they do not know', async () => {
  using adding = runtimeWith(ours, 'nftables')
  using deleting = runtimeWith(theirs, 'nftables')
  const given = { backend: 'nftables', adding, deleting } as const
  const list = listFor('nftables')
  await round(given)
  await gcNetworkList(list, [], adding)
  const before = hostState()
  await round(given)
  expect(difference(before, hostState()).added).not.toEqual([])
  await gcNetworkList(list, [], adding)
  expect(difference(before, hostState())).toEqual({ added: [], gone: [] })
})
