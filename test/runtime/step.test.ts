/** One call of one plugin: told when it has ended, ended when its time is over or it is not wanted any more. */
import { afterEach, expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import type { Step } from '../../chain/runtime/attachment.ts'
import { addNetworkList } from '../../chain/runtime/network.ts'
import { type FakePlugins, fakePlugins } from '../fixtures/fake.ts'
import { attachment, listOf, openPipes, runtime } from '../fixtures/runtime.ts'

const { release, close: closePipes } = openPipes()
afterEach(closePipes)

test('each step is told when it has ended, with what the plugin wrote to standard error', async () => {
  using plugins = fakePlugins('one', 'two')
  using options = runtime(plugins)
  plugins.behave('one', 'ADD', `echo hm >&2; echo '{"cniVersion": "1.1.0"}'`)
  plugins.answer('two', 'ADD', { code: 7, msg: 'no' }, 1)
  const steps: Step[] = []
  const adding = addNetworkList(listOf(['one', 'two']), attachment, {
    ...options,
    onStep: step => steps.push(step),
  })
  await adding.catch(() => {})
  expect(steps).toEqual([
    { verb: 'ADD', plugin: 'one', stderr: 'hm\n', milliseconds: expect.any(Number), by: 'a process' },
    {
      verb: 'ADD',
      plugin: 'two',
      stderr: '',
      milliseconds: expect.any(Number),
      by: 'a process',
      error: expect.objectContaining({ code: 7, message: 'no' }),
    },
  ])
})

/** Starts a child of its own, notes both process IDs, and never ends. */
const HANGS = 'mkfifo "$home/never"; cat "$home/never" & echo "$$ $!" >>"$home/notes"; BEGUN wait'

function areGone(plugins: FakePlugins): boolean {
  const processes = plugins.notes().flatMap(line => line.split(' '))
  return processes.length === 2 && processes.every(id => !existsSync(`/proc/${id}/root/`))
}

test('a plugin that takes longer than its time is ended with all that it started', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  plugins.behave('one', 'ADD', HANGS.replace('BEGUN', ''))
  const adding = addNetworkList(listOf(['one']), attachment, { ...options, timeout: 300, undo: true })
  expect(await adding.catch(thrown => thrown)).toMatchObject({
    code: 999,
    message: 'plugin type="one" failed (add): netplugin did not end in time',
    details: '300 ms were over; it was killed with all that it had started',
  })
  expect(areGone(plugins)).toBe(true)
  expect(plugins.order()).toEqual(['one ADD', 'one DEL'])
})

test('a plugin whose child has left its process group and holds the pipes is not waited for', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  plugins.behave(
    'one',
    'ADD',
    'mkfifo "$home/never"; setsid bash -c \'read <"$0"\' "$home/never" & echo hm >&2; wait',
  )
  const adding = addNetworkList(listOf(['one']), attachment, { ...options, timeout: 300 })
  expect(await adding.catch(thrown => thrown)).toMatchObject({
    details: '300 ms were over; it was killed with all that it had started; it had said: hm',
  })
  release(`${plugins.path}/never`)
})

test("an aborted ADD ends the plugin with all that it started, takes back, and throws the caller's reason", async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  plugins.behave('one', 'ADD', HANGS.replace('BEGUN', 'echo >"$home/begun";'))
  await Bun.$`mkfifo ${plugins.path}/begun`
  const controller = new AbortController()
  const adding = addNetworkList(listOf(['one']), attachment, {
    ...options,
    signal: controller.signal,
    undo: true,
  })
  await Bun.file(`${plugins.path}/begun`).text()
  const reason = new Error('the pod is gone')
  controller.abort(reason)
  expect(await adding.catch(thrown => thrown)).toBe(reason)
  expect(areGone(plugins)).toBe(true)
  expect(plugins.order()).toEqual(['one ADD', 'one DEL'])
})
