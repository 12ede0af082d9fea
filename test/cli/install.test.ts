/** `catena install` and `catena uninstall`: every name old or new at every moment, and what was there comes back. */
import { afterEach, beforeEach, expect, test } from 'bun:test'
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { plugins } from '../../chain/catena.ts'
import { removeBridges } from '../fixtures/bridge.ts'
import { freshNamespace } from '../fixtures/namespace.ts'
import { execute, ourExecutable, peerExecutable } from '../fixtures/plugin.ts'

const names = ['catena', ...Object.keys(plugins)].sort()
const IS_LONG = Boolean(process.env.CATENA_LONG)
const SECONDS = IS_LONG ? 60 : 3
let root: string
let folder: string

beforeEach(() => {
  root = mkdtempSync('/run/install-')
  folder = `${root}/opt/cni/bin`
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

function catena(words: readonly string[], { file = ourExecutable('catena'), through = [] as string[] } = {}) {
  const { exitCode, stdout, stderr } = Bun.spawnSync(
    [...through, file, words[0] ?? '', '--root', root, ...words.slice(1)],
    {
      env: {},
    },
  )
  const text = stdout.toString()
  return { status: exitCode, stderr: `${stderr}`, json: text === '' ? undefined : JSON.parse(text) }
}

const visible = () =>
  readdirSync(folder)
    .filter(name => !name.startsWith('.'))
    .sort()
const answersVersion = (name: string) => execute(`${folder}/${name}`, 'VERSION').status === 0
const inodes = () => new Set(visible().map(name => statSync(`${folder}/${name}`).ino))

/** The folder as another's package has left it: an executable, a script, a link. */
function foreign(): void {
  mkdirSync(folder, { recursive: true })
  copyFileSync(peerExecutable('bridge'), `${folder}/bridge`)
  writeFileSync(`${folder}/tuning`, '#!/bin/sh\necho "{}"\n', { mode: 0o755 })
  symlinkSync('bridge', `${folder}/ptp`)
  writeFileSync(`${folder}/calico`, 'not ours')
}

const contents = () =>
  Object.fromEntries(
    visible().map(name => {
      const path = `${folder}/${name}`
      return [
        name,
        lstatSync(path).isSymbolicLink() ? `link to ${readlinkSync(path)}` : Bun.hash(readFileSync(path)),
      ]
    }),
  )

/** An executable that is another version's. */
function otherVersion(): string {
  const path = `${root}/catena-next`
  copyFileSync(ourExecutable('catena'), path)
  appendFileSync(path, 'x')
  return path
}

test('installed into nothing, every name is a link to one file and works; uninstalled, nothing is left', () => {
  const { status, json, stderr } = catena(['install'])
  expect({ status, stderr, folder: json.folder }).toEqual({ status: 0, stderr: '', folder })
  expect(json.changes).toEqual(Object.fromEntries(names.map(name => [name, 'installed'])))
  expect({ names: visible(), files: inodes().size }).toEqual({ names, files: 1 })
  expect(statSync(`${folder}/bridge`).ino).not.toBe(statSync(ourExecutable('bridge')).ino)
  expect(names.filter(name => name !== 'catena' && !answersVersion(name))).toEqual([])
  expect(catena(['install']).json.changes).toEqual(Object.fromEntries(names.map(name => [name, 'unchanged'])))
  expect(catena(['uninstall'], { file: `${folder}/catena` }).json.changes).toEqual(
    Object.fromEntries(names.map(name => [name, 'removed'])),
  )
  expect(readdirSync(folder)).toEqual([])
  expect(catena(['uninstall'])).toMatchObject({ status: 0, json: { changes: {} } })
})

test('what others had installed is kept, survives an upgrade, and comes back as it was', () => {
  foreign()
  const before = contents()
  const { changes } = catena(['install']).json
  expect(changes).toMatchObject({ bridge: 'replaced', tuning: 'replaced', ptp: 'replaced', vrf: 'installed' })
  expect(changes.calico).toBeUndefined()
  const old = [...inodes()]
  const next = otherVersion()
  expect(catena(['install'], { file: next }).json.changes).toEqual(
    Object.fromEntries(names.map(name => [name, 'upgraded'])),
  )
  expect([...inodes()].filter(inode => old.includes(inode))).toEqual([statSync(`${folder}/calico`).ino])
  expect(readdirSync(`${folder}/.catena`).filter(name => name.startsWith('program-'))).toHaveLength(1)
  expect(readFileSync(`${folder}/bridge`).equals(readFileSync(next))).toBe(true)
  expect(catena(['uninstall']).json.changes).toMatchObject({
    bridge: 'restored',
    tuning: 'restored',
    ptp: 'restored',
    vrf: 'removed',
  })
  expect(contents()).toEqual(before)
  expect(readdirSync(folder)).not.toContain('.catena')
})

test('--plugins installs some, --keep-existing leaves names that are taken, --dry-run only says so', () => {
  foreign()
  const before = contents()
  const some = ['--plugins', 'bridge,vrf', '--keep-existing']
  const planned = catena(['install', ...some, '--dry-run']).json.changes
  expect(planned).toEqual({ bridge: 'left', vrf: 'installed' })
  expect({ now: contents(), own: existsSync(`${folder}/.catena`) }).toEqual({ now: before, own: false })
  expect(catena(['install', ...some]).json.changes).toEqual(planned)
  expect(catena(['uninstall', '--dry-run']).json.changes).toEqual({ vrf: 'removed' })
  expect(visible()).toContain('vrf')
  catena(['uninstall'])
  expect(contents()).toEqual(before)
})

test('what somebody installs over ours stays at uninstall', () => {
  foreign()
  catena(['install'])
  rmSync(`${folder}/bridge`)
  writeFileSync(`${folder}/bridge`, 'newer', { mode: 0o755 })
  rmSync(`${folder}/tuning`)
  expect(catena(['uninstall']).json.changes).toMatchObject({
    bridge: 'left',
    tuning: 'restored',
    ptp: 'restored',
  })
  expect(readFileSync(`${folder}/bridge`, 'utf8')).toBe('newer')
})

test.each([
  {
    name: 'a folder with the name of a plugin',
    before: () => mkdirSync(`${folder}/bridge`, { recursive: true }),
    words: [],
    says: 'a folder has that name',
  },
  { name: 'a relative folder', before: () => {}, words: ['--into', 'bin'], says: 'must be an absolute path' },
  {
    name: 'a plugin that is none',
    before: () => {},
    words: ['--plugins', 'bridge,nosuch'],
    says: 'no plugin nosuch',
  },
  {
    name: 'a file in the place of the folder',
    before: () => {
      mkdirSync(`${root}/opt/cni`, { recursive: true })
      writeFileSync(folder, '')
    },
    words: [],
    says: 'is no folder',
  },
  {
    name: 'a file above the folder',
    before: () => {
      mkdirSync(`${root}/opt`)
      writeFileSync(`${root}/opt/cni`, '')
    },
    words: [],
    says: 'opt/cni',
  },
  {
    name: 'a file for a root',
    before: () => {},
    words: ['--root', ourExecutable('catena')],
    says: 'is no folder',
  },
  {
    name: 'a root that is not there',
    before: () => {},
    words: ['--root', '/run/nosuch'],
    says: 'is no folder',
  },
])('$name is refused in words, and nothing is changed', ({ before, words, says }) => {
  before()
  const look = () => Bun.spawnSync(['find', root, '-printf', '%p %i %s\n']).stdout.toString()
  const seen = look()
  const { status, json, stderr } = catena(['install', ...words])
  expect({ status, stderr }).toEqual({ status: 1, stderr: '' })
  expect(json.msg).toContain(says)
  expect(look()).toBe(seen)
})

test.each([
  { what: 'a full disk', options: 'size=30m', says: 'No space left' },
  { what: 'a disk that is read-only', options: 'size=300m,ro', says: 'Read-only file system' },
])('on $what it says so and leaves the folder as it was', ({ options, says }) => {
  mkdirSync(folder, { recursive: true })
  expect(Bun.spawnSync(['mount', '-t', 'tmpfs', '-o', options, 'disk', folder]).exitCode).toBe(0)
  try {
    const { status, json, stderr } = catena(['install'])
    expect({ status, stderr }).toEqual({ status: 1, stderr: '' })
    expect(`${json.msg} ${json.details}`).toContain(says)
    expect(visible()).toEqual([])
    expect(catena(['uninstall']).status).toBe(0)
  } finally {
    Bun.spawnSync(['umount', folder])
  }
})

test('an executable that runs, one of another architecture and a script make way, and come back', async () => {
  foreign()
  const foreignMachine = readFileSync(peerExecutable('bridge'))
  foreignMachine.writeUInt16LE(243, 18) // e_machine: EM_RISCV
  rmSync(`${folder}/bridge`)
  writeFileSync(`${folder}/bridge`, foreignMachine, { mode: 0o755 })
  copyFileSync('/bin/sleep', `${folder}/macvlan`)
  const before = contents()
  const running = Bun.spawn([`${folder}/macvlan`, '60'])
  expect(catena(['install']).json.changes).toMatchObject({ bridge: 'replaced', macvlan: 'replaced' })
  expect({ works: answersVersion('bridge'), ended: running.exitCode }).toEqual({ works: true, ended: null })
  expect(catena(['uninstall']).status).toBe(0)
  expect({ now: contents(), ended: running.exitCode }).toEqual({ now: before, ended: null })
  running.kill()
  await running.exited
})

test('two at once: the second is told to wait', () => {
  mkdirSync(folder, { recursive: true })
  const words = ['flock', folder, ourExecutable('catena'), 'install', '--root', root]
  const { exitCode, stdout } = Bun.spawnSync(words, { env: { PATH: process.env.PATH } })
  expect({ exitCode, ...JSON.parse(stdout.toString()) }).toMatchObject({
    exitCode: 1,
    code: 11,
    msg: expect.stringContaining('another installation is going on'),
  })
})

/** Every call that changes something, each with the point at which it is killed when there is no time for all. */
const CALLS = [
  { call: 'link', some: 3 },
  { call: 'rename', some: 3 },
  { call: 'unlink', some: 2 },
  { call: 'rmdir', some: 1 },
  { call: 'mkdir', some: 2 },
  { call: 'write', some: 5 },
  { call: 'fsync', some: 2 },
  { call: 'fchmod', some: 1 },
  { call: 'flock', some: 1 },
  { call: 'open', some: 12 },
]

/** Runs the command with a SIGKILL at the nth call of a name; answers whether it got that far. */
function killedAt({ call, nth }: { call: string; nth: number }, words: string[], file: string): boolean {
  const strace = ['strace', '-f', '-o', '/dev/null', '-e', `trace=${call}`]
  const inject = ['-e', `inject=${call}:signal=SIGKILL:when=${nth}`]
  const command = [...strace, ...inject, file, ...words, '--root', root]
  return Bun.spawnSync(command, { env: { PATH: process.env.PATH } }).exitCode !== 0
}

test.each(CALLS)(
  'killed at any $call, every name is the old plugin or the new one, and the next run does the rest',
  ({ call, some }) => {
    foreign()
    symlinkSync(peerExecutable('portmap'), `${folder}/portmap`)
    const wanted = ['bridge', 'portmap', 'vrf']
    const before = contents()
    const next = otherVersion()
    const broken = () => visible().filter(name => wanted.includes(name) && !answersVersion(name))
    const isNew = (name: string) =>
      readFileSync(`${folder}/${name}`).equals(readFileSync(ourExecutable('catena')))
    for (let [nth, isKilled] = [IS_LONG ? 1 : some, true]; isKilled; nth++) {
      const installing = killedAt({ call, nth }, ['install', '--plugins', wanted.join()], next)
      expect({ nth, broken: broken(), names: visible() }).toMatchObject({
        nth,
        broken: [],
        names: expect.arrayContaining(['bridge', 'portmap', 'ptp', 'tuning']),
      })
      expect(catena(['install', '--plugins', wanted.join()]).status).toBe(0) // another version comes to its end over it
      expect(wanted.filter(name => !isNew(name))).toEqual([])
      const uninstalling = killedAt({ call, nth }, ['uninstall'], next)
      expect(broken()).toEqual([])
      expect(catena(['uninstall']).status).toBe(0)
      const own = existsSync(`${folder}/.catena`)
      expect({ nth, now: contents(), own }).toEqual({ nth, now: before, own: false })
      if (nth <= some) expect({ nth, isKilled: installing || uninstalling }).toEqual({ nth, isKilled: true })
      isKilled = IS_LONG && (installing || uninstalling)
    }
  },
  600_000,
)

test(`for ${SECONDS} s of installing and uninstalling, every ADD and DEL by the names succeeds`, async () => {
  mkdirSync(folder, { recursive: true })
  for (const name of ['bridge', 'host-local']) copyFileSync(peerExecutable(name), `${folder}/${name}`)
  const end = performance.now() + 1000 * SECONDS
  const failures: string[] = []
  let operations = 0
  const config = JSON.stringify({
    cniVersion: '1.0.0',
    name: 'busy',
    type: 'bridge',
    bridge: 'cni81',
    isGateway: true,
    ipam: { type: 'host-local', ranges: [[{ subnet: '10.81.0.0/24' }]] },
  })
  const caller = async (label: string) => {
    using container = freshNamespace(label)
    const env = { CNI_CONTAINERID: label, CNI_NETNS: container.path, CNI_IFNAME: 'eth0', CNI_PATH: folder }
    while (performance.now() < end) {
      for (const verb of ['ADD', 'DEL']) {
        const child = Bun.spawn([`${folder}/bridge`], {
          env: { ...env, CNI_COMMAND: verb, PATH: process.env.PATH },
          stdin: Buffer.from(config),
          stdout: 'pipe',
        })
        const [status, text] = await Promise.all([child.exited, new Response(child.stdout).text()])
        if (status !== 0) failures.push(`${verb}: ${status} ${text}`)
        operations++
      }
    }
  }
  let changes = 0
  const changer = async () => {
    while (performance.now() < end) {
      for (const verb of ['install', 'uninstall']) {
        const status = await Bun.spawn([ourExecutable('catena'), verb, '--root', root], {
          env: {},
          stdout: 'ignore',
        }).exited
        if (status !== 0) failures.push(`${verb}: ${status}`)
        changes++
      }
    }
  }
  try {
    await Promise.all([changer(), ...['one', 'two', 'three', 'four'].map(caller)])
  } finally {
    removeBridges()
  }
  if (IS_LONG) console.info(`${operations} operations during ${changes} changes, ${failures.length} failed`)
  expect(failures).toEqual([])
  expect({ operations: operations > 20, changes: changes > 1 }).toEqual({ operations: true, changes: true })
}, 120_000)
