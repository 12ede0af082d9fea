/** Who is not the service's equal, and what is not for a process of many, is left to the caller's own process; the service says why. */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { copyFileSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { close } from '../../chain/linux/libc/file.ts'
import { bindPackets, connectPackets, sendMessage } from '../../chain/linux/libc/unix-socket.ts'
import { holdName } from '../../chain/linux/lock.ts'
import { differenceOf, identityIn, isOfOneProcess } from '../../chain/service/caller.ts'
import { readHello, SOCKET, writeHello } from '../../chain/service/protocol.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, environmentOf, ours, stdinOf, type Verb } from '../fixtures/plugin.ts'
import { served, type WarmService, warmService } from '../fixtures/warm.ts'
import { traced } from '../hostile/injected.ts'

let service: WarmService
let container: Namespace
let folder: string

beforeAll(async () => {
  service = await warmService('--workers', '1', '--most', '1')
  container = freshNamespace('refused')
  folder = mkdtempSync('/run/refused-')
})
afterAll(async () => {
  container[Symbol.dispose]()
  rmSync(folder, { recursive: true })
  await service[Symbol.asyncDispose]()
})

const loopback = (): Call => ({ netns: container, interface: 'lo', config: { type: 'loopback' } })

/** What the service refused meanwhile, and why. */
async function refusedBy(action: () => unknown): Promise<Record<string, number>> {
  const before = service.status().refused
  await action()
  const after = service.status().refused as Record<string, number>
  const more = Object.entries(after).map(
    ([why, count]) => [why, count - (before[why as keyof typeof before] ?? 0)] as const,
  )
  return Object.fromEntries(more.filter(([, count]) => count > 0))
}

/** Calls from a process that a command prepares; answers whether it was served. */
function callFrom(
  command: readonly string[],
  { executable = process.execPath, insists = false } = {},
): boolean {
  const { stdout, stderr, exitCode } = Bun.spawnSync(
    [...command, executable, `${import.meta.dir}/caller.ts`, 'loopback', ...(insists ? ['insist'] : [])],
    { env: environmentOf('STATUS', loopback(), ours), stdin: Buffer.from(stdinOf(loopback())) },
  )
  if (exitCode !== 0) throw new Error(`${command.join(' ')}: ${stderr}`)
  return JSON.parse(stdout.toString()).answer !== undefined
}

test('a process like the service is served', async () => {
  expect(await refusedBy(() => expect(callFrom([], { insists: true })).toBe(true))).toEqual({})
})

test.each([
  { from: ['unshare', '--net'], why: 'another network namespace' },
  { from: ['unshare', '--mount'], why: 'another mount namespace' },
  { from: ['unshare', '--user', '--map-root-user'], why: 'another user namespace' },
  { from: ['setpriv', '--bounding-set', '-sys_time'], why: 'other rights' },
  { from: ['setpriv', '--no-new-privs'], why: 'other rights' },
  { from: ['sh', '-c', 'cd / && exec chroot /proc/self/root/. "$@"', 'sh'], why: undefined },
])('$from: $why', async ({ from, why }) => {
  const refused = await refusedBy(() =>
    expect(callFrom(from, { insists: why === undefined })).toBe(why === undefined),
  )
  expect(refused).toEqual(why === undefined ? {} : { [why]: 1 })
})

test('another root folder, also where all that is needed is in it', async () => {
  const script = 'mkdir -p "$0/all" && mount --rbind / "$0/all" && exec chroot "$0/all" "$@"'
  const refused = await refusedBy(() => {
    expect(callFrom(['sh', '-c', script, folder])).toBe(false)
    Bun.spawnSync(['umount', '-R', '-l', `${folder}/all`])
  })
  expect(refused).toEqual({ 'another root folder': 1 })
})

test('a copy of the executable', async () => {
  copyFileSync(process.execPath, `${folder}/bun`)
  const refused = await refusedBy(() => expect(callFrom([], { executable: `${folder}/bun` })).toBe(false))
  expect(refused).toEqual({ 'another executable': 1 })
})

const differing: {
  what: string
  plugin?: string
  verb?: Verb
  call: (folder: string) => Call
  why: string
}[] = [
  { what: 'a relative namespace', call: () => ({ netns: 'run/netns/x' }), why: 'paths of its own' },
  { what: 'its own namespace', call: () => ({ netns: '/proc/self/ns/net' }), why: 'paths of its own' },
  {
    what: 'the same by a detour',
    call: () => ({ netns: '/run/..//proc/./thread-self/ns/net' }),
    why: 'paths of its own',
  },
  { what: 'one by a descriptor', call: () => ({ netns: '/dev/fd/3' }), why: 'paths of its own' },
  {
    what: 'one that a link leads to',
    call: folder => ({ netns: `${folder}/link` }),
    why: 'paths of its own',
  },
  { what: 'a relative CNI_PATH', call: () => ({ path: `${ours}:bin` }), why: 'paths of its own' },
  { what: 'dhcp', plugin: 'dhcp', call: () => ({}), why: 'may wait long' },
  { what: 'what is no plugin', plugin: 'nosuch', call: () => ({}), why: 'no plugin of that name' },
  { what: 'the command', plugin: 'catena', call: () => ({}), why: 'no plugin of that name' },
  { what: 'a name of every object', plugin: 'constructor', call: () => ({}), why: 'no plugin of that name' },
]

test.each(differing)('$what', async ({ plugin = 'loopback', verb = 'ADD', call, why }) => {
  symlinkSync('/dev/fd/3', `${folder}/link`)
  const refused = await refusedBy(() => {
    expect(served(plugin, verb, { ...loopback(), ...call(folder) })).toBeUndefined()
  })
  rmSync(`${folder}/link`)
  expect(refused).toEqual({ [why]: 1 })
})

test('a container that another call is at work on: whoever waits does so in his own process', async () => {
  const call: Call = { ...loopback(), config: { type: 'tuning' }, interface: 'eth7', containerId: 'taken' }
  const turn = await holdName('eth7 of container taken for tuning')
  const refused = await refusedBy(() => {
    expect(served('tuning', 'DEL', call)).toBeUndefined()
    expect(service.call('tuning', 'DEL', { ...call, containerId: 'free' })).toMatchObject({ status: 0 })
  })
  turn[Symbol.dispose]()
  expect(refused).toEqual({ 'its container is busy': 1 })
  expect(service.call('tuning', 'DEL', call)).toMatchObject({ status: 0 })
})

test('what cannot be understood, and what is not said at all', async () => {
  const hello = writeHello({ name: 'loopback', umask: 0o22, environment: { CNI_COMMAND: 'VERSION' } })
  const wrong = [
    Uint8Array.of(1),
    Uint8Array.of(2, ...hello.subarray(1)), // another version
    hello.subarray(0, -1), // its end is missing
    new Uint8Array(140_000).fill(65),
  ]
  const refused = await refusedBy(() => {
    for (const bytes of wrong) {
      const connection = connectPackets(SOCKET)
      sendMessage(connection, bytes)
      close(connection)
      service.status() // no caller is left in the queue then
    }
    close(connectPackets(SOCKET))
  })
  expect(refused).toEqual({ 'not understood': wrong.length })
})

test('who says nothing keeps a worker for a moment, in which callers do not wait longer than they have patience', () => {
  const silent = [connectPackets(SOCKET), connectPackets(SOCKET)]
  const started = performance.now()
  expect(served('loopback', 'STATUS', loopback())).toBeUndefined()
  expect(performance.now() - started).toBeLessThan(500)
  service.status() // which is answered when they have had their time
  expect(service.call('loopback', 'STATUS', loopback())).toMatchObject({ status: 0 })
  for (const connection of silent) close(connection)
})

test('of two variables of one name the first counts, and what is no variable does not', () => {
  const text = 'bridge\0A=1\0A=2\0nonsense\0=x\0B=\0C=a=b\0'
  const bytes = new Uint8Array([1, 0, 0, 0, 0o22, 0, 0, 0, ...new TextEncoder().encode(text)])
  expect(readHello(bytes)).toEqual({ name: 'bridge', umask: 0o22, environment: { A: '1', B: '', C: 'a=b' } })
})

test('an environment is the same whether it is read like the one before or not', () => {
  const read = (...variables: string[]) => {
    const text = new TextEncoder().encode(['bridge', ...variables, ''].join('\0'))
    const hello = readHello(new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0, ...text]))
    return typeof hello === 'object' ? hello.environment : hello
  }
  const first = read('A=1', 'B=2', 'A=3', 'bare', '=x')
  expect(first).toEqual({ A: '1', B: '2' })
  expect(read('A=1', 'B=', 'A=3', 'bare', '=x')).toEqual({ A: '1', B: '' })
  expect(first).toEqual({ A: '1', B: '2' }) // is another's
  expect(read('A=1', 'B=9', 'C=3', 'bare', '=x')).toEqual({ A: '1', B: '9', C: '3' })
  expect(read('A=1', 'B=9', 'C=3', 'bare=2', '=x')).toEqual({ A: '1', B: '9', C: '3', bare: '2' })
  expect(read('A=1', 'BB=9', 'C=3', 'bare=2', '=x')).toEqual({ A: '1', BB: '9', C: '3', bare: '2' })
  expect(read('A=1', 'B', 'C=3', 'bare=2', '=x')).toEqual({ A: '1', C: '3', bare: '2' })
  expect(read('A=1')).toEqual({ A: '1' })
  expect(read()).toEqual({})
})

test('a process is its own equal; whatever sets two apart is named', () => {
  const own = identityIn('/proc/self')
  expect(differenceOf(own, own)).toBeUndefined()
  expect(differenceOf({ ...own, label: 'confined' }, own)).toBe('another security label')
  expect(differenceOf({ ...own, files: [] }, own)).toBe('gone')
  expect(own.rights).toHaveLength(6)
  expect(own.rights).not.toContain('')
})

test.each([
  ['/run/netns/blue', false],
  ['/proc/4711/ns/net', false],
  ['/proc/1/root/proc/self/ns/net', false],
  ['/proc/self', true],
  ['/proc/selfish', false],
  ['/dev/stdin', true],
  ['relative', true],
  ['/proc/self/ns/net', true],
  ['/proc/thread-self/attr', true],
  ['/dev/fd', true],
  ['/run/../proc/self/cwd/x', true],
  ['/proc/sys/net', false],
  ['/nothing/of/the/kind', false],
  ['/nothing/../proc/self', true],
  ['', true],
])('a path %s is of one process alone: %p', (path, expected) => {
  expect(isOfOneProcess(path)).toBe(expected)
})

test('a path that a link takes to what is of one process, or to what is not', () => {
  symlinkSync('/proc', `${folder}/proc`)
  symlinkSync('..', `${folder}/run`)
  const own = [`${folder}/proc/self`, `${folder}/proc/self/root/run`, `${folder}/run/../dev/stdout`]
  expect(own.map(isOfOneProcess)).toEqual([true, true, true])
  const common = [`${folder}/proc/sys`, `${folder}/run`, folder, `${folder}/none`]
  expect(common.map(isOfOneProcess)).toEqual([false, false, false, false])
})

test.each(['openat2:error=ENOSYS', 'openat2:error=EPERM'])(
  'paths are judged alike where the kernel says %s',
  refusal => {
    symlinkSync('/dev', `${folder}/devices`)
    const paths = [
      '/run',
      `${folder}/devices/null`,
      '/proc/1/ns',
      `${folder}/devices/fd`,
      '/proc/self',
      'run',
    ]
    const script = `
    import { isOfOneProcess } from '${import.meta.dir}/../../chain/service/caller.ts'
    console.log(JSON.stringify(${JSON.stringify(paths)}.map(isOfOneProcess)))`
    const { stdout } = Bun.spawnSync(traced(refusal, process.execPath, '-e', script))
    rmSync(`${folder}/devices`)
    expect(JSON.parse(stdout.toString())).toEqual([false, false, false, true, true, true])
  },
)

test('a path whose links have no end is like any other that leads nowhere', () => {
  symlinkSync(`${folder}/round`, `${folder}/round`)
  expect(isOfOneProcess(`${folder}/round/x`)).toBe(false)
})

test('a socket that listens no more is no service', () => {
  const path = `${folder}/closed.sock`
  close(bindPackets(path))
  expect(() => connectPackets(path)).toThrow('ECONNREFUSED')
})
