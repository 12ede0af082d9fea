/** What `catena install` writes beside the plugins, and what `catena doctor --node` finds. */
import { afterEach, beforeEach, expect, test } from 'bun:test'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { plugins } from '../../chain/catena.ts'
import { examples } from '../../chain/cli/shipped.ts'
import { removeBridges } from '../fixtures/bridge.ts'
import { freshNamespace } from '../fixtures/namespace.ts'
import { ourExecutable, peerExecutable } from '../fixtures/plugin.ts'

const SERVICE = '/etc/systemd/system/cni-dhcp.service'
const SOCKET = '/etc/systemd/system/cni-dhcp.socket'
const OTHERS = ['warm.service', 'warm.socket', 'reconcile.service', 'reconcile.timer'].map(
  name => `/etc/systemd/system/catena-${name}`,
)
const NODE_WIDE = '/etc/cni/catena.json'
const BRIDGE = '/etc/cni/net.d/10-bridge.conflist'
const everything = ['--conf', 'bridge', '--units', '--backend', 'iptables']
const few = ['--plugins', 'loopback']

let root: string

beforeEach(() => {
  root = mkdtempSync('/run/node-')
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

function catena(...words: string[]) {
  const [verb = '', ...rest] = words
  const { exitCode, stdout, stderr } = Bun.spawnSync(
    [ourExecutable('catena'), verb, '--root', root, ...rest],
    { env: {} },
  )
  return { status: exitCode, stderr: `${stderr}`, json: JSON.parse(stdout.toString()) }
}

function write(path: string, text: string): void {
  mkdirSync(dirname(`${root}${path}`), { recursive: true })
  writeFileSync(`${root}${path}`, text)
}

const read = (path: string) => readFileSync(`${root}${path}`, 'utf8')
const files = () => Bun.spawnSync(['find', `${root}/etc`, '-type', 'f'], {}).stdout.toString()

test('units, an example and the backend are written with their folder, and go again', () => {
  const { status, json } = catena('install', ...few, ...everything, '--into', '/usr/lib/cni')
  expect({ status, changes: json.changes }).toEqual({
    status: 0,
    changes: {
      loopback: 'installed',
      [SERVICE]: 'installed',
      [SOCKET]: 'installed',
      ...Object.fromEntries(OTHERS.map(path => [path, 'installed'])),
      [NODE_WIDE]: 'installed',
      [BRIDGE]: 'installed',
    },
  })
  expect(read(SERVICE)).toContain('ExecStart=/usr/lib/cni/dhcp daemon\n')
  expect(read(SOCKET)).toBe(readFileSync(`${import.meta.dir}/../../ipam/dhcp/daemon/cni-dhcp.socket`, 'utf8'))
  expect(JSON.parse(read(NODE_WIDE))).toEqual({ backend: 'iptables' })
  expect(read(BRIDGE)).toBe(examples.bridge ?? '')
  const again = catena('install', ...few, ...everything, '--into', '/usr/lib/cni').json.changes
  expect(new Set(Object.values(again))).toEqual(new Set(['unchanged']))
  expect(new Set(Object.values(catena('uninstall', '--into', '/usr/lib/cni').json.changes))).toEqual(
    new Set(['removed']),
  )
  expect(files()).toBe('')
  expect(readdirSync(`${root}/usr/lib/cni`)).toEqual([])
})

test("what is somebody else's stays, what an administrator said comes back, --dry-run only says so", () => {
  write(BRIDGE, '{"name":"mine"}')
  write(SERVICE, '[Service]\n')
  write(NODE_WIDE, '{"backend":"nftables","note":"mine"}')
  const others = (change: string) => Object.fromEntries(OTHERS.map(path => [path, change]))
  const expected = {
    [SERVICE]: 'left',
    [SOCKET]: 'installed',
    ...others('installed'),
    [NODE_WIDE]: 'replaced',
    [BRIDGE]: 'left',
  }
  const before = files()
  expect(catena('install', ...few, ...everything, '--dry-run').json.changes).toEqual({
    loopback: 'installed',
    ...expected,
  })
  expect(files()).toBe(before)
  expect(catena('install', ...few, ...everything).json.changes).toMatchObject(expected)
  expect([read(BRIDGE), read(SERVICE)]).toEqual(['{"name":"mine"}', '[Service]\n'])
  expect(JSON.parse(read(NODE_WIDE))).toEqual({ backend: 'iptables', note: 'mine' })
  expect(catena('uninstall').json.changes).toEqual({
    loopback: 'removed',
    [SOCKET]: 'removed',
    ...others('removed'),
    [NODE_WIDE]: 'restored',
  })
  expect(read(NODE_WIDE)).toBe('{"backend":"nftables","note":"mine"}')
  expect([read(BRIDGE), read(SERVICE)]).toEqual(['{"name":"mine"}', '[Service]\n'])
})

test("an older version's unit is replaced, one that was edited stays", () => {
  catena('install', ...few, '--units')
  const note = `/opt/cni/bin/.catena/written.json`
  const older = '[Unit]\nDescription=older\n'
  write(note, JSON.stringify({ [SERVICE]: { texts: [older] }, [SOCKET]: { texts: [older] } }))
  write(SERVICE, older)
  write(SOCKET, `${older}# mine\n`)
  expect(catena('install', ...few, '--units').json.changes).toMatchObject({
    [SERVICE]: 'upgraded',
    [SOCKET]: 'left',
  })
  expect(read(SERVICE)).toContain('/opt/cni/bin/dhcp daemon')
  expect(catena('uninstall').json.changes).toMatchObject({ [SERVICE]: 'removed', [SOCKET]: 'left' })
})

test.each([
  { name: 'an example that is none', words: ['--conf', 'nosuch'], says: 'no example nosuch' },
  { name: 'a name that every object has', words: ['--conf', 'constructor'], says: 'no example constructor' },
  { name: 'a backend that is none', words: ['--backend', 'ebtables'], says: 'no backend ebtables' },
])('$name is refused before anything is done', ({ words, says }) => {
  const { status, json } = catena('install', ...words)
  expect({ status, msg: json.msg }).toEqual({ status: 1, msg: expect.stringContaining(says) })
  expect(readdirSync(root)).toEqual([])
})

test('a catena.json that is no object is refused before anything is done', () => {
  write(NODE_WIDE, '["nftables"]')
  expect(catena('install', '--backend', 'nftables')).toMatchObject({
    status: 1,
    json: { msg: expect.stringContaining('no JSON object') },
  })
  expect(existsSync(`${root}/opt`)).toBe(false)
})

test('killed at any link or rename, every file is whole or not there, and the next run does the rest', () => {
  write(NODE_WIDE, '{"backend":"nftables"}')
  const kill = (call: string, nth: number, words: string[]) => {
    const strace = [
      'strace',
      '-f',
      '-o',
      '/dev/null',
      '-e',
      `trace=${call}`,
      '-e',
      `inject=${call}:signal=SIGKILL:when=${nth}`,
    ]
    const command = [...strace, ourExecutable('catena'), ...words, '--root', root]
    return Bun.spawnSync(command, { env: { PATH: process.env.PATH } }).exitCode !== 0
  }
  const whole = [SERVICE, SOCKET, NODE_WIDE, BRIDGE]
  let kills = 0
  for (const call of ['link', 'rename']) {
    for (let nth = 1, isKilled = true; isKilled; nth++) {
      isKilled = kill(call, nth, ['install', ...few, ...everything])
      const torn = whole.filter(
        path =>
          existsSync(`${root}${path}`) &&
          !read(path).endsWith('}\n') &&
          !read(path).endsWith('"}') &&
          !read(path).includes('WantedBy'),
      )
      expect(torn).toEqual([])
      expect(catena('install', ...few, ...everything).status).toBe(0)
      expect(whole.filter(path => !existsSync(`${root}${path}`))).toEqual([])
      isKilled = kill(call, nth, ['uninstall']) || isKilled
      expect(catena('uninstall').status).toBe(0)
      expect({ files: files().trim(), backend: read(NODE_WIDE) }).toEqual({
        files: `${root}${NODE_WIDE}`,
        backend: '{"backend":"nftables"}',
      })
      if (isKilled) kills++
    }
  }
  expect(kills).toBeGreaterThan(10)
}, 120_000)

test.each(['bridge', 'dual-stack', 'ptp', 'loopback'])('the example %s makes a network that works', name => {
  using container = freshNamespace()
  try {
    catena('install', '--conf', name)
    const run = (verb: string) => {
      const place = [
        '--conf',
        `${root}/etc/cni/net.d`,
        '--path',
        `${root}/opt/cni/bin`,
        '--ifname',
        name === 'loopback' ? 'lo' : 'eth0',
      ]
      const { exitCode, stdout } = Bun.spawnSync(
        [`${root}/opt/cni/bin/catena`, verb, name, container.path, ...place],
        {
          env: { PATH: process.env.PATH ?? '' },
        },
      )
      return { verb, exitCode, text: exitCode === 0 ? '' : stdout.toString() }
    }
    const outcomes = ['status', 'add', 'check', 'del'].map(run)
    expect(outcomes.filter(({ exitCode }) => exitCode !== 0)).toEqual([])
  } finally {
    removeBridges()
  }
})

/** As installed, without the time that copying takes. */
function place(into = '/opt/cni/bin'): void {
  mkdirSync(`${root}${into}`, { recursive: true })
  for (const name of Object.keys(plugins)) symlinkSync(ourExecutable(name), `${root}${into}/${name}`)
}

interface Finding {
  about: string
  level: string
  says: string
  hint?: string
}

function doctor(...words: string[]): { status: number; findings: Finding[] } {
  const { status, json } = catena('doctor', '--node', ...words)
  return { status, findings: json.findings }
}

const about = (findings: readonly Finding[], name: string) =>
  findings.filter(finding => finding.about === name)

test('a node without plugins, and one that has them', () => {
  expect(doctor()).toMatchObject({
    status: 1,
    findings: [{ about: 'plugins', level: 'problem', hint: expect.stringContaining('catena install') }],
  })
  place()
  expect(doctor()).toMatchObject({ status: 0, findings: [{ about: 'plugins', level: 'fine' }] })
  rmSync(`${root}/opt/cni/bin/vrf`)
  expect(doctor()).toMatchObject({
    status: 0,
    findings: [{ level: 'fine' }, { level: 'notice', says: expect.stringMatching(/^not in .*: vrf$/) }],
  })
})

test.each([
  {
    runtime: 'containerd',
    file: '/etc/containerd/config.toml',
    text: 'version = 2\n[plugins]\n  [plugins."io.containerd.grpc.v1.cri"]\n    [plugins."io.containerd.grpc.v1.cri".cni]\n      bin_dir = "/usr/lib/cni"\n      conf_dir = "/etc/cni/net.d"\n',
    into: '/usr/lib/cni',
  },
  {
    runtime: 'containerd',
    file: '/etc/containerd/config.toml',
    text: "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/usr/libexec/cni']\n",
    into: '/usr/libexec/cni',
  },
  {
    runtime: 'CRI-O',
    file: '/etc/crio/crio.conf.d/10-cni.conf',
    text: '[crio.network]\nplugin_dirs = ["/usr/libexec/cni/", "/srv/cni"]\n',
    into: '/usr/libexec/cni',
  },
  {
    runtime: 'k3s',
    file: '/var/lib/rancher/k3s/agent/etc/containerd/config.toml',
    text: '[plugins.cri.cni]\nbin_dir = "/var/lib/rancher/k3s/data/current/bin"\nconf_dir = "/var/lib/rancher/k3s/agent/etc/cni/net.d"\n',
    into: '/var/lib/rancher/k3s/data/current/bin',
  },
  {
    runtime: 'nerdctl',
    file: '/etc/nerdctl/nerdctl.toml',
    text: 'cni_path = "/usr/libexec/cni"\n',
    into: '/usr/libexec/cni',
  },
])('$runtime that looks elsewhere is named with the folder and the file', ({ runtime, file, text, into }) => {
  place()
  write(file, text)
  const { status, findings } = doctor()
  const [first] = about(findings, runtime)
  expect({ status, first }).toMatchObject({
    status: 1,
    first: { level: 'problem', hint: expect.stringContaining('--into') },
  })
  expect(first?.says).toContain(into)
  expect(first?.says).toContain(file)
  place(into)
  expect(about(doctor('--into', into).findings, runtime)[0]).toMatchObject({ level: 'fine' })
})

test('podman says whether CNI makes its networks, and finds the first folder that has plugins', () => {
  place()
  write('/usr/bin/podman', '')
  expect(about(doctor().findings, 'podman')[0]).toMatchObject({ level: 'fine' })
  mkdirSync(`${root}/usr/lib/cni`, { recursive: true })
  copyFileSync(peerExecutable('bridge'), `${root}/usr/lib/cni/bridge`)
  expect(about(doctor().findings, 'podman')[0]).toMatchObject({
    level: 'problem',
    says: expect.stringContaining('/usr/lib/cni before'),
  })
  write('/etc/containers/containers.conf', '[network]\nnetwork_backend = "netavark"\n')
  expect(doctor()).toMatchObject({ status: 0 })
  expect(about(doctor().findings, 'podman')).toMatchObject([
    { level: 'notice', says: expect.stringContaining('netavark') },
  ])
})

test('a configuration of a runtime that cannot be read is named', () => {
  place()
  write('/etc/containerd/config.toml', 'version = [')
  expect(about(doctor().findings, 'runtime')).toMatchObject([
    { level: 'problem', says: expect.stringContaining('config.toml') },
  ])
})

/** The node's own: its kernel, settings, disks and networks. */
function doctorHere(before = ''): { status: number; findings: Finding[] } {
  const command = `${before} exec ${ourExecutable('catena')} doctor --into ${root}/opt/cni/bin`
  const { exitCode, stdout } = Bun.spawnSync(['unshare', '--mount', 'sh', '-c', command], {
    env: { PATH: process.env.PATH },
  })
  return { status: exitCode, findings: JSON.parse(stdout.toString()).findings }
}

test('the kernel is named, its features are tried, and what is missing is said with what it is missing for', () => {
  place()
  const { findings } = doctorHere()
  expect(about(findings, 'kernel')[0]).toMatchObject({
    level: 'fine',
    says: expect.stringMatching(/^Linux \d/),
  })
  expect(about(findings, 'kernel')[1]?.says).toMatch(/STATUS of bridge, ptp, macvlan/)
  expect(about(findings, 'dhcp')).toMatchObject([
    { level: 'notice', hint: expect.stringContaining('daemon') },
  ])
  expect(about(findings, 'plugins')).toMatchObject([{ level: 'fine' }])
})

test.each([
  {
    name: 'an older kernel',
    before: 'echo 5.4.0-200-generic',
    path: '/proc/sys/kernel/osrelease',
    says: '5.4.0-200-generic has not what is of 5.6',
  },
  {
    name: 'no forwarding',
    before: 'echo 0',
    path: '/proc/sys/net/ipv4/ip_forward',
    says: 'net.ipv4.ip_forward is 0',
  },
  {
    name: 'no namespaces',
    before: 'echo 0',
    path: '/proc/sys/user/max_net_namespaces',
    says: 'no network namespace',
  },
])('$name is said', ({ before, path, says }) => {
  place()
  const { findings } = doctorHere(`${before} >${root}/value; mount --bind ${root}/value ${path};`)
  expect(
    findings
      .filter(({ level }) => level !== 'fine')
      .map(finding => finding.says)
      .join('\n'),
  ).toContain(says)
})

test.each([
  {
    name: 'a full disk',
    mount: 'mount -t tmpfs -o size=4k disk /var/lib/cni; head -c 4k /dev/zero >/var/lib/cni/full;',
    says: 'room for 0 MB',
  },
  {
    name: 'a disk without inodes',
    mount: 'mount -t tmpfs -o nr_inodes=2 disk /var/lib/cni;',
    says: 'more files',
  },
  {
    name: 'a read-only disk',
    mount: 'mount -t tmpfs -o ro disk /var/lib/cni;',
    says: 'read-only file system',
  },
])('$name is a problem', ({ mount, says }) => {
  place()
  const { status, findings } = doctorHere(mount)
  expect(status).toBe(1)
  expect(about(findings, 'disk')).toMatchObject([{ level: 'problem', says: expect.stringContaining(says) }])
})

test('plugins that cannot be started are named: no right, another machine, a torn file, a disk without execution', () => {
  place()
  const folder = `${root}/opt/cni/bin`
  const machine = readFileSync(peerExecutable('bridge'))
  machine.writeUInt16LE(183, 18) // e_machine: EM_AARCH64
  for (const name of ['bridge', 'ptp', 'vlan']) rmSync(`${folder}/${name}`)
  writeFileSync(`${folder}/bridge`, machine, { mode: 0o755 })
  copyFileSync(peerExecutable('ptp'), `${folder}/ptp`)
  chmodSync(`${folder}/ptp`, 0o644)
  writeFileSync(`${folder}/vlan`, readFileSync(peerExecutable('vlan')).subarray(0, 3000), { mode: 0o755 })
  const said = about(doctorHere().findings, 'plugins').map(({ says }) => says)
  expect(said).toEqual([
    expect.stringContaining('bridge is for arm64, and this machine is x64'),
    expect.stringContaining('ptp may not be executed'),
    expect.stringMatching(/vlan cannot be started/),
  ])
  const { status, findings } = doctorHere(
    `mount --bind ${folder} ${folder}; mount -o remount,bind,noexec ${folder};`,
  )
  expect(status).toBe(1)
  expect(about(findings, 'disk')).toMatchObject([{ says: expect.stringContaining('noexec') }])
})

test('the networks of the node are asked: one that cannot take containers is a problem', () => {
  place()
  write('/net.d/10-good.conflist', examples.loopback ?? '')
  write('/net.d/20-bad.conflist', '{"cniVersion":"1.0.0","name":"bad","plugins":[{"type":"nosuch"}]}')
  const { status, findings } = doctorHere(
    `mkdir -p /etc/cni/net.d; mount --bind ${root}/net.d /etc/cni/net.d;`,
  )
  expect({ status, networks: about(findings, 'network') }).toMatchObject({
    status: 1,
    networks: [
      { level: 'fine', says: expect.stringContaining('loopback') },
      { level: 'problem', says: expect.stringContaining('nosuch') },
    ],
  })
})
