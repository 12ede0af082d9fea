import { afterAll, describe, expect, test } from 'bun:test'
import { linkSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { plugins } from '../chain/catena.ts'
import { removeBridges } from './fixtures/bridge.ts'
import { freshNamespace } from './fixtures/namespace.ts'
import { type Call, execute, mustExecute, ourExecutable, ours } from './fixtures/plugin.ts'
import { difference, snapshot } from './fixtures/snapshot.ts'

const names = Object.keys(plugins)
const ipam = { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/16' }]] }
const bridge = { type: 'bridge', bridge: 'cni0', isGateway: true, ipam }

afterAll(removeBridges)

test.each(names)('%s is a name of the one program', name => {
  const program = statSync(ourExecutable('catena'))
  const { ino, dev } = statSync(ourExecutable(name))
  expect({ ino, dev }).toEqual({ ino: program.ino, dev: program.dev })
})

test.each(names)('%s answers VERSION whatever else the environment and standard input hold', name => {
  const { status, json, stdout } = execute(ourExecutable(name), 'VERSION', {
    config: 'this is not JSON',
    netns: 'dummy',
    interface: 'dummy',
    containerId: '!!',
    path: 'dummy',
    args: 'not;pairs',
  })
  expect({ status, cniVersion: json.cniVersion }).toEqual({ status: 0, cniVersion: '1.1.0' })
  expect(json.supportedVersions).toEqual((plugins[name]?.versions ?? json.supportedVersions) as string[])
  expect(stdout.endsWith('}\n')).toBe(true)
})

test.each(names)(
  '%s knows its versions twice: for VERSION without being loaded, and when it is',
  async name => {
    const entry = plugins[name]
    expect((await entry?.load())?.versions).toEqual(entry?.versions as string[])
  },
)

/** A program that is started without a verb: by a person, or by one that wants to know what is installed. */
function introduced(file: string, words: readonly string[], environment: Record<string, string>) {
  const child = Bun.spawnSync([file, ...words], { env: { PATH: '/bin', ...environment } })
  return { status: child.exitCode, stdout: child.stdout.toString(), stderr: child.stderr.toString() }
}

const semantic = /^v?\d+\.\d+\.\d+(\+[0-9A-Za-z.-]+)?$/

test.each(names)('%s that is run by hand says what it is, as the Go plugin does, and does not fail', name => {
  for (const words of [[], ['--version']]) {
    for (const environment of [{}, { CNI_PATH: '/opt/cni/bin', CNI_ARGS: 'x=y' }, { CNI_COMMAND: '' }]) {
      const { status, stdout, stderr } = introduced(ourExecutable(name), words, environment)
      expect({ status, stdout }).toEqual({ status: 0, stdout: '' })
      const [first = ''] = stderr.split('\n')
      expect(first).toMatch(/ plugin v1\.9\.1\+catena\.\d+\.\d+\.\d+$/)
      expect(first).toStartWith(`CNI ${name} plugin `)
      expect(stderr).toContain('CNI protocol versions supported: ')
    }
  }
})

test('nerdctl and Nomad find the version of the Go plugins in what firewall says of itself', () => {
  const { stderr } = introduced(ourExecutable('firewall'), [], { CNI_PATH: '/opt/cni/bin' })
  // nerdctl, pkg/netutil: what follows this prefix, to the end of the line, is to be a semantic version
  const line = stderr.split('\n').find(one => one.startsWith('CNI firewall plugin '))
  expect(line?.slice('CNI firewall plugin '.length)).toMatch(semantic)
  // Nomad, client/fingerprint/plugins_cni.go: the first word that is one; the last one in older releases
  const versions = stderr.split(/\s+/).filter(word => semantic.test(word))
  expect(versions[0]).toStartWith('v1.9.1+catena.')
  expect(versions.at(-1)).toBe('v1.9.1')
})

describe('under another name', () => {
  const folder = mkdtempSync(`${ours}/renamed-`) // on its file system: a copy is a hard link
  afterAll(() => rmSync(folder, { recursive: true }))
  const versionsOf = (file: string) => execute(file, 'VERSION').json.supportedVersions

  // kubevirt installs copies as cnv-bridge and cnv-tuning, Rancher as rancher-bridge
  test.each([
    { name: 'cnv-bridge', plugin: 'bridge' },
    { name: 'cnv-tuning', plugin: 'tuning' },
    { name: 'rancher-bridge', plugin: 'bridge' },
    { name: 'my-firewall', plugin: 'firewall' },
    { name: 'our-ipvlan', plugin: 'ipvlan' },
    { name: 'our-host-local', plugin: 'host-local' },
    { name: 'flannel-amd64', plugin: 'flannel' }, // as flannel's releases call it
    { name: 'bridge.old', plugin: 'bridge' },
    { name: 'host-local-1.9.1', plugin: 'host-local' },
    { name: 'bridge-of-vlan', plugin: 'vlan' },
  ])('$name is $plugin, as a copy and as a link', ({ name, plugin }) => {
    const copy = `${folder}/${name}`
    const link = `${folder}/link/${name}`
    mkdirSync(`${folder}/link`, { recursive: true })
    linkSync(ourExecutable('catena'), copy)
    symlinkSync(ourExecutable('catena'), link)
    for (const file of [copy, link]) {
      expect(introduced(file, [], {}).stderr).toStartWith(`CNI ${plugin} plugin `)
      expect(versionsOf(file)).toEqual(versionsOf(ourExecutable(plugin)))
    }
  })

  test('a link of another name is what it leads to, also by way of a link, and when found on PATH', () => {
    symlinkSync(ourExecutable('catena'), `${folder}/tuning`)
    symlinkSync('tuning', `${folder}/second`)
    symlinkSync(ourExecutable('loopback'), `${folder}/third`)
    expect(introduced(`${folder}/second`, [], {}).stderr).toStartWith('CNI tuning plugin ')
    expect(introduced(`${folder}/third`, [], {}).stderr).toStartWith('CNI loopback plugin ')
    const shell = Bun.spawnSync(['/bin/sh', '-c', 'second'], { env: { PATH: `/bin:${folder}` } })
    expect(shell.stderr.toString()).toStartWith('CNI tuning plugin ')
  })

  test.each(['ADD', 'DEL', 'VERSION', 'STATUS'] as const)(
    'that tells nothing, %s is refused with a document, not with a usage',
    verb => {
      linkSync(ourExecutable('catena'), `${folder}/sriov-${verb}`)
      for (const name of [`${folder}/sriov-${verb}`, ourExecutable('catena')]) {
        const { status, json, stderr } = execute(name, verb, { config: bridge })
        expect({ status, stderr, code: json.code }).toEqual({ status: 1, stderr: '', code: 4 })
        expect(json.msg).toContain(name.slice(name.lastIndexOf('/') + 1))
        expect(json.details).toContain('host-local')
      }
    },
  )

  test('catena is the command also where a runtime has left its variables, and where it is a link to a plugin', () => {
    symlinkSync(ourExecutable('bridge'), `${folder}/catena`)
    for (const file of [ourExecutable('catena'), `${folder}/catena`]) {
      const { status, stdout } = introduced(file, ['--version'], { CNI_COMMAND: 'ADD' })
      expect({ status, stdout }).toEqual({ status: 0, stdout: expect.stringContaining('CNI 0.1.0') })
    }
  })
})

interface Refusal {
  name: string
  plugin?: string
  call: Call
  code: number
  says: string | RegExp
}

const config = (changes: object) => ({ ...bridge, ...changes })
const withIpam = (changes: object) => config({ ipam: { ...ipam, ...changes } })

const refusals: Refusal[] = [
  { name: 'empty standard input', call: { config: '' }, code: 6, says: 'is not JSON' },
  { name: 'a cut-off document', call: { config: '{"cniVersion":"1.1.0","na' }, code: 6, says: 'is not JSON' },
  { name: 'a list instead of an object', call: { config: '[]' }, code: 6, says: 'is not a JSON object' },
  {
    name: 'an unknown version',
    call: { config: config({ cniVersion: '9.9.9' }) },
    code: 1,
    says: 'incompatible CNI versions',
  },
  { name: 'no name', call: { config: config({ name: '' }) }, code: 7, says: 'missing network name' },
  {
    name: 'a forbidden network name',
    call: { config: config({ name: '../etc' }) },
    code: 7,
    says: 'network name',
  },
  {
    name: 'no container ID, no interface and no path, all told at once',
    call: { containerId: '', interface: '', path: '' },
    code: 4,
    says: 'required env variables [CNI_CONTAINERID,CNI_IFNAME,CNI_PATH] missing',
  },
  {
    name: 'a forbidden container ID',
    call: { containerId: '../../etc' },
    code: 4,
    says: 'invalid characters in containerID',
  },
  {
    name: 'an interface name of 16 bytes',
    call: { interface: 'eth0123456789012' },
    code: 4,
    says: 'interface name is too long',
  },
  { name: 'an interface name with a slash', call: { interface: 'eth/0' }, code: 4, says: 'interface name' },
  {
    name: 'an IPAM plugin that is not there',
    call: { config: config({ ipam: { type: 'no-such-ipam' } }) },
    code: 999,
    says: 'failed to find plugin "no-such-ipam"',
  },
  {
    name: 'a namespace path that is nothing',
    call: { netns: '/run/netns/not-there' },
    code: 8,
    says: '/run/netns/not-there',
  },
  { name: 'a namespace path that is a file', call: { netns: '/etc/passwd' }, code: 8, says: '/etc/passwd' },
  {
    name: "the plugin's own namespace",
    call: { netns: '/proc/self/ns/net' },
    code: 8,
    says: 'should not be the same',
  },
  {
    name: 'a subnet too small to allocate from',
    call: { config: withIpam({ ranges: [[{ subnet: '10.1.0.0/31' }]] }) },
    code: 7,
    says: 'too small',
  },
  {
    name: 'a range outside its subnet',
    call: { config: withIpam({ ranges: [[{ subnet: '10.1.0.0/24', rangeStart: '10.2.0.1' }]] }) },
    code: 7,
    says: 'ranges[0][0].rangeStart',
  },
  {
    name: 'an address out of every range',
    call: { config: config({ runtimeConfig: { ips: ['192.0.2.1'] } }) },
    code: 999,
    says: '192.0.2.1',
  },
  {
    name: 'a key of the wrong type',
    call: { config: config({ mtu: 'large' }) },
    code: 7,
    says: 'mtu: must be a number: got "large"',
  },
  {
    name: 'a VLAN out of bounds',
    call: { config: config({ vlan: 4095 }) },
    code: 7,
    says: 'vlan: invalid VLAN ID 4095 (must be between 0 and 4094): got 4095',
  },
]

test.each(refusals)('$name: code $code, and nothing is left', ({ plugin = 'bridge', call, code, says }) => {
  using container = freshNamespace()
  const options = { netns: container, config: bridge, ...call }
  const before = snapshot()
  const { status, json, stderr } = execute(ourExecutable(plugin), 'ADD', options)
  expect({ status, code: json.code, stderr }).toEqual({ status: 1, code, stderr: '' })
  expect(json.msg).toContain(says)
  expect(difference(before, snapshot()).added).toEqual([])
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
})

test('an exhausted range says how many of how many are in use', () => {
  using one = freshNamespace()
  using other = freshNamespace()
  const small = { ...withIpam({ ranges: [[{ subnet: '10.3.0.0/30' }]] }), bridge: 'cni3', name: 'small-net' }
  mustExecute(ourExecutable('bridge'), 'ADD', { netns: one, config: small, containerId: 'one' })
  const before = snapshot()
  const { json } = execute(ourExecutable('bridge'), 'ADD', {
    netns: other,
    config: small,
    containerId: 'two',
  })
  expect(json.msg).toContain('1 of 1')
  expect(difference(before, snapshot())).toEqual({ added: [], gone: [] })
  mustExecute(ourExecutable('bridge'), 'DEL', { netns: one, config: small, containerId: 'one' })
})

test('an interface that exists already is refused, and stays as it was', () => {
  using container = freshNamespace()
  const options = { netns: container, config: bridge }
  mustExecute(ourExecutable('bridge'), 'ADD', options)
  const before = [container.link('eth0'), container.addresses('eth0')]
  const { status, json } = execute(ourExecutable('bridge'), 'ADD', options)
  expect({ status, msg: json.msg }).toEqual({ status: 1, msg: expect.stringContaining('already exists') })
  expect([container.link('eth0'), container.addresses('eth0')]).toEqual(before)
  mustExecute(ourExecutable('bridge'), 'DEL', options)
})

test('a .env and a bunfig.toml in the folder that a plugin is started in are not read', async () => {
  const folder = '/run/hostile'
  await Bun.write(`${folder}/.env`, 'CNI_COMMAND=VERSION\n')
  await Bun.write(`${folder}/bunfig.toml`, 'preload = ["./evil.ts"]\n')
  await Bun.write(`${folder}/evil.ts`, 'console.log("evil")\n')
  const { exitCode, stdout, stderr } = Bun.spawnSync([ourExecutable('loopback')], {
    cwd: folder,
    env: { CNI_PATH: '/x' },
  })
  expect({ exitCode, stdout: stdout.toString() }).toEqual({ exitCode: 0, stdout: '' })
  expect(stderr.toString()).toStartWith('CNI loopback plugin ')
})

test('a result of three hundred thousand bytes comes out whole', () => {
  const ips = Array.from({ length: 4000 }, (_, index) => ({
    address: `10.${index >> 8}.${index & 255}.1/24`,
    gateway: '10.0.0.1',
  }))
  using container = freshNamespace()
  const options = { netns: container, config: { type: 'loopback', prevResult: { cniVersion: '1.1.0', ips } } }
  const { status, json, stdout } = execute(ourExecutable('loopback'), 'ADD', options)
  expect({ status, count: json.ips.length, large: stdout.length > 300_000 }).toEqual({
    status: 0,
    count: 4000,
    large: true,
  })
})

test('built separately, a plugin is an executable that does the same', () => {
  const folder = '/run/separate'
  const build = Bun.spawnSync(
    [process.execPath, 'tools/build.ts', '--separate', '--into', folder, 'loopback', 'static'],
    {
      cwd: `${import.meta.dir}/..`,
    },
  )
  expect(build.exitCode).toBe(0)
  using container = freshNamespace()
  const options = { netns: container, config: { type: 'loopback' } }
  expect(mustExecute(`${folder}/loopback`, 'ADD', options)).toEqual(
    mustExecute(ourExecutable('loopback'), 'ADD', options),
  )
  expect(execute(`${folder}/static`, 'VERSION').stdout).toBe(
    execute(ourExecutable('static'), 'VERSION').stdout,
  )
  expect(statSync(`${folder}/static`).ino).not.toBe(statSync(`${folder}/loopback`).ino)
})

test.each([
  { name: 'an MTU beyond all', changes: { mtu: 2 ** 31 } },
  { name: 'a VLAN out of bounds', changes: { vlan: 5000 } },
  { name: 'keys that exclude one another', changes: { hairpinMode: true, promiscMode: true } },
  { name: 'a broken range', changes: { ipam: { ...ipam, ranges: [[{ subnet: 'nowhere' }]] } } },
  { name: 'ranges of the wrong type', changes: { ipam: { type: 'host-local', ranges: 'all' } } },
])('DEL with $name, which ADD refuses, cleans up all the same', ({ changes }) => {
  using container = freshNamespace()
  const before = snapshot()
  mustExecute(ourExecutable('bridge'), 'ADD', { netns: container, config: bridge })
  expect(
    execute(ourExecutable('bridge'), 'ADD', {
      netns: container,
      config: config(changes),
      containerId: 'other',
    }).status,
  ).toBe(1)
  mustExecute(ourExecutable('bridge'), 'DEL', { netns: container, config: config(changes) })
  const left = difference(before, snapshot()).added.filter(line =>
    /veth|masquerade|networks.test-net.\d/.test(line),
  )
  expect({ left, inside: container.links().length }).toEqual({ left: [], inside: 1 })
})

test.each([
  ['catena', ['status', 'none-such']],
  ['loopback', []],
] as const)(
  '%s tells its error, not a stack trace, when standard output cannot be written',
  (name, words) => {
    const { exitCode, stderr } = Bun.spawnSync([ourExecutable(name), ...words], {
      env: { CNI_COMMAND: 'FOO', NETCONFPATH: '/run/none-such' },
      stdin: Buffer.from('{"cniVersion":"1.1.0","name":"net"}'),
      stdout: Bun.file('/dev/full'),
    })
    const text = stderr.toString()
    expect(exitCode).toBe(1)
    expect(text).toMatch(/unknown CNI_COMMAND: FOO|no net configurations found/)
    expect(text).not.toMatch(/ at |bunfs/)
  },
)
