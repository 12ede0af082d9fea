/** The delegates’ configurations that flannel keeps from ADD to DEL. */
import { afterAll, afterEach, expect, test } from 'bun:test'
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { flannel } from '../../../meta/flannel.ts'
import { removeBridges } from '../../fixtures/bridge.ts'
import { fakePlugins } from '../../fixtures/fake.ts'
import { call, mustCall } from '../../fixtures/plugin.ts'
import { common, flanneldWrites, folder, ipv4, stateFiles, subnetFile } from './node.ts'

afterEach(() => {
  rmSync(subnetFile, { force: true })
  rmSync(folder, { recursive: true, force: true })
})

afterAll(removeBridges)

test('two interfaces of one container are deleted each with its own delegate', async () => {
  flanneldWrites(...ipv4, ...common)
  using fakes = fakePlugins('bridge', 'ptp')
  const first = { netns: '/run/netns/some', path: fakes.path, config: { name: 'one' } }
  const config = { name: 'two', delegate: { type: 'ptp' } }
  const second = { ...first, interface: 'net1', config }
  await mustCall(flannel, 'ADD', first)
  await mustCall(flannel, 'ADD', second)
  expect(stateFiles()).toEqual(['container-1', 'container-1@net1'])
  await mustCall(flannel, 'DEL', second)
  await mustCall(flannel, 'DEL', second)
  expect(stateFiles()).toEqual(['container-1'])
  await mustCall(flannel, 'DEL', first)
  // without its state the second DEL of one goes by the network's configuration
  expect(fakes.order()).toEqual(['bridge ADD', 'ptp ADD', 'ptp DEL', 'ptp DEL', 'bridge DEL'])
  expect(stateFiles()).toEqual([])
})

test('the state is for root alone, and goes only when the delegate has deleted', async () => {
  flanneldWrites(...ipv4, ...common)
  using fakes = fakePlugins('bridge')
  const options = { netns: '/run/netns/some', path: fakes.path }
  await mustCall(flannel, 'ADD', options)
  expect([folder, `${folder}/container-1`].map(path => statSync(path).mode & 0o777)).toEqual([0o700, 0o600])
  fakes.answer('bridge', 'DEL', { code: 11, msg: 'not now' }, 1)
  const failed = await call(flannel, 'DEL', options)
  expect(failed.json).toMatchObject({ code: 11, msg: 'delegate bridge: not now' })
  expect(stateFiles()).toEqual(['container-1'])
  fakes.behave('bridge', 'DEL', 'exit 0')
  await mustCall(flannel, 'DEL', options)
  expect(stateFiles()).toEqual([])
})

test('a file of the Go plugin is used by CHECK and DEL, and removed; one that is torn is removed with a word', async () => {
  using fakes = fakePlugins('bridge')
  const saved = {
    cniVersion: '0.3.1',
    name: 'test-net',
    type: 'bridge',
    mtu: 1400,
    ipam: { type: 'host-local' },
  }
  mkdirSync(folder, { recursive: true })
  writeFileSync(`${folder}/container-1`, JSON.stringify(saved))
  const prevResult = { cniVersion: '1.1.0', ips: [{ address: '10.5.17.2/24' }] }
  const options = { netns: '/run/netns/some', path: fakes.path }
  await mustCall(flannel, 'CHECK', { ...options, config: { prevResult } })
  await mustCall(flannel, 'DEL', options)
  expect(fakes.calls().map(({ stdin }) => stdin)).toEqual([
    { ...saved, cniVersion: '1.1.0', prevResult },
    saved,
  ])
  writeFileSync(`${folder}/container-1`, '{"name":')
  const torn = await call(flannel, 'DEL', options)
  expect(torn).toMatchObject({ status: 0, stdout: '' })
  expect(torn.stderr).toContain(`${folder}/container-1 is not a configuration`)
  expect(stateFiles()).toEqual([])
})

test('what a kill left of the state’s writing is in no way, and goes with DEL', async () => {
  flanneldWrites(...ipv4, ...common)
  using fakes = fakePlugins('bridge')
  const options = { netns: '/run/netns/some', path: fakes.path }
  const rest = `${folder}/.catena-container-1@eth0`
  mkdirSync(folder, { recursive: true })
  writeFileSync(rest, '{"na')
  await mustCall(flannel, 'DEL', options)
  expect(stateFiles()).toEqual([])
  writeFileSync(rest, '{"na')
  await mustCall(flannel, 'ADD', options)
  expect(stateFiles()).toEqual(['container-1'])
  await mustCall(flannel, 'DEL', options)
  expect(stateFiles()).toEqual([])
})

test('the state is kept in dataDir; ADD is refused before anything is touched when it cannot be', async () => {
  flanneldWrites(...ipv4, ...common)
  using fakes = fakePlugins('bridge')
  const dataDir = '/run/flannel/data'
  const options = { netns: '/run/netns/some', path: fakes.path }
  await mustCall(flannel, 'ADD', { ...options, config: { dataDir } })
  expect(readdirSync(dataDir)).toEqual(['container-1'])
  await mustCall(flannel, 'DEL', { ...options, config: { dataDir } })
  expect(readdirSync(dataDir)).toEqual([])
  const refused = await call(flannel, 'ADD', { ...options, config: { dataDir: subnetFile } })
  expect(refused.json).toMatchObject({
    code: 5,
    msg: `dataDir: cannot keep delegates' configurations in ${subnetFile}`,
  })
  expect(fakes.order()).toEqual(['bridge ADD', 'bridge DEL'])
})

test('GC is the delegate’s, with every configuration that was in use, and forgets what is dead', async () => {
  flanneldWrites(...ipv4, ...common)
  using fakes = fakePlugins('bridge', 'ptp')
  const options = { netns: '/run/netns/some', path: fakes.path }
  for (const containerId of ['alive', 'dead']) await mustCall(flannel, 'ADD', { ...options, containerId })
  const old = { delegate: { type: 'ptp' } }
  await mustCall(flannel, 'ADD', { ...options, containerId: 'older', config: old })
  await mustCall(flannel, 'ADD', { ...options, containerId: 'foreign', config: { name: 'other-net' } })
  writeFileSync(`${folder}/go`, JSON.stringify({ name: 'test-net', type: 'bridge' }))
  const valid = [{ containerID: 'alive', ifname: 'eth0' }]
  fakes.answer('ptp', 'GC', { code: 11, msg: 'not now' }, 1)
  const collect = { path: fakes.path, config: { 'cni.dev/valid-attachments': valid } }
  const failed = await call(flannel, 'GC', collect)
  expect(failed.json.msg).toContain('not now')
  expect(stateFiles()).toEqual(['alive', 'foreign', 'older'])
  fakes.behave('ptp', 'GC', 'exit 0')
  rmSync(subnetFile)
  await mustCall(flannel, 'GC', collect)
  expect(stateFiles()).toEqual(['alive', 'foreign'])
  const collected = fakes.calls().filter(({ verb }) => verb === 'GC')
  expect(new Set(collected.map(({ stdin }) => JSON.stringify(stdin['cni.dev/valid-attachments'])))).toEqual(
    new Set([JSON.stringify(valid)]),
  )
  const counts = Object.groupBy(collected, ({ plugin }) => plugin)
  expect({ bridge: counts.bridge?.length, ptp: counts.ptp?.length }).toEqual({ bridge: 3, ptp: 2 })
})
