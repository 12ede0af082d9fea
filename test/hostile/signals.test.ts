/** What ends a plugin early ends all that it started, and is no worse than a kill: DEL takes everything away, and ADD works again. */
import { afterAll, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { removeBridges } from '../fixtures/bridge.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { mustExecute, ourExecutable, ours, start } from '../fixtures/plugin.ts'
import { slowIpam } from '../fixtures/slow-ipam.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'

const folder = mkdtempSync('/run/signals-')
const config = { type: 'bridge', bridge: 'signals0', ipMasq: true, ipam: { type: 'slow' } }
writeFileSync(
  `${folder}/signals.conflist`,
  JSON.stringify({ cniVersion: '1.1.0', name: 'signals-net', plugins: [config] }),
)
afterAll(() => rmSync(folder, { recursive: true }))
afterAll(removeBridges)

/** By the runtime; before it by the warm service, which sees that its caller has gone. */
const takenBack = process.env.CATENA_TEST_WARM ? ['DEL', 'DEL'] : ['DEL']

const leftOf = (before: string[]) =>
  difference(before, snapshot()).added.filter(line => !/signals0|^(address|route|qdisc) /.test(line))

/** `catena add`, as the leader of a process group. */
function catenaAdd(container: Namespace, ipam: { path: string }, timeout: number) {
  const command = [
    ourExecutable('catena'),
    'add',
    'signals-net',
    container.path,
    '--timeout',
    String(timeout),
  ]
  return Bun.spawn(command, {
    env: { PATH: process.env.PATH, NETCONFPATH: folder, CNI_PATH: `${ours}:${ipam.path}` },
    stdout: 'pipe',
    stderr: 'pipe',
    detached: true,
  })
}

test('a plugin that takes longer than --timeout is killed with the IPAM plugin that it waits for', async () => {
  using container = freshNamespace('signals')
  using ipam = slowIpam()
  const before = snapshot()
  const adding = catenaAdd(container, ipam, 500)
  await ipam.begun()
  expect(ipam.isRunning()).toBe(true)
  expect(await adding.exited).toBe(1)
  expect(await adding.stdout.text()).toContain('500 ms were over; it was killed with all that it had started')
  await ipam.gone()
  expect(leftOf(before)).toEqual([])
  expect(ipam.calls()).toEqual(['ADD', ...takenBack])
})

test.each(['SIGTERM', 'SIGINT'] as const)(
  '%s to catena with a time limit ends the plugin with the IPAM plugin, and what was made is taken back',
  async signal => {
    using container = freshNamespace('signals')
    using ipam = slowIpam()
    const before = snapshot()
    const adding = catenaAdd(container, ipam, 20_000)
    await ipam.begun()
    process.kill(-adding.pid, signal)
    expect(await adding.exited).toBe(1)
    expect(await adding.stdout.text()).toContain(`ended by ${signal}`)
    await ipam.gone()
    expect(leftOf(before)).toEqual([])
    expect(ipam.calls()).toEqual(['ADD', ...takenBack])
  },
)

// a shell's children in the background do not hear SIGINT
test.each(['SIGTERM', 'SIGKILL'] as const)(
  '%s during ADD to the group of a plugin reaches the IPAM plugin too',
  async signal => {
    using container = freshNamespace('signals')
    using ipam = slowIpam()
    const before = snapshot()
    const options = { netns: container, containerId: container.name, config, path: ipam.path }
    const add = Bun.spawn([ourExecutable('bridge')], {
      env: {
        PATH: process.env.PATH,
        CNI_COMMAND: 'ADD',
        CNI_CONTAINERID: container.name,
        CNI_NETNS: container.path,
        CNI_IFNAME: 'eth0',
        CNI_PATH: ipam.path,
      },
      stdin: Buffer.from(JSON.stringify({ cniVersion: '1.1.0', name: 'test-net', ...config })),
      detached: true,
    })
    await ipam.begun()
    process.kill(-add.pid, signal)
    await add.exited
    await ipam.gone()
    mustExecute(ourExecutable('bridge'), 'DEL', options)
    expect(leftOf(before)).toEqual([])
  },
)

test.each(['SIGTERM', 'SIGINT', 'SIGKILL'] as const)(
  '%s during ADD to a plugin alone leaves what DEL takes away, and the next ADD works',
  async signal => {
    using container = freshNamespace('signals')
    using ipam = slowIpam()
    const before = snapshot()
    const options = {
      ...{ netns: container, containerId: container.name, config, path: ipam.path },
      environment: { CATENA_WARM: 'off' }, // a service would end the IPAM plugin, which is to go on
    }
    const first = start(ourExecutable('bridge'), 'ADD', options)
    await ipam.begun()
    process.kill(first.pid, signal)
    ipam.answer()
    await first.ended
    const second = start(ourExecutable('bridge'), 'ADD', options)
    await ipam.begun()
    ipam.answer()
    expect(await second.ended).toMatchObject({ status: 0 })
    mustExecute(ourExecutable('bridge'), 'DEL', options)
    expect(leftOf(before)).toEqual([])
    expect(ipam.calls()).toEqual(['ADD', 'DEL', 'ADD', 'DEL'])
  },
)
