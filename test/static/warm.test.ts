/** What the loader does before Bun: whether it asks a warm service, and what it makes of its answers. A service that is none answers. */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { type Call, executeCommand, type Outcome, ourExecutable } from '../fixtures/plugin.ts'

const folder = '/run/warm-test'
const socket = '/run/catena/warm.sock'
const bridge = ourExecutable('bridge')
const cold = executeCommand([bridge], 'VERSION', { path: '/' })
const HERE = import.meta.dir

/** What a service that does all as it should does. */
const SERVED = ['hello', 'say', 'A', 'go', 'read', 'print', '{"from":"the service"}', 'status', '0']
const served = { status: 0, stdout: '{"from":"the service"}', stderr: '' }
const died = {
  status: 1,
  stderr: '',
  json: {
    cniVersion: '1.0.0',
    code: 11,
    msg: 'the service ended before this call did',
    details: expect.any(String),
  },
}

beforeAll(() => {
  mkdirSync(folder)
  const { exitCode, stderr } = Bun.spawnSync([
    'gcc',
    '-O1',
    '-o',
    `${folder}/service`,
    `${HERE}/false-service.c`,
  ])
  if (exitCode !== 0) throw new Error(stderr.toString())
})
afterAll(() => rmSync(folder, { recursive: true }))

interface FalseService extends AsyncDisposable {
  /** Comes back when it has printed this. */
  said(text: string): Promise<void>
  /** Ends it; answers the lines that it printed. */
  saw(): Promise<string[]>
}

async function falseService(...steps: string[]): Promise<FalseService> {
  return started([`${folder}/service`, ...steps])
}

async function started(words: string[], environment = {}): Promise<FalseService> {
  const child = Bun.spawn(words, { stdout: 'pipe', env: { ...process.env, ...environment } })
  const decoder = new TextDecoder()
  const reader = child.stdout.getReader()
  let text = ''
  const read = async () => {
    const { value, done } = await reader.read()
    text += decoder.decode(value)
    return !done
  }
  const said = async (wanted: string) => {
    while (!text.includes(wanted) && (await read()));
  }
  await said('ready\n')
  const saw = async () => {
    child.kill('SIGKILL')
    await child.exited
    while (await read());
    return text.split('\n').slice(1, -1)
  }
  return {
    said,
    saw,
    [Symbol.asyncDispose]: async () => {
      await saw()
      rmSync(socket, { force: true })
    },
  }
}

const version = (words: readonly string[] = [bridge], call: Call = {}): Outcome =>
  executeCommand(words, 'VERSION', { path: '/', ...call })

/** System calls of a start up to where the loader is done with the caller's state, one a line. */
function callsOf(
  environment: Record<string, string>,
  inject: readonly string[] = [],
): { calls: string[]; outcome: Outcome } {
  const file = `${folder}/calls`
  const words = ['strace', '-o', file, ...inject.flatMap(each => ['-e', `inject=${each}`]), bridge]
  const outcome = version(words, { environment })
  const lines = readFileSync(file, 'utf8').split('\n')
  return {
    calls: lines.slice(
      1,
      lines.findIndex(line => line.startsWith('getpid(')),
    ),
    outcome,
  }
}

/** How many descriptors more than before the loader has, by its calls. */
function descriptorsLeft(calls: readonly string[]): number {
  const opened = calls.filter(line => /^(socket|openat)\(.* = \d+$/.test(line)).length
  return opened - calls.filter(line => /^close\(.* = 0$/.test(line)).length
}

// --- whether it asks ---

test('where there is no service a call costs one system call more, and is what it was', () => {
  const names = (calls: string[]) => calls.map(line => line.replace(/\(.*/, ''))
  const [first = '', ...others] = callsOf({}).calls
  expect(first).toMatch(/^faccessat\(AT_FDCWD, "\/run\/catena\/warm.sock", F_OK\) += -1 ENOENT/)
  expect(names(others)).toEqual(names(callsOf({ CATENA_WARM: 'off' }).calls))
})

test('where a service has ended and left its socket, a call begins at once', async () => {
  const service = await falseService(...SERVED)
  await service.saw()
  expect(statSync(socket).isSocket()).toBe(true)
  const { calls, outcome } = callsOf({})
  expect(outcome).toEqual(cold)
  expect(
    calls
      .slice(0, 4)
      .map(line => line.replace(/\(.*\) +=/, ''))
      .join('; '),
  ).toMatch(/^faccessat 0; socket 3; connect -1 ECONNREFUSED .*; close 0$/)
  rmSync(socket)
})

test.each(['a file', 'a folder', 'a socket of another kind'])(
  'where %s has the name of the socket, a call begins at once',
  kind => {
    mkdirSync('/run/catena', { recursive: true })
    using _listener = kind === 'a socket of another kind' ? listening() : undefined
    if (kind === 'a file') writeFileSync(socket, '')
    if (kind === 'a folder') mkdirSync(socket)
    const { calls, outcome } = callsOf({})
    rmSync(socket, { recursive: true, force: true })
    expect(outcome).toEqual(cold)
    expect(descriptorsLeft(calls)).toBe(0)
    expect(calls.filter(line => line.startsWith('ppoll'))).toEqual([])
  },
)

/** A stream, as a daemon of another program's may have. */
function listening(): Disposable {
  const server = Bun.listen({ unix: socket, socket: { data() {} } })
  return { [Symbol.dispose]: () => server.stop(true) }
}

test('the service hears by which name, umask and environment it is asked for, and does the call', async () => {
  await using service = await falseService(...SERVED, 'complain', 'nothing to complain of', 'gone')
  const outcome = executeCommand(['sh', '-c', `umask 027; exec ${bridge}`], 'ADD', {
    path: '/p',
    netns: '/run/netns/n',
    config: '{"its":"input"}',
    environment: { CNI_ARGS: 'A=1', CATENA_WARM: 'on' },
  })
  expect(outcome).toMatchObject({ ...served, stderr: 'nothing to complain of' })
  const [hello = '', ...then] = await service.saw()
  expect(hello).toStartWith('hello: version 1, umask 027, name bridge, environment ')
  expect(hello.split(' ')).toEqual(
    expect.arrayContaining([
      'CNI_COMMAND=ADD',
      'CNI_NETNS=/run/netns/n',
      'CNI_PATH=/p',
      'CNI_ARGS=A=1',
      'CATENA_WARM=on',
    ]),
  )
  expect(then).toEqual(['go: G with 3 descriptors', 'read: {"its":"input"}', 'gone: yes'])
})

test.each([0, 1, 7, 128, 255])("the service's exit status %d is the caller's", async status => {
  await using _service = await falseService(
    'hello',
    'say',
    'A',
    'go',
    'print',
    '{"code":7}',
    'status',
    `${status}`,
  )
  expect(version()).toEqual({ status, stdout: '{"code":7}', stderr: '', json: { code: 7 } })
})

test.each([
  { what: 'CATENA_WARM=off', call: { environment: { CATENA_WARM: 'off' } } },
  { what: 'CATENA_WARM=nested', call: { environment: { CATENA_WARM: 'nested' } } },
  { what: 'CATENA_WARM=0', call: { environment: { CATENA_WARM: '0' } } },
  { what: 'CATENA_WARM=once', call: { environment: { CATENA_WARM: 'once' } } },
  {
    what: 'an environment of more than 128 KiB',
    call: { environment: { A: 'a'.repeat(66_000), B: 'b'.repeat(66_000) } },
  },
  { what: 'standard input closed', words: ['sh', '-c', `exec ${bridge} <&-`] },
  { what: 'standard error closed', words: ['sh', '-c', `exec ${bridge} 2>&-`] },
  { what: 'a user who is not root', words: ['unshare', '--user', bridge] },
  { what: 'a process that has root from a file only', words: ['setpriv', '--ruid=65534', bridge] },
])('$what: the service is not asked', async ({ words, call }) => {
  await using service = await falseService(...SERVED)
  expect(version(words, call)).toEqual(cold)
  expect(await service.saw()).toEqual([])
})

test.each([
  { what: 'without CNI_COMMAND', words: [bridge], env: {} },
  {
    what: 'with words behind its name',
    words: [ourExecutable('catena'), '--version'],
    env: { CNI_COMMAND: 'ADD' },
  },
])('$what: the service is not asked', async ({ words, env }) => {
  await using service = await falseService(...SERVED)
  const { exitCode, stdout } = Bun.spawnSync([...words], { env })
  expect({ exitCode, served: stdout.includes('the service') }).toEqual({ exitCode: 0, served: false })
  expect(await service.saw()).toEqual([])
})

// --- whom it trusts ---

test.each([
  { whose: "another user's", steps: ['user', '65534'] },
  { whose: 'one whose listener has ended', steps: ['leave'] },
  { whose: 'one that is in another pid namespace', words: ['unshare', '--pid', '--fork', bridge] },
])("a service that is not root's and alive here ($whose) hears nothing", async ({ steps = [], words }) => {
  await using service = await falseService(...steps, ...SERVED)
  expect(version(words)).toEqual(cold)
  expect((await service.saw())[0]).toBe('hello: 0 bytes')
})

test('a socket that process 1 listens at (systemd, for a service that is not there) is asked by the next call', async () => {
  const script = `(while sleep 0.01; do ${bridge} >/dev/null; done) & exec ${folder}/service hello`
  const words = ['unshare', '--pid', '--fork', '--kill-child', 'sh', '-c', script]
  await using service = await started(words, { CNI_COMMAND: 'VERSION' })
  await service.said('hello: ')
  expect(new Set(await service.saw())).toEqual(new Set(['hello: 0 bytes']))
})

// --- until the call is taken ---

test.each([
  { what: 'a full queue', steps: ['full'] },
  { what: 'a service that closes at once', steps: ['queue', '9'] },
  { what: 'one that closes when it has heard who asks', steps: ['hello'] },
  { what: 'one that dies at once', steps: ['die'] },
  { what: 'one that dies when it has heard who asks', steps: ['hello', 'die'] },
  { what: 'nonsense', steps: ['hello', 'say', 'B', 'gone'] },
  { what: 'an A with more behind it', steps: ['hello', 'say', 'AA', 'gone'] },
  { what: 'an empty packet', steps: ['hello', 'say', '', 'gone'] },
])('$what: the call begins at once, as without a service', async ({ steps }) => {
  await using _service = await falseService(...steps)
  const { calls, outcome } = callsOf({})
  expect(outcome).toEqual(cold)
  expect(calls.filter(line => /Timeout|SCM_RIGHTS/.test(line))).toEqual([])
  expect(descriptorsLeft(calls)).toBe(0)
})

test.each([
  { what: 'that accepts no call', steps: ['deaf'] },
  { what: 'that says nothing', steps: ['hello', 'gone'] },
])('a service $what is left alone after 100 ms', async ({ steps }) => {
  await using _service = await falseService(...steps)
  const { calls, outcome } = callsOf({})
  expect(outcome).toEqual(cold)
  expect(calls.filter(line => line.startsWith('ppoll'))).toEqual([
    expect.stringMatching(/, 1, \{tv_sec=0, tv_nsec=100000000\}, NULL, 0\) += 0 \(Timeout\)$/),
  ])
  expect(descriptorsLeft(calls)).toBe(0)
})

test.each([
  'socket:error=EMFILE:when=1',
  'connect:error=EACCES:when=1',
  'connect:error=EINTR:when=1',
  'getsockopt:error=ENOPROTOOPT:when=1',
  'kill:error=EPERM:when=1',
  'sendmsg:error=ENOBUFS:when=1',
  'sendmsg:error=EMSGSIZE:when=1',
  'ppoll:error=ENOMEM:when=1',
  'recvfrom:error=ECONNRESET:when=1',
  'recvfrom:error=EAGAIN:when=1',
  'sendmsg:error=ETOOMANYREFS:when=2',
  'sendmsg:error=EPIPE:when=2',
])('a call that fails on the way (%s) is done here, and only here', async inject => {
  await using service = await falseService(...SERVED)
  const { calls, outcome } = callsOf({}, [inject])
  expect(outcome).toEqual(cold)
  expect(descriptorsLeft(calls)).toBe(0)
  expect((await service.saw()).join()).not.toContain('3 descriptors')
})

test.each([
  ['ppoll:error=EINTR:when=1'],
  ['ppoll:error=EINTR:when=2'],
  ['recvfrom:error=EINTR:when=2'],
  ['recvfrom:error=EAGAIN:when=2'],
])('an interrupted wait (%s) goes on', async inject => {
  await using _service = await falseService(...SERVED)
  expect(callsOf({}, [inject]).outcome).toMatchObject(served)
})

// --- from then on ---

test('a service that dies before it is told to go has done nothing: the call is done here', async () => {
  await using _service = await falseService('hello', 'say', 'A', 'die')
  const { outcome } = callsOf({}, ['sendmsg:delay_enter=100000:when=2'])
  expect(outcome).toEqual(cold)
})

test.each([
  { when: 'as it is told to go', steps: ['peek', 'die'] },
  { when: 'when it has the descriptors', steps: ['go', 'die'] },
  { when: 'when it has read the input', steps: ['go', 'read', 'die'] },
  { when: 'without being killed', steps: ['go', 'read'] },
  { when: 'after half a status', steps: ['go', 'say', '', 'die'] },
  { when: 'after two', steps: ['go', 'say', '00', 'die'] },
])('a service that ends $when is an error of CNI, "try again later"', async ({ steps }) => {
  await using _service = await falseService('hello', 'say', 'A', ...steps)
  const { status, json, stderr } = version()
  expect({ status, json, stderr }).toEqual(died)
})

test('a service that ends between the result and the status is a failure, too: the result alone is not enough', async () => {
  await using _service = await falseService('hello', 'say', 'A', 'go', 'print', '{"ips":[]}', 'die')
  const { exitCode, stdout } = Bun.spawnSync([bridge], { env: { CNI_COMMAND: 'VERSION' } })
  expect(exitCode).toBe(1)
  expect(stdout.toString()).toStartWith('{"ips":[]}{\n  "cniVersion": "1.0.0",\n  "code": 11,')
})

test('what was written is complete when the caller ends, even if it is not read', async () => {
  const output = 'x'.repeat(60_000)
  await using _service = await falseService('hello', 'say', 'A', 'go', 'print', output, 'status', '3')
  const { exitCode, stdout } = Bun.spawnSync([bridge], { env: { CNI_COMMAND: 'VERSION' } })
  expect({ exitCode, output: stdout.toString() }).toEqual({ exitCode: 3, output })
})

test.each(['SIGTERM', 'SIGKILL'] as const)(
  'a caller that gets %s dies of it, and the service learns of it',
  async signal => {
    await using service = await falseService('hello', 'say', 'A', 'go', 'gone')
    const caller = Bun.spawn([bridge], { env: { CNI_COMMAND: 'VERSION' }, stdin: 'ignore' })
    await service.said('go: ')
    caller.kill(signal)
    await caller.exited
    expect(caller.signalCode).toBe(signal)
    await service.said('gone: ')
    expect(await service.saw()).toContain('gone: yes')
  },
)
