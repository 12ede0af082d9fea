/** The frame in which every plugin runs: what is refused before a plugin sees it, what it is given, what is printed. */
import { afterEach, expect, test } from 'bun:test'
import * as z from 'zod/mini'
import { definePlugin, type Plugin } from '../../chain/plugin/define.ts'
import { exitWith, run } from '../../chain/plugin/run.ts'
import { CniError } from '../../chain/protocol/error.ts'
import { emptyResult } from '../../chain/protocol/result.ts'
import { checksOf } from '../fixtures/checks.ts'
import { silentIo } from '../fixtures/io.ts'
import { freshNamespace } from '../fixtures/namespace.ts'
import { type Call, call } from '../fixtures/plugin.ts'

/** What a plugin was called with, verb by verb. */
let seen: { verb: string; request: Record<string, unknown> }[] = []
afterEach(() => {
  seen = []
})

const note = (verb: string) => (request: object) => {
  seen.push({ verb, request: request as Record<string, unknown> })
}

/** A plugin that notes its calls; `more` replaces parts of it. */
function noting(more: Partial<Plugin> = {}): Plugin {
  const plugin = definePlugin({
    name: 'noting',
    config: checksOf(z.object({ size: z._default(z.int(), 7), fails: z.optional(z.string()) })),
    add(request) {
      note('ADD')(request)
      if (request.config.fails) throw new Error(request.config.fails)
      return { ...emptyResult(), interfaces: [{ name: 'eth0' }] }
    },
    check: note('CHECK'),
    del: note('DEL'),
    status: note('STATUS'),
    gc: note('GC'),
  })
  return { ...plugin, ...more }
}

const gone = '/run/netns/gone'
const verbs = () => seen.map(({ verb }) => verb)

test.each([undefined, ''])(
  'without a verb (%p) a person is told what it is, and nothing is printed',
  async verb => {
    const io = silentIo({ CNI_COMMAND: verb, CNI_PATH: '/opt/cni/bin' })
    expect(await run(noting({ versions: ['1.0.0'] }), io)).toBe(0)
    expect(io.printed()).toBe('')
    expect(io.said()).toMatch(/^CNI noting plugin v\S+\nCNI protocol versions supported: 1\.0\.0\n/)
  },
)

test('VERSION needs no input, and tells the plugin’s own versions', async () => {
  const unreadable = {
    ...silentIo({ CNI_COMMAND: 'VERSION' }),
    stdin: () => {
      throw new Error('closed')
    },
  }
  expect(await run(noting({ versions: ['0.4.0', '1.0.0'] }), unreadable)).toBe(0)
  expect(JSON.parse(unreadable.printed())).toEqual({
    cniVersion: '1.1.0',
    supportedVersions: ['0.4.0', '1.0.0'],
  })
})

test('input that cannot be read is code 5, with the reason', async () => {
  using container = freshNamespace()
  const io = {
    ...silentIo({
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: 'one',
      CNI_NETNS: container.path,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/none',
    }),
    stdin: () => {
      throw new Error('Input/output error')
    },
  }
  expect(await run(noting(), io)).toBe(1)
  expect(JSON.parse(io.printed())).toMatchObject({
    code: 5,
    msg: 'error reading from stdin',
    details: 'Input/output error',
  })
})

test.each<{
  name: string
  verb: 'ADD' | 'DEL' | 'CHECK' | 'GC' | 'STATUS'
  given: Call
  plugin?: Partial<Plugin>
  error: object
}>([
  {
    name: 'a configuration that is no JSON',
    verb: 'ADD',
    given: { config: '{' },
    error: { code: 6, msg: 'error unmarshall network config: configuration on stdin is not JSON' },
  },
  {
    name: 'a version that the plugin does not take',
    verb: 'ADD',
    given: { config: { cniVersion: '0.4.0' } },
    plugin: { versions: ['1.0.0', '1.1.0'] },
    error: { code: 1, cniVersion: '0.4.0' },
  },
  {
    name: 'a value that the schema refuses',
    verb: 'ADD',
    given: { config: { size: 'large' } },
    error: { code: 7, msg: expect.stringMatching(/^size: /) },
  },
  {
    name: 'a verb that the specification does not have',
    verb: 'MEND' as 'ADD',
    given: {},
    error: { code: 4, msg: expect.stringContaining('MEND') },
  },
  {
    name: 'the plugin’s own namespace for a container',
    verb: 'ADD',
    given: { netns: '/proc/self/ns/net' },
    error: {
      code: 8,
      msg: "plugin's netns and netns from CNI_NETNS should not be the same: /proc/self/ns/net",
    },
  },
  {
    name: 'the plugin’s own namespace in a DEL',
    verb: 'DEL',
    given: { netns: '/proc/self/ns/net' },
    error: { code: 8 },
  },
  {
    name: 'what only the plugin’s own test refuses',
    verb: 'CHECK',
    given: {},
    plugin: {
      validate() {
        throw new CniError(7, 'size: too large for this node')
      },
    },
    error: { code: 7, msg: 'size: too large for this node' },
  },
  {
    name: 'an ADD that does not come after another plugin',
    verb: 'ADD',
    given: {},
    plugin: { chained: true },
    error: { code: 7, msg: expect.stringContaining('must be called as chained plugin') },
  },
  ...(['ADD', 'CHECK', 'STATUS'] as const).map(verb => ({
    name: `${verb} of a plugin that needs addresses, without whom to ask`,
    verb,
    given: {},
    plugin: { ipam: 'required' as const },
    error: { code: 7, msg: expect.stringContaining('ipam.type: no plugin name provided') },
  })),
])('$name is refused before the plugin is called', async ({ verb, given, plugin = {}, error }) => {
  using container = freshNamespace()
  const { status, json, stderr } = await call(noting(plugin), verb, { netns: container, ...given })
  expect({ status, stderr, seen: verbs() }).toEqual({ status: 1, stderr: '', seen: [] })
  expect(json).toMatchObject(error)
})

test('DEL and GC take away whatever the configuration says', async () => {
  const strict: Partial<Plugin> = {
    ipam: 'required',
    chained: true,
    validate() {
      throw new Error('validated')
    },
  }
  const config = { size: 'large', prevResult: { cniVersion: '0.1.0' }, 'cni.dev/valid-attachments': [] }
  expect(await call(noting(strict), 'DEL', { netns: gone, config })).toMatchObject({ status: 0 })
  expect(seen[0]?.request).toMatchObject({ netns: undefined, previous: undefined, config: { size: 7 } })
  const { size: _, ...readable } = config
  expect(await call(noting(strict), 'GC', { config: readable })).toMatchObject({ status: 0 })
  expect(verbs()).toEqual(['DEL', 'GC'])
})

test('a container’s namespace may be the plugin’s own where the caller says that it knows', async () => {
  const given = { netns: '/proc/self/ns/net', environment: { CNI_NETNS_OVERRIDE: 'TRUE' } }
  expect(await call(noting(), 'ADD', given)).toMatchObject({ status: 0 })
  expect(verbs()).toEqual(['ADD'])
})

test('GC without a list of what is alive takes nothing for dead', async () => {
  expect(await call(noting(), 'GC')).toMatchObject({ status: 0, stdout: '' })
  expect(verbs()).toEqual([])
  const valid = [{ containerID: 'one', ifname: 'eth0' }]
  expect(await call(noting(), 'GC', { config: { 'cni.dev/valid-attachments': valid } })).toMatchObject({
    status: 0,
  })
  expect(seen).toMatchObject([{ verb: 'GC', request: { valid: [{ containerId: 'one', ifname: 'eth0' }] } }])
})

test('verbs that a plugin does not have succeed', async () => {
  const { status: _, gc: __, ...plain } = noting()
  expect(await call(plain, 'STATUS')).toMatchObject({ status: 0, stdout: '' })
  expect(await call(plain, 'GC', { config: { 'cni.dev/valid-attachments': [] } })).toMatchObject({
    status: 0,
  })
})

test('the plugin sees whose call it is, and the configuration as it came and as it is meant', async () => {
  using container = freshNamespace()
  const text = '{"cniVersion":"1.0.0","name":"net","SIZE":3,"size2":3}'
  const given = { netns: container, containerId: 'one', interface: 'net1', args: 'IgnoreUnknown=1;MAC=x' }
  await call(noting(), 'ADD', { ...given, config: text, path: '/a:/b' })
  expect(seen[0]?.request).toMatchObject({
    netns: container.path,
    network: 'net',
    cniVersion: '1.0.0',
    attachment: { network: 'net', containerId: 'one', ifname: 'net1' },
    args: 'IgnoreUnknown=1;MAC=x',
    config: { size: 3 },
    stdin: text,
    path: expect.arrayContaining(['/a', '/b']),
    previous: undefined,
  })
})

test('a result is printed in the version of the configuration', async () => {
  using container = freshNamespace()
  const { json } = await call(noting(), 'ADD', { netns: container, config: { cniVersion: '0.4.0' } })
  expect(json).toMatchObject({ cniVersion: '0.4.0', interfaces: [{ name: 'eth0' }] })
})

test('an error is one document, with the version that was asked for and without a stack', async () => {
  using container = freshNamespace()
  const config = { cniVersion: '0.4.0', fails: 'the cable is cut' }
  const { status, json } = await call(noting(), 'ADD', { netns: container, config })
  expect({ status, json }).toEqual({
    status: 1,
    json: { cniVersion: '0.4.0', code: 999, msg: 'the cable is cut' },
  })
})

test('prevResult that cannot be read is of no concern to a plugin that does not look, and refused to one that does', async () => {
  using container = freshNamespace()
  const config = { prevResult: { cniVersion: '0.2.0' } }
  expect(await call(noting(), 'ADD', { netns: container, config })).toMatchObject({ status: 0 })
  const looking = noting({ check: ({ previous }) => note('CHECK')({ previous }) })
  expect(await call(looking, 'CHECK', { netns: container, config })).toMatchObject({
    status: 1,
    json: { msg: expect.stringContaining('could not parse prevResult') },
  })
})

test('an ADD whose result cannot be handed over is undone, and the error goes where the log may have it', async () => {
  using container = freshNamespace()
  const undone: string[] = []
  const plugin = noting({
    add({ undo }) {
      undo('take back', () => undone.push('undone'))
      return emptyResult()
    },
  })
  const io = {
    ...silentIo(
      {
        CNI_COMMAND: 'ADD',
        CNI_CONTAINERID: 'one',
        CNI_NETNS: container.path,
        CNI_IFNAME: 'eth0',
        CNI_PATH: '/none',
      },
      '{"cniVersion":"1.1.0","name":"net"}',
    ),
    stdout: () => {
      throw new Error('Broken pipe')
    },
  }
  expect(await run(plugin, io)).toBe(1)
  expect(undone).toEqual(['undone'])
  expect(JSON.parse(io.said())).toMatchObject({ code: 999, msg: 'Broken pipe' })
})

test('an operation is over for others when its verb has ended, well or not', async () => {
  using container = freshNamespace()
  const given = { netns: container, config: { fails: 'no' } }
  expect((await call(noting(), 'ADD', given)).status).toBe(1)
  const started = performance.now()
  expect((await call(noting(), 'ADD', { netns: container })).status).toBe(0)
  expect(performance.now() - started).toBeLessThan(2000)
})

test('what is named is one call’s alone until its verb ends', async () => {
  using container = freshNamespace()
  const order: string[] = []
  const { promise: second, resolve: secondHasBegun } = Promise.withResolvers<void>()
  const plugin = (name: string, body: () => unknown) =>
    noting({
      async add({ alone }) {
        await alone('the one table')
        order.push(`${name} begins`)
        await body()
        order.push(`${name} ends`)
        return emptyResult()
      },
    })
  const slow = call(
    plugin('first', () => second),
    'ADD',
    { netns: container },
  )
  const quick = call(
    plugin('second', () => undefined),
    'ADD',
    { netns: container, interface: 'eth1' },
  )
  setTimeout(secondHasBegun, 20)
  await Promise.all([slow, quick])
  expect(order).toEqual(['first begins', 'first ends', 'second begins', 'second ends'])
})

test('the exit status is what a program answers', async () => {
  const before = process.exitCode
  try {
    const ended = Promise.resolve(3)
    exitWith(ended)
    await ended
    await new Promise(setImmediate)
    expect(process.exitCode).toBe(3)
  } finally {
    process.exitCode = before ?? 0
  }
})
