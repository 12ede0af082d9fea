/** Another plugin, run on behalf of one: what it is given, and what becomes of its answer. */
import { expect, test } from 'bun:test'
import { linkSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type Added, delegateFor } from '../../chain/plugin/delegate.ts'
import { type FakePlugins, fakePlugins } from '../fixtures/fake.ts'
import { silentIo } from '../fixtures/io.ts'

const stdin = '{"cniVersion":"1.1.0","name":"net"}'

function delegating({ path }: FakePlugins, env: Record<string, string | undefined> = {}) {
  const io = silentIo({ PATH: process.env.PATH, CNI_COMMAND: 'ADD', CNI_IFNAME: 'eth0', ...env })
  const delegate = delegateFor({ io, path: ['/none', path], stdin, cniVersion: '1.1.0' })
  const heard: string[] = []
  const added: Added = how => void heard.push(how)
  return { io, delegate, heard, added }
}

test('it is given this request’s environment and input, with the verb that it is run for', async () => {
  using plugins = fakePlugins('inner')
  const { delegate } = delegating(plugins, { CNI_ARGS: 'IgnoreUnknown=1', CNI_NETNS: undefined })
  const result = await delegate.add('inner')
  expect(result).toMatchObject({ ips: [{ address: '10.1.0.2/16' }], dns: { domain: 'inner' } })
  for (const verb of ['check', 'del', 'status', 'gc'] as const) await delegate[verb]('inner')
  expect(plugins.order()).toEqual(['ADD', 'CHECK', 'DEL', 'STATUS', 'GC'].map(verb => `inner ${verb}`))
  for (const { environment, stdin: given } of plugins.calls()) {
    expect(environment).toMatchObject({ CNI_IFNAME: 'eth0', CNI_ARGS: 'IgnoreUnknown=1' })
    expect(environment).not.toHaveProperty('CNI_NETNS')
    expect(given).toEqual(JSON.parse(stdin))
  }
})

test('a configuration of its own takes the place of the input', async () => {
  using plugins = fakePlugins('inner')
  const { delegate } = delegating(plugins)
  await delegate.add('inner', { name: 'net', type: 'inner' })
  await delegate.del('inner', { name: 'other' })
  expect(plugins.calls().map(({ stdin }) => stdin)).toEqual([
    { name: 'net', type: 'inner' },
    { name: 'other' },
  ])
})

test('an error that it printed is the error, and nothing is thought to be left', async () => {
  using plugins = fakePlugins('inner')
  const { delegate, added, heard } = delegating(plugins)
  plugins.answer('inner', 'ADD', { code: 11, msg: 'later', details: 'the pool is full' }, 1)
  await expect(delegate.add('inner', undefined, added)).rejects.toMatchObject({
    code: 11,
    message: 'later',
    details: 'the pool is full',
  })
  expect(heard).toEqual([])
})

test.each([
  {
    name: 'is killed',
    script: 'kill -KILL $$',
    message: 'plugin inner: netplugin failed with no error message: signal: SIGKILL',
  },
  {
    name: 'ends without a word on its output',
    script: 'echo oops >&2; exit 3',
    message: 'plugin inner: netplugin failed: "oops\\n": exit status 3',
  },
  {
    name: 'prints what is no error',
    script: 'echo {}; exit 1',
    message: 'plugin inner: netplugin failed but error parsing its diagnostic message "{}\\n": exit status 1',
  },
])('of one that $name it is unknown how far it came', async ({ script, message }) => {
  using plugins = fakePlugins('inner')
  const { delegate, added, heard } = delegating(plugins)
  plugins.behave('inner', 'ADD', script)
  await expect(delegate.add('inner', undefined, added)).rejects.toMatchObject({ code: 999, message })
  expect(heard).toEqual(['unknown'])
})

test.each([
  { name: 'no JSON', answer: 'hello', code: 6, message: 'result of plugin inner is not JSON' },
  {
    name: 'of another version',
    answer: { cniVersion: '0.2.0' },
    code: 999,
    message: /^could not parse result of plugin inner: result type supports/,
  },
  {
    name: 'a list',
    answer: '[]',
    code: 6,
    message: 'could not parse result of plugin inner: it is not an object: []',
  },
])('a result that is $name is refused when it is known that there is something to undo', async row => {
  using plugins = fakePlugins('inner')
  const { delegate, added, heard } = delegating(plugins)
  plugins.answer('inner', 'ADD', row.answer)
  const failed = await delegate.add('inner', undefined, added).catch(thrown => thrown)
  expect(failed).toMatchObject({ code: row.code })
  expect(failed.message).toMatch(row.message)
  expect(heard).toEqual(['succeeded'])
})

test('a result without an end is shown by its beginning', async () => {
  using plugins = fakePlugins('inner')
  const { delegate } = delegating(plugins)
  plugins.answer('inner', 'ADD', `<${'x'.repeat(1000)}`)
  const failed = await delegate.add('inner').catch(thrown => thrown)
  expect(failed.details).toBe(`<${'x'.repeat(199)}`)
})

test('what it says beside an answer is passed on; beside an error it has been said', async () => {
  using plugins = fakePlugins('inner')
  const { delegate, io } = delegating(plugins)
  plugins.behave('inner', 'DEL', 'echo careful >&2')
  await delegate.del('inner')
  expect(io.said()).toBe('careful\n')
  plugins.behave('inner', 'CHECK', `echo again >&2; echo '{"code":7,"msg":"no"}'; exit 1`)
  await expect(delegate.check('inner')).rejects.toThrow('no')
  expect(io.said()).toBe('careful\n')
})

test('one that is not there is named with the places where it was looked for', async () => {
  using plugins = fakePlugins('inner')
  const { delegate } = delegating(plugins)
  await expect(delegate.del('other')).rejects.toThrow(
    `failed to find plugin "other" in path [/none ${plugins.path}]`,
  )
  expect(() => delegate.isOurs('other')).toThrow('failed to find plugin')
})

test('ours are those that this very executable is, under whatever name', () => {
  const path = mkdtempSync('/run/ours-')
  using _folder = { [Symbol.dispose]: () => rmSync(path, { recursive: true }) }
  for (const name of ['catena', 'copy']) writeFileSync(`${path}/${name}`, '', { mode: 0o755 })
  linkSync(`${path}/catena`, `${path}/host-local`)
  const builtins = { executable: `${path}/catena`, run: () => undefined }
  const given = { path: [path], stdin, cniVersion: '1.1.0' }
  const delegate = delegateFor({ ...given, io: { ...silentIo({}), builtins } })
  expect([delegate.isOurs('host-local'), delegate.isOurs('copy')]).toEqual([true, false])
  expect(delegateFor({ ...given, io: silentIo({}) }).isOurs('host-local')).toBe(false)
})
