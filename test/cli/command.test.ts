import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { containerIdFor } from '../../chain/cli/environment.ts'
import { harmless } from '../../chain/cli/render.ts'
import { createNamespace, namespaceState, removeNamespace } from '../../chain/linux/netns.ts'
import { freshNamespace, hostNamespace } from '../fixtures/namespace.ts'
import { ourExecutable, ours } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'

const folder = mkdtempSync(`${tmpdir()}/catena-cli-`)
const configurations = `${folder}/net.d`
const NETNS = '/run/netns/cli-web'

/** A network with a bridge of its own. */
const list = (name: string, more: object = {}) => ({
  cniVersion: '1.1.0',
  name,
  plugins: [
    {
      type: 'bridge',
      bridge: 'cli0',
      isGateway: true,
      ipMasq: true,
      ipam: { type: 'host-local', ranges: [[{ subnet: '10.44.0.0/24' }]] },
    },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
  ...more,
})

beforeAll(() => {
  mkdirSync(configurations)
  writeFileSync(`${configurations}/10-cli.conflist`, JSON.stringify(list('cli-net')))
  const broken = list('cli-broken', {
    plugins: [{ type: 'bridge', bridge: 'cli0', ipam: { type: 'none-such' } }],
  })
  writeFileSync(`${configurations}/20-broken.conflist`, JSON.stringify(broken))
  const missing = list('cli-missing', { plugins: [{ type: 'none-such' }] })
  writeFileSync(`${configurations}/30-missing.conflist`, JSON.stringify(missing))
  const old = list('cli-old', { cniVersion: '0.3.1', plugins: [{ type: 'loopback' }] })
  writeFileSync(`${configurations}/40-old.conflist`, JSON.stringify(old))
  writeFileSync(
    `${configurations}/50-single.conf`,
    JSON.stringify({ cniVersion: '1.0.0', name: 'cli-single', type: 'loopback' }),
  )
})
afterAll(() => rmSync(folder, { recursive: true }))

/** What a failed test may leave would trouble the others. */
afterEach(() => {
  if (namespaceState(NETNS) !== 'absent') {
    catena(['del', 'cli-net', NETNS])
    removeNamespace(NETNS)
  }
  using host = hostNamespace()
  Bun.spawnSync(['ip', 'link', 'delete', 'cli0'])
  expect(host.links().map(({ name }) => name)).not.toContain('cli0')
  rmSync('/var/lib/cni/networks/cli-net', { recursive: true, force: true })
})

const PORTS = JSON.stringify({ portMappings: [{ hostPort: 8044, containerPort: 80, protocol: 'tcp' }] })

interface Environment {
  [name: string]: string | undefined
}

const base = (more: Environment): Environment => ({
  PATH: process.env.PATH,
  NETCONFPATH: configurations,
  CNI_PATH: ours,
  ...more,
})

/** The compiled command with its output piped. */
function catena(argv: string[], { env = {}, cwd = folder }: { env?: Environment; cwd?: string } = {}) {
  const { exitCode, stdout, stderr } = Bun.spawnSync([ourExecutable('catena'), ...argv], {
    env: base(env),
    cwd,
  })
  return { status: exitCode, stdout: `${stdout}`, stderr: `${stderr}` }
}

/** The compiled command on a terminal; what it shows, with and without colours. */
function onTerminal(argv: string[], env: Environment = {}) {
  const command = [ourExecutable('catena'), ...argv]
    .map(word => `'${word.replaceAll("'", "'\\''")}'`)
    .join(' ')
  const { exitCode, stdout } = Bun.spawnSync(['script', '-qec', command, '/dev/null'], {
    env: base({ TERM: 'xterm', ...env }),
    cwd: folder,
  })
  const raw = `${stdout}`.replaceAll('\r\n', '\n')
  return { status: exitCode, raw, shown: harmless(raw) }
}

const success = { status: 0, stdout: '', stderr: '' }

describe('as cnitool', () => {
  test('add prints the result with four blanks and no newline; check and del print nothing; nothing is left', () => {
    createNamespace(NETNS)
    const before = snapshot()
    const added = catena(['add', 'cli-net', NETNS], { env: { CAP_ARGS: PORTS } })
    const result = JSON.parse(added.stdout) as { ips: object[]; interfaces: object[] }
    expect(added).toEqual({ status: 0, stdout: JSON.stringify(result, null, 4), stderr: '' })
    expect(result).toMatchObject({
      cniVersion: '1.1.0',
      ips: [{ address: '10.44.0.2/24', gateway: '10.44.0.1', interface: 2 }],
      interfaces: [
        { name: 'cli0' },
        { name: expect.stringMatching(/^veth/) },
        { name: 'eth0', sandbox: NETNS },
      ],
    })
    expect(catena(['check', 'cli-net', NETNS])).toEqual(success)
    expect(catena(['del', 'cli-net', NETNS])).toEqual(success)
    expect(catena(['del', 'cli-net', NETNS])).toEqual(success)
    Bun.spawnSync(['ip', 'link', 'delete', 'cli0'])
    const left = difference(before, snapshot()).added.filter(line => !line.includes('last_reserved_ip'))
    expect(left).toEqual([])
  })

  test('the attachment is kept under the ID that cnitool derives, with its arguments', () => {
    createNamespace(NETNS)
    const env = { CNI_IFNAME: 'net7', CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAME=web', CAP_ARGS: PORTS }
    expect(catena(['add', 'cli-net', NETNS], { env }).status).toBe(0)
    const [attachment] = JSON.parse(catena(['list', 'cli-net']).stdout) as object[]
    expect(attachment).toMatchObject({
      network: 'cli-net',
      containerId: containerIdFor(NETNS),
      netns: NETNS,
      ifname: 'net7',
      args: [
        ['IgnoreUnknown', '1'],
        ['K8S_POD_NAME', 'web'],
      ],
      capabilityArgs: JSON.parse(PORTS),
    })
    expect(catena(['del', 'cli-net', NETNS], { env: { CNI_IFNAME: 'net7' } })).toEqual(success)
    expect(catena(['list'])).toEqual({ status: 0, stdout: '[]\n', stderr: '' })
  })

  test('gc removes all containers of a network', () => {
    createNamespace(NETNS)
    expect(catena(['add', 'cli-net', NETNS]).status).toBe(0)
    expect(catena(['gc', 'cli-net', NETNS])).toEqual(success)
    expect(JSON.parse(catena(['list', 'cli-net']).stdout)).toEqual([])
  })

  test('status needs no namespace, and takes one', () => {
    const said = {
      ...success,
      stderr: ['addresses are masqueraded', 'ports are published']
        .map(what => `${what} by nftables, because nothing on this node uses iptables\n`)
        .join(''),
    }
    expect([catena(['status', 'cli-net']), catena(['status', 'cli-net', 'any'])]).toEqual([said, said])
  })

  test('version tells the version that all plugins take, and their capabilities', () => {
    const { status, stdout } = catena(['version', 'cli-net'])
    expect([status, JSON.parse(stdout)]).toEqual([
      0,
      { name: 'cli-net', cniVersion: '1.1.0', capabilities: ['portMappings'] },
    ])
  })

  test('a single plugin in a .conf is a network too', () => {
    createNamespace(NETNS)
    const { status, stdout } = catena(['add', 'cli-single', NETNS], { env: { CNI_IFNAME: 'lo' } })
    expect([status, JSON.parse(stdout).cniVersion]).toEqual([0, '1.0.0'])
    expect(catena(['del', 'cli-single', NETNS], { env: { CNI_IFNAME: 'lo' } })).toEqual(success)
  })
})

test('flags say the same as the variables', () => {
  createNamespace(NETNS)
  const env = { NETCONFPATH: '/none', CNI_PATH: '/none', CNI_IFNAME: 'none' }
  const flags = ['--conf', configurations, '--path', ours, '-i', 'net8', '--container-id', 'web-1']
  const arguments_ = ['--args', 'IgnoreUnknown=1;A=B', '--cap-args', PORTS, '--timeout', '20000']
  expect(catena(['add', 'cli-net', NETNS, ...flags, ...arguments_], { env }).status).toBe(0)
  const [attachment] = JSON.parse(catena(['list']).stdout) as object[]
  expect(attachment).toMatchObject({
    containerId: 'web-1',
    ifname: 'net8',
    capabilityArgs: JSON.parse(PORTS),
  })
  expect(catena(['del', 'cli-net', NETNS, ...flags], { env })).toEqual(success)
})

test('without CNI_PATH plugins are found beside the command', () => {
  expect(catena(['version', 'cli-net'], { env: { CNI_PATH: undefined } }).status).toBe(0)
})

describe('a namespace', () => {
  test('is made first when --create wants it, and named by its last part', () => {
    expect(catena(['add', 'cli-net', 'cli-web', '--create']).status).toBe(0)
    expect(namespaceState(NETNS)).toBe('present')
    expect(catena(['check', 'cli-net', NETNS])).toEqual(success) // the name and the path are the same container
    expect(catena(['del', 'cli-net', 'cli-web'])).toEqual(success)
  })

  test('is used as it is when --create finds it', () => {
    using container = freshNamespace('cli')
    expect(catena(['add', 'cli-net', container.path, '--create']).status).toBe(0)
    expect(container.addresses('eth0')).toHaveLength(1)
    expect(catena(['del', 'cli-net', container.path])).toEqual(success)
  })

  test('that was made for an ADD which failed is taken away again', () => {
    expect(catena(['add', 'cli-broken', 'cli-web', '--create']).status).toBe(1)
    expect(namespaceState(NETNS)).toBe('absent')
  })

  test('that is gone does not keep a container from being deleted', () => {
    expect(catena(['add', 'cli-net', 'cli-web', '--create'], { env: { CAP_ARGS: PORTS } }).status).toBe(0)
    removeNamespace(NETNS)
    expect(catena(['del', 'cli-net', 'cli-web'])).toEqual(success)
    expect(readdirSync('/var/lib/cni/networks/cli-net').filter(name => name.startsWith('10.'))).toEqual([])
    expect(existsSync(`/var/lib/cni/results/cli-net-${containerIdFor(NETNS)}-eth0`)).toBe(false)
  })
})

describe('when piped, a failure is JSON with its code, the status is 1, and nothing is left:', () => {
  test.each<{ name: string; argv: string[]; env?: Environment; error: object }>([
    {
      name: 'no such network',
      argv: ['add', 'none', NETNS],
      error: { code: 7, msg: expect.stringContaining('no net configuration with name "none" in') },
    },
    {
      name: 'no configurations at all',
      argv: ['add', 'none', NETNS],
      env: { NETCONFPATH: '/none' },
      error: { code: 7, msg: 'no net configurations found in /none' },
    },
    {
      name: 'no such namespace',
      argv: ['add', 'cli-net', '/run/netns/none'],
      error: {
        code: 8,
        msg: 'there is no namespace /run/netns/none',
        details: expect.stringContaining('--create'),
      },
    },
    {
      name: 'no namespace',
      argv: ['add', 'cli-net', ''],
      error: { code: 4, msg: expect.stringContaining('[CNI_NETNS] missing') },
    },
    {
      name: 'a path that is no namespace',
      argv: ['add', 'cli-net', '/etc/passwd'],
      error: { code: expect.any(Number), msg: expect.stringContaining('/etc/passwd') },
    },
    {
      name: "the host's own namespace",
      argv: ['add', 'cli-net', '/proc/self/ns/net'],
      error: { code: 8, msg: expect.stringContaining('/proc/self/ns/net') },
    },
    {
      name: 'a plugin that is not there',
      argv: ['add', 'cli-missing', 'cli-web', '--create'],
      error: { code: 999, msg: expect.stringContaining('failed to find plugin "none-such" in path') },
    },
    {
      name: 'an address plugin that is not there',
      argv: ['add', 'cli-broken', 'cli-web', '--create'],
      error: { code: 999, msg: expect.stringContaining('failed to find plugin "none-such" in path') },
    },
    {
      name: 'an interface name that the specification forbids',
      argv: ['add', 'cli-net', 'cli-web', '--create', '--ifname', 'much-too-long-a-name'],
      error: { code: 4, msg: 'interface name is too long' },
    },
    {
      name: 'a container ID that the specification forbids',
      argv: ['add', 'cli-net', 'cli-web', '--create', '--container-id', '../x'],
      error: { code: 4, msg: 'invalid characters in containerID' },
    },
    {
      name: 'a version that knows no CHECK',
      argv: ['check', 'cli-old', 'cli-web'],
      error: { code: 1, msg: expect.stringContaining('does not support the CHECK command') },
    },
    {
      name: 'capability arguments that are no JSON',
      argv: ['add', 'cli-net', 'cli-web', '--create'],
      env: { CAP_ARGS: '{' },
      error: { code: 4, msg: 'CAP_ARGS: must be JSON' },
    },
    {
      name: 'a port that is none',
      argv: [
        'add',
        'cli-net',
        'cli-web',
        '--create',
        '--cap-args',
        '{"portMappings":[{"hostPort":70000,"containerPort":80}]}',
      ],
      error: { code: 7, msg: expect.stringContaining('hostPort') },
    },
  ])('$name', ({ argv, env = {}, error }) => {
    const before = snapshot()
    const { status, stdout, stderr } = catena(argv, { env })
    expect({ status, ...JSON.parse(stdout), stderr }).toMatchObject({
      status: 1,
      cniVersion: '1.1.0',
      ...error,
      stderr: '',
    })
    Bun.spawnSync(['ip', 'link', 'delete', 'cli0'])
    const left = difference(before, snapshot()).added.filter(line => !line.includes('last_reserved_ip'))
    expect({ left, namespace: namespaceState(NETNS) }).toEqual({ left: [], namespace: 'absent' })
  })

  test('a second ADD of a living attachment, which stays as it is', () => {
    expect(catena(['add', 'cli-net', 'cli-web', '--create']).status).toBe(0)
    const { status, stdout } = catena(['add', 'cli-net', 'cli-web'])
    expect({ status, msg: JSON.parse(stdout).msg }).toEqual({
      status: 1,
      msg: `container ${containerIdFor(NETNS)} is attached to network cli-net by eth0 already`,
    })
    expect(catena(['check', 'cli-net', 'cli-web'])).toEqual(success)
  })

  test('what CHECK finds broken', () => {
    expect(catena(['add', 'cli-net', 'cli-web', '--create']).status).toBe(0)
    Bun.spawnSync(['ip', '-n', 'cli-web', 'address', 'flush', 'dev', 'eth0'])
    const { status, stdout } = catena(['check', 'cli-net', 'cli-web'])
    expect({ status, msg: JSON.parse(stdout).msg }).toEqual({
      status: 1,
      msg: 'Failed to match addr 10.44.0.2/24 on interface eth0',
    })
  })
})

describe('arguments that are wrong are told with a way on, on standard error:', () => {
  test.each<{ argv: string[]; says: string }>([
    { argv: ['bogus', 'net'], says: "error: unknown command 'bogus'" },
    { argv: ['add', 'net'], says: "error: missing required argument 'netns'" },
    { argv: ['add', 'net', 'ns', 'more'], says: "error: too many arguments for 'add'" },
    { argv: ['add', 'net', 'ns', '--bogus'], says: "error: unknown option '--bogus'" },
    { argv: ['add', 'net', 'ns', '--timeout', 'soon'], says: 'It must be a whole number of milliseconds.' },
    { argv: ['add', 'net', 'ns', '--ifname'], says: "error: option '-i, --ifname <name>' argument missing" },
  ])('$argv', ({ argv, says }) => {
    const { status, stdout, stderr } = catena(argv)
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
    expect(stderr).toContain(says)
    expect(stderr).toContain('catena help')
  })

  test('no command at all shows what there is', () => {
    const { status, stderr } = catena([])
    expect(status).toBe(1)
    for (const word of ['Usage: catena', 'add', 'check', 'del', 'gc', 'status', 'version', 'host-local']) {
      expect(stderr).toContain(word)
    }
  })

  test('help is no error', () => {
    expect(catena(['help', 'add'])).toMatchObject({
      status: 0,
      stderr: '',
      stdout: expect.stringContaining('Usage: catena add'),
    })
    expect(catena(['--version'])).toMatchObject({
      status: 0,
      stderr: '',
      stdout: expect.stringMatching(
        /^catena \d+\.\d+\.\d+ \(commit ([0-9a-f]{12}(\+changes)?|unknown)\), CNI 0\.1\.0.*1\.1\.0\n$/,
      ),
    })
  })
})

describe('on a terminal', () => {
  test('each plugin is a line, the result is words, and the network a picture', () => {
    const added = onTerminal(['add', 'cli-net', 'cli-web', '--create', '--cap-args', PORTS])
    expect(added.status).toBe(0)
    expect(added.raw).toContain('\x1b[32m✓')
    expect(added.shown).toMatch(
      /^✓ ADD {4}bridge +\d[\d.]* ms\n✓ ADD {4}portmap +\d[\d.]* ms\n {2}cli0 .*\n {2}veth.*\n {2}eth0 .* 10\.44\.0\.2\/24 {2}in \/run\/netns\/cli-web\n/,
    )
    const listed = onTerminal(['list'])
    for (const part of [
      '╭─ host ─',
      '┏━ cli0 ━',
      '10.44.0.1/24  network cli-net',
      '╭─ cli-web ',
      'host 8044',
      '┼',
    ]) {
      expect(listed.shown).toContain(part)
    }
    expect(onTerminal(['del', 'cli-net', 'cli-web']).shown).toMatch(
      /^✓ DEL {4}portmap .*\n✓ DEL {4}bridge .*\n✓ cnitool-\w+ is no longer on network cli-net\n$/,
    )
    expect(onTerminal(['list']).shown).toBe('no container is on any network\n')
  })

  test('a failure is words with its code and what to look at', () => {
    const { status, raw, shown } = onTerminal(['add', 'cli-net', 'cli-web'])
    expect(status).toBe(1)
    expect(raw).toContain('\x1b[31m✗')
    expect(shown).toBe(
      '✗ there is no namespace /run/netns/cli-web (code 8)\n  make it before, or let --create make it\n',
    )
  })

  test('the plugin that failed is marked', () => {
    expect(onTerminal(['add', 'cli-broken', 'cli-web', '--create']).shown).toMatch(/^✗ ADD {4}bridge/)
  })

  test('NO_COLOR takes the colours away, and --json gives what is piped', () => {
    expect(onTerminal(['status', 'cli-net'], { NO_COLOR: '1' }).raw).not.toContain('\x1b[')
    const { raw } = onTerminal(['version', 'cli-net', '--json'])
    expect(JSON.parse(raw)).toEqual({ name: 'cli-net', cniVersion: '1.1.0', capabilities: ['portMappings'] })
  })
})

test('the demonstration does all that it says', () => {
  const { exitCode, stdout, stderr } = Bun.spawnSync(['bash', `${import.meta.dir}/../demo/run.sh`, ours])
  expect({ exitCode, stderr: `${stderr}` }).toEqual({ exitCode: 0, stderr: '' })
  const shown = `${stdout}`
  for (const part of [
    'client → web               http://10.22.0.2:80/         Hello from web!',
    'client → web               http://[fd00:22::2]:80/      Hello from web!',
    'outside → published port   http://192.0.2.1:8080/       Hello from web!',
    'host → its own 127.0.0.1   http://127.0.0.1:8080/       Hello from web!',
    'Failed to match addr 10.22.0.2/16 on interface eth0',
    'eth0 of web has not its address 10.22.0.2/16',
    'ip address add 10.22.0.2/16 dev eth0',
    '╭─ web ─',
    'failed at bridge',
    '✓ no links',
    '✓ no nftables rules',
    '✓ no reservations, caches, files',
  ]) {
    expect(shown).toContain(part)
  }
  expect(shown.match(/took \d/g)).toHaveLength(12)
})
