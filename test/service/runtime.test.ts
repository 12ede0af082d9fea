/** The command `catena` has a service do what it takes, and tells who has done it. */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { freshNamespace } from '../fixtures/namespace.ts'
import { ourExecutable, ours } from '../fixtures/plugin.ts'
import { installed, type WarmService, warmService } from '../fixtures/warm.ts'

let service: WarmService
let folder: string
beforeAll(async () => {
  service = await warmService(installed(), '--workers', '2')
  folder = mkdtempSync('/run/warm-networks-')
  const ipam = { type: 'host-local', ranges: [[{ subnet: '10.47.0.0/24' }]] }
  const plugins = [
    { type: 'ptp', ipam },
    { type: 'tuning', mtu: 1400 },
  ]
  writeFileSync(`${folder}/10.conflist`, JSON.stringify({ cniVersion: '1.1.0', name: 'warm-net', plugins }))
})
afterAll(async () => {
  rmSync(folder, { recursive: true })
  await service.end()
})

function catena(words: readonly string[], environment: Record<string, string> = {}) {
  const { exitCode, stdout, stderr } = Bun.spawnSync([ourExecutable('catena'), ...words], {
    env: { PATH: process.env.PATH, NETCONFPATH: folder, CNI_PATH: ours, ...environment },
  })
  if (exitCode !== 0) throw new Error(`${words.join(' ')}: ${stdout}${stderr}`)
  return stdout.toString() === '' ? undefined : JSON.parse(stdout.toString())
}

test.each([
  { who: 'the service, where one runs', by: 'service', words: [], environment: {} },
  {
    who: 'the command itself, if it is to',
    by: 'this process',
    words: [],
    environment: { CATENA_WARM: 'off' },
  },
  {
    who: 'processes, which a time limit needs',
    by: 'a process',
    words: ['--timeout', '20000'],
    environment: {},
  },
])('$who', ({ by, words, environment }) => {
  using container = freshNamespace('runtime')
  const before = service.status().calls
  const run = (verb: string) => catena([verb, 'warm-net', container.path, '--json', ...words], environment)
  const step = (verb: string, plugin: string) => ({ verb, plugin, milliseconds: expect.any(Number), by })
  expect(run('add')).toMatchObject({
    ips: [{ address: expect.stringMatching(/^10\.47\.0\./) }],
    catena: { steps: [step('ADD', 'ptp'), step('ADD', 'tuning')] },
  })
  expect(run('check').catena.steps).toHaveLength(2)
  expect(run('del')).toEqual({ catena: { steps: [step('DEL', 'tuning'), step('DEL', 'ptp')] } })
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
  const served = service.status().calls - before
  expect(served > 0).toBe(by !== 'this process') // what is a process to the command may be warm all the same
})

test('without --json the answer is what cnitool prints', () => {
  using container = freshNamespace('runtime')
  expect(Object.keys(catena(['add', 'warm-net', container.path]))).not.toContain('catena')
  expect(catena(['del', 'warm-net', container.path])).toBeUndefined()
})

test('the status is told to people, as JSON and as Prometheus reads it', () => {
  const status = service.status()
  expect(catena(['serve', '--status', '--json'])).toMatchObject({
    calls: status.calls,
    workers: expect.any(Array),
  })
  const { stdout } = Bun.spawnSync([ourExecutable('catena'), 'serve', '--prometheus'])
  expect(stdout.toString()).toMatch(/^catena_warm_call_seconds_count\{plugin="ptp",verb="ADD"\} \d+$/m)
})
