/** The flight recorder: what it keeps of a call, what it must not keep, and how little it may be in the way. */
import { expect, test } from 'bun:test'
import {
  closeSync,
  constants,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { observer } from '../../chain/linux/observer.ts'
import { readRuns } from '../../chain/observe/runs.ts'
import { OLDER_RECORDS, RECORDS, RECORDS_FOLDER } from '../../chain/plugin/record.ts'
import { bridge } from '../../main/bridge.ts'
import { loopback } from '../../main/loopback.ts'
import { tuning } from '../../meta/tuning.ts'
import { freshNamespace } from '../fixtures/namespace.ts'
import { call } from '../fixtures/plugin.ts'

const forget = () => rmSync(RECORDS_FOLDER, { recursive: true, force: true })
const POD: [string, string][] = [
  ['IgnoreUnknown', '1'],
  ['K8S_POD_NAMESPACE', 'shop'],
  ['K8S_POD_NAME', 'web-0'],
  ['TOKEN', 'very-secret-1'],
]

test('a secret in the configuration, in CNI_ARGS or beside a key that is ours is not recorded, and no other may read', async () => {
  forget()
  using container = freshNamespace('container')
  const args = POD.map(pair => pair.join('=')).join(';')
  const config = {
    password: 'very-secret-2',
    ipam: { type: '', token: 'very-secret-3' },
    'very-secret-4': true,
  }
  expect(
    (await call(bridge, 'ADD', { netns: container, args, config, containerId: 'secretive' })).status,
  ).toBe(0)
  await call(bridge, 'DEL', { netns: container, args, config, containerId: 'secretive' })
  const log = readFileSync(RECORDS, 'utf8')
  expect(log).not.toContain('very-secret')
  expect(log).toContain('web-0')
  expect(statSync(RECORDS).mode & 0o777).toBe(0o600)
  expect(statSync(RECORDS_FOLDER).mode & 0o777).toBe(0o700)
})

test('calls that overlap in one process end in any order, and leave none that watches', async () => {
  forget()
  using one = freshNamespace('container')
  using other = freshNamespace('container')
  const calls = [one, other, one, other].map((netns, at) =>
    call(at % 2 ? bridge : loopback, 'ADD', {
      netns,
      interface: at % 2 ? `eth${at}` : 'lo',
      containerId: `c${at}`,
      config: { bridge: 'br-at-once' },
    }),
  )
  expect((await Promise.all(calls)).map(({ status }) => status)).toEqual([0, 0, 0, 0])
  expect(readRuns().map(({ outcome }) => outcome)).toEqual([
    'succeeded',
    'succeeded',
    'succeeded',
    'succeeded',
  ])
  expect(observer).toBeUndefined()
  for (const at of [1, 3])
    await call(bridge, 'DEL', {
      netns: other,
      interface: `eth${at}`,
      containerId: `c${at}`,
      config: { bridge: 'br-at-once' },
    })
  Bun.spawnSync(['ip', 'link', 'delete', 'br-at-once'])
})

test('STATUS and VERSION leave a record where something is wrong only', async () => {
  forget()
  await call(loopback, 'VERSION')
  await call(loopback, 'STATUS')
  expect(readRuns()).toEqual([])
  await call(bridge, 'STATUS', { config: { ipam: { type: 'not-there' } } })
  expect(readRuns()).toMatchObject([{ plugin: 'bridge', verb: 'STATUS', outcome: 'failed' }])
})

test('two files of about a megabyte are all that there ever is, and a line of one call is never longer than 8 kB', async () => {
  forget()
  using container = freshNamespace('container')
  mkdirSync(RECORDS_FOLDER, { recursive: true })
  writeFileSync(RECORDS, `${'x'.repeat(1023)}\n`.repeat(1100))
  const lists = {
    sysctl: Object.fromEntries(
      Array.from({ length: 900 }, (_, at) => [`net.ipv4.no_such_${at}`, 'x'.repeat(99)]),
    ),
  }
  const config = { ...lists, prevResult: { ips: [] } }
  for (let calls = 0; calls < 400 && !existsSync(OLDER_RECORDS); calls++)
    await call(tuning, 'ADD', { netns: container, config, containerId: 'long' })
  expect(statSync(OLDER_RECORDS).size).toBeGreaterThan(1 << 20)
  await call(tuning, 'ADD', { netns: container, config, containerId: 'long' })
  const lines = readFileSync(RECORDS, 'utf8').split('\n')
  expect(Math.max(...lines.map(({ length }) => length))).toBeLessThanOrEqual(8192)
  expect(readRuns([RECORDS]).at(-1)).toMatchObject({ container: 'long', outcome: 'failed' })
})

/** The end of a pipe in the log's place. */
let reader: number | undefined

test.each([
  ['a link', () => symlinkSync('/run/elsewhere', RECORDS)],
  [
    'another name of somebody’s file',
    () => {
      writeFileSync('/run/somebodys', '')
      linkSync('/run/somebodys', RECORDS)
    },
  ],
  ['a folder', () => mkdirSync(RECORDS)],
  [
    'a pipe that somebody reads',
    () => {
      Bun.spawnSync(['mkfifo', RECORDS])
      reader = openSync(RECORDS, constants.O_RDONLY | constants.O_NONBLOCK)
    },
  ],
  ['a pipe', () => void Bun.spawnSync(['mkfifo', RECORDS])],
  [
    'a file in the folder’s place',
    () => {
      rmSync(RECORDS_FOLDER, { recursive: true })
      writeFileSync(RECORDS_FOLDER, '')
    },
  ],
])('%s where the records should be is left alone, and the plugin does its work', async (_, put) => {
  forget()
  mkdirSync(RECORDS_FOLDER, { recursive: true })
  put()
  using container = freshNamespace('container')
  expect((await call(loopback, 'ADD', { netns: container, interface: 'lo' })).status).toBe(0)
  expect(readRuns()).toEqual([])
  if (reader !== undefined) {
    expect(readSync(reader, Buffer.alloc(1))).toBe(0) // nobody has written, or waits to
    closeSync(reader) // for as long as it is open, /run cannot be made read-only
    reader = undefined
  }
  if (existsSync('/run/somebodys')) expect(readFileSync('/run/somebodys', 'utf8')).toBe('')
  forget()
})

test('a node that wants no records has none', async () => {
  forget()
  mkdirSync('/etc/cni', { recursive: true })
  writeFileSync('/etc/cni/catena.json', '{"records": false}')
  using container = freshNamespace('container')
  expect((await call(loopback, 'ADD', { netns: container, interface: 'lo' })).status).toBe(0)
  rmSync('/etc/cni/catena.json')
  expect(readRuns()).toEqual([])
  await call(loopback, 'DEL', { netns: container, interface: 'lo' })
  expect(readRuns()).toHaveLength(1)
})
