/**
 * Thousands of calls in one worker, of all plugins, in random order, with failures among them: it is in the end what it was in the
 * beginning. CATENA_LONG=1 makes 10,000 calls of it. Another order: CATENA_SEED.
 */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import fc from 'fast-check'
import { plugins } from '../../chain/catena.ts'
import { removeLink } from '../../chain/linux/netlink/link.ts'
import { MASTER, usualLists } from '../contract/lists.ts'
import type { Step } from '../contract/rows.ts'
import { removeBridges, withoutMemory } from '../fixtures/bridge.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, execute, ourExecutable, type Verb } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'
import { installed, type WarmService, warmService } from '../fixtures/warm.ts'

const CALLS = process.env.CATENA_LONG ? 10_000 : 600
const SEED = Number(process.env.CATENA_SEED ?? 5)
/** So many calls load what a worker has not loaded yet. */
const BEGINNING = CALLS / 4
const names = Object.keys(plugins).filter(name => name !== 'dhcp') // which the service leaves to its callers

let service: WarmService
const host = hostNamespace()
beforeAll(async () => {
  service = await warmService(
    installed(),
    '--workers=1',
    '--most=1',
    '--calls=1000000',
    '--memory=1000',
    '--rest=600',
  )
  mkdirSync('/run/flannel', { recursive: true })
  writeFileSync(
    '/run/flannel/subnet.env',
    'FLANNEL_SUBNET=10.42.0.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
  )
  host.createLink({ name: MASTER, kind: { type: 'veth', peer: { name: `${MASTER}-peer` } } })
})
afterAll(async () => {
  await service.end()
  rmSync('/run/flannel', { recursive: true })
  removeLink(host.route, MASTER)
  host[Symbol.dispose]()
  removeBridges()
})

/** epoll_pwait by its number, where a worker waits for its next caller (Bun's own loop has epoll_pwait2): x64, arm64. */
const WAITS = /^(281|22) /

/** What of a process must not change, however many calls it does. */
async function stateOf(process: number) {
  await pause(200) // the kernel is not done at once with what was deleted last
  callPlugin('loopback', 'ADD', { config: '{' }) // after a failure nothing is kept for the next call
  const folder = `/proc/${process}`
  while (!WAITS.test(readFileSync(`${folder}/syscall`, 'utf8'))) await pause(1)
  const status = readFileSync(`${folder}/status`, 'utf8')
  const field = (name: string) => new RegExp(`^${name}:\\s+(\\S+)`, 'm').exec(status)?.[1] ?? ''
  return {
    steady: {
      descriptors: readdirSync(`${folder}/fd`)
        .map(fd => kindOf(`${folder}/fd/${fd}`))
        .toSorted(),
      children: readFileSync(`${folder}/task/${process}/children`, 'utf8').trim(),
      namespaces: ['net', 'mnt', 'user'].map(kind => readlinkSync(`${folder}/ns/${kind}`)),
      cwd: readlinkSync(`${folder}/cwd`),
      umask: field('Umask'),
      signals: field('SigBlk'),
      rights: field('CapEff'),
      locks: readFileSync('/proc/locks', 'utf8')
        .split('\n')
        .filter(line => line.includes(` ${process} `)),
    },
    threads: readdirSync(`${folder}/task`).filter(each => !isKernels(`${folder}/task/${each}`)).length,
    megabytes: Number(field('RssAnon')) / 1024,
  }
}

/** A thread that the kernel has lent: it comes and goes as the kernel likes. */
const isKernels = (thread: string) => readFileSync(`${thread}/comm`, 'utf8').startsWith('iou-wrk-')

/** "socket:[4711]" is another each time, and still a socket. */
function kindOf(path: string): string {
  return readlinkSync(path).replace(/:\[\d+\]$/, '')
}

/** A generator of numbers that a seed determines (mulberry32). */
function randomFrom(seed: number) {
  let state = seed
  return (below: number) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

let calls = 0
const seen = new Map<string, number>()

/** One call by the executable, as a runtime makes it. */
function callPlugin(name: string, verb: Verb, call: Call) {
  const outcome = execute(ourExecutable(name), verb, call)
  calls++
  const key = `${name} ${outcome.status === 0 ? 'succeeds' : 'fails'}`
  seen.set(key, (seen.get(key) ?? 0) + 1)
  return outcome
}

/** A container's life: ADD of a list as far as it goes, CHECK, DEL. */
function live(container: Namespace, containerId: string, steps: readonly Step[]): void {
  const common = { netns: container, containerId }
  let prevResult: unknown
  for (const step of steps) {
    const config = { name: 'many-net', ...step, ...(prevResult ? { prevResult } : {}) }
    const { status, json } = callPlugin(step.type, 'ADD', { ...common, config })
    if (status !== 0) break
    prevResult = json
  }
  const all = (verb: Verb, list: readonly Step[]) => {
    for (const step of list)
      callPlugin(step.type, verb, {
        ...common,
        config: { name: 'many-net', ...step, ...(prevResult ? { prevResult } : {}) },
      })
  }
  if (prevResult) all('CHECK', steps)
  all('DEL', steps.toReversed())
}

/** What is not a container's life: verbs of a node, input that is wrong, a namespace that is none. */
function stray(container: Namespace, name: string, kind: number): void {
  const config = { name: 'many-net', type: name }
  const asked: [Verb, Call][] = [
    ['VERSION', { config: { cniVersion: '1.0.0' } }],
    ['STATUS', { config }],
    ['GC', { config: { ...config, 'cni.dev/valid-attachments': [] } }],
    ['ADD', { netns: container, config }],
    ['ADD', { netns: container, config: '{"cniVersion":' }],
    ['ADD', { netns: '/run/netns/nowhere', config }],
    ['CHECK', { netns: container, config }],
    ['DEL', { config }],
    ['DEL', { netns: container, config: { ...config, ipam: { type: 'nowhere' }, master: 7 } }],
    ['ADD', { netns: container, interface: 'much-too-long-for-a-link', config }],
  ]
  const [verb, call] = asked[kind % asked.length] ?? ['VERSION', {}]
  callPlugin(name, verb, { containerId: 'stray', ...call })
}

/** What belongs to no container: bridges, and the chains that lead to an administrator's. */
const isNodes = (line: string) =>
  /"?(check0|cni0|CNI-ADMIN|CNI-FORWARD)\b|"name":"(FORWARD|filter)"|^(address|route|qdisc) /.test(line)

const others = (name: string): Step[] | undefined =>
  ({
    loopback: [{ type: 'loopback' }],
    flannel: [{ type: 'flannel', delegate: { bridge: 'check0' } }],
    'host-device': [{ type: 'host-device', device: `${MASTER}-peer` }],
    vlan: [
      {
        type: 'vlan',
        master: MASTER,
        vlanId: 5,
        ipam: { type: 'static', addresses: [{ address: '10.60.5.5/24' }] },
      },
    ],
    ipvlan: [{ type: 'ipvlan', master: MASTER }],
    dummy: [{ type: 'dummy' }],
    vrf: [{ type: 'dummy' }, { type: 'vrf', vrfname: 'blue' }],
  })[name]

test(`${CALLS} calls of all plugins leave a worker as it was`, async () => {
  const random = randomFrom(SEED)
  const before = withoutMemory(snapshot())
  const lists = fc.sample(usualLists, { numRuns: Math.ceil(CALLS / 4), seed: SEED })
  const worker = () => service.status().workers[0]?.process ?? 0
  const first = worker()
  using containers = new DisposableStack()
  const places = Array.from({ length: 4 }, () => containers.use(freshNamespace('many')))
  let beginning: Awaited<ReturnType<typeof stateOf>> | undefined
  for (let round = 0; calls < CALLS; round++) {
    const place = places[random(places.length)] as Namespace
    const name = names[round % names.length] ?? ''
    const list = random(3) === 0 ? others(name) : lists[round % lists.length]
    if (random(3) === 0 || !list) stray(place, name, random(1000))
    else live(place, `many-${round}`, list)
    if (!beginning && calls >= BEGINNING) beginning = await stateOf(worker())
  }
  const end = await stateOf(worker())
  const { refused, calls: counted, times } = service.status()
  console.log(
    `${calls} calls, ${counted} of them warm; private memory ${beginning?.megabytes.toFixed(1)} → ${end.megabytes.toFixed(1)} MB, threads ${end.threads}`,
  )
  // of one who has lost patience, and is at it himself or done, when a worker comes to what he had said
  const { gone: _gone, 'its container is busy': _busy, ...unexpected } = refused
  expect({ worker: worker(), unexpected }).toEqual({ worker: first, unexpected: {} })
  expect(counted).toBeGreaterThan(0.8 * calls) // callers do not wait long for a worker on a machine that has much to do
  expect([...new Set(times.map(({ plugin }) => plugin))].toSorted()).toEqual(names.toSorted())
  expect([...seen].filter(([key]) => key.endsWith('succeeds')).length).toBeGreaterThan(12)
  expect([...seen].filter(([key]) => key.endsWith('fails')).length).toBeGreaterThan(12)
  expect(end.steady).toEqual(beginning?.steady as typeof end.steady)
  expect(end.threads).toBeLessThanOrEqual((beginning?.threads ?? 0) + 2)
  expect(end.megabytes).toBeLessThan(64)
  expect(difference(before, withoutMemory(snapshot())).added.filter(line => !isNodes(line))).toEqual([])
}, 600_000)
