/** Whoever starts the executable, in whatever state: its name, its environment, its folder, its descriptors, its limits. */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { freshNamespace } from '../fixtures/namespace.ts'
import { execute, executeCommand, ourExecutable, ours, type Verb } from '../fixtures/plugin.ts'

const folder = '/run/callers'
const ipam = { type: 'host-local', ranges: [[{ subnet: '10.78.0.0/24' }]] }
const version = execute(ourExecutable('bridge'), 'VERSION').stdout

beforeAll(() => {
  mkdirSync(folder)
  const { exitCode, stderr } = Bun.spawnSync([
    'gcc',
    '-O1',
    '-o',
    `${folder}/deny`,
    `${import.meta.dir}/deny.c`,
  ])
  if (exitCode !== 0) throw new Error(stderr.toString())
})
afterAll(() => rmSync(folder, { recursive: true }))

/** An executable file that says in a file that it was run. */
function program(path: string, text: string): void {
  writeFileSync(path, `#!/bin/sh\n${text}\n`)
  chmodSync(path, 0o755)
}

// --- its name ---

const inRepository = `${ours}/../.cache/named-${process.pid}`

test.each([
  { how: 'by its path', file: 'bridge', argv0: undefined, is: 'bridge' },
  { how: 'by another argv[0]', file: 'bridge', argv0: 'foo', is: 'bridge' },
  { how: 'by an empty argv[0]', file: 'tuning', argv0: '', is: 'tuning' },
  { how: "by another plugin's name as argv[0]", file: 'bridge', argv0: '/x/portmap', is: 'portmap' },
  { how: 'as a symbolic link', file: 'portmap', link: symlinkSync, argv0: undefined, is: 'portmap' },
  {
    how: 'as a symbolic link, by another argv[0]',
    file: 'portmap',
    link: symlinkSync,
    argv0: 'foo',
    is: 'portmap',
  },
  { how: 'as a hard link, by an empty argv[0]', file: 'vrf', link: linkSync, argv0: '', is: 'vrf' },
  { how: 'as "bun"', file: 'sbr', argv0: 'bun', is: 'sbr' },
  { how: 'as "node"', file: 'sbr', argv0: 'node', is: 'sbr' },
])('called $how it is $is', ({ file, link, argv0, is }) => {
  mkdirSync(inRepository, { recursive: true })
  try {
    if (link) link(ourExecutable(file), `${inRepository}/${file}`)
    const path = link ? `${inRepository}/${file}` : ourExecutable(file)
    const { exitCode, stderr } = Bun.spawnSync([path], { env: {}, ...(argv0 === undefined ? {} : { argv0 }) })
    expect({ exitCode, said: stderr.toString() }).toEqual({
      exitCode: 0,
      said: expect.stringContaining(`CNI ${is} plugin`),
    })
  } finally {
    rmSync(inRepository, { recursive: true })
  }
})

// --- its environment ---

const settings = [
  'BUN_BE_BUN=1',
  'BUN_OPTIONS=--print 6*7',
  'BUN_JSC_useJIT=0',
  'BUN_JSC_useFTLJIT=0x', // the service's own words for its workers, but not quite
  'BUN_JSC_dumpOptions=2',
  'BUN_INSPECT=1',
  'JSC_dumpOptions=2',
  'NODE_OPTIONS=--require /run/callers/evil.js',
  'NODE_CHANNEL_FD=1',
  'LD_PRELOAD=/run/callers/evil.so',
  'LD_LIBRARY_PATH=/run/callers',
  'LD_AUDIT=/run/callers/evil.so',
  'LD_DEBUG=all',
  'MIMALLOC_VERBOSE=1',
  'MIMALLOC_SHOW_STATS=1',
  'SIMDUTF_FORCE_IMPLEMENTATION=fallback',
  'ICU_DATA=/run/callers',
]

test.each(settings)('%s has no influence', setting => {
  const [, name = '', value = ''] = /^(\w+)=(.*)/.exec(setting) ?? []
  const environment = { [name]: value }
  const { status, stdout, stderr } = execute(ourExecutable('bridge'), 'VERSION', { environment })
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: version, stderr: '' })
})

test("a plugin that is another's gets its environment as the caller gave it", () => {
  using container = freshNamespace()
  program(`${folder}/other-ipam`, `env >${folder}/environment\necho '{"cniVersion":"1.1.0","ips":[]}'`)
  const environment = {
    LD_LIBRARY_PATH: '/some/where',
    BUN_BE_BUN: '1',
    NODE_OPTIONS: '--x',
    MUSL_LOCPATH: '/y',
    A: 'b=c',
  }
  const config = { type: 'bridge', bridge: 'cni78', ipam: { type: 'other-ipam' } }
  const call = { netns: container, config, environment, path: `${folder}:${ours}` }
  execute(ourExecutable('bridge'), 'ADD', call)
  const seen = readFileSync(`${folder}/environment`, 'utf8').split('\n')
  expect(seen).toEqual(
    expect.arrayContaining(Object.entries(environment).map(([name, value]) => `${name}=${value}`)),
  )
  execute(ourExecutable('bridge'), 'DEL', call)
})

test.each(['.', '', '.:/usr/bin', 'callers:../run/callers', 'relative'])(
  'PATH=%s runs no helper from the working folder',
  PATH => {
    using host = freshNamespace('host')
    using container = freshNamespace('container')
    const marker = `${folder}/marker`
    const place = `${folder}/${PATH === 'relative' ? 'relative' : ''}`
    mkdirSync(place, { recursive: true })
    const helpers = [
      'nft',
      'iptables',
      'iptables-save',
      'iptables-restore',
      'ip6tables',
      'ip6tables-save',
      'ip6tables-restore',
    ]
    for (const helper of helpers) program(`${place}/${helper}`, `touch ${marker}; exit 1`)
    const prevResult = {
      cniVersion: '1.1.0',
      interfaces: [{ name: 'eth0', sandbox: container.path }],
      ips: [{ address: '10.78.0.2/24', interface: 0 }],
    }
    const portMappings = [{ hostPort: 8078, containerPort: 80, protocol: 'tcp' }]
    const calls = [
      { type: 'portmap', conditionsV4: ['ip', 'daddr', '192.0.2.1'] },
      { type: 'portmap', backend: 'iptables' },
    ]
    for (const each of calls) {
      const config = { ...each, prevResult, runtimeConfig: { portMappings } }
      const call = { netns: container, config, environment: { PATH }, path: ours, cwd: folder }
      for (const verb of ['ADD', 'DEL'] as Verb[]) {
        const { status, stdout } = host.inside(() => executeCommand([ourExecutable('portmap')], verb, call))
        expect({ verb, status, output: status === 0 ? '' : stdout }).toEqual({ verb, status: 0, output: '' })
      }
    }
    expect(existsSync(marker)).toBe(false)
    for (const helper of helpers) rmSync(`${place}/${helper}`)
  },
)

// --- its folder and its descriptors ---

test('a working folder that was deleted does no harm', () => {
  using container = freshNamespace()
  const run = (name: string, verb: Verb, config: object) =>
    executeCommand(
      [
        'sh',
        '-c',
        `mkdir ${folder}/gone && cd ${folder}/gone && rmdir ${folder}/gone && exec ${ourExecutable(name)}`,
      ],
      verb,
      { netns: container, config, path: ours },
    )
  expect(run('bridge', 'VERSION', {}).stdout).toBe(version)
  for (const verb of ['ADD', 'CHECK', 'DEL'] as const) {
    const prevResult = verb === 'ADD' ? {} : { prevResult: { cniVersion: '1.1.0', ips: [] } }
    expect(run('loopback', verb, { type: 'loopback', ...prevResult })).toMatchObject({
      status: 0,
      stderr: '',
    })
  }
  expect(run('host-local', 'ADD', { ipam })).toMatchObject({ status: 0, stderr: '' })
  expect(run('host-local', 'DEL', { ipam })).toMatchObject({ status: 0, stderr: '' })
})

test.each(['<&-', '2>&-', '<&- 2>&-', '<&- >&- 2>&-'])(
  'descriptors closed by the caller (%s) are no other file',
  closed => {
    const { status, stdout } = executeCommand(
      ['sh', '-c', `exec ${ourExecutable('bridge')} ${closed}`],
      'VERSION',
      {},
    )
    expect({ status, stdout }).toEqual({ status: 0, stdout: closed.includes('>&- 2') ? '' : version })
    const refused = executeCommand(['sh', '-c', `exec ${ourExecutable('bridge')} ${closed}`], 'ADD', {
      netns: '/x',
      path: '/',
    })
    expect(refused.status).toBe(1)
  },
)

// --- its limits ---

test.each([
  ['--as=536870912'],
  ['--as=1073741824'],
  ['--nofile=16'],

  ['--core=0'],
  ['--data=402653184'],
])('under prlimit %s a container is attached and detached', limit => {
  using host = freshNamespace('host')
  using container = freshNamespace('container')
  const config = { type: 'bridge', bridge: 'cni78', isGateway: true, ipMasq: true, ipam }
  for (const verb of ['ADD', 'DEL'] as const) {
    const outcome = host.inside(() =>
      executeCommand(['prlimit', limit, ourExecutable('bridge')], verb, {
        netns: container,
        config,
        path: ours,
      }),
    )
    expect({ verb, ...outcome }).toMatchObject({ status: 0, stderr: '' })
  }
})

test.each([
  { limits: ['prlimit', '--as=268435456'], says: 'denied address space', and: 'RLIMIT_AS 268435456' },
  { limits: ['prlimit', '--data=268435456'], says: 'denied address space', and: 'RLIMIT_DATA 268435456' },
  { limits: ['prlimit', '--stack=65536'], says: 'before it could answer', and: 'RLIMIT_STACK 65536' },
  { limits: ['prlimit', '--nofile=4'], says: 'before it could answer', and: 'RLIMIT_NOFILE 4' },
  {
    limits: [`${folder}/deny`, 'write-execute'],
    says: 'denied memory that is writable and executable',
    and: 'MemoryDenyWriteExecute',
  },
  {
    limits: [`${folder}/deny`, 'gain-execute'],
    says: 'denied memory that is writable and executable',
    and: 'execmem',
  },
])('under $limits VERSION, ADD and DEL say what is missing, as CNI errors', ({ limits, says, and }) => {
  for (const verb of ['VERSION', 'ADD', 'DEL'] as const) {
    const { status, json } = executeCommand([...limits, ourExecutable('bridge')], verb, {
      netns: '/x',
      path: ours,
    })
    expect({ verb, status, json }).toEqual({
      verb,
      status: 1,
      json: {
        cniVersion: '1.0.0',
        code: 999,
        msg: expect.stringContaining(says),
        details: expect.stringContaining(and),
      },
    })
  }
})

test('where no thread may be started there is an answer all the same', () => {
  const { status, json } = executeCommand([`${folder}/deny`, 'threads', ourExecutable('bridge')], 'ADD', {
    netns: '/x',
    path: ours,
  })
  expect({ status, code: json.code }).toEqual({ status: 1, code: expect.any(Number) })
})

test('a person who starts a plugin under such limits reads it on standard error', () => {
  const { exitCode, stdout, stderr } = Bun.spawnSync(
    [`${folder}/deny`, 'write-execute', ourExecutable('bridge')],
    { env: {} },
  )
  expect({ exitCode, stdout: stdout.toString() }).toEqual({ exitCode: 1, stdout: '' })
  expect(JSON.parse(stderr.toString()).msg).toContain('denied memory')
})
