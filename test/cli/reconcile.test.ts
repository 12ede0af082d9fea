/** `catena reconcile`: what is dead by two signs goes, all that may be alive stays to the byte. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { builtins } from '../../chain/catena.ts'
import { storyOf } from '../../chain/cli/explain/story.ts'
import { describeReport, documentOf, hasFailed } from '../../chain/cli/reconcile/print.ts'
import { reconcile } from '../../chain/cli/reconcile/reconcile.ts'
import { styleFor } from '../../chain/cli/render.ts'
import { unitsFor } from '../../chain/cli/shipped.ts'
import { removeLink } from '../../chain/linux/netlink/link.ts'
import { openRoute } from '../../chain/linux/netlink/socket.ts'
import { inNamespace, removeNamespace } from '../../chain/linux/netns.ts'
import { askCri, identitiesOf, readIdentities } from '../../chain/observe/cri.ts'
import { readNode } from '../../chain/observe/node.ts'
import { type Answer, fakeCri } from '../fixtures/cri.ts'
import { type Added, CONFIGURATIONS, freshNode, type TestNode } from '../fixtures/node.ts'
import { ourExecutable, ours } from '../fixtures/plugin.ts'

setDefaultTimeout(60_000)

const PATIENCE = 300 // milliseconds for a runtime that never answers
const folder = mkdtempSync('/run/reconcile-')
let node: TestNode

beforeAll(async () => {
  node = await freshNode()
  node.network('ours', '10.41.0.0/24')
  node.network('theirs', '10.42.0.0/24')
})
afterAll(async () => {
  await node[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

interface How {
  cri?: Answer | undefined
  grace?: number
  isDryRun?: boolean
}

/** A run, with a runtime that answers so, or without one. */
async function run({ cri: answer, grace = 0, isDryRun = false }: How = {}) {
  using server = answer === undefined ? undefined : await fakeCri(`${folder}/cri.sock`, answer)
  const cri = await askCri(server ? [server.socket] : [], PATIENCE)
  const report = await reconcile({
    read: () => readNode({ configurations: [CONFIGURATIONS], grace, identities: identitiesOf(cri) }),
    cri,
    grace,
    isDryRun,
    options: { path: [ours], builtins },
  })
  const done = { report, cri, isDryRun }
  // biome-ignore lint/suspicious/noExplicitAny: a test says by its expectations what it takes the document for
  const document = documentOf(done) as any
  const style = styleFor({ isTerminal: false })
  return { document, status: hasFailed(done) ? 1 : 0, words: describeReport(done, { style, width: 40 }) }
}

let numbers = 0
const uuid = () => `01234567-89ab-cdef-0123-${String(++numbers).padStart(12, '0')}`
const idOf = (name: string) => Buffer.from(name.padEnd(32, '.')).toString('hex')

/** As containerd would have it, which is known by the path of the namespace. */
const ofContainerd = (name: string) => ({ containerId: idOf(name), netns: `/run/netns/cni-${uuid()}` })
const ports = (hostPort: number) => ({
  capabilityArgs: { portMappings: [{ hostPort, containerPort: 80, protocol: 'tcp' }] },
})

const cacheOf = ({ containerId, network }: Added) => `/var/lib/cni/results/${network}-${containerId}-eth0`
const reservationOf = ({ network, result }: Added) =>
  `/var/lib/cni/networks/${network}/${result.ips[0].address.split('/')[0]}`
const hasState = (added: Added) => [existsSync(cacheOf(added)), existsSync(reservationOf(added))]
const rules = () =>
  [['nft', '-s', 'list', 'ruleset'], ['iptables-save'], ['iptables-legacy-save']]
    .map(command => Bun.spawnSync(command).stdout.toString())
    .join('\n')
    .replace(/^#.*$| \[\d+:\d+\]$/gm, '') // neither times nor counters

/** All that a container has: files, its namespace's links and addresses, its rules. */
const traces = (added: Added) => [
  readFileSync(cacheOf(added), 'utf8'),
  readFileSync(reservationOf(added), 'utf8'),
  Bun.spawnSync(['nsenter', `--net=${added.netns}`, 'ip', '-d', 'address']).stdout.toString(),
  rules()
    .split('\n')
    .filter(
      line => line.includes(added.containerId) || line.includes(added.result.ips[0].address.split('/')[0]),
    )
    .map(line => line.trim()),
]

test('attachments whose namespace is gone go with all that they had, those of Go plugins too; the living stay to the byte', async () => {
  const living = await node.add('ours', 'living', ports(8001))
  const goLiving = await node.add('theirs', 'go-living', { by: 'go', ...ports(8002) })
  const before = [traces(living), traces(goLiving)]
  const rulesBefore = rules()
  const dead = await node.add('ours', 'dead', ports(8003))
  const goDead = await node.add('theirs', 'go-dead', { by: 'go', ...ports(8004) })
  for (const { netns } of [dead, goDead]) removeNamespace(netns)

  const dry = await run({ isDryRun: true })
  expect(dry.words).toContain(
    '– eth0 of dead on ours: would be deleted\n  (its namespace /run/netns/dead is\n  gone;',
  )
  expect(dry.document.attachments).toMatchObject([
    { containerId: 'dead', outcome: 'would be deleted' },
    { containerId: 'go-dead', outcome: 'would be deleted' },
  ])
  expect([hasState(dead), hasState(goDead)]).toEqual([
    [true, true],
    [true, true],
  ])

  const { document, status } = await run()
  expect(status).toBe(0)
  expect(document).toMatchObject({
    version: 1,
    alive: 2,
    attachments: [
      {
        network: 'ours',
        containerId: 'dead',
        outcome: 'deleted',
        evidence: [
          'its namespace /run/netns/dead is gone',
          `no link has ${dead.result.ips[0].address.split('/')[0]}`,
        ],
      },
      { network: 'theirs', containerId: 'go-dead', outcome: 'deleted' },
    ],
    leftovers: [],
  })
  expect([hasState(dead), hasState(goDead)]).toEqual([
    [false, false],
    [false, false],
  ])
  expect([traces(living), traces(goLiving)]).toEqual(before)
  expect(rules()).toBe(rulesBefore)
  expect((await run()).document).toMatchObject({ alive: 2, attachments: [], leftovers: [] })
})

test('a namespace without the interface and without a process is as good as gone; with a process it is not', async () => {
  const dead = await node.add('ours', 'hollow')
  const held = await node.add('ours', 'held')
  const process = Bun.spawn(['nsenter', `--net=${held.netns}`, 'cat'], { stdin: 'pipe' })
  try {
    for (const { netns } of [dead, held]) {
      using route = inNamespace(netns, openRoute)
      removeLink(route, 'eth0')
    }
    const inside = () => readFileSync(`/proc/${process.pid}/comm`, 'utf8').trim() === 'cat'
    while (!inside()) await new Promise(setImmediate)
    const { document } = await run()
    expect(document.attachments).toMatchObject([
      { containerId: 'held', outcome: 'left' },
      { containerId: 'hollow', outcome: 'deleted' },
    ])
    expect([hasState(dead), hasState(held)]).toEqual([
      [false, false],
      [true, true],
    ])
  } finally {
    process.kill()
    await process.exited
    await held.del()
  }
})

test('what a runtime knows stays although its namespace is gone; what it does not know goes', async () => {
  const known = await node.add('ours', 'known', ofContainerd('known'))
  const unknown = await node.add('ours', 'unknown', ofContainerd('unknown'))
  for (const { netns } of [known, unknown]) removeNamespace(netns)
  const sandboxes = [
    { id: known.containerId, pod: 'web-0', namespace: 'shop' },
    { id: idOf('another'), pod: 'x'.repeat(200), namespace: 'default' },
  ]
  const { document, status } = await run({ cri: { sandboxes } })
  expect(status).toBe(0)
  expect(document.runtimes).toEqual([{ socket: `${folder}/cri.sock`, state: 'answers', sandboxes: 2 }])
  expect(document.attachments).toMatchObject([
    { containerId: known.containerId, name: 'shop/web-0', outcome: 'left' },
    { containerId: unknown.containerId, outcome: 'deleted' },
  ])
  expect([hasState(known), hasState(unknown)]).toEqual([
    [true, true],
    [false, false],
  ])
  await known.del()
})

test('what is added again after it was looked at stays', async () => {
  const again = await node.add('ours', 'again')
  removeNamespace(again.netns)
  const { outcomes } = await reconcile({
    read() {
      const seen = readNode({ configurations: [CONFIGURATIONS], grace: 0 })
      writeFileSync(cacheOf(again), readFileSync(cacheOf(again)))
      return seen
    },
    cri: [],
    grace: 0,
    isDryRun: false,
    options: { path: [ours], builtins },
  })
  expect(outcomes).toMatchObject([{ outcome: 'left', evidence: ['it has changed meanwhile'] }])
  expect(hasState(again)).toEqual([true, true])
  await again.del()
})

test('what is young stays', async () => {
  const young = await node.add('ours', 'young')
  removeNamespace(young.netns)
  const { document } = await run({ grace: 60_000 })
  expect(document.attachments).toMatchObject([{ containerId: 'young', outcome: 'left' }])
  expect(hasState(young)).toEqual([true, true])
  await young.del()
})

test.each([
  ['never answers', 'nothing', 'it does not answer within 0.3 s'],
  ['is not ready', { status: 14, message: 'not initialized' }, 'it answers status 14: not initialized'],
  [
    'answers with half of what it knows',
    { sandboxes: [{ id: 'a', pod: 'b', namespace: 'c' }], isHalf: true },
    'its answer is compressed or not whole',
  ],
] as [string, Answer, string][])(
  'of a runtime that %s nothing is touched, in bounded time, and it is said',
  async (_, answer, problem) => {
    const theirs = await node.add('ours', 'silent', ofContainerd('silent'))
    const other = await node.add('ours', 'podman', { netns: `/run/netns/netns-${uuid()}` })
    for (const { netns } of [theirs, other]) removeNamespace(netns)
    const started = performance.now()
    const { document, status } = await run({ cri: answer })
    expect(performance.now() - started).toBeLessThan(20_000)
    expect(status).toBe(1)
    expect(document.runtimes).toMatchObject([{ state: 'silent', problem }])
    expect(document.attachments).toMatchObject([
      { containerId: theirs.containerId, outcome: 'left' },
      { containerId: 'podman', outcome: 'deleted' },
    ])
    expect(hasState(theirs)).toEqual([true, true])
    await theirs.del()
  },
)

test('a socket that nobody listens at any more is silent; a containerd without CRI is no witness; no socket is none', async () => {
  const socket = `${folder}/left.sock`
  // the file stays, as after a kill
  Bun.spawnSync([
    process.execPath,
    '-e',
    `require('node:net').createServer().listen('${socket}', () => process.kill(process.pid, 'SIGKILL'))`,
  ])
  expect(existsSync(socket)).toBe(true)
  expect(await askCri([socket, `${folder}/none.sock`])).toMatchObject([{ socket, state: 'silent' }])
  using without = await fakeCri(`${folder}/docker.sock`, { status: 12, message: 'unknown service' })
  expect(await askCri([without.socket])).toMatchObject([{ state: 'no CRI' }])
})

test('whoever listens and is no runtime is silent, and its connection is closed', async () => {
  const closed = Promise.withResolvers<void>()
  using server = listenAt(`${folder}/mute.sock`, connection =>
    connection.on('close', closed.resolve).resume(),
  )
  expect(await askCri([server.socket], PATIENCE)).toMatchObject([{ state: 'silent' }])
  await closed.promise
  using other = listenAt(`${folder}/words.sock`, connection =>
    connection.end('HTTP/1.1 400 Bad Request\r\n\r\n'),
  )
  expect(await askCri([other.socket], PATIENCE)).toMatchObject([{ state: 'silent' }])
})

function listenAt(socket: string, onConnection: (connection: Socket) => void) {
  const server = createServer(onConnection).listen(socket)
  return { socket, [Symbol.dispose]: () => void server.close() }
}

test('a runtime with thousands of sandboxes is understood whole', async () => {
  const sandboxes = Array.from({ length: 3000 }, (_, at) => ({
    id: idOf(`pod${at}`),
    pod: `a-deployment-of-some-name-${at}`.padEnd(200, '-'),
    namespace: 'shop',
  }))
  using server = await fakeCri(`${folder}/large.sock`, { sandboxes })
  const [answer] = await askCri([server.socket])
  expect(answer).toMatchObject({ state: 'answers' })
  expect([...(answer?.sandboxes ?? [])]).toEqual(
    sandboxes.map(({ id, pod, namespace }) => [id, { pod, namespace }]),
  )
})

test('ps and explain call a container as its runtime does', async () => {
  const pod = await node.add('ours', 'pod', ofContainerd('pod'))
  mkdirSync('/run/containerd', { recursive: true })
  const sandboxes = [{ id: pod.containerId, pod: 'web-1', namespace: 'shop' }]
  using _server = await fakeCri('/run/containerd/containerd.sock', { sandboxes })
  const identities = await readIdentities()
  expect(storyOf('shop/web-1', identities).containers).toMatchObject([{ container: pod.containerId }])
  const ps = Bun.spawn([ourExecutable('catena'), 'ps', '--json'], { env: {} })
  expect(await new Response(ps.stdout).json()).toMatchObject({
    containers: expect.arrayContaining([
      expect.objectContaining({ containerId: pod.containerId, name: 'shop/web-1' }),
    ]),
  })
  removeNamespace(pod.netns)
  await pod.del()
})

test('GC takes what no cache tells of where it is an orphan, and leaves addresses of sandboxes that a runtime knows and of ADDs that are under way', async () => {
  writeFileSync(
    `${CONFIGURATIONS}/swept.conflist`,
    JSON.stringify({
      cniVersion: '1.1.0',
      name: 'swept',
      plugins: [
        {
          type: 'bridge',
          bridge: 'br-swept',
          ipam: { type: 'host-local', ranges: [[{ subnet: '10.43.0.0/24' }]] },
        },
      ],
    }),
  )
  const file = (address: string) => `/var/lib/cni/networks/swept/${address}`
  Bun.spawnSync(['mkdir', '-p', file('')])
  writeFileSync(file('10.43.0.7'), 'ghost\r\neth0')
  expect((await run({ grace: 60_000 })).document.networks).toContainEqual({
    network: 'swept',
    outcome: 'nothing to do',
  })
  writeFileSync(file('10.43.0.8'), `${idOf('known')}\r\neth0`)
  Bun.spawnSync(['touch', '-d', '1 hour ago', file('10.43.0.7'), file('10.43.0.8')])
  writeFileSync(file('10.43.0.9'), 'coming\r\neth0')
  const there = () => readdirSync(file('')).filter(name => name.startsWith('10.'))
  const silent = await run({ grace: 60_000, cri: { status: 14, message: 'not initialized' } })
  expect(silent.document.networks).toContainEqual({
    network: 'swept',
    outcome: 'not done',
    why: `the runtime at ${folder}/cri.sock cannot be asked`,
  })
  expect(there().toSorted()).toEqual(['10.43.0.7', '10.43.0.8', '10.43.0.9'])
  const sandboxes = [{ id: idOf('known'), pod: 'web-2', namespace: 'shop' }]
  const { document } = await run({ grace: 60_000, cri: { sandboxes } })
  expect(document.networks).toContainEqual({ network: 'swept', outcome: 'done' })
  expect(there().toSorted()).toEqual(['10.43.0.8', '10.43.0.9'])
  expect(document.leftovers).toEqual([])
  rmSync(file(''), { recursive: true })
  rmSync(`${CONFIGURATIONS}/swept.conflist`)
})

test('where GC cannot help what is left over is named, with the command that does; a DEL that fails is told, and fails', async () => {
  const file = '/var/lib/cni/networks/ours/10.41.0.99'
  writeFileSync(file, 'ghost\r\neth0')
  const broken = await node.add('ours', 'broken')
  removeNamespace(broken.netns)
  const text = readFileSync(cacheOf(broken), 'utf8')
  const { config, ...rest } = JSON.parse(text)
  const missing = Buffer.from(config, 'base64').toString().replace('"portmap"', '"nowhere"')
  writeFileSync(cacheOf(broken), JSON.stringify({ ...rest, config: Buffer.from(missing).toString('base64') }))
  const command = Bun.spawnSync(
    [ourExecutable('catena'), 'reconcile', '--grace', '0', '--cri', '/none', '--json'],
    {
      env: { ...process.env, CNI_PATH: ours },
    },
  )
  const document = JSON.parse(command.stdout.toString())
  expect(command.exitCode).toBe(1)
  expect(document.attachments).toMatchObject([{ containerId: 'broken', outcome: 'failed' }])
  expect(document.attachments[0].error).toContain('nowhere')
  expect(document.leftovers).toContainEqual(expect.objectContaining({ kind: 'address', what: file }))
  expect(document.mends).toBe('catena doctor --repair')
  expect(document.networks).toContainEqual(expect.objectContaining({ network: 'ours', outcome: 'not done' }))
  rmSync(file)
  await broken.del()
})

test('systemd finds nothing wrong with the units, which name the folder that plugins are in', () => {
  symlinkSync(ourExecutable('catena'), `${folder}/catena`)
  const units = Object.entries(unitsFor(folder)).filter(([name]) => name.startsWith('catena-reconcile'))
  expect(units.map(([name]) => name)).toEqual(['catena-reconcile.service', 'catena-reconcile.timer'])
  for (const [name, text] of units) writeFileSync(`${folder}/${name}`, text)
  expect(readFileSync(`${folder}/catena-reconcile.service`, 'utf8')).toContain(
    `\nExecStart=${folder}/catena reconcile\n`,
  )
  const { exitCode, stdout, stderr } = Bun.spawnSync([
    ...['systemd-analyze', 'verify', '--man=no'],
    ...units.map(([name]) => `${folder}/${name}`),
  ])
  const told = `${stdout}${stderr}`.split('\n').filter(line => line.includes('catena-reconcile'))
  expect({ exitCode, told }).toEqual({ exitCode: 0, told: [] })
})
