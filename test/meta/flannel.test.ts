import { afterAll, afterEach, expect, test } from 'bun:test'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { removeLink } from '../../chain/linux/netlink/link.ts'
import { hostLocal } from '../../ipam/host-local.ts'
import { bridge } from '../../main/bridge.ts'
import { ptp } from '../../main/ptp.ts'
import { flannel } from '../../meta/flannel.ts'
import { removeBridges } from '../fixtures/bridge.ts'
import { fakePlugins } from '../fixtures/fake.ts'
import { getHttp, serveHttp } from '../fixtures/http.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, call, mustCall, peerExecutable, peers } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'

const subnetFile = '/run/flannel/subnet.env'
const folder = '/var/lib/cni/flannel'
const delegates = [bridge, ptp, hostLocal]

const ipv4 = ['FLANNEL_NETWORK=10.5.0.0/16', 'FLANNEL_SUBNET=10.5.17.1/24']
const ipv6 = ['FLANNEL_IPV6_NETWORK=fd05::/48', 'FLANNEL_IPV6_SUBNET=fd05:0:0:17::1/64']
const common = ['FLANNEL_MTU=1450', 'FLANNEL_IPMASQ=true']

function flanneldWrites(...lines: string[]): void {
  mkdirSync('/run/flannel', { recursive: true })
  writeFileSync(subnetFile, `${lines.join('\n')}\n`)
}

afterEach(() => {
  rmSync(subnetFile, { force: true })
  rmSync(folder, { recursive: true, force: true })
})

afterAll(removeBridges)

const stateFiles = () => (existsSync(folder) ? readdirSync(folder).sort() : [])
const stateIn = (name: string) => JSON.parse(readFileSync(`${folder}/${name}`, 'utf8'))

/** What a delegate on CNI_PATH was given, in the order of the calls. */
async function given(config: object, verb: 'ADD' | 'STATUS' = 'ADD', type = 'bridge') {
  using fakes = fakePlugins(type)
  await mustCall(flannel, verb, { netns: '/run/netns/some', path: fakes.path, config })
  const [seen] = fakes.calls()
  return seen?.stdin
}

const addressed = (container: Namespace, config: object = {}, more: Call = {}): Call => ({
  netns: container,
  delegates,
  ...more,
  config: { name: 'flannel-net', ...config },
})

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

test.each([
  {
    name: 'only IPv6, and the delegate masquerades when flanneld does not',
    lines: [...ipv6, 'FLANNEL_MTU=0', 'FLANNEL_IPMASQ=false'],
    expected: {
      ranges: [[{ subnet: 'fd05:0:0:17::/64' }]],
      routes: [{ dst: 'fd05::/48' }],
      ipMasq: true,
      mtu: 0,
    },
  },
  {
    name: 'several networks, one of them twice, among other lines',
    lines: [
      '# written by flanneld',
      '',
      'FLANNEL_NETWORK=10.5.0.0/16,10.6.0.1/16,10.5.0.0/16',
      'FLANNEL_SUBNET=10.6.1.1/24',
      'FLANNEL_OTHER',
      ...common,
    ],
    expected: {
      ranges: [[{ subnet: '10.6.1.0/24' }]],
      routes: [{ dst: '10.5.0.0/16' }, { dst: '10.6.0.0/16' }],
      ipMasq: false,
      mtu: 1450,
    },
  },
])('subnet.env: $name', async ({ lines, expected }) => {
  flanneldWrites(...lines)
  const { ipam, ipMasq, mtu } = await given({})
  expect({ ranges: ipam.ranges, routes: ipam.routes, ipMasq, mtu }).toEqual(expected)
})

const brokenFiles = [
  {
    name: 'nothing in it',
    lines: [],
    msg: 'is missing FLANNEL_NETWORK, FLANNEL_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ',
  },
  { name: 'a missing line', lines: [...ipv4, 'FLANNEL_IPMASQ=true'], msg: 'is missing FLANNEL_MTU' },
  {
    name: 'a family without its network',
    lines: [...ipv4, 'FLANNEL_IPV6_SUBNET=fd05::1/64', ...common],
    msg: 'is missing FLANNEL_IPV6_NETWORK',
  },
  { name: 'a key alone', lines: [...ipv4, 'FLANNEL_MTU'], msg: 'line 3: FLANNEL_MTU has no value' },
  {
    name: 'a network without prefix',
    lines: ['FLANNEL_NETWORK=10.5.0.0', 'FLANNEL_SUBNET=10.5.17.1/24', ...common],
    msg: 'line 1: FLANNEL_NETWORK must be IPv4 networks with prefix: got "10.5.0.0"',
  },
  {
    name: 'two subnets',
    lines: ['FLANNEL_NETWORK=10.5.0.0/16', 'FLANNEL_SUBNET=10.5.1.1/24,10.5.2.1/24', ...common],
    msg: 'line 2: FLANNEL_SUBNET must be one IPv4 network with prefix: got "10.5.1.1/24,10.5.2.1/24"',
  },
  {
    name: 'the other family',
    lines: ['FLANNEL_NETWORK=fd05::/48', 'FLANNEL_SUBNET=10.5.17.1/24', ...common],
    msg: 'line 1: FLANNEL_NETWORK must be IPv4 networks with prefix: got "fd05::/48"',
  },
  {
    name: 'a negative MTU',
    lines: [...ipv4, 'FLANNEL_MTU=-1', 'FLANNEL_IPMASQ=true'],
    msg: 'line 3: FLANNEL_MTU must be a number from 0 to 2147483647: got "-1"',
  },
  {
    name: 'masquerading that is neither',
    lines: [...ipv4, 'FLANNEL_MTU=1450', 'FLANNEL_IPMASQ=yes'],
    msg: 'line 4: FLANNEL_IPMASQ must be true or false: got "yes"',
  },
]

test.each(brokenFiles)(
  'subnet.env with $name is refused before anything is touched',
  async ({ lines, msg }) => {
    flanneldWrites(...lines)
    using fakes = fakePlugins('bridge')
    const added = await call(flannel, 'ADD', { netns: '/run/netns/some', path: fakes.path })
    expect(added.json).toMatchObject({ code: 7, msg: `subnetFile: ${subnetFile}: ${msg}` })
    const status = await call(flannel, 'STATUS', { path: fakes.path })
    expect(status.json).toMatchObject({ code: 50, msg: `subnetFile: ${subnetFile}: ${msg}` })
    expect({ calls: fakes.order(), files: stateFiles() }).toEqual({ calls: [], files: [] })
  },
)

test.each([
  {
    name: 'a delegate with a name',
    config: { delegate: { name: 'x' } },
    msg: "delegate: must have neither 'name' nor 'ipam'",
  },
  {
    name: 'a delegate with ipam',
    config: { delegate: { ipam: {} } },
    msg: "delegate: must have neither 'name' nor 'ipam'",
  },
  {
    name: 'a type that is a number',
    config: { delegate: { type: 5 } },
    msg: 'delegate.type: must be the name of a plugin other than flannel',
  },
  {
    name: 'flannel as its own delegate',
    config: { delegate: { type: 'flannel' } },
    msg: 'delegate.type: must be the name of a plugin',
  },
  { name: 'a delegate that is a list', config: { delegate: [] }, msg: 'delegate: must be an object' },
  {
    name: 'an IPAM type that is a number',
    config: { ipam: { type: 1 } },
    msg: 'ipam.type: must be a string',
  },
  {
    name: 'a route to nowhere',
    config: { ipam: { routes: [{ dst: 'x' }] } },
    msg: 'ipam.routes[0].dst: invalid CIDR address: x: must be a network with prefix',
  },
])('$name is refused by ADD, and does not keep DEL from deleting', async ({ config, msg }) => {
  flanneldWrites(...ipv4, ...common)
  using fakes = fakePlugins('bridge')
  const options = { netns: '/run/netns/some', path: fakes.path }
  const { json } = await call(flannel, 'ADD', { ...options, config })
  expect(json.code).toBe(7)
  expect(json.msg).toStartWith(msg)
  await mustCall(flannel, 'ADD', options)
  await mustCall(flannel, 'DEL', { ...options, config })
  expect({ calls: fakes.order(), files: stateFiles() }).toEqual({
    calls: ['bridge ADD', 'bridge DEL'],
    files: [],
  })
})

test('while flanneld has not written its file, STATUS says 50 and ADD to try again later, both with its path', async () => {
  const config = { subnetFile: '/run/flannel/other.env' }
  const msg = 'subnetFile: /run/flannel/other.env does not exist'
  expect((await call(flannel, 'STATUS', { delegates, config })).json).toMatchObject({ code: 50, msg })
  const added = await call(flannel, 'ADD', { delegates, config, netns: '/run/netns/some' })
  expect(added.json).toMatchObject({ code: 11, msg })
})

test('STATUS asks the delegate', async () => {
  flanneldWrites(...ipv4, ...common)
  expect(await given({}, 'STATUS')).toMatchObject({ name: 'test-net', type: 'bridge', mtu: 1450 })
  using fakes = fakePlugins('bridge')
  fakes.answer('bridge', 'STATUS', { code: 51, msg: 'no uplink' }, 1)
  const { json } = await call(flannel, 'STATUS', { path: fakes.path })
  expect(json).toMatchObject({ code: 51, msg: 'delegate bridge: no uplink' })
})

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
