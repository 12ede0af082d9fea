/** `catena migrate`: the rules of live containers move between nftables and iptables while packets flow, and CHECK, DEL and `list` go along. */
import { afterEach, expect, setDefaultTimeout, test } from 'bun:test'
import { rmSync, writeFileSync } from 'node:fs'
import { plugins } from '../../chain/catena.ts'
import { type Migrated, migrateAttachment } from '../../chain/cli/migrate/migrate.ts'
import { readRuleBackends } from '../../chain/filter/rule-backends.ts'
import { checkNetworkList, parseNetworkList } from '../../chain/runtime/network.ts'
import { outsideHost, withoutMemory } from '../fixtures/bridge.ts'
import { breakTools, choose } from '../fixtures/iptables.ts'
import { hostNamespace, type Namespace, namespaceAt } from '../fixtures/namespace.ts'
import { type Added, freshNode, seen, type TestNode } from '../fixtures/node.ts'
import { ourExecutable, ours } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'

setDefaultTimeout(60_000)

type Backend = 'nftables' | 'iptables'
const NODE_WIDE = '/etc/cni/catena.json'
const decide = (backend: Backend) => writeFileSync(NODE_WIDE, JSON.stringify({ backend }))
afterEach(() => rmSync(NODE_WIDE, { force: true }))

const both = [
  { from: 'nftables', to: 'iptables' },
  { from: 'iptables', to: 'nftables' },
] as const

const chain = (more: { firewall?: object; portmap?: object } = {}) => [
  {
    type: 'bridge',
    bridge: 'br-shop',
    isDefaultGateway: true,
    ipMasq: true,
    macspoofchk: true,
    ipam: { type: 'host-local', ranges: [[{ subnet: '10.47.0.0/24' }]] },
  },
  { type: 'portmap', capabilities: { portMappings: true }, ...more.portmap },
  { type: 'firewall', ingressPolicy: 'isolated', ...more.firewall },
]

const published = {
  capabilityArgs: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] },
}
const HOST = { address: '192.0.2.1', port: 8080 }

async function shop(node: TestNode, from: Backend, more: Parameters<typeof chain>[0] = {}): Promise<Added> {
  node.network('shop', '', chain(more))
  decide(from)
  return await node.add('shop', 'web', published)
}

function catena(args: string[], how: { timeout?: number; killSignal?: 'SIGKILL' } = {}) {
  const env = { ...process.env, CNI_PATH: ours }
  return Bun.spawn([ourExecutable('catena'), ...args, '--json'], {
    env,
    stdout: 'pipe',
    stderr: 'inherit',
    ...how,
  })
}

/** In this process; what became of the plugins' rules. */
async function migrate(to: Backend, { isTrial = false } = {}): Promise<Migrated[]> {
  const load = (type: string) => plugins[type]?.load()
  const migrated: Migrated[] = []
  for (const attachment of seen().attachments.filter(({ label }) => label === 'live'))
    migrated.push(
      await migrateAttachment(attachment, { to, isTrial, plugins: { load, builtins: {} as never } }),
    )
  return migrated
}

/** Answers what it is sent; knows who has called. */
function serveEcho(namespace: Namespace, port: number) {
  const callers: string[] = []
  const server = namespace.inside(() =>
    Bun.listen({
      hostname: '0.0.0.0',
      port,
      socket: {
        open: ({ remoteAddress }) => void callers.push(remoteAddress),
        data: (socket, data) => void socket.write(data),
      },
    }),
  )
  return { callers, [Symbol.dispose]: () => server.stop(true) }
}

/** A connection on which something is asked and answered, over and over, until it is told to finish. */
async function stream(from: Namespace, called: { address: string; port: number }) {
  let [answered, isOver] = [0, false]
  const [ended, begun] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const { opening } = from.inside(() => ({
    opening: Bun.connect({
      hostname: called.address,
      port: called.port,
      socket: {
        open: socket => void socket.write('again'),
        data(socket) {
          answered++
          begun.resolve()
          if (isOver) socket.end()
          else setImmediate(() => socket.write('again'))
        },
        close: () => (isOver ? ended.resolve() : ended.reject(new Error('the connection was closed'))),
        error: (_, error) => ended.reject(error),
      },
    }),
  }))
  opening.catch(begun.reject)
  const silence = () =>
    begun.reject(new Error(`${called.address} port ${called.port} from ${from.name}: no answer`))
  const timer = setTimeout(silence, 5000)
  await begun.promise.finally(() => clearTimeout(timer))
  return {
    answered: () => answered,
    finish() {
      isOver = true
      return ended.promise
    },
  }
}

const keptBy = (backend: Backend) => ({ masquerade: backend, ports: backend, firewall: backend })
const attachment = { network: 'shop', containerId: 'web', ifname: 'eth0' }
const backends = () => readRuleBackends()(attachment)
const check = ({ netns }: Added, list: object[] = chain()) =>
  checkNetworkList(
    parseNetworkList(JSON.stringify({ cniVersion: '1.0.0', name: 'shop', plugins: list })),
    { ...attachment, netns, ...published },
    { path: [ours] },
  )

/** The state of the host to which DEL must come back: iptables' chains that all share are there, and stay. */
async function stateBefore(node: TestNode): Promise<string[]> {
  await (await shop(node, 'iptables')).del()
  return withoutMemory(snapshot())
}

const outcomes = (migrated: readonly Migrated[]) =>
  migrated.flatMap(({ rules }) => rules.map(({ plugin, outcome }) => `${plugin} ${outcome}`))

/** As ufw and Docker have it: nothing is forwarded but what some rule accepts, which translated connections are by one. */
function dropForwarded(): Disposable {
  const iptables = (words: string) => Bun.spawnSync(`iptables -w ${words}`.split(' '))
  iptables('-P FORWARD DROP')
  iptables('-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT')
  return { [Symbol.dispose]: () => void iptables('-P FORWARD ACCEPT') }
}

test.each((['ACCEPT', 'DROP'] as const).flatMap(policy => both.map(each => ({ ...each, policy }))))(
  '$from to $to where FORWARD is to $policy: connections go on, and new ones are taken at every moment',
  async ({ from, to, policy }) => {
    await using node = await freshNode()
    using outside = outsideHost()
    using _dropping = policy === 'DROP' ? dropForwarded() : undefined
    const before = await stateBefore(node)
    const web = await shop(node, from)
    expect(backends()).toEqual(keptBy(from))
    using container = namespaceAt(web.netns)
    using _inside = serveEcho(container, 80)
    using world = serveEcho(outside, 7000)
    const [inwards, outwards] = [
      await stream(outside, HOST),
      await stream(container, { address: '192.0.2.2', port: 7000 }),
    ]
    const [asked, told] = [inwards.answered(), outwards.answered()]
    const moving = catena(['migrate', '--to', to])
    let connections = 0
    for (; moving.exitCode === null; connections++) {
      await (await stream(outside, HOST)).finish()
      await (await stream(container, { address: '192.0.2.2', port: 7000 })).finish()
    }
    expect(await new Response(moving.stdout).json()).toEqual({
      ...{ shape: 'catena-migration-1', to, dryRun: false },
      attachments: [
        {
          ...{ ...attachment, name: 'web' },
          rules: ['bridge', 'portmap', 'firewall'].map(plugin => ({ plugin, outcome: 'moved', from })),
        },
      ],
    })
    expect(moving.exitCode).toBe(0)
    expect(connections).toBeGreaterThan(3)
    expect(inwards.answered()).toBeGreaterThan(asked)
    expect(outwards.answered()).toBeGreaterThan(told)
    await Promise.all([inwards.finish(), outwards.finish()])
    await (await stream(outside, HOST)).finish()
    expect(new Set(world.callers)).toEqual(new Set(['192.0.2.1']))
    expect(backends()).toEqual(keptBy(to))
    await check(web)
    expect(outcomes(await migrate(to))).toEqual(['bridge there', 'portmap there', 'firewall there'])
    await web.del()
    expect(difference(before, withoutMemory(snapshot()))).toEqual({ added: [], gone: [] })
  },
)

test.each(both)(
  '$from to $to: whatever a kill leaves, packets flow, and the same again finishes it',
  async ({ from, to }) => {
    await using node = await freshNode()
    using outside = outsideHost()
    const before = await stateBefore(node)
    const web = await shop(node, from)
    using container = namespaceAt(web.netns)
    using _inside = serveEcho(container, 80)
    const inwards = await stream(outside, HOST)
    let moved = ''
    for (let timeout = 90; moved === ''; timeout += 30) {
      const moving = catena(['migrate', '--to', to], { timeout, killSignal: 'SIGKILL' })
      moved = await new Response(moving.stdout).text()
      await moving.exited
      await (await stream(outside, HOST)).finish()
    }
    await inwards.finish()
    expect(outcomes(await migrate(to))).toEqual(['bridge there', 'portmap there', 'firewall there'])
    await check(web)
    await web.del()
    expect(difference(before, withoutMemory(snapshot()))).toEqual({ added: [], gone: [] })
  },
)

test.each(both)('$from to $to: a ptp, whose pair is its own way from 127.0.0.1', async ({ from, to }) => {
  await using node = await freshNode()
  const list = [{ ...chain()[0], type: 'ptp' }, chain()[1] as object]
  node.network('shop', '', list)
  const add = (backend: Backend) => {
    decide(backend)
    return node.add('shop', 'web', published)
  }
  await (await add('iptables')).del()
  const before = withoutMemory(snapshot())
  const web = await add(from)
  expect(outcomes(await migrate(to))).toEqual(['ptp moved', 'portmap moved'])
  using container = namespaceAt(web.netns)
  using inside = serveEcho(container, 80)
  using host = hostNamespace()
  await (await stream(host, { address: '127.0.0.1', port: 8080 })).finish()
  expect(inside.callers).toHaveLength(1)
  await check(web, list)
  await web.del()
  expect(difference(before, withoutMemory(snapshot()))).toEqual({ added: [], gone: [] })
})

test.each(both)(
  '$from to $to: a second network waits for the ports of the first, in both families',
  async ({ from, to }) => {
    await using node = await freshNode()
    const networks = (['a', 'b'] as const).map((name, at) => {
      const ipam = {
        type: 'host-local',
        ranges: [[{ subnet: `10.5${at}.0.0/24` }], [{ subnet: `fd00:${name}::/64` }]],
      }
      const [bridge, ...rest] = chain()
      const plugins = [
        { ...bridge, bridge: `br-${name}`, isDefaultGateway: false, isGateway: true, ipam },
        ...rest,
      ]
      node.network(name, '', plugins)
      return { name, plugins, ifname: `eth${at}` }
    })
    const live = async (backend: Backend, meanwhile: (netns: string) => Promise<void> = async () => {}) => {
      decide(backend)
      const added: Added[] = []
      for (const { name, ifname } of networks)
        added.push(await node.add(name, 'web', { ifname, ...published }))
      await meanwhile(added[0]?.netns ?? '')
      for (const each of added) await each.del()
      return withoutMemory(snapshot())
    }
    const before = await live('iptables')
    const after = await live(from, async netns => {
      expect(
        new Set((await migrate(to)).flatMap(({ rules }) => rules.map(({ outcome }) => outcome))),
      ).toEqual(new Set(['moved']))
      for (const { name, plugins, ifname } of networks)
        await checkNetworkList(
          parseNetworkList(JSON.stringify({ cniVersion: '1.0.0', name, plugins })),
          { containerId: 'web', netns, ifname, ...published },
          { path: [ours] },
        )
    })
    expect(difference(before, after)).toEqual({ added: [], gone: [] })
  },
)

test('of a container that cannot be moved as a whole, all is put back', async () => {
  await using node = await freshNode()
  using outside = outsideHost()
  const before = await stateBefore(node)
  const web = await shop(node, 'nftables')
  using container = namespaceAt(web.netns)
  using _inside = serveEcho(container, 80)
  const rules = withoutMemory(snapshot())
  {
    using tools = choose('nf_tables')
    const real = 'exec xtables-nft-multi $(basename "$0") "$@"'
    breakTools(tools, `rules=$(cat); case $rules in *DNAT*) exit 1;; esac; echo "$rules" | ${real}`)
    const migrated = await migrate('iptables')
    expect(outcomes(migrated)).toEqual(['bridge back', 'portmap failed'])
  }
  expect(backends()).toEqual(keptBy('nftables'))
  expect(difference(rules, withoutMemory(snapshot()))).toEqual({ added: [], gone: [] })
  await (await stream(outside, HOST)).finish()
  await check(web)
  await web.del()
  expect(difference(before, withoutMemory(snapshot()))).toEqual({ added: [], gone: [] })
})

test('what a configuration names stays there, and nothing is done on trial', async () => {
  await using node = await freshNode()
  await stateBefore(node)
  await shop(node, 'nftables', { portmap: { backend: 'nftables' } })
  const before = snapshot()
  const [web] = await migrate('iptables', { isTrial: true })
  expect(web?.rules).toEqual([
    { plugin: 'bridge', outcome: 'moved', from: 'nftables' },
    { plugin: 'portmap', outcome: 'left', why: 'the configuration names nftables' },
    { plugin: 'firewall', outcome: 'moved', from: 'nftables' },
  ])
  expect(difference(before, snapshot())).toEqual({ added: [], gone: [] })
})

test("the Go plugins' rules are said and not touched", async () => {
  await using node = await freshNode()
  node.network('shop', '', chain())
  const web = await node.add('shop', 'web', { by: 'go', ...published })
  const before = snapshot()
  const left = ['bridge left', 'portmap left', 'firewall left']
  for (const to of ['nftables', 'iptables'] as const) expect(outcomes(await migrate(to))).toEqual(left)
  expect(difference(before, snapshot())).toEqual({ added: [], gone: [] })
  await web.del()
})
