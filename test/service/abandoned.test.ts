/** Callers that go: their ADD stops and is taken back, what it had started is gone, and the worker is there for the next. */
import { afterAll, afterEach, beforeAll, expect, test } from 'bun:test'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { holdName } from '../../chain/linux/lock.ts'
import { removeBridges } from '../fixtures/bridge.ts'
import { freshNamespace, hostNamespace } from '../fixtures/namespace.ts'
import { type Call, environmentOf, ours, stdinOf, type Verb } from '../fixtures/plugin.ts'
import { slowIpam } from '../fixtures/slow-ipam.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'
import { type WarmService, warmService } from '../fixtures/warm.ts'

let service: WarmService
beforeAll(async () => {
  service = await warmService('--workers', '1', '--most', '1')
})
afterAll(() => service[Symbol.asyncDispose]())
afterEach(removeBridges)

function caller(plugin: string, verb: Verb, call: Call) {
  return Bun.spawn([process.execPath, `${import.meta.dir}/caller.ts`, plugin, 'insist'], {
    env: environmentOf(verb, call, call.path ?? ours),
    stdin: Buffer.from(stdinOf(call)),
  })
}

/**
 * A program that notes that it was started, with what it started, and never ends. When it is started again, as what takes back does, it is
 * the machine's own.
 */
function endlessProgram(name: string) {
  const folder = mkdtempSync('/run/endless-')
  writeFileSync(
    `${folder}/${name}`,
    `#!/bin/bash\nmkdir ${folder}/once 2>/dev/null || PATH=/usr/sbin:/usr/bin:/sbin:/bin exec "\${0##*/}" "$@"\nsleep 1000 &\necho $$ $! >${folder}/processes\necho >${folder}/begun\nwait\n`,
  )
  chmodSync(`${folder}/${name}`, 0o755)
  Bun.spawnSync(['mkfifo', `${folder}/begun`])
  const isRunning = () =>
    readFileSync(`${folder}/processes`, 'utf8')
      .trim()
      .split(' ')
      .some(pid => existsSync(`/proc/${pid}/root/`))
  return {
    folder,
    begun: () => Bun.file(`${folder}/begun`).text(),
    isRunning,
    async gone() {
      while (isRunning()) await pause(2)
    },
    [Symbol.dispose]: () => rmSync(folder, { recursive: true }),
  }
}

const bridge = { type: 'bridge', bridge: 'gone0', ipMasq: true, ipam: { type: 'slow' } }
const leftOf = (before: string[]) =>
  difference(before, snapshot()).added.filter(line => !/gone0|^(address|route|qdisc) /.test(line))

test('an ADD whose caller is killed ends the IPAM plugin that it waits for, and takes back what it has made', async () => {
  using container = freshNamespace('gone')
  using ipam = slowIpam()
  const before = snapshot()
  const adding = caller('bridge', 'ADD', { config: bridge, netns: container, path: ipam.path })
  await ipam.begun()
  adding.kill('SIGKILL')
  await ipam.gone()
  service.status() // the only worker is done with it
  expect(ipam.calls()).toEqual(['ADD', 'DEL'])
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
  expect(leftOf(before)).toEqual([])
  expect(service.call('loopback', 'VERSION')).toMatchObject({ status: 0 })
})

test('a DEL whose caller is killed ends the IPAM plugin, and goes on to its end', async () => {
  using container = freshNamespace('gone')
  using ipam = slowIpam()
  const call: Call = { config: bridge, netns: container, path: ipam.path }
  const adding = caller('bridge', 'ADD', call)
  await ipam.begun()
  ipam.answer()
  await adding.exited
  writeFileSync(`${ipam.path}/slow`, readFileSync(`${ipam.path}/slow`, 'utf8').replace('= ADD ]', '= DEL ]'))
  const deleting = caller('bridge', 'DEL', call)
  await ipam.begun()
  deleting.kill('SIGKILL')
  await ipam.gone()
  service.status()
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
})

test.each([
  ['iptables-save', { backend: 'iptables' }],
  ['nft', { conditionsV4: ['ip', 'saddr', '10.0.0.0/8'] }],
])('%s that a killed caller has started is ended with what that had started', async (program, more) => {
  using container = freshNamespace('gone')
  using host = hostNamespace()
  using endless = endlessProgram(program)
  for (const name of ['iptables', 'iptables-restore', 'iptables-save', 'ip6tables'])
    if (!existsSync(`${endless.folder}/${name}`))
      Bun.spawnSync(['ln', '-s', `${endless.folder}/${program}`, `${endless.folder}/${name}`])
  const before = snapshot()
  const config = {
    type: 'portmap',
    ...more,
    runtimeConfig: { portMappings: [{ hostPort: 8081, containerPort: 80, protocol: 'tcp' }] },
    prevResult: { cniVersion: '1.1.0', ips: [{ address: '10.61.0.2/24' }] },
  }
  const adding = caller('portmap', 'ADD', {
    config,
    netns: container,
    environment: { PATH: `${endless.folder}:${process.env.PATH}` },
  })
  await endless.begun()
  expect(endless.isRunning()).toBe(true)
  adding.kill('SIGKILL')
  await endless.gone()
  rmSync(`${endless.folder}/${program}`) // what is taken back afterwards finds the machine's own
  service.status()
  expect(leftOf(before).filter(line => !/localnet/.test(line))).toEqual([])
  expect(host.links().length).toBeGreaterThan(0)
})

test('a caller who is killed while it waits for its turn keeps no worker any longer', async () => {
  await service.end()
  service = await warmService('--workers', '2')
  using container = freshNamespace('gone')
  const turn = await holdName('network test-net for tuning')
  const adding = caller('tuning', 'DEL', {
    config: { type: 'tuning' },
    netns: container,
    containerId: 'waits',
  })
  const isAtWork = () => service.status().workers.some(({ plugin }) => plugin === 'tuning')
  while (!isAtWork()) await pause(2)
  adding.kill('SIGKILL')
  while (isAtWork()) await pause(2)
  turn[Symbol.dispose]()
})
