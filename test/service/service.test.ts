/** The warm service: calls that it does are as those of a process of one's own. */
import { expect, test } from 'bun:test'
import { freshNamespace } from '../fixtures/namespace.ts'
import { warmService } from '../fixtures/warm.ts'

test('a plugin that the service runs does what it does by itself, and the service counts it', async () => {
  await using service = await warmService('--workers', '1')
  using container = freshNamespace('warm')
  const call = { netns: container, interface: 'lo', config: { type: 'loopback' } }
  expect(service.call('loopback', 'ADD', call)).toMatchObject({
    status: 0,
    stderr: '',
    json: { cniVersion: '1.1.0', interfaces: [{ name: 'lo', sandbox: container.path }] },
  })
  expect(service.call('loopback', 'DEL', call)).toMatchObject({ status: 0, stdout: '' })
  expect(service.call('loopback', 'ADD', { ...call, config: '{' })).toMatchObject({
    status: 1,
    json: { code: 6 },
  })
  expect(service.status()).toMatchObject({
    workers: [{ slot: 0, process: expect.any(Number), calls: 3 }],
    refused: {},
    calls: 3,
    failed: 1,
    times: [
      { plugin: 'loopback', verb: 'ADD', calls: 2, failed: 1 },
      { plugin: 'loopback', verb: 'DEL', calls: 1, failed: 0 },
    ],
  })
})
