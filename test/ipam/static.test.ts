import { describe, expect, test } from 'bun:test'
import { staticAddresses } from '../../ipam/static.ts'
import { type Call, call, execute, mustCall, peerExecutable } from '../fixtures/plugin.ts'

const netns = '/run/netns/none'
const both = [{ address: '10.1.0.5/16', gateway: '10.1.0.1' }, { address: 'FD00:0::5/64' }]

/** Calls that must give what the Go plugin gives, to the byte. */
const rows: [string, Call][] = [
  ['addresses with and without gateway', { config: { ipam: { addresses: both } } }],
  [
    'host bits kept, IPv6 in canonical form',
    { config: { ipam: { addresses: [{ address: 'fd00:0:0::00A/60' }] } } },
  ],
  [
    'routes and DNS',
    {
      config: {
        ipam: {
          addresses: both,
          routes: [
            { dst: '0.0.0.0/0' },
            { dst: '10.9.8.7/16', gw: '10.1.0.9', mtu: 1400, priority: 0, table: 0 },
          ],
          dns: { nameservers: ['10.1.0.1'], domain: 'x.example', search: ['a', 'b'], options: ['ndots:2'] },
        },
        dns: { nameservers: ['9.9.9.9'] },
      },
    },
  ],
  ['no address at all', { config: { ipam: { routes: [{ dst: '::/0' }] } } }],
  [
    'CNI_ARGS beside the configured ones',
    { config: { ipam: { addresses: both } }, args: 'IP=10.2.0.5/24,fd01::5/64' },
  ],
  [
    'GATEWAY for the addresses of CNI_ARGS whose network holds it',
    {
      config: { ipam: { addresses: [{ address: '10.1.0.5/16' }] } },
      args: 'IP=10.1.0.6/16, 10.2.0.5/24;GATEWAY=10.1.0.9,10.2.0.1,10.2.0.2,10.7.0.1',
    },
  ],
  [
    'unknown keys of CNI_ARGS when they may be ignored',
    { config: { ipam: {} }, args: 'IgnoreUnknown=1;K8S_POD_NAME=p;IP=10.2.0.5/24' },
  ],
  [
    'args.cni.ips instead of all before',
    {
      config: { ipam: { addresses: both }, args: { cni: { ips: ['10.3.0.5/24'] } } },
      args: 'IP=10.2.0.5/24',
    },
  ],
  [
    'runtimeConfig.ips instead of everything, even of configured nonsense',
    {
      config: {
        ipam: { addresses: [{ address: 'nonsense' }] },
        args: { cni: { ips: ['10.3.0.5/24'] } },
        runtimeConfig: { ips: ['10.4.0.5/24', 'fd04::5/64'] },
      },
      args: 'IP=10.2.0.5/24',
    },
  ],
  [
    'keys in whatever case',
    { config: { IPAM: { Addresses: [{ ADDRESS: '10.1.0.5/16', Gateway: '10.1.0.1' }] } } },
  ],
  [
    'empty lists as none',
    { config: { ipam: { addresses: both }, args: { cni: { ips: [] } }, runtimeConfig: { ips: [] } } },
  ],
  ...['0.2.0', '0.3.1', '0.4.0', '1.0.0'].map((cniVersion): [string, Call] => [
    `version ${cniVersion}`,
    {
      config: {
        cniVersion,
        ipam: { addresses: both, routes: [{ dst: '::/0' }, { dst: '0.0.0.0/0', gw: '10.1.0.9' }] },
      },
    },
  ]),
]

test.each(rows)('ADD answers as the Go plugin does, byte for byte: %s', async (_, options) => {
  const ours = await call(staticAddresses, 'ADD', { ...options, netns })
  const theirs = execute(peerExecutable('static'), 'ADD', { ...options, netns })
  expect({ status: ours.status, stdout: ours.stdout }).toEqual({ status: 0, stdout: theirs.stdout })
})

const refusals: [string, Call, string][] = [
  ['no ipam', { config: {} }, "IPAM config missing 'ipam' key"],
  [
    'an address without prefix',
    { config: { ipam: { addresses: [both[0], { address: '10.1.0.6' }] } } },
    "ipam.addresses[1].address: the 'address' field is expected to be in CIDR notation, got: '10.1.0.6'",
  ],
  [
    'an address that is missing',
    { config: { ipam: { addresses: [{}] } } },
    "ipam.addresses[0].address: the 'address' field is expected to be in CIDR notation, got: ''",
  ],
  [
    'a gateway that is none',
    { config: { ipam: { addresses: [{ address: '10.1.0.5/16', gateway: 'x' }] } } },
    'ipam.addresses[0].gateway: invalid gateway address',
  ],
  [
    'an address of CNI_ARGS without prefix',
    { config: { ipam: {} }, args: 'IP=10.1.0.6' },
    "CNI_ARGS: IP: the 'ip' field is expected to be in CIDR notation, got: '10.1.0.6'",
  ],
  [
    'a gateway of CNI_ARGS that is none',
    { config: { ipam: {} }, args: 'IP=10.1.0.6/24;GATEWAY=x' },
    'CNI_ARGS: GATEWAY: invalid gateway address',
  ],
  [
    'args.cni.ips without prefix',
    { config: { ipam: {}, args: { cni: { ips: ['10.1.0.6'] } } } },
    "args.cni.ips[0]: an entry in the 'ips' field is NOT in CIDR notation, got: '10.1.0.6'",
  ],
  [
    'runtimeConfig.ips without prefix',
    { config: { ipam: {}, runtimeConfig: { ips: ['10.1.0.6/24', 'x'] } } },
    "runtimeConfig.ips[1]: an entry in the 'ips' field is NOT in CIDR notation, got: 'x'",
  ],
  [
    'a route without prefix',
    { config: { ipam: { routes: [{ dst: '10.0.0.0' }] } } },
    'ipam.routes[0].dst: invalid CIDR address: 10.0.0.0: must be a network with prefix',
  ],
  [
    'two addresses of a family in an old version',
    { config: { cniVersion: '0.2.0', ipam: { addresses: [both[0], { address: '10.1.0.6/16' }] } } },
    'ipam.addresses: CNI version 0.2.0 does not support more than 1 address per family',
  ],
]

test.each(refusals)('ADD refuses %s with the key, as does the Go plugin', async (_, options, message) => {
  const { status, json } = await call(staticAddresses, 'ADD', { ...options, netns })
  expect({ status, code: json.code, msg: json.msg }).toEqual({
    status: 1,
    code: 7,
    msg: expect.stringContaining(message),
  })
  expect(execute(peerExecutable('static'), 'ADD', { ...options, netns }).status).toBe(1)
})

describe('CHECK', () => {
  const config = (previous: object) => ({
    ipam: { addresses: both },
    prevResult: { cniVersion: '1.1.0', ...previous },
  })
  test.each([
    ['the same', { ips: both }, 0],
    ['an address missing, which is no concern of its', { ips: [both[1]] }, 0],
    ['another mask', { ips: [{ address: '10.1.0.5/24', gateway: '10.1.0.1' }] }, 0],
    ['another gateway', { ips: [{ address: '10.1.0.5/16', gateway: '10.1.0.2' }] }, 1],
    ['no gateway', { ips: [{ address: '10.1.0.5/16' }] }, 1],
  ])('of %s answers as the Go plugin does', async (_, previous, status) => {
    const options = { config: config(previous), netns }
    const statuses = [
      (await call(staticAddresses, 'CHECK', options)).status,
      execute(peerExecutable('static'), 'CHECK', options).status,
    ]
    expect(statuses).toEqual([status, status])
  })

  test('says which address and gateway, and that it needs prevResult', async () => {
    const options = { config: config({ ips: [{ address: '10.1.0.5/16' }] }), netns }
    expect((await call(staticAddresses, 'CHECK', options)).json.msg).toBe(
      'static: Failed to match addr 10.1.0.5 on interface eth0: its gateway in prevResult is none, configured is 10.1.0.1',
    )
    const without = await call(staticAddresses, 'CHECK', { config: { ipam: { addresses: both } }, netns })
    expect(without.json.msg).toContain('prevResult: static: Required prevResult missing')
  })
})

test('DEL, STATUS and GC succeed whatever the configuration holds: there is nothing kept', async () => {
  for (const verb of ['DEL', 'STATUS', 'GC'] as const) {
    await mustCall(staticAddresses, verb, {
      config: { ipam: { addresses: 'x' }, args: 7, runtimeConfig: [] },
      args: 'x',
    })
  }
})
