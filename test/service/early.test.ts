/** DEL by a worker: answered when an interface is in no list any more, while the kernel is not done with it; and what comes next. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { findLink, removeLink } from '../../chain/linux/netlink/link.ts'
import { hostEndName } from '../../chain/plugin/owner.ts'
import { removeBridges } from '../fixtures/bridge.ts'
import { connect, freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, environmentOf, execute, ourExecutable, stdinOf, type Verb } from '../fixtures/plugin.ts'
import { installed, type WarmService, warmService } from '../fixtures/warm.ts'

const flags = ['--workers=1', '--most=1', '--rest=600']
const host = hostNamespace()
let service: WarmService
beforeAll(async () => {
  host.createLink({ name: 'stand0', kind: { type: 'veth', peer: { name: 'stand1' } } })
  service = await warmService(installed(), ...flags)
})
afterAll(async () => {
  removeLink(host.route, 'stand0')
  await service[Symbol.asyncDispose]()
  host[Symbol.dispose]()
})
afterEach(removeBridges)

const name = 'early-net'
const ipam = { type: 'host-local', subnet: '10.61.0.0/29', dataDir: '/run/early' }
const configs = {
  bridge: { bridge: 'early0', isGateway: true, name, ipam },
  ptp: { name, ipam },
  macvlan: { master: 'stand0', name, ipam },
  tap: { name, ipam },
}

const containerId = 'early'
/** The host's end of the container's pair. */
const hostEnd = hostEndName({ network: name, containerId, ifname: 'eth0' })
const callOf = (type: keyof typeof configs, netns: Namespace, prevResult?: unknown): Call => ({
  netns,
  containerId,
  config: { type, ...configs[type], ...(prevResult ? { prevResult } : {}) },
})

/** A call by the executable, as a runtime makes it. */
const call = (type: keyof typeof configs, verb: Verb, options: Call) =>
  execute(ourExecutable(type), verb, options)

const worker = () => service.status().workers[0]?.process ?? 0
const openOf = (process: number) =>
  readdirSync(`/proc/${process}/fd`).map(each =>
    readlinkSync(`/proc/${process}/fd/${each}`).replace(/\d+/, ''),
  )

const median = (times: number[]) => times.toSorted((one, other) => one - other)[times.length >> 1] ?? 0
function timed(body: () => void): number {
  const began = performance.now()
  body()
  return performance.now() - began
}

const hasHostEnd = (type: keyof typeof configs) => type === 'bridge' || type === 'ptp'

describe.each(['bridge', 'ptp', 'macvlan', 'tap'] as const)('%s', type => {
  test('is answered before a deletion alone would be done', () => {
    using container = freshNamespace('early')
    using other = freshNamespace('other')
    const [answered, alone]: [number[], number[]] = [[], []]
    for (let count = 0; count < 25; count++) {
      const { json } = call(type, 'ADD', callOf(type, container))
      answered.push(timed(() => call(type, 'DEL', callOf(type, container, json))))
      connect({ namespace: host, name: 'alone0' }, { namespace: other, name: 'eth0' })
      alone.push(timed(() => removeLink(host.route, 'alone0')))
    }
    console.log(
      `DEL of ${type} ${median(answered).toFixed(1)} ms, a deletion alone ${median(alone).toFixed(1)} ms`,
    )
    const { times } = service.status()
    expect(times.find(({ plugin, verb }) => plugin === type && verb === 'DEL')?.calls).toBeGreaterThan(20)
    expect(median(answered)).toBeLessThan(0.8 * median(alone))
  })

  test('leaves nothing that ADD of the same container would meet, and ADD finds all free', () => {
    using container = freshNamespace('early')
    for (let count = 0; count < 15; count++) {
      const added = call(type, 'ADD', callOf(type, container))
      expect(added.status).toBe(0)
      expect(added.json.ips[0].address).toStartWith('10.61.0.')
      expect(findLink(host.route, hostEnd)?.kind).toBe(hasHostEnd(type) ? 'veth' : undefined)
      expect(call(type, 'CHECK', callOf(type, container, added.json))).toMatchObject({ status: 0 })
      const { index } = container.link('eth0')
      expect(call(type, 'DEL', callOf(type, container, added.json))).toMatchObject({
        status: 0,
        stderr: '',
      })
      expect(findLink(host.route, hostEnd)).toBeUndefined()
      expect(['eth0', index].map(each => findLink(container.route, each))).toEqual([undefined, undefined])
      expect(host.routes().filter(({ destination }) => /^10\.61\.0\.\d+\/32/.test(destination))).toEqual([])
    }
  })

  test('keeps no namespace, though nobody calls the worker any more', async () => {
    const container = freshNamespace('early')
    using other = freshNamespace('other')
    connect({ namespace: container, name: 'out' }, { namespace: other, name: 'in' })
    const { json } = call(type, 'ADD', callOf(type, container))
    call(type, 'DEL', callOf(type, container, json))
    container[Symbol.dispose]()
    while (findLink(other.route, 'in')) await pause(5) // it goes when the namespace does
  })
})

test('GC leaves none of several', () => {
  const containers = Array.from({ length: 4 }, () => freshNamespace('early'))
  const added = containers.map((netns, count) =>
    call('bridge', 'ADD', { ...callOf('bridge', netns), containerId: `gone-${count}` }),
  )
  expect(added.map(({ status }) => status)).toEqual([0, 0, 0, 0])
  const config = { type: 'bridge', ...configs.bridge, 'cni.dev/valid-attachments': [] }
  expect(call('bridge', 'GC', { config })).toMatchObject({ status: 0 })
  expect(containers.flatMap(each => each.links().map(link => link.name))).toEqual(['lo', 'lo', 'lo', 'lo'])
  for (const each of containers) each[Symbol.dispose]()
})

test('a worker that has deleted many has as much open as before', async () => {
  using container = freshNamespace('early')
  const round = () => {
    const { json } = call('bridge', 'ADD', callOf('bridge', container))
    expect(call('bridge', 'DEL', callOf('bridge', container, json))).toMatchObject({ status: 0 })
  }
  /** Once the kernel has done with all. */
  const open = async () => {
    for (let count = 0; count < 2; count++) {
      await pause(100)
      execute(ourExecutable('loopback'), 'VERSION')
    }
    const process = worker()
    await pause(20) // until it is done with this caller as well
    return openOf(process).toSorted()
  }
  round()
  const before = await open()
  expect(before).toContain('anon_inode:[io_uring]')
  for (let count = 0; count < 100; count++) round()
  expect(await open()).toEqual(before)
})

test('a worker that is killed while the kernel is at it leaves nothing, and its successor’s DEL succeeds', () => {
  using container = freshNamespace('early')
  for (let count = 0; count < 5; count++) {
    const { json } = call('bridge', 'ADD', callOf('bridge', container))
    call('bridge', 'DEL', callOf('bridge', container, json))
    process.kill(worker(), 'SIGKILL')
    expect(findLink(host.route, hostEnd)).toBeUndefined()
    expect(call('bridge', 'DEL', callOf('bridge', container, json))).toMatchObject({ status: 0 })
  }
})

test('asked to end while the kernel is at it, the service ends', async () => {
  await service.end()
  const ending = await warmService(installed(), ...flags)
  using container = freshNamespace('early')
  const { json } = call('bridge', 'ADD', callOf('bridge', container))
  const process = ending.status().workers[0]?.process ?? 0
  expect(call('bridge', 'DEL', callOf('bridge', container, json))).toMatchObject({ status: 0 })
  expect(await ending.end()).toBe(0)
  expect(() => readFileSync(`/proc/${process}/stat`)).toThrow('ENOENT')
  service = await warmService(installed(), ...flags)
})

test('where the kernel refuses io_uring, DEL is as it was', async () => {
  await service.end()
  const wrapper = [process.execPath, `${import.meta.dir}/../fixtures/without-uring.ts`]
  const refused = await warmService({ command: [...wrapper, ...installed().command] }, ...flags)
  using container = freshNamespace('early')
  /** By a caller who may as little: he is the service's equal. */
  const callWithout = (verb: Verb, prevResult?: unknown) => {
    const options = callOf('bridge', container, prevResult)
    const environment = environmentOf(verb, options, dirname(ourExecutable('bridge')))
    const stdin = Buffer.from(stdinOf(options))
    const { exitCode, stdout } = Bun.spawnSync([...wrapper, ourExecutable('bridge')], {
      env: environment,
      stdin,
    })
    expect(exitCode).toBe(0)
    return stdout.toString()
  }
  for (let count = 0; count < 5; count++) callWithout('DEL', JSON.parse(callWithout('ADD')))
  expect(refused.status().calls).toBeGreaterThan(5)
  expect(container.links().map(link => link.name)).toEqual(['lo'])
  expect(openOf(refused.status().workers[0]?.process ?? 0)).not.toContain('anon_inode:[io_uring]')
  await refused.end()
  service = await warmService(installed(), ...flags)
})
