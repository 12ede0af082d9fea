/** Bad days of the warm service: whatever has become of it, or of the node, a call is answered as by a process of its own. */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { copyFileSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { close } from '../../chain/linux/libc/file.ts'
import { connectPackets } from '../../chain/linux/libc/unix-socket.ts'
import { askStatus } from '../../chain/service/client.ts'
import { removeBridges, withoutMemory } from '../fixtures/bridge.ts'
import { freshNamespace } from '../fixtures/namespace.ts'
import {
  type Call,
  execute,
  type Outcome,
  ourExecutable,
  ours,
  start,
  type Verb,
} from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'
import { testOn } from '../kernel/features.ts'
import { builtService, compileStrike, started, strike } from './built-service.ts'

const folder = '/run/days'
const catena = ourExecutable('catena')
const other = `${ours}/../.cache/other-${process.pid}`
const ipam = { type: 'host-local', ranges: [[{ subnet: '10.88.0.0/24' }], [{ subnet: 'fd00:88::/64' }]] }
const bridge = { type: 'bridge', bridge: 'days0', isGateway: true, ipMasq: true, ipam }
const withoutRules = { ...bridge, ipMasq: false } // for a kernel that has no nf_tables
const off = { CATENA_WARM: 'off' }

beforeAll(() => {
  mkdirSync(folder)
  const words = [
    'gcc',
    '-O1',
    '-o',
    `${folder}/false-service`,
    `${import.meta.dir}/../static/false-service.c`,
  ]
  if (!Bun.spawnSync(words).success) throw new Error('false-service.c')
  using container = freshNamespace('days')
  const call: Call = { netns: container, config: withoutRules }
  for (const verb of ['ADD', 'DEL'] as const) execute(ourExecutable('bridge'), verb, call) // the bridge stays
})
afterAll(() => {
  removeBridges()
  rmSync(folder, { recursive: true })
  rmSync(other, { force: true })
})

const sh = (script: string) => {
  const { exitCode, stderr } = Bun.spawnSync(['sh', '-ec', script])
  if (exitCode !== 0) throw new Error(`${script}: ${stderr}`)
}

const version = (environment = {}): Outcome => execute(ourExecutable('bridge'), 'VERSION', { environment })

const state = () => withoutMemory(snapshot()).filter(line => !/^(link|address|route|qdisc).*days0/.test(line))

/** ADD and DEL of a bridge, of which nothing is left; answers ADD's outcome. */
function attachedAndDetached(environment = {}, config: object = bridge): Outcome {
  using container = freshNamespace('days')
  const call: Call = { netns: container, containerId: container.name, config, environment }
  const before = state()
  const outcome = execute(ourExecutable('bridge'), 'ADD', call)
  expect(execute(ourExecutable('bridge'), 'DEL', call)).toMatchObject({ status: 0, stdout: '', stderr: '' })
  const { added } = difference(before, state())
  expect({ added, inside: container.links().length }).toEqual({ added: [], inside: 1 })
  return outcome
}

/**
 * Does what a call does until the service has done it all: on a machine with much to do it may be too slow to take a call. Answers what came
 * of that; fails where the service never does.
 */
function served<T>(calls: number, act: () => T): T {
  for (let attempt = 0; attempt < 50; attempt++) {
    const before = askStatus(5000)?.calls
    const outcome = act()
    const after = askStatus(5000)?.calls // one worker: it counts a call before it answers the next
    if (before !== undefined && after === before + calls) return outcome
  }
  throw new Error('the service does no call')
}

const expectServed = () => expect(served(1, version)).toEqual(version(off))

test("a socket that is not root's is left alone by all, and by a service that is to begin", async () => {
  await using planted = started([
    `${folder}/false-service`,
    'user',
    '65534',
    'hello',
    'say',
    'A',
    'go',
    'status',
    '0',
  ])
  sh('until [ -S /run/catena/warm.sock ]; do sleep 0.01; done')
  expect(version()).toEqual(version(off))
  await using service = started([catena, 'serve'])
  expect(await service.exited).toBe(1)
  await service.logged(/already/)
  expect(service.log()).toContain(`process ${planted.pid} listens at /run/catena/warm.sock already`)
  await planted.end('SIGKILL')
  await using next = await builtService()
  expect(next.log()).toContain('in the place of one at which nothing listened')
  expectServed()
})

test('a service of another version than the plugins is not asked in vain, and ends when it learns of it', async () => {
  copyFileSync(catena, other)
  await using service = started([other, 'serve', '--workers', '1', '--most', '1'])
  await service.logged(/serving at/)
  service.status()
  expect(attachedAndDetached()).toMatchObject({ status: 0, stderr: '' })
  expect(service.status()).toMatchObject({ calls: 0, refused: { 'another executable': 2 } })
  copyFileSync(catena, `${other}.new`)
  renameSync(`${other}.new`, other)
  expect(version()).toEqual(version(off))
  expect(await service.exited).toBe(0)
  await service.logged(/ended/)
  expect(service.log()).toContain('its executable has been replaced')
})

test('of two services the first one serves; when it is killed, plugins do without, and the next one takes its place', async () => {
  const first = await builtService()
  const second = started([catena, 'serve'])
  expect(await second.exited).toBe(1)
  await second.logged(/another service/)
  expect(second.log()).toContain(`another service is running: process ${first.pid}`)
  expectServed()
  await first.end('SIGKILL')
  expect(attachedAndDetached()).toMatchObject({ status: 0, stderr: '' })
  await using _third = await builtService()
  expectServed()
})

test.each([
  {
    what: 'a disk that is full',
    place: '/var/lib/cni',
    size: '16k',
    fill: 'cat /dev/zero >$place/filler 2>&1 || true',
  },
  {
    what: '/run/catena that is full',
    place: '/run/catena',
    size: '64k',
    fill: 'cat /dev/zero >$place/filler 2>&1 || true',
  },
  {
    what: '/run/catena that is read-only',
    place: '/run/catena',
    size: '64k',
    fill: 'mount -o remount,bind,ro $place',
  },
])('on $what a call ends as in a process of its own, and leaves nothing', async ({ place, size, fill }) => {
  sh(`mkdir -p ${place}; mount -t tmpfs -o size=${size} days ${place}; mount --bind ${place} ${place}`)
  try {
    await using _service = await builtService()
    attachedAndDetached()
    sh(`place=${place}; ${fill}`)
    const [warm, cold] = [served(2, attachedAndDetached), attachedAndDetached(off)]
    const ofOutcome = ({ status, json, stderr }: Outcome) => ({
      status,
      stderr,
      code: json?.code,
      msg: json?.msg,
    })
    expect(ofOutcome(warm)).toEqual(ofOutcome(cold))
    sh(`mount -o remount,bind,rw ${place}; rm -f ${place}/filler`)
    expect(attachedAndDetached()).toMatchObject({ status: 0, stderr: '' })
  } finally {
    sh(`umount -l ${place}; umount -l ${place}`)
  }
})

test('a service that can have no socket says why, and plugins do without', async () => {
  sh('mkdir -p /run/catena; mount -t tmpfs -o ro days /run/catena')
  try {
    await using service = started([catena, 'serve'])
    expect(await service.exited).toBe(1)
    await service.logged(/cannot/)
    expect(service.log()).toMatch(/cannot make \/run\/catena\/warm\S+: .*Read-only file system/)
    expect(version()).toEqual(version(off))
  } finally {
    sh('umount /run/catena')
  }
})

test('1,000 connections that say nothing keep no caller from its call', async () => {
  await using _service = await builtService()
  const silent: number[] = []
  let refused = 0
  const begun = performance.now()
  for (let round = 0; round < 10; round++) {
    for (let each = 0; each < 100; each++) {
      try {
        silent.push(connectPackets('/run/catena/warm.sock'))
      } catch {
        refused++
      }
    }
    const { status, json, stderr } = version()
    expect({ status, stderr, versions: json.supportedVersions.length > 5 }).toEqual({
      status: 0,
      stderr: '',
      versions: true,
    })
  }
  expect(silent.length + refused).toBe(1000)
  expect(performance.now() - begun).toBeLessThan(10 * 1000) // of which 100 ms are the service's in each round, if it does nothing at all
  for (const descriptor of silent) close(descriptor)
  while (!askStatus(5000)) version() // until those that have gone have been seen to have gone
  expectServed()
})

test('more callers than the service can take at once are all answered', async () => {
  await using _service = await builtService()
  const calls = Array.from({ length: 40 }, () => start(ourExecutable('bridge'), 'VERSION').ended)
  const answers = await Promise.all(calls)
  expect(
    answers.filter(({ status, json, stderr }) => status !== 0 || !json.supportedVersions || stderr),
  ).toEqual([])
})

test('a service that is told to end in the middle of calls ends none of them', async () => {
  const service = await builtService('--workers', '3', '--most', '3')
  const before = state()
  const containers = Array.from({ length: 6 }, () => freshNamespace('days'))
  const all = (verb: Verb) =>
    containers.map(
      container =>
        start(ourExecutable('bridge'), verb, {
          netns: container,
          containerId: container.name,
          config: bridge,
        }).ended,
    )
  const adding = all('ADD')
  await Promise.race(adding) // the others are at it, or wait
  const ended = service.end()
  const isGood = ({ status, stderr }: Outcome) => status === 0 && stderr === ''
  expect((await Promise.all(adding)).filter(each => !isGood(each))).toEqual([])
  expect(await ended).toBe(0)
  expect((await Promise.all(all('DEL'))).filter(each => !isGood(each))).toEqual([])
  expect(difference(before, state()).added).toEqual([])
  for (const container of containers) container[Symbol.dispose]()
})

test('a worker that stands still keeps a caller for 100 ms, and no longer', async () => {
  await using service = await builtService()
  const worker = service.worker()
  process.kill(worker, 'SIGSTOP')
  expect(attachedAndDetached()).toMatchObject({ status: 0, stderr: '' })
  process.kill(worker, 'SIGCONT')
  expect(service.status()).toMatchObject({ calls: 0, workers: [{ process: worker }] })
  expectServed()
})

test('a worker that gets no more memory is another one in the end, and leaves nothing', async () => {
  await using service = await builtService()
  attachedAndDetached()
  const worker = service.worker()
  sh(`prlimit --pid ${worker} --data=1048576`)
  using container = freshNamespace('days')
  const before = state()
  const call: Call = { netns: container, containerId: container.name, config: bridge }
  const large = { ...call, config: { ...bridge, filler: 'x'.repeat(8 << 20) } }
  const { status, json } = execute(ourExecutable('bridge'), 'ADD', large)
  // whichever comes first: standard input cannot be read (5), the worker ends (11), or what it does fails (999)
  if (status !== 0) expect(json.code).toBeOneOf([5, 11, 999])
  expect(execute(ourExecutable('bridge'), 'DEL', call)).toMatchObject({ status: 0, stderr: '' })
  expect(difference(before, state()).added).toEqual([])
  expect(attachedAndDetached()).toMatchObject({ status: 0, stderr: '' })
})

test.each([
  { plugin: 'bridge', verb: 'ADD' },
  { plugin: 'bridge', verb: 'DEL' },
  { plugin: 'tuning', verb: 'ADD' },
] as const)(
  'a namespace that vanishes in $verb of $plugin leaves nothing, and the worker at home',
  async ({ plugin, verb }) => {
    const program = compileStrike(folder)
    await using service = await builtService()
    attachedAndDetached()
    const home = service.worker()
    const before = state()
    const tuning = { type: 'tuning', mtu: 1400 }
    const points = process.env.CATENA_LONG ? 24 : 4
    let calls = 400
    for (let each = 0; each < points; each++) {
      const container = freshNamespace('days')
      const ofBridge: Call = { netns: container.path, containerId: container.name, config: bridge }
      const prepared =
        plugin === 'tuning' || verb === 'DEL'
          ? execute(ourExecutable('bridge'), 'ADD', ofBridge).json
          : undefined
      const config = {
        ...(plugin === 'bridge' ? bridge : tuning),
        ...(prepared ? { prevResult: prepared } : {}),
      }
      const call = { ...ofBridge, config }
      const point = 1 + Math.floor(((each + 0.5) / points) * calls)
      const struck = await strike(
        { program, worker: home, whom: container.path as `/${string}`, point },
        { plugin, verb, call },
      )
      if (!struck.fell) calls = struck.calls
      const { code } = struck.status === 0 ? {} : JSON.parse(struck.stdout)
      expect({ point, code, stderr: struck.stderr }).toEqual({
        point,
        code: struck.status === 0 ? undefined : expect.any(Number),
        stderr: '',
      })
      expect(execute(ourExecutable(plugin), 'DEL', call)).toMatchObject({ status: 0, stderr: '' })
      expect(execute(ourExecutable('bridge'), 'DEL', ofBridge)).toMatchObject({ status: 0, stderr: '' })
      container[Symbol.dispose]()
      expect({ point, added: difference(before, state()).added }).toEqual({ point, added: [] })
    }
    expect(service.worker()).toBe(home)
    expect(attachedAndDetached()).toMatchObject({ status: 0, stderr: '' })
  },
)

testOn(['own-clock'], 'a clock that is set back, or far ahead, changes nothing', async () => {
  await using service = await builtService()
  const [time, begun] = [Date.now(), performance.now()]
  try {
    for (const milliseconds of [time - 3600e3, time + 3 * 86_400e3, Date.UTC(2000)]) {
      sh(`date -s @${Math.floor(milliseconds / 1000)}`)
      expect(attachedAndDetached({}, withoutRules)).toMatchObject({ status: 0, stderr: '' })
    }
  } finally {
    sh(`date -s @${Math.floor((time + performance.now() - begun) / 1000)}`)
  }
  expect(service.status()).toMatchObject({ failed: 0 })
  expect(service.status().calls).toBeGreaterThan(0)
})
