/** Plugins of others that are started: they print without an end, or leave something running that holds what they printed to. */
import { afterAll, expect, test } from 'bun:test'
import { bridge } from '../../main/bridge.ts'
import { removeBridges } from '../fixtures/bridge.ts'
import { fakePlugins } from '../fixtures/fake.ts'
import { freshNamespace, hostNamespace } from '../fixtures/namespace.ts'
import { call, execute, mustCall, ourExecutable } from '../fixtures/plugin.ts'

afterAll(removeBridges)

const config = { type: 'bridge', bridge: 'chatter0', ipam: { type: 'loud' } }
const MEBIBYTE = 1 << 20

test.each(['ADD', 'DEL'] as const)('%s ends an IPAM plugin that prints without an end, and says so', verb => {
  using container = freshNamespace('chatter')
  using fakes = fakePlugins('loud')
  const path = fakes.path
  fakes.behave('loud', verb, 'exec yes')
  const start = performance.now()
  const { status, json } = execute(ourExecutable('bridge'), verb, { netns: container, path, config })
  expect(performance.now() - start).toBeLessThan(10_000)
  expect({ status, json }).toMatchObject({
    status: 1,
    json: {
      msg: expect.stringMatching(
        /plugin loud: netplugin failed: .*it has printed more than 16 MiB.*signal: SIGKILL/s,
      ),
    },
  })
  // how far it got is unknown
  expect(fakes.order()).toEqual(verb === 'ADD' ? ['loud ADD', 'loud DEL'] : ['loud DEL'])
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
})

test('what it says on standard error is not kept without an end either, and its answer counts', async () => {
  using container = freshNamespace('chatter')
  using fakes = fakePlugins('loud')
  const answer = '{"cniVersion":"1.1.0","ips":[{"address":"10.77.0.2/24"}]}'
  fakes.behave('loud', 'ADD', `yes | head -c ${64 * MEBIBYTE} >&2; echo '${answer}'`)
  const options = { netns: container, path: fakes.path, config }
  const { status, stderr } = await call(bridge, 'ADD', options)
  expect({ status, isBounded: stderr.length < 20 * MEBIBYTE }).toEqual({ status: 0, isBounded: true })
  await mustCall(bridge, 'DEL', options)
})

test('a process that it leaves running, with its standard output, is not waited for', async () => {
  using container = freshNamespace('chatter')
  using fakes = fakePlugins('loud')
  const answer = '{"cniVersion":"1.1.0","ips":[{"address":"10.77.0.2/24"}]}'
  fakes.behave('loud', 'ADD', `sleep 600 & echo $! >>"$home/notes"; echo '${answer}'`)
  fakes.behave('loud', 'DEL', 'sleep 600 & echo $! >>"$home/notes"')
  const options = { netns: container, path: fakes.path, config }
  const start = performance.now()
  expect(await mustCall(bridge, 'ADD', options)).toMatchObject({ ips: [{ address: '10.77.0.2/24' }] })
  await mustCall(bridge, 'DEL', options)
  expect(performance.now() - start).toBeLessThan(10_000)
  for (const pid of fakes.notes()) process.kill(Number(pid), 'SIGKILL')
  using host = hostNamespace()
  expect(host.links().filter(({ name }) => name.startsWith('veth'))).toEqual([])
})
