/** Names as long as the specification allows: files are made of them, and a file's name has 255 bytes. */
import { afterAll, afterEach, describe, expect, test } from 'bun:test'
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { fileNameFor } from '../../chain/linux/files.ts'
import {
  addNetworkList,
  checkNetworkList,
  delNetworkList,
  gcNetworkList,
  listAttachments,
  parseNetworkList,
} from '../../chain/runtime/network.ts'
import { tuning } from '../../meta/tuning.ts'
import { removeBridges } from '../fixtures/bridge.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { call, mustCall, mustExecute, ours, peerExecutable } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'

const folder = '/run/cni/tuning'
afterEach(() => rmSync(folder, { recursive: true, force: true }))
afterAll(removeBridges)

test('a name that fits stays as it is; of two that do not, each has its own', () => {
  const longest = 'c'.repeat(255)
  expect(fileNameFor(longest)).toBe(longest)
  const [one, other] = ['1', '2'].map(end => fileNameFor(`${longest}${end}`))
  expect([one?.length, other?.length]).toEqual([233, 233])
  expect(one).not.toBe(other)
  expect(Buffer.byteLength(fileNameFor('ü'.repeat(128)))).toBeLessThanOrEqual(255)
  expect(fileNameFor('ü'.repeat(127))).toBe('ü'.repeat(127))
})

const subnets = mkdtempSync('/run/names-')
writeFileSync(
  `${subnets}/env`,
  'FLANNEL_NETWORK=10.63.0.0/16\nFLANNEL_SUBNET=10.63.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
)
afterAll(() => rmSync(subnets, { recursive: true }))

const bridge = {
  type: 'bridge',
  bridge: 'names0',
  isGateway: true,
  ipMasq: true,
  macspoofchk: true,
  ipam: { type: 'host-local', subnet: '10.63.0.0/24' },
}
const chained = [
  { type: 'tuning', mac: '02:00:00:00:00:63', sysctl: { 'net.core.somaxconn': '512' } },
  {
    type: 'bandwidth',
    ingressRate: 8_000_000,
    ingressBurst: 80_000,
    egressRate: 8_000_000,
    egressBurst: 80_000,
  },
  { type: 'firewall' },
  { type: 'portmap', capabilities: { portMappings: true } },
  { type: 'sbr' },
]
const byIptables = [
  { type: 'firewall', backend: 'iptables' },
  { type: 'portmap', backend: 'iptables', capabilities: { portMappings: true } },
]
const flannel = {
  type: 'flannel',
  subnetFile: `${subnets}/env`,
  delegate: { bridge: 'names1', isDefaultGateway: true },
}

describe.each([
  { name: 'bridge and what is chained to it', plugins: [bridge, ...chained] },
  {
    name: 'bridge by iptables',
    plugins: [{ ...bridge, macspoofchk: false, ipMasqBackend: 'iptables' }, ...byIptables],
  },
  { name: 'ptp', plugins: [{ type: 'ptp', ipMasq: true, ipam: bridge.ipam }] },
  { name: 'flannel', plugins: [flannel, chained[0]] },
])('$name', ({ plugins }) => {
  test.each([
    { what: 'a container ID of 255 characters', containerId: 'c'.repeat(255), network: 'names-net' },
    { what: 'a container ID of 300 characters', containerId: 'c'.repeat(300), network: 'names-net' },
    { what: 'a network of 300 characters', containerId: 'container', network: 'n'.repeat(300) },
  ])('ADD, CHECK, GC and DEL take $what', async ({ containerId, network }) => {
    using container = freshNamespace('names')
    const cacheFolder = mkdtempSync('/run/names-cache-')
    const before = snapshot()
    const list = parseNetworkList(JSON.stringify({ cniVersion: '1.1.0', name: network, plugins }))
    const capabilityArgs = { portMappings: [{ hostPort: 8063, containerPort: 80, protocol: 'tcp' }] }
    const attachment = { containerId, netns: container.path, ifname: 'eth0', capabilityArgs }
    const options = { path: [ours], cacheFolder }
    const twin = { ...attachment, containerId: `${containerId.slice(0, -1)}x` }
    await addNetworkList(list, attachment, options)
    await checkNetworkList(list, attachment, options)
    expect(listAttachments({ containerId, network }, options)).toHaveLength(1)
    await delNetworkList(list, twin, options) // whose name is another only at its end
    await checkNetworkList(list, attachment, options)
    await gcNetworkList(list, [{ containerId, ifname: 'eth0' }], options)
    await checkNetworkList(list, attachment, options)
    await delNetworkList(list, attachment, options)
    expect(readdirSync(`${cacheFolder}/results`)).toEqual([])
    rmSync(cacheFolder, { recursive: true })
    expect(container.links().map(({ name }) => name)).toEqual(['lo'])
    const stays =
      /last_reserved|host-local|localnet|names[01]|^(address|route|qdisc) |"(table|name)":"(nat|filter)"|CNI-/
    expect(difference(before, snapshot()).added.filter(line => !stays.test(line))).toEqual([])
    expect(existsSync(folder) ? readdirSync(folder) : []).toEqual([])
  })
})

describe('tuning of two containers whose names run together', () => {
  const one = { containerId: 'a', interface: 'b_c' }
  const other = { containerId: 'a_b', interface: 'c' }

  function callFor(container: Namespace, attachment: { containerId: string; interface: string }, mtu = 1400) {
    const { interface: name } = attachment
    const prevResult = { cniVersion: '1.1.0', interfaces: [{ name, sandbox: container.path }], ips: [] }
    return { netns: container, ...attachment, config: { mtu, prevResult } }
  }

  function tuned(name: string, mtu: number): Namespace {
    const container = freshNamespace('names')
    container.createLink({ name, mtu, kind: { type: 'veth', peer: { name: 'peer', mtu } } })
    return container
  }

  test('each gets back what it had', async () => {
    using first = tuned('b_c', 1501)
    using second = tuned('c', 1502)
    await mustCall(tuning, 'ADD', callFor(first, one))
    await mustCall(tuning, 'ADD', callFor(second, other))
    await mustCall(tuning, 'DEL', callFor(first, one))
    expect([first.link('b_c').mtu, second.link('c').mtu]).toEqual([1501, 1400])
    await mustCall(tuning, 'DEL', callFor(second, other))
    expect([first.link('b_c').mtu, second.link('c').mtu]).toEqual([1501, 1502])
    expect(readdirSync(folder)).toEqual([])
  })

  test('what the Go plugin saved is restored, and not by whose backup is another', async () => {
    using first = tuned('b_c', 1501)
    using second = tuned('c', 1502)
    mustExecute(peerExecutable('tuning'), 'ADD', callFor(first, one))
    await mustCall(tuning, 'ADD', callFor(second, other))
    await mustCall(tuning, 'DEL', callFor(second, other))
    expect([first.link('b_c').mtu, second.link('c').mtu]).toEqual([1400, 1502])
    await mustCall(tuning, 'DEL', callFor(first, one))
    expect(first.link('b_c').mtu).toBe(1501)
    expect(readdirSync(folder)).toEqual([])
  })

  test('GC takes what is not valid of names that are too long', async () => {
    using container = tuned('eth0', 1501)
    const attachment = { containerId: 'c'.repeat(255), interface: 'eth0' }
    await mustCall(tuning, 'ADD', callFor(container, attachment))
    expect(readdirSync(folder)).toHaveLength(1)
    const collect = (valid: object[]) =>
      mustCall(tuning, 'GC', { config: { 'cni.dev/valid-attachments': valid } })
    await collect([{ containerID: attachment.containerId, ifname: 'eth0' }])
    expect(readdirSync(folder)).toHaveLength(1)
    await collect([])
    expect(readdirSync(folder)).toEqual([])
  })

  test('GC takes the one that is not valid, and leaves the other', async () => {
    using first = tuned('b_c', 1501)
    using second = tuned('c', 1502)
    await mustCall(tuning, 'ADD', callFor(first, one))
    await mustCall(tuning, 'ADD', callFor(second, other))
    const valid = [{ containerID: 'a_b', ifname: 'c' }]
    expect(await call(tuning, 'GC', { config: { 'cni.dev/valid-attachments': valid } })).toMatchObject({
      status: 0,
    })
    expect(readdirSync(folder)).toEqual(['a_b@c.json'])
  })
})
