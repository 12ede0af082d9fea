/** The warm service: calls that it does are as those of a process of one's own. */
import { expect, test } from 'bun:test'
import { readFileSync, readlinkSync } from 'node:fs'
import { setFileMask } from '../../chain/linux/libc/process.ts'
import { fakePlugins } from '../fixtures/fake.ts'
import { freshNamespace } from '../fixtures/namespace.ts'
import { warmService } from '../fixtures/warm.ts'

test('a plugin that the service runs does what it does by itself, and the service counts it', async () => {
  await using service = await warmService('--workers', '1', '--most', '1')
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

test("folder, mask and environment are the caller's, for what the plugin starts too; the worker has its own again", async () => {
  await using service = await warmService('--workers', '1', '--most', '1')
  using container = freshNamespace('warm')
  using ipam = fakePlugins('noting')
  ipam.behave(
    'noting',
    'ADD',
    'echo "$PWD $(umask) $MINE $CATENA_WARM" >>"$home/notes"; echo \'{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.2/16"}]}\'',
  )
  const [folder, before] = [process.cwd(), setFileMask(0o027)]
  process.chdir(ipam.path)
  try {
    const config = { type: 'dummy', ipam: { type: 'noting' } }
    service.call('ptp', 'ADD', { netns: container, path: ipam.path, config, environment: { MINE: 'all' } })
    service.call('ptp', 'DEL', { netns: container, path: ipam.path, config })
  } finally {
    process.chdir(folder)
    setFileMask(before)
  }
  expect(ipam.notes()).toEqual([`${ipam.path} 0027 all nested`])
  const worker = service.status().workers[0]?.process
  expect(readlinkSync(`/proc/${worker}/cwd`)).toBe('/')
  expect(readFileSync(`/proc/${worker}/status`, 'utf8')).toMatch(/^Umask:\s+0022$/m)
})

test('the record of a call names the process that it is of, and the one that has started that', async () => {
  await using service = await warmService('--workers', '1', '--most', '1')
  using container = freshNamespace('warm')
  service.call('ptp', 'DEL', { netns: container, containerId: 'recorded', config: { type: 'ptp' } })
  const lines = readFileSync('/run/catena/records/log', 'utf8').trimEnd().split('\n')
  const [line] = lines.map(each => JSON.parse(each)).filter(({ container }) => container === 'recorded')
  expect(line).toMatchObject({ plugin: 'ptp', verb: 'DEL', pid: process.pid, parent: process.ppid })
})
