import { afterAll, afterEach, expect, test } from 'bun:test'
import { readdirSync, rmSync } from 'node:fs'
import { removeLink } from '../../chain/linux/netlink/link.ts'
import { flannel } from '../../meta/flannel.ts'
import { removeBridges } from '../fixtures/bridge.ts'
import { fakePlugins } from '../fixtures/fake.ts'
import { getHttp, serveHttp } from '../fixtures/http.ts'
import { freshNamespace } from '../fixtures/namespace.ts'
import { call, execute, mustCall, mustExecute, ours, peerExecutable, peers } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'
import { injected } from '../hostile/injected.ts'
import {
  addressed,
  common,
  flanneldWrites,
  folder,
  given,
  ipv4,
  ipv6,
  stateFiles,
  stateIn,
  subnetFile,
} from './flannel/node.ts'

afterEach(() => {
  rmSync(subnetFile, { force: true })
  rmSync(folder, { recursive: true, force: true })
})

afterAll(removeBridges)

test('a dual-stack container reaches another through the bridge, CHECK passes, and DEL leaves nothing, without subnet.env', async () => {
  flanneldWrites(...ipv4, ...ipv6, ...common)
  using warm = freshNamespace()
  await mustCall(flannel, 'ADD', addressed(warm))
  await mustCall(flannel, 'DEL', addressed(warm))
  const isMemory = (line: string) => line.includes('/last_reserved_ip.')
  const before = snapshot().filter(line => !isMemory(line))
  using one = freshNamespace()
  using other = freshNamespace()
  const result = await mustCall(flannel, 'ADD', addressed(one))
  const second = await mustCall(flannel, 'ADD', addressed(other, {}, { containerId: 'container-2' }))
  expect(one.addresses('eth0').sort()).toEqual(
    result.ips.map(({ address }: { address: string }) => address).sort(),
  )
  expect(one.link('eth0').mtu).toBe(1450)
  expect(result.routes.map(({ dst }: { dst: string }) => dst)).toEqual(['10.5.0.0/16', 'fd05::/48'])
  using _server = serveHttp(other, { port: 80 })
  for (const [index, { address }] of second.ips.entries()) {
    const answer = await getHttp(one, { address: address.split('/')[0], port: 80 })
    expect(answer).toBe(result.ips[index].address.split('/')[0])
  }
  await mustCall(flannel, 'CHECK', addressed(one, { prevResult: result }))
  rmSync(subnetFile)
  await mustCall(flannel, 'DEL', addressed(one, { prevResult: result }))
  await mustCall(flannel, 'DEL', addressed(other, {}, { containerId: 'container-2', netns: undefined }))
  await mustCall(flannel, 'DEL', addressed(one))
  other[Symbol.dispose]()
  const { added, gone } = difference(
    before,
    snapshot().filter(line => !isMemory(line)),
  )
  expect({ added, gone, files: stateFiles() }).toEqual({ added: [], gone: [], files: [] })
})

test('CHECK fails with the delegate, and for a container that was never added', async () => {
  flanneldWrites(...ipv4, ...common)
  using container = freshNamespace()
  const prevResult = await mustCall(flannel, 'ADD', addressed(container))
  removeLink(container.route, 'eth0')
  const broken = await call(flannel, 'CHECK', addressed(container, { prevResult }))
  expect(broken.json.msg).toStartWith('delegate bridge: ')
  await mustCall(flannel, 'DEL', addressed(container))
  const unknown = await call(flannel, 'CHECK', addressed(container, { prevResult }))
  expect(unknown.json.msg).toBe(`eth0 of container container-1 is not known in ${folder}`)
})

test('the delegate is a bridge that is the gateway, with host-local, unless the user says otherwise', async () => {
  flanneldWrites(...ipv4, ...ipv6, ...common)
  expect(await given({ runtimeConfig: { mac: '02:00:00:00:00:01' } })).toEqual({
    cniVersion: '1.1.0',
    name: 'test-net',
    type: 'bridge',
    isGateway: true,
    ipMasq: false,
    mtu: 1450,
    runtimeConfig: { mac: '02:00:00:00:00:01' },
    ipam: {
      type: 'host-local',
      ranges: [[{ subnet: '10.5.17.0/24' }], [{ subnet: 'fd05:0:0:17::/64' }]],
      routes: [{ dst: '10.5.0.0/16' }, { dst: 'fd05::/48' }],
    },
  })
})

test.each([
  {
    name: 'another type is no gateway by default',
    type: 'ptp',
    config: { delegate: { type: 'ptp', hairpinMode: true } },
    expected: { type: 'ptp', hairpinMode: true, isGateway: undefined, mtu: 1450, ipMasq: false },
  },
  {
    name: 'the user’s words stand, whatever their case',
    type: 'bridge',
    config: { delegate: { MTU: 1300, ipMasq: true, isGateway: false } },
    expected: { MTU: 1300, mtu: undefined, ipMasq: true, isGateway: false },
  },
  {
    name: 'ipam keeps its keys and routes, and gets flannel’s ranges',
    type: 'bridge',
    config: { ipam: { dataDir: '/run/x', Ranges: [], routes: [{ dst: '0.0.0.0/0', gw: '10.5.17.9' }] } },
    expected: {
      ipam: {
        type: 'host-local',
        dataDir: '/run/x',
        ranges: [[{ subnet: '10.5.17.0/24' }]],
        routes: [{ dst: '0.0.0.0/0', gw: '10.5.17.9' }, { dst: '10.5.0.0/16' }],
      },
    },
  },
])('$name', async ({ type, config, expected }) => {
  flanneldWrites(...ipv4, ...common)
  const seen = await given(config, 'ADD', type)
  expect(Object.fromEntries(Object.keys(expected).map(key => [key, seen[key]]))).toEqual(expected)
})

test('STATUS asks the delegate', async () => {
  flanneldWrites(...ipv4, ...common)
  expect(await given({}, 'STATUS')).toMatchObject({ name: 'test-net', type: 'bridge', mtu: 1450 })
  using fakes = fakePlugins('bridge')
  fakes.answer('bridge', 'STATUS', { code: 51, msg: 'no uplink' }, 1)
  const { json } = await call(flannel, 'STATUS', { path: fakes.path })
  expect(json).toMatchObject({ code: 51, msg: 'delegate bridge: no uplink' })
})

test('a failed ADD of a delegate of ours leaves nothing; another plugin’s rests are found by DEL', async () => {
  flanneldWrites(...ipv4, ...common)
  using container = freshNamespace()
  const config = { delegate: { bridge: 'lo' } }
  expect((await call(flannel, 'ADD', addressed(container, config))).json.msg).toStartWith('delegate bridge: ')
  expect(stateFiles()).toEqual([])
  const absent = await call(flannel, 'ADD', addressed(container, { delegate: { type: 'absent' } }))
  expect(absent.json.msg).toStartWith('delegate absent: failed to find plugin "absent"')
  expect(stateFiles()).toEqual([])
  using fakes = fakePlugins('bridge')
  fakes.answer('bridge', 'ADD', { code: 999, msg: 'half done' }, 1)
  const options = { netns: container, path: fakes.path }
  expect((await call(flannel, 'ADD', options)).json.msg).toBe('delegate bridge: half done')
  await mustCall(flannel, 'DEL', options)
  expect({ calls: fakes.order(), files: stateFiles() }).toEqual({
    calls: ['bridge ADD', 'bridge DEL'],
    files: [],
  })
})

test('a second ADD that fails leaves the first its interface and its state', async () => {
  flanneldWrites(...ipv4, ...common)
  using container = freshNamespace()
  await mustCall(flannel, 'ADD', addressed(container))
  const before = stateIn('container-1')
  const again = await call(flannel, 'ADD', addressed(container, { delegate: { mtu: 1400 } }))
  expect(again.status).toBe(1)
  expect(again.json.details ?? '').not.toContain('could not')
  expect({ state: stateIn('container-1'), mtu: container.link('eth0').mtu }).toEqual({
    state: before,
    mtu: 1450,
  })
  await mustCall(flannel, 'DEL', addressed(container))
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
})

test('what the runtime cannot be told is taken back: a result that its version has no words for', async () => {
  flanneldWrites(...ipv4, ...common)
  using fakes = fakePlugins('bridge')
  fakes.answer('bridge', 'ADD', { cniVersion: '0.2.0' })
  const options = { netns: '/run/netns/some', path: fakes.path, config: { cniVersion: '0.2.0' } }
  expect((await call(flannel, 'ADD', options)).status).toBe(1)
  expect({ calls: fakes.order(), files: stateFiles() }).toEqual({
    calls: ['bridge ADD', 'bridge DEL'],
    files: [],
  })
})

test('the Go bridge is a delegate like ours, and ours deletes what it made', async () => {
  flanneldWrites(...ipv4, ...common)
  using container = freshNamespace()
  peerExecutable('bridge') // throws when it is not there
  await mustCall(flannel, 'ADD', { netns: container, path: peers, config: { name: 'mixed' } })
  expect(container.addresses('eth0')).toHaveLength(1)
  await mustCall(flannel, 'DEL', addressed(container, { name: 'mixed' }))
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
  expect(readdirSync('/var/lib/cni/networks/mixed').filter(name => name.startsWith('10.'))).toEqual([])
})

test.each([1, 2, 3, 4])(
  'an ADD that may not delete file number %d, and fails for it, leaves no file',
  nth => {
    flanneldWrites(...ipv4, ...common)
    using container = freshNamespace()
    using plugin = injected(`unlink:error=EIO:when=${nth}`, 'flannel')
    const request = { ...addressed(container), path: ours }
    const { status } = execute(plugin.file, 'ADD', request)
    if (status !== 0) expect(stateFiles()).toEqual([])
    mustExecute(`${ours}/flannel`, 'DEL', request)
    expect(stateFiles()).toEqual([])
  },
)
