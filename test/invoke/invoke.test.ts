/** How a plugin is found and run, as a process or in this one. */
import { expect, test } from 'bun:test'
import { chmodSync, linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import {
  type Answer,
  type Builtins,
  type Call,
  findPlugin,
  invoke,
  isSameFile,
} from '../../chain/invoke/invoke.ts'
import { fakePlugins } from '../fixtures/fake.ts'

/** A folder that goes with the test. */
function freshFolder() {
  const path = mkdtempSync('/run/invoke-')
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) }
}

function callOf(file: string, more: Partial<Call> = {}): Call {
  const environment = { PATH: process.env.PATH ?? '', CNI_COMMAND: 'ADD' }
  return { file, type: file.slice(file.lastIndexOf('/') + 1), environment, stdin: '{"name": "net"}', ...more }
}

test('the first regular file of the name over the path is the plugin; links are followed, folders passed over', () => {
  using folder = freshFolder()
  for (const name of ['first', 'second', 'third', 'first/bridge']) mkdirSync(`${folder.path}/${name}`)
  const path = ['none', 'first', 'second', 'third'].map(name => `${folder.path}/${name}`)
  writeFileSync(`${folder.path}/third/bridge`, '')
  expect(findPlugin('bridge', path)).toBe(`${folder.path}/third/bridge`)
  symlinkSync('../third/bridge', `${folder.path}/second/bridge`)
  expect(findPlugin('bridge', path)).toBe(`${folder.path}/second/bridge`)
})

test.each([
  { type: '', path: ['/opt/cni/bin'], message: 'no plugin name provided' },
  { type: '../bridge', path: ['/opt/cni/bin'], message: 'invalid plugin name: ../bridge' },
  { type: 'bridge', path: [], message: 'no paths provided' },
  { type: 'none', path: ['/one', '/two'], message: 'failed to find plugin "none" in path [/one /two]' },
])('type "$type" over $path: $message', ({ type, path, message }) => {
  expect(() => findPlugin(type, path)).toThrow(expect.objectContaining({ code: 999, message }))
})

test('a file is the same under all of its names, and none is the same as one that is missing', () => {
  using folder = freshFolder()
  const [one, linked, symbolic, other] = ['one', 'linked', 'symbolic', 'other'].map(
    name => `${folder.path}/${name}`,
  ) as [string, string, string, string]
  writeFileSync(one, '')
  writeFileSync(other, '')
  linkSync(one, linked)
  symlinkSync('one', symbolic)
  expect([linked, symbolic, other, '/none'].map(each => isSameFile(one, each))).toEqual([
    true,
    true,
    false,
    false,
  ])
  expect(isSameFile('/none', '/none')).toBe(false)
})

test('a process gets the environment as it is given, and the configuration; status and both outputs come back', async () => {
  using plugins = fakePlugins('one')
  plugins.behave('one', 'ADD', 'echo out; echo aside >&2; exit 3')
  const environment = { PATH: process.env.PATH ?? '', CNI_COMMAND: 'ADD', CNI_ARGS: 'A=b' }
  const answer = await invoke(callOf(`${plugins.path}/one`, { environment }))
  expect(answer).toEqual({ status: 3, stdout: 'out\n', stderr: 'aside\n' })
  const [call] = plugins.calls()
  expect(call?.stdin).toEqual({ name: 'net' })
  const { PWD: _, SHLVL: __, _: ___, ...seen } = call?.environment ?? {} // which bash adds
  expect(seen).toEqual(environment)
})

test('of a process that a signal ended, the signal is told', async () => {
  using plugins = fakePlugins('one')
  plugins.behave('one', 'ADD', 'kill -TERM $$; read')
  const answer = await invoke(callOf(`${plugins.path}/one`))
  expect(answer).toMatchObject({ status: 128 + 15, signal: 'SIGTERM' })
})

test('more than a pipe holds goes through in both directions', async () => {
  using plugins = fakePlugins('one')
  plugins.behave('one', 'ADD', 'cat "$home/calls/$$.stdin"')
  const stdin = JSON.stringify({ filler: 'x'.repeat(300_000) })
  expect((await invoke(callOf(`${plugins.path}/one`, { stdin }))).stdout).toBe(stdin)
})

test('what cannot be executed is named', async () => {
  using folder = freshFolder()
  const file = `${folder.path}/broken`
  writeFileSync(file, '')
  chmodSync(file, 0o644)
  const failure = await invoke(callOf(file)).catch(thrown => thrown)
  expect(failure).toMatchObject({ code: 999, message: `cannot start plugin ${file}` })
  expect(failure.details).toContain('EACCES')
})

test('nothing is started for a caller who has given up already, whose reason comes out as it is', async () => {
  using plugins = fakePlugins('one')
  const reason = new Error('enough')
  const call = callOf(`${plugins.path}/one`, { signal: AbortSignal.abort(reason) })
  expect(await invoke(call).catch(thrown => thrown)).toBe(reason)
  expect(plugins.calls()).toEqual([])
})

/** An executable that holds the plugin "one". */
function holding(executable: string): Builtins & { asked: string[] } {
  const asked: string[] = []
  const answer: Answer = { status: 0, stdout: 'in process', stderr: '' }
  return {
    executable,
    asked,
    run: type => {
      asked.push(type)
      return type === 'one' ? Promise.resolve(answer) : undefined
    },
  }
}

test('a plugin that is a name of the very executable is run in process; one that it does not hold, and any other file, as a process', async () => {
  using plugins = fakePlugins('one', 'other')
  linkSync(`${plugins.path}/one`, `${plugins.path}/unheld`)
  const builtins = holding(`${plugins.path}/one`)
  expect((await invoke(callOf(`${plugins.path}/one`), builtins)).stdout).toBe('in process')
  expect(plugins.order()).toEqual([])
  await invoke(callOf(`${plugins.path}/unheld`), builtins)
  await invoke(callOf(`${plugins.path}/other`), builtins)
  expect(plugins.order()).toEqual(['unheld ADD', 'other ADD'])
  expect(builtins.asked).toEqual(['one', 'unheld'])
})
