import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { type DrawnNetwork, drawNetwork } from '../../chain/cli/picture.ts'
import { harmless, renderError, renderResult, renderStep, styleFor } from '../../chain/cli/render.ts'
import { topologyOf } from '../../chain/cli/topology.ts'
import { CniError } from '../../chain/protocol/error.ts'

const plain = styleFor({ isTerminal: false })
const coloured = styleFor({ isTerminal: true })

const network: DrawnNetwork = {
  name: 'demo',
  uplinks: [
    {
      name: 'uplink',
      addresses: ['192.0.2.1/24'],
      peer: { name: 'outside', ifname: 'eth0', addresses: ['192.0.2.2/24'] },
    },
  ],
  bridge: { name: 'cni0', addresses: ['10.22.0.1/16', 'fd00:22::1/64'] },
  containers: [
    {
      name: 'web',
      ifname: 'eth0',
      hostEnd: 'vethf4e8e6f8',
      addresses: ['10.22.0.2/16', 'fd00:22::2/64'],
      ports: [{ host: '8080', container: 80, protocol: 'tcp' }],
    },
    {
      name: 'client',
      ifname: 'eth0',
      hostEnd: 'veth3de98b93',
      addresses: ['10.22.0.3/16', 'fd00:22::3/64'],
      ports: [],
    },
  ],
}

describe('a network', () => {
  test('is drawn as a person sees it: the networks outside, the host with its bridge, each container on its own cable', () => {
    expect(`\n${drawNetwork(network, plain)}\n`).toBe(`
╭─ outside ──────────╮
│ eth0  192.0.2.2/24 │
╰───────────┬────────╯
            │
╭─ host ────┴─────────────────────────────────────────╮
│  uplink  192.0.2.1/24                               │
│                                                     │
│  ┏━ cni0 ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┓  │
│  ┃ 10.22.0.1/16  fd00:22::1/64  network demo     ┃  │
│  ┗━━━━━━━━━━┯━━━━━━━━━━━━━━━━━━━━━━━━━┯━━━━━━━━━━┛  │
│       vethf4e8e6f8              veth3de98b93        │
│             │                         │             │
╰─────────────┼─────────────────────────┼─────────────╯
              │                         │
   ╭─ web ────┴──────────╮   ╭─ client ─┴──────────╮
   │ eth0  10.22.0.2/16  │   │ eth0  10.22.0.3/16  │
   │       fd00:22::2/64 │   │       fd00:22::3/64 │
   │ 80/tcp ◀ host 8080  │   │                     │
   ╰─────────────────────╯   ╰─────────────────────╯
`)
  })

  test('that no screen is wide enough for is drawn as a tree', () => {
    const containers = [...network.containers, ...network.containers]
    expect(`\n${drawNetwork({ ...network, containers }, plain, 80)}\n`).toBe(`
uplink  192.0.2.1/24
cni0  10.22.0.1/16  fd00:22::1/64  network demo
├─ vethf4e8e6f8     web     eth0  10.22.0.2/16  fd00:22::2/64  8080 ▶ 80/tcp
├─ veth3de98b93     client  eth0  10.22.0.3/16  fd00:22::3/64
├─ vethf4e8e6f8     web     eth0  10.22.0.2/16  fd00:22::2/64  8080 ▶ 80/tcp
└─ veth3de98b93     client  eth0  10.22.0.3/16  fd00:22::3/64
`)
  })

  test('of which a line does not fit either goes on below', () => {
    expect(`\n${drawNetwork(network, plain, 40)}\n`).toBe(`
uplink  192.0.2.1/24
cni0
  10.22.0.1/16  fd00:22::1/64
  network demo
├─ web
│  eth0 ─ vethf4e8e6f8
│  10.22.0.2/16
│  fd00:22::2/64
│  8080 ▶ 80/tcp
└─ client
   eth0 ─ veth3de98b93
   10.22.0.3/16
   fd00:22::3/64
`)
  })

  test('without containers is its bridge alone', () => {
    expect(`\n${drawNetwork({ ...network, uplinks: [], containers: [] }, plain)}\n`).toBe(`
╭─ host ──────────────────────────────────────────╮
│  ┏━ cni0 ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┓  │
│  ┃ 10.22.0.1/16  fd00:22::1/64  network demo ┃  │
│  ┗━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┛  │
╰─────────────────────────────────────────────────╯
`)
  })

  test('in colours is the same picture', () => {
    const drawn = drawNetwork(network, coloured)
    expect(drawn).toContain('\x1b[')
    expect(harmless(drawn)).toBe(drawNetwork(network, plain))
  })

  const word = (maxLength: number) => fc.stringMatching(/^[a-z0-9.-]+$/, { maxLength })
  const container = fc.record({
    name: word(64),
    ifname: word(15),
    hostEnd: word(15),
    addresses: fc.array(word(43), { maxLength: 3 }),
    ports: fc.array(
      fc.record({ host: word(20), container: fc.nat(65535), protocol: fc.constantFrom('tcp', 'sctp') }),
      { maxLength: 3 },
    ),
  })

  test('of any names, with any number of addresses, is a picture whose boxes close and whose cables meet', () => {
    fc.assert(
      fc.property(fc.array(container, { maxLength: 5 }), containers => {
        const rows = drawNetwork({ ...network, containers }, plain, 10_000).split('\n')
        const host = rows.slice(4, 13 - (containers.length ? 0 : 2))
        expect(new Set(host.map(({ length }) => length)).size).toBe(1)
        const cablesOf = (row = '', marks = /[│┯┼┴]/g) => [...row.matchAll(marks)].map(({ index }) => index)
        const bottom = rows.findIndex((row, index) => index > 3 && row.startsWith('╰'))
        const below = containers.length ? rows.slice(bottom + 1) : []
        expect(cablesOf(rows[bottom], /┼/g)).toHaveLength(containers.length)
        expect(cablesOf(below[0])).toEqual(cablesOf(rows[bottom], /┼/g))
        expect(cablesOf(below[1], /┴/g)).toEqual(cablesOf(rows[bottom], /┼/g))
        for (const { name } of containers) expect(below[1]).toContain(` ${name} `)
        const widths = below.slice(1).map(({ length }) => length)
        expect(new Set(widths).size).toBeLessThanOrEqual(1)
      }),
      { numRuns: 200 },
    )
  })
})

describe('what the runtime keeps', () => {
  const result = {
    cniVersion: '1.1.0',
    interfaces: [
      { name: 'cni0', mac: '02:00:00:00:00:01' },
      { name: 'veth0', mac: '02:00:00:00:00:02' },
      { name: 'eth0', mac: '02:00:00:00:00:03', sandbox: '/run/netns/web' },
    ],
    ips: [{ address: '10.22.0.2/16', gateway: '10.22.0.1', interface: 2 }],
  }
  const attachment = {
    network: 'demo',
    containerId: 'web',
    netns: '/run/netns/web',
    ifname: 'eth0',
    configuration: '',
    result,
    capabilityArgs: { portMappings: [{ HostPort: 8080, ContainerPort: 80, HostIP: '::1', Protocol: 'TCP' }] },
  }

  test('is what is drawn, in the spelling of any runtime', () => {
    expect(topologyOf('demo', [attachment])).toEqual({
      name: 'demo',
      uplinks: [],
      bridge: { name: 'cni0', addresses: ['10.22.0.1/16'] },
      containers: [
        {
          name: 'web',
          ifname: 'eth0',
          hostEnd: 'veth0',
          addresses: ['10.22.0.2/16'],
          ports: [{ host: '[::1]:8080', container: 80, protocol: 'tcp' }],
        },
      ],
    })
  })

  test.each([
    { name: 'there is no bridge', attachments: [{ ...attachment, result: { ...result, interfaces: [] } }] },
    {
      name: 'a result is of no known version',
      attachments: [{ ...attachment, result: { cniVersion: '7.0.0' } }],
    },
    { name: 'there is no result', attachments: [{ ...attachment, result: undefined }] },
    { name: 'there is nothing', attachments: [] },
  ])('is not drawn where $name', ({ attachments }) => {
    expect(topologyOf('demo', attachments)).toBeUndefined()
  })

  test('shows the name of the namespace, where the ID is only derived from its path', () => {
    const derived = { ...attachment, netns: '/run/netns/c1', containerId: 'cnitool-20b4ff582526573bbe7d' }
    expect(topologyOf('demo', [derived])?.containers[0]?.name).toBe('c1')
  })
})

describe('a person reads', () => {
  test('a failure: what was done, its code, and below it each thing that was said', () => {
    const error = new CniError(999, 'set mtu 10 on eth0', { details: 'too small; look at `ip link`' })
    expect(renderError(error, plain)).toBe(
      '✗ set mtu 10 on eth0 (code 999)\n  too small\n  look at `ip link`',
    )
  })

  test('what plugins say without the power over the screen that it may hold', () => {
    const error = new CniError(999, 'a\x1b[2Jb\x07c', { details: 'd\x1b]0;title\x07e\rf\x9b1m' })
    expect(renderError(error, plain)).toBe('✗ abc (code 999)\n  d]0;titleef1m')
  })

  test('each step, with how long it took', () => {
    const step = { verb: 'ADD', plugin: 'host-local', milliseconds: 1.234, stderr: '' } as const
    expect(renderStep(step, plain)).toBe('✓ ADD    host-local      1.2 ms')
    expect(renderStep({ ...step, error: new CniError(7, 'x') }, plain)).toBe(
      '✗ ADD    host-local      1.2 ms',
    )
  })

  test('a result: interfaces with addresses and places, routes, name servers', () => {
    const text = renderResult(
      {
        interfaces: [
          { name: 'cni0', mac: '02:00:00:00:00:01' },
          { name: 'eth0', sandbox: '/run/netns/web' },
        ],
        ips: [{ address: '10.22.0.2/16', interface: 1 }, { address: '10.22.0.9/16' }],
        routes: [{ dst: '0.0.0.0/0', gw: '10.22.0.1' }, { dst: '10.0.0.0/8' }],
        dns: { nameservers: ['10.22.0.1'] },
      },
      plain,
    )
    expect(`\n${text}\n`).toBe(`
  cni0             02:00:00:00:00:01  on the host
  eth0                                10.22.0.2/16  in /run/netns/web
  10.22.0.9/16
  route 0.0.0.0/0 via 10.22.0.1
  route 10.0.0.0/8
  nameserver 10.22.0.1
`)
  })

  test.each([
    ['no terminal', false, {}],
    ['NO_COLOR', true, { NO_COLOR: '1' }],
    ['a terminal that has no colours', true, { TERM: 'dumb' }],
  ])('no colours where there is %s', (_, isTerminal, env) => {
    const style = styleFor({ isTerminal, env })
    expect(Object.values(style).map(paint => paint('text'))).toEqual(Array(6).fill('text'))
  })
})
