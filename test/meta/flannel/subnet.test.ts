/** What flanneld’s file makes of the delegate’s configuration, and what is refused. */
import { afterAll, afterEach, expect, test } from 'bun:test'
import { rmSync } from 'node:fs'
import { flannel } from '../../../meta/flannel.ts'
import { removeBridges } from '../../fixtures/bridge.ts'
import { fakePlugins } from '../../fixtures/fake.ts'
import { call, mustCall } from '../../fixtures/plugin.ts'
import {
  common,
  delegates,
  flanneldWrites,
  folder,
  given,
  ipv4,
  ipv6,
  stateFiles,
  subnetFile,
} from './node.ts'

afterEach(() => {
  rmSync(subnetFile, { force: true })
  rmSync(folder, { recursive: true, force: true })
})

afterAll(removeBridges)

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
