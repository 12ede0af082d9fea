/** IPAM in this process and as a process of its own: the same bytes, and an ADD that fails later gives the address back in both. */
import { expect, test } from 'bun:test'
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import * as z from 'zod/mini'
import { definePlugin } from '../../chain/plugin/define.ts'
import { hostLocal } from '../../ipam/host-local.ts'
import { staticAddresses } from '../../ipam/static.ts'
import { checksOf } from '../fixtures/checks.ts'
import { fakePlugins } from '../fixtures/fake.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import {
  type Call,
  call,
  mustExecute,
  ourExecutable,
  ours,
  peerExecutable,
  peers,
} from '../fixtures/plugin.ts'
import { dataFolder, reservations, tree } from './host-local/fixture.ts'

/** A main plugin that takes addresses, and then succeeds or not. */
const taker = definePlugin({
  name: 'taker',
  ipam: 'required',
  config: checksOf(z.object({ ipam: z.object({ type: z.string() }), fails: z.optional(z.boolean()) })),
  async add({ config, ipam, undo }) {
    const result = await ipam.add(undo)
    if (config.fails) throw new Error('the link was refused')
    return result
  },
  check: ({ ipam }) => ipam.check(),
  del: ({ ipam }) => ipam.remove(),
  status: ({ ipam }) => ipam.status(),
  gc: ({ ipam }) => ipam.gc(),
})

const places: [string, Call][] = [
  ['in this process', { delegates: [hostLocal, staticAddresses] }],
  ['as a process', { path: ours }],
  ['as the Go plugin', { path: peers }],
]

const addresses = [{ address: '10.1.0.5/16', gateway: '10.1.0.1' }]
const ranges = [[{ subnet: '10.1.2.0/24' }], [{ subnet: 'fd00::/64' }]]
const netns = '/run/netns/none'

interface Row extends Call {
  title: string
  ipam: object
  /** What has happened on the data folder before, through the Go plugin or by hand. */
  before?: (dataDir: string) => void
}

/** A container added by the Go plugin, so that all three find the same. */
const added = (containerId: string, ipam: object) => (dataDir: string) => {
  const config = { ipam: { type: 'host-local', dataDir, ...ipam } }
  mustExecute(peerExecutable('host-local'), 'ADD', { containerId, config, netns })
}

const rows: Row[] = [
  { title: 'addresses of two sets', ipam: { type: 'host-local', ranges, routes: [{ dst: '0.0.0.0/0' }] } },
  { title: 'an address that is asked for', ipam: { type: 'host-local', ranges }, args: 'IP=10.1.2.77' },
  { title: 'static', ipam: { type: 'static', addresses, dns: { nameservers: ['10.1.0.1'] } } },
]

test.each(rows)(
  'the same bytes in this process, as a process, and as the Go plugin: $title',
  async ({ ipam, args }) => {
    const outputs: object[] = []
    for (const [, place] of places) {
      using folder = dataFolder()
      const config = { ipam: { dataDir: folder.path, ...ipam } }
      const given = { ...place, config, netns, ...(args ? { args } : {}) }
      const { status, stdout } = await call(taker, 'ADD', given)
      outputs.push({ status, stdout, files: tree(folder.path) })
    }
    expect(outputs).toEqual([outputs[0], outputs[0], outputs[0]] as object[])
    expect(outputs[0]).toMatchObject({ status: 0 })
  },
)

const tiny = { ranges: [[{ subnet: '10.1.2.0/30' }]] }

const failures: Row[] = [
  {
    title: 'an exhausted range',
    ipam: { type: 'host-local', ...tiny },
    before: added('another', tiny),
  },
  {
    title: 'a second address for the same interface',
    ipam: { type: 'host-local', ranges },
    before: added('container-1', { ranges }),
  },
  { title: 'an address outside', ipam: { type: 'host-local', ranges }, args: 'IP=10.9.9.9' },
  {
    title: 'ranges that overlap',
    ipam: { type: 'host-local', ranges: [ranges[0], [{ subnet: '10.1.0.0/16' }]] },
  },
  {
    title: 'a data folder that is a file',
    ipam: { type: 'host-local', ranges },
    before: dataDir => writeFileSync(`${dataDir}/test-net`, ''),
  },
  { title: 'routes of the wrong type', ipam: { type: 'host-local', ranges, routes: [{ dst: 'x' }, 7] } },
  { title: 'static without prefix', ipam: { type: 'static', addresses: [{ address: '10.1.0.5' }] } },
  { title: 'static without any address', ipam: { type: 'static' } },
  { title: 'static and unknown arguments', ipam: { type: 'static', addresses }, args: 'K8S_POD_NAME=p' },
]

test.each(failures)(
  'a failure is the same to the byte in this process and as a process: $title',
  async ({ ipam, args, before }) => {
    using folder = dataFolder()
    before?.(folder.path)
    const files = tree(folder.path)
    const outputs: object[] = []
    for (const [, place] of places.slice(0, 2)) {
      const config = { ipam: { dataDir: folder.path, ...ipam } }
      const given = { ...place, config, netns, ...(args ? { args } : {}) }
      const { status, stdout, stderr } = await call(taker, 'ADD', given)
      outputs.push({ status, stdout, stderr })
      expect(tree(folder.path).filter(name => / 600 /.test(name))).toEqual(
        files.filter(name => / 600 /.test(name)),
      )
    }
    expect(outputs[0]).toEqual(outputs[1] as object)
    expect(outputs[0]).toMatchObject({ status: 1, stdout: expect.stringContaining('"code": ') })
  },
)

test.each(['DEL', 'CHECK', 'STATUS', 'GC'] as const)(
  '%s is the same to the byte in this process and as a process, warnings too',
  async verb => {
    const outputs: object[] = []
    for (const [, place] of places.slice(0, 2)) {
      using folder = dataFolder()
      added('container-1', tiny)(folder.path)
      writeFileSync(`${folder.path}/test-net/10.9.9.9`, '')
      const config = { ipam: { type: 'host-local', dataDir: folder.path, ...tiny } }
      const valid = { 'cni.dev/valid-attachments': [{ containerID: 'another', ifname: 'eth0' }] }
      const given = { ...place, config: { ...config, ...valid }, netns }
      const { status, stdout, stderr } = await call(taker, verb, given)
      const text = (each: string) => each.replaceAll(folder.path, 'FOLDER')
      outputs.push({ status, stdout: text(stdout), stderr: text(stderr), files: tree(folder.path) })
    }
    expect(outputs[0]).toEqual(outputs[1] as object)
    expect(outputs[0]).toMatchObject({ status: verb === 'STATUS' ? 1 : 0 })
  },
)

test.each(places)(
  'an ADD that fails after the address was taken gives it back: host-local %s',
  async (_, place) => {
    using folder = dataFolder()
    const config = { ipam: { type: 'host-local', dataDir: folder.path, ranges }, fails: true }
    const { status, json } = await call(taker, 'ADD', { ...place, config, netns })
    expect({ status, msg: json.msg }).toEqual({ status: 1, msg: 'the link was refused' })
    expect(reservations(folder.path)).toEqual({})
  },
)

test.each([
  ['no JSON', 'hello'],
  ['no result', '[1]'],
  ['an address without prefix', { cniVersion: '1.1.0', ips: [{ address: '10.1.0.2' }] }],
  ['no addresses', { cniVersion: '1.1.0' }],
])('what a plugin took whose answer is %s is given back', async (_, answer) => {
  using plugins = fakePlugins('foreign')
  plugins.answer('foreign', 'ADD', answer)
  const given = { path: plugins.path, config: { ipam: { type: 'foreign' } }, netns }
  expect((await call(taker, 'ADD', given)).status).toBe(1)
  expect(plugins.order()).toEqual(['foreign ADD', 'foreign DEL'])
})

test('a plugin whose ADD failed is not told to delete: it may be what refused a second ADD of a living container', async () => {
  using plugins = fakePlugins('foreign')
  plugins.answer('foreign', 'ADD', { cniVersion: '1.1.0', code: 999, msg: 'no' }, 1)
  const given = { path: plugins.path, config: { ipam: { type: 'foreign' } }, netns }
  expect((await call(taker, 'ADD', given)).json.msg).toBe('no')
  expect(plugins.order()).toEqual(['foreign ADD'])
})

/**
 * How many programs a call of our bridge starts, itself included, with what is found in a folder; and what it answers. On a host
 * without a table of the older iptables, which other tests leave on this one: these can be swept by a program only.
 */
function bridgeWith(
  path: string,
  { dataDir, verb, netns, host }: { dataDir: string; verb: string; netns: string; host: Namespace },
) {
  const trace = `${dataDir}/trace`
  const environment = {
    CNI_COMMAND: verb,
    CNI_CONTAINERID: 'container-1',
    CNI_IFNAME: 'eth0',
    CNI_NETNS: netns,
    CNI_PATH: path,
  }
  const ipam = { type: 'host-local', dataDir, ranges, routes: [{ dst: '0.0.0.0/0' }] }
  const config = { cniVersion: '1.1.0', name: 'test-net', type: 'bridge', bridge: 'delegating0', ipam }
  const command = ['strace', '-f', '-e', 'trace=execve', '-o', trace, ourExecutable('bridge')]
  const env = { PATH: process.env.PATH, ...environment }
  const stdin = Buffer.from(JSON.stringify(config))
  const { stdout, exitCode } = host.inside(() => Bun.spawnSync(command, { env, stdin }))
  const started = readFileSync(trace, 'utf8').match(/execve\(.* = 0$/gm)?.length
  rmSync(trace)
  const { ips, routes } = exitCode === 0 && verb === 'ADD' ? JSON.parse(stdout.toString()) : {}
  return { exitCode, started, ips, routes, files: tree(dataDir) }
}

test('the executables: the same file under another name needs no process, a copy of it is run, and both do the same', () => {
  using copies = dataFolder()
  copyFileSync(ourExecutable('host-local'), `${copies.path}/host-local`)
  using host = freshNamespace('host')
  const [inside, outside] = [ours, copies.path].map(path => {
    using container = freshNamespace()
    using folder = dataFolder()
    const given = { dataDir: folder.path, netns: container.path, host }
    return (['ADD', 'DEL'] as const).map(verb => bridgeWith(path, { ...given, verb }))
  })
  expect(inside?.map(({ exitCode, started }) => ({ exitCode, started }))).toEqual([
    { exitCode: 0, started: 1 },
    { exitCode: 0, started: 1 },
  ])
  expect(outside).toEqual(inside?.map(each => ({ ...each, started: 2 })))
  expect(inside?.[0]?.files).toHaveLength(6) // two reservations, where round robin stands in both, the lock, the folder
})
