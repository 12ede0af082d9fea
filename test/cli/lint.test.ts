/** Faults that `catena lint` finds, each at its place, and networks in which it finds none. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import * as fc from 'fast-check'
import { builtins, served } from '../../chain/catena.ts'
import { rules } from '../../chain/cli/lint/fault.ts'
import { type Finding, lint } from '../../chain/cli/lint/lint.ts'
import { describeReport } from '../../chain/cli/lint/print.ts'
import { styleFor } from '../../chain/cli/render.ts'
import { hostNamespace } from '../fixtures/namespace.ts'
import { ourExecutable, ours } from '../fixtures/plugin.ts'

const folder = mkdtempSync(`${tmpdir()}/catena-lint-`)
afterAll(() => rmSync(folder, { recursive: true }))

let files = 0

/** Writes a configuration, as it is or as JSON, and answers its path. */
function write(config: unknown, name = `${files}.conflist`): string {
  const path = `${folder}/${files++}-${name}`
  writeFileSync(path, typeof config === 'string' ? config : JSON.stringify(config, undefined, 2))
  return path
}

const lintAlone = (paths: string[], verbs: string[] = []) =>
  lint({ files: paths, load: served.load, node: undefined, verbs })

/** "error unknown-key "isGatewya"": what is found, and the text above the caret. */
const brief = ({ level, rule, source, column, endColumn }: Finding) =>
  `${level} ${rule} ${source.slice(column - 1, endColumn - 1)}`

type Json = Record<string, unknown>

const list = (plugins: unknown[], more: Json = {}) => ({ cniVersion: '1.1.0', name: 'web', plugins, ...more })
const range = (subnet: string, more: Json = {}) => ({ type: 'host-local', ranges: [[{ subnet, ...more }]] })
const bridge = (more: Json = {}) => ({
  type: 'bridge',
  bridge: 'web0',
  isGateway: true,
  ipam: range('10.22.0.0/16'),
  ...more,
})
const portmap = (more: Json = {}) => ({ type: 'portmap', capabilities: { portMappings: true }, ...more })
const dummy = { type: 'dummy', ipam: { type: 'static', addresses: [{ address: '10.9.0.1/24' }] } }

/** Each fault with what is found, which is all that is found. */
const faults: [string, unknown, string, ...string[]][] = [
  // text that is no JSON
  ['a missing comma', '{\n  "name": "web"\n  "cniVersion": "1.1.0"\n}', 'error json '],
  ['a comma too many', '{ "name": "web", }', 'error json ,'],
  ['a comma too many in a list', '{ "plugins": [{}, ] }', 'error json ,'],
  ['a text that does not end', '{ "name": "web,\n "x": 1 }', 'error json "web,'],
  ['a key whose quote is missing at its end', '{ "name: "web" }', 'error json "name'],
  ['a key whose quote is missing at its beginning', '{ name": "web" }', 'error json name'],
  ['a value whose quote is missing at its beginning', '{ "name": web" }', 'error json web'],
  ['a key without quotes', '{ name: "web" }', 'error json name'],
  ['single quotes', `{ "name": 'web' }`, `error json 'web'`],
  ['a missing colon', '{ "name" "web" }', 'error json  '],
  ['a brace that is not closed', '{ "plugins": [{ "type": "bridge" }]', 'error json ]'],
  ['a bracket where a brace is open', '{ "plugins": [{ "type": "bridge" ] }', 'error json ]'],
  ['a brace too many', '{ "name": "web" } }', 'error json }'],
  ['a comment', '{ // ours\n "name": "web" }', 'error json // ours'],
  ['True', '{ "disableCheck": True }', 'error json True'],
  ['a backslash', '{ "name": "a\\qb" }', 'error json "a\\qb"'],
  ['an empty file', '', 'error json '],
  ['a byte order mark', '\ufeff{}', 'error json \ufeff'],
  ['a number with a zero before it', '{ "mtu": 01500 }', 'error json 01500'],
  // the specification
  ['a list', [], 'error specification []'],
  ['no name', list([bridge()], { name: undefined }), 'error specification {'],
  ['a name with a blank', list([bridge()], { name: 'web net' }), 'error specification "web net"'],
  ['a name that is a number', list([bridge()], { name: 7 }), 'error specification 7'],
  ['no version', list([bridge()], { cniVersion: undefined }), 'warning version {'],
  ['half a version', list([bridge()], { cniVersion: '1.1' }), 'error version "1.1"'],
  ['a version of the future', list([bridge()], { cniVersion: '2.0.0' }), 'error version "2.0.0"'],
  ['a version that is a number', list([bridge()], { cniVersion: 1 }), 'error version 1'],
  ['versions that are no list', list([bridge()], { cniVersions: '1.1.0' }), 'error version "1.1.0"'],
  ['a plugin that is a text', list(['bridge']), 'error specification "bridge"'],
  ['no type', list([{ bridge: 'web0' }]), 'error specification {'],
  [
    'a type that is a path',
    list([bridge({ type: '/opt/cni/bin/bridge' })]),
    'error specification "/opt/cni/bin/bridge"',
  ],
  ['no plugins', list([]), 'error specification []'],
  ['plugins that are an object', list(bridge() as never), 'error specification {'],
  ['disableCheck that is a number', list([bridge()], { disableCheck: 1 }), 'error specification 1'],
  [
    'a key of the list in other letters',
    list([bridge()], { CniVersion: '1.1.0', cniVersion: undefined }),
    'error unknown-key "CniVersion"',
  ],
  ['a misspelt key of the list', list([bridge()], { disableChek: true }), 'error unknown-key "disableChek"'],
  [
    'a capability that is a text',
    list([bridge(), portmap({ capabilities: { portMappings: 'yes' } })]),
    'error capability {',
    'error specification "yes"',
  ],
  ['ipam without a type', list([bridge({ ipam: { ranges: [] } })]), 'error specification "ipam"'],
  [
    'ipam that is a text',
    list([bridge({ ipam: 'host-local' })]),
    'error specification "host-local"',
    'error value "host-local"',
  ],
  ['a version that is an object', list([bridge()], { cniVersion: {} }), 'error version {}'],
  [
    'a version that is none',
    list([bridge(), { type: 'tuning' }], { cniVersion: '1.0]0' }),
    'error version "1.0]0"',
  ],
  ['a name with a zero byte', list([bridge()], { name: 'a\0b' }), 'error specification "a\\u0000b"'],
  // keys
  ['a misspelt key', list([bridge({ isGatewya: true })]), 'error unknown-key "isGatewya"'],
  [
    'a misspelt key of ipam',
    list([bridge({ ipam: { ...range('10.22.0.0/16'), rangez: [] } })]),
    'error unknown-key "rangez"',
  ],
  [
    'a misspelt key of a range',
    list([bridge({ ipam: range('10.22.0.0/16', { rangeStrat: '10.22.0.9' }) })]),
    'error unknown-key "rangeStrat"',
  ],
  [
    'a misspelt key of a trunk',
    list([bridge({ vlanTrunk: [{ minId: 1, maxIdd: 2, maxID: 2 }] })]),
    'error unknown-key "maxIdd"',
  ],
  [
    'a key that resembles none',
    list([bridge({ vendorAnnotation: 1 })]),
    'warning unknown-key "vendorAnnotation"',
  ],
  ['a key of ipam beside it', list([bridge({ ranges: [] })]), 'error misplaced-key "ranges"'],
  [
    'a key of the plugin in ipam',
    list([bridge({ ipam: { ...range('10.22.0.0/16'), isGateway: true } })]),
    'error misplaced-key "isGateway"',
  ],
  [
    'a misspelt key of a delegate',
    list([{ type: 'flannel', delegate: { hairpinMod: true } }]),
    'error unknown-key "hairpinMod"',
  ],
  [
    'a key twice',
    '{"cniVersion":"1.1.0","name":"web","name":"api","plugins":[{"type":"loopback"}]}',
    'error duplicate-key "name"',
  ],
  ['a key twice in other letters', list([bridge({ isgateway: false })]), 'error duplicate-key "isgateway"'],
  ['runtimeConfig', list([bridge(), portmap({ runtimeConfig: {} })]), 'warning reserved-key "runtimeConfig"'],
  // values
  ['a number that is a text', list([bridge({ mtu: '1500' })]), 'error value "1500"'],
  ['true that is a text', list([bridge({ isGateway: 'true' })]), 'error value "true"'],
  ['a VLAN above 4094', list([bridge({ vlan: 4095 })]), 'error value 4095'],
  [
    'a name of a bridge that is too long',
    list([bridge({ bridge: 'a-bridge-of-the-web' })]),
    'error value "a-bridge-of-the-web"',
  ],
  [
    'hairpin with promiscuous mode',
    list([bridge({ hairpinMode: true, promiscMode: true })]),
    'error value true',
  ],
  [
    'two faults of which the second is among several keys',
    list([bridge({ mtu: 'x', hairpinMode: true, promiscMode: true })]),
    'error value true',
    'error value "x"',
  ],
  ['an unknown backend', list([bridge({ ipMasq: true, ipMasqBackend: 'nft' })]), 'error value "nft"'],
  ['a trunk that is turned round', list([bridge({ vlanTrunk: [{ minID: 9, maxID: 3 }] })]), 'error value {'],
  [
    'a mode of macvlan',
    list([{ type: 'macvlan', master: 'eth0', mode: 'bridged' }]),
    'error value "bridged"',
  ],
  [
    'a mode of ipvlan',
    list([{ type: 'ipvlan', master: 'eth0', mode: 'l4', ipam: range('10.1.0.0/16') }]),
    'error value "l4"',
  ],
  ['a VLAN without a master', list([{ type: 'vlan', vlanId: 7 }]), 'error value {'],
  ['a VLAN that is reserved', list([{ type: 'vlan', master: 'eth0', vlanId: 4095 }]), 'error value 4095'],
  [
    'a sysctl of the whole machine',
    list([bridge(), { type: 'tuning', sysctl: { 'vm.swappiness': '1' } }]),
    'error value "1"',
  ],
  [
    'a sysctl that is a number',
    list([bridge(), { type: 'tuning', sysctl: { 'net.core.somaxconn': 500 } }]),
    'error value 500',
  ],
  [
    'a burst without a rate',
    list([bridge(), { type: 'bandwidth', ingressBurst: 8000, egressRate: 1000, egressBurst: 8000 }]),
    'error value {',
  ],
  ['a mark of more than 31 bits', list([bridge(), portmap({ markMasqBit: 32 })]), 'error value 32'],
  [
    'conditions of nftables for iptables',
    list([bridge(), portmap({ backend: 'iptables', conditionsV4: ['ip', 'saddr', '10.0.0.0/8'] })]),
    'error value [',
  ],
  [
    'conditions of iptables for nftables',
    list([bridge(), portmap({ backend: 'nftables', conditionsV6: ['-s', 'fd00::/8'] })]),
    'error value [',
  ],
  [
    'a chain of iptables for nftables',
    list([bridge(), portmap({ backend: 'nftables', externalSetMarkChain: 'KUBE-MARK-MASQ' })]),
    'error value "KUBE-MARK-MASQ"',
  ],
  [
    'an ingress policy that is none',
    list([bridge(), { type: 'firewall', ingressPolicy: 'closed' }]),
    'error value "closed"',
  ],
  [
    'a backend of the firewall that is none',
    list([bridge(), { type: 'firewall', backend: 'ebtables' }]),
    'warning value "ebtables"',
  ],
  ['host-device without a device', list([{ type: 'host-device' }]), 'error value "host-device"'],
  [
    'a hardware address that is none',
    list([{ type: 'host-device', hwaddr: '00:11' }]),
    'error value "00:11"',
  ],
  ['ptp without ipam', list([{ type: 'ptp' }]), 'error value {'],
  ['a VRF without a name', list([bridge(), { type: 'vrf' }]), 'error value {'],
  [
    'two gateways of one family',
    list([bridge(), { type: 'sbr', gateways: ['10.0.0.1', '10.0.0.2'] }]),
    'error value [',
  ],
  [
    'an option of DHCP that is none',
    list([{ type: 'macvlan', master: 'eth0', ipam: { type: 'dhcp', request: [{ option: 'router' }] } }]),
    'error value "router"',
  ],
  // addresses
  [
    'a subnet with bits of a host',
    list([bridge({ ipam: range('10.22.0.1/16') })]),
    'error value "10.22.0.1/16"',
  ],
  ['a subnet that is an address', list([bridge({ ipam: range('10.22.0.0') })]), 'error value "10.22.0.0"'],
  ['a subnet without room', list([bridge({ ipam: range('10.22.0.0/31') })]), 'error value "10.22.0.0/31"'],
  [
    'a range that starts outside',
    list([bridge({ ipam: range('10.22.0.0/16', { rangeStart: '10.23.0.5' }) })]),
    'error value "10.23.0.5"',
  ],
  [
    'a range that ends before it starts',
    list([bridge({ ipam: range('10.22.0.0/16', { rangeStart: '10.22.0.9', rangeEnd: '10.22.0.2' }) })]),
    'error value "10.22.0.9"',
  ],
  [
    'a range of the gateway alone',
    list([
      bridge({
        ipam: range('10.22.0.0/16', { rangeStart: '10.22.0.1', rangeEnd: '10.22.0.1', gateway: '10.22.0.1' }),
      }),
    ]),
    'error range {',
  ],
  ['no ranges', list([bridge({ ipam: { type: 'host-local' } })]), 'error value "ipam"'],
  [
    'ranges that overlap',
    list([
      bridge({
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.22.0.0/16' }], [{ subnet: '10.22.7.0/24' }]] },
      }),
    ]),
    'error value [',
  ],
  [
    'a gateway outside of its subnet',
    list([bridge({ ipam: range('10.22.0.0/16', { gateway: '10.23.0.1' }) })]),
    'warning gateway "10.23.0.1"',
  ],
  [
    'a gateway of the other family',
    list([bridge({ ipam: range('10.22.0.0/16', { gateway: 'fd00::1' }) })]),
    'error gateway "fd00::1"',
  ],
  [
    'a static address without its length',
    list([{ ...dummy, ipam: { type: 'static', addresses: [{ address: '10.9.0.1' }] } }]),
    'error value "10.9.0.1"',
  ],
  [
    'a route that is none',
    list([bridge({ ipam: { ...range('10.22.0.0/16'), routes: [{ dst: 'default' }] } })]),
    'error value "default"',
  ],
  [
    'a route of a family without addresses',
    list([bridge({ ipam: { ...range('10.22.0.0/16'), routes: [{ dst: '::/0' }] } })]),
    'warning route "::/0"',
  ],
  [
    'a route by the other family',
    list([bridge({ ipam: { ...range('10.22.0.0/16'), routes: [{ dst: '0.0.0.0/0', gw: 'fd00::1' }] } })]),
    'error route "fd00::1"',
  ],
  [
    'a route by what cannot be reached',
    list([bridge({ ipam: { ...range('10.22.0.0/16'), routes: [{ dst: '0.0.0.0/0', gw: '10.99.0.1' }] } })]),
    'warning route "10.99.0.1"',
  ],
  [
    'a route twice',
    list([
      bridge({ ipam: { ...range('10.22.0.0/16'), routes: [{ dst: '0.0.0.0/0' }, { dst: '0.0.0.0/0' }] } }),
    ]),
    'error route "0.0.0.0/0"',
  ],
  [
    'a route with bits of a host',
    list([bridge({ ipam: { ...range('10.22.0.0/16'), routes: [{ dst: '10.50.0.1/16' }] } })]),
    'warning route "10.50.0.1/16"',
  ],
  [
    'a name server by its name',
    list([bridge({ dns: { nameservers: ['dns.example'] } })]),
    'error dns "dns.example"',
  ],
  ['an MTU too small for IPv6', list([bridge({ mtu: 1200, ipam: range('fd00:22::/64') })]), 'error mtu 1200'],
  ['an MTU too small for IPv4', list([bridge({ mtu: 20 })]), 'error mtu 20'],
  ['an MTU that no packet has', list([bridge({ mtu: 70000 })]), 'error mtu 70000'],
  [
    'one hardware address for all',
    list([{ type: 'macvlan', master: 'eth0', mac: '02:00:00:00:00:01' }]),
    'warning address "02:00:00:00:00:01"',
  ],
  // plugins among one another
  ['a chained plugin before a main one', list([portmap(), bridge()]), 'error order "portmap"'],
  ['an IPAM plugin in the list', list([{ type: 'host-local' }]), 'error order "host-local"', 'error value {'],
  ['two plugins that make the interface', list([bridge(), dummy]), 'error order "dummy"'],
  ['a plugin twice', list([bridge(), portmap(), portmap()]), 'warning order "portmap"'],
  [
    'a policy that needs a link on the host',
    list([
      { type: 'macvlan', master: 'eth0' },
      { type: 'firewall', ingressPolicy: 'isolated' },
    ]),
    'error order "isolated"',
  ],
  ['portmap without its capability', list([bridge(), { type: 'portmap' }]), 'error capability "portmap"'],
  [
    'portmap whose capability is off',
    list([bridge(), portmap({ capabilities: { portMappings: false } })]),
    'error capability {',
  ],
  [
    'bandwidth without its capability',
    list([bridge(), { type: 'bandwidth' }]),
    'error capability "bandwidth"',
  ],
  [
    'a misspelt capability',
    list([bridge(), portmap({ capabilities: { portMapping: true } })]),
    'error capability {',
    'error capability "portMapping"',
  ],
  [
    'a capability of others',
    list([bridge(), portmap({ capabilities: { portMappings: true, bandwidth: true } })]),
    'warning capability "bandwidth"',
  ],
  [
    'masquerade without a gateway',
    list([bridge({ isGateway: false, ipMasq: true })]),
    'warning no-effect "ipMasq"',
  ],
  [
    'forceAddress without a gateway',
    list([bridge({ isGateway: false, forceAddress: true })]),
    'warning no-effect "forceAddress"',
  ],
  [
    'a backend without masquerade',
    list([bridge({ ipMasqBackend: 'nftables' })]),
    'warning no-effect "ipMasqBackend"',
  ],
  [
    'firewall before its version',
    list([bridge(), { type: 'firewall' }], { cniVersion: '0.3.1' }),
    'error version "0.3.1"',
  ],
  [
    'disableGC before GC',
    list([bridge()], { cniVersion: '1.0.0', disableGC: true }),
    'warning version-too-old "disableGC"',
  ],
  [
    'disableCheck before CHECK',
    list([bridge()], { cniVersion: '0.3.1', disableCheck: true }),
    'warning version-too-old "disableCheck"',
  ],
]

describe('a file alone', () => {
  test.each(faults)('%s', async (_, config, ...expected) => {
    const { findings } = await lintAlone([write(config)])
    expect(findings.map(brief).toSorted()).toEqual(expected.toSorted())
  })

  test('there are more than sixty', () => expect(faults.length).toBeGreaterThan(60))
})

describe('what is said of it', () => {
  test('where, why, and what to write', async () => {
    const { findings } = await lintAlone([write(list([bridge({ isGatewya: true })]), 'words.conflist')])
    const path = `${folder}/${files - 1}-words.conflist`
    expect(findings).toEqual([
      {
        file: path,
        line: 19,
        column: 7,
        endColumn: 18,
        level: 'error',
        rule: 'unknown-key',
        path: 'plugins[0].isGatewya',
        says: 'bridge has no key "isGatewya": did you mean "isGateway"?',
        why: 'a key that is not known is passed over without a word',
        write: '"isGateway"',
        source: '      "isGatewya": true',
      },
    ])
  })

  test.each([40, 80])(
    'on %d columns no line is longer, and the caret is below what is meant',
    async width => {
      const config = list([
        bridge({ 'a-key-\u4e16\u754c-that-is-long-enough-to-be-cut': 'x'.repeat(90), isGatewya: true }),
      ])
      const shown = describeReport(await lintAlone([write(config)]), styleFor({ isTerminal: false }), width)
      for (const line of shown.split('\n')) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(width)
      const lines = shown.split('\n')
      const caret = lines.findLastIndex(line => line.includes('^'))
      const from = lines[caret]?.indexOf('^') ?? 0
      expect(lines[caret - 1]?.slice(from, from + 11)).toBe('"isGatewya"')
    },
  )

  test('control characters of a file do not reach the terminal', async () => {
    const shown = describeReport(
      await lintAlone([write('{ "name": \x1b]0;owned\x07 }')]),
      styleFor({ isTerminal: false }),
      80,
    )
    expect(shown).not.toContain('\x1b')
    expect(shown).not.toContain('\x07')
  })
})

describe('networks in which nothing is found', () => {
  const root = `${import.meta.dir}/../..`
  const folders = ['test/fixtures/conflists', 'chain/cli/examples', 'test/demo']
  const shipped = folders.flatMap(each =>
    readdirSync(`${root}/${each}`).flatMap(name => (name.endsWith('.conflist') ? [`${each}/${name}`] : [])),
  )
  test.each(shipped)('%s', async file => {
    expect((await lintAlone([`${root}/${file}`])).findings).toEqual([])
  })

  test.each<[string, unknown]>([
    ["a tool's keys beside those of a list", list([bridge()], { nerdctlID: 'x', nerdctlLabels: {} })],
    [
      'plugins of others, with keys of theirs',
      list([
        { type: 'cilium-cni', 'enable-debug': true },
        { type: 'aws-cni', mtu: '9001' },
      ]),
    ],
    ["keys in other letters' case", list([bridge({ ISGATEWAY: true, isGateway: undefined })])],
    [
      'a gateway outside, with a route that leads to it',
      list([
        bridge({
          ipam: {
            ...range('203.0.113.0/28', { gateway: '198.51.100.1' }),
            routes: [{ dst: '198.51.100.1/32' }, { dst: '0.0.0.0/0' }],
          },
        }),
      ]),
    ],
    [
      'a bridge that follows another plugin',
      list([{ type: 'aws-cni' }, bridge({ ipam: undefined, isGateway: false })]),
    ],
    ['an IPAM plugin of others', list([bridge({ ipam: { type: 'whereabouts', range: '10.0.0.0/8' } })])],
    ['limits in the file', list([bridge(), { type: 'bandwidth', ingressRate: 8000, ingressBurst: 8000 }])],
    ['several versions', list([bridge()], { cniVersion: undefined, cniVersions: ['0.4.0', '1.1.0'] })],
  ])('%s', async (_, config) => {
    expect((await lintAlone([write(config)])).findings).toEqual([])
  })
})

const single = (more: Json = {}) => ({ cniVersion: '1.0.0', name: 'one', type: 'loopback', ...more })

describe('files beside one another', () => {
  const both = async (one: unknown, other: unknown, names: [string?, string?] = []) =>
    (await lintAlone([write(one, names[0]), write(other, names[1])])).findings.map(brief)
  const vlan = (name: string, vlanId: number) => list([{ type: 'vlan', master: 'eth0', vlanId }], { name })
  const named = (name: string, subnet: string, more: Json = {}) =>
    list([bridge({ bridge: `${name}0`, ipam: range(subnet), ...more })], { name })

  test.each<[string, unknown, unknown, ...string[]]>([
    ['one name', named('a', '10.1.0.0/16'), named('a', '10.2.0.0/16'), 'error one-name "a"'],
    [
      'one bridge with two subnets',
      named('a', '10.1.0.0/16'),
      named('b', '10.2.0.0/16', { bridge: 'a0' }),
      'error one-bridge "10.2.0.0/16"',
    ],
    [
      'one bridge by default',
      named('a', '10.1.0.0/16', { bridge: undefined }),
      named('b', '10.2.0.0/16', { bridge: 'cni0' }),
      'error one-bridge "10.2.0.0/16"',
    ],
    [
      'subnets that overlap',
      named('a', '10.0.0.0/8'),
      named('b', '10.2.0.0/16'),
      'error overlap "10.2.0.0/16"',
    ],
    [
      'one bridge and one range',
      named('a', '10.1.0.0/16'),
      named('b', '10.1.0.0/16', { bridge: 'a0' }),
      'error overlap "10.1.0.0/16"',
    ],
    ['one VLAN', vlan('a', 7), vlan('b', 7), 'error one-vlan 7'],
    ['two VLANs', vlan('a', 7), vlan('b', 8)],
    ['two networks', named('a', '10.1.0.0/16'), named('b', '10.2.0.0/16')],
    [
      'halves of a subnet on one bridge',
      named('a', '10.1.0.0/16', { ipam: range('10.1.0.0/16', { rangeEnd: '10.1.9.255' }) }),
      named('b', '10.1.0.0/16', { bridge: 'a0', ipam: range('10.1.0.0/16', { rangeStart: '10.1.10.0' }) }),
    ],
    [
      'bridges that are no gateway',
      named('a', '10.1.0.0/16', { isGateway: false }),
      named('b', '10.1.0.0/16', { isGateway: false }),
    ],
  ])('%s', async (_, one, other, ...expected) => {
    expect(await both(one, other)).toEqual(expected)
  })

  test('a list in a .conf and a single plugin in a .conflist', async () => {
    expect(await both(list([bridge()]), single(), ['a.conf', 'b.conflist'])).toEqual([
      'error file-name "plugins"',
      'error file-name "type"',
    ])
  })

  test('a folder with the name of the network: its plugins are a part of the list', async () => {
    mkdirSync(`${folder}/beside`)
    writeFileSync(`${folder}/beside/10-ports.conf`, JSON.stringify(portmap({ snta: true })))
    const path = write(list([bridge()], { name: 'beside' }))
    const { findings } = await lintAlone([path])
    expect(findings.map(brief)).toEqual(['error unknown-key "snta"'])
    expect(findings[0]?.file).toBe(`${folder}/beside/10-ports.conf`)
  })

  test('a version that has not what the runtime calls', async () => {
    const old = write(list([bridge()], { cniVersion: '0.3.1' }))
    const { findings } = await lintAlone([old], ['CHECK', 'GC', 'STATUS'])
    expect(findings.map(({ says }) => says)).toEqual([
      'version 0.3.1 has no CHECK',
      'version 0.3.1 has no GC',
      'version 0.3.1 has no STATUS',
    ])
  })
})

describe('on a node', () => {
  const onNode = async (config: unknown, path = [ours]) =>
    (
      await lint({ files: [write(config)], load: served.load, node: { path, builtins }, verbs: [] })
    ).findings.map(brief)

  beforeAll(() => {
    const commands = [
      ['link', 'add', 'lintm0', 'mtu', '1400', 'type', 'veth', 'peer', 'name', 'lintm1'],
      ['link', 'set', 'lintm0', 'up'],
      ['route', 'add', '10.66.1.0/24', 'dev', 'lintm0'],
      ['link', 'add', 'lintb0', 'type', 'bridge'],
      ['address', 'add', '10.67.0.1/24', 'dev', 'lintb0'],
      ['link', 'set', 'lintb0', 'up'],
      ['route', 'add', '10.68.0.0/16', 'dev', 'lintb0'],
    ]
    for (const words of commands) expect(Bun.spawnSync(['ip', ...words]).exitCode).toBe(0)
  })
  afterAll(() => {
    for (const name of ['lintm0', 'lintb0']) Bun.spawnSync(['ip', 'link', 'delete', name])
    using host = hostNamespace()
    expect(host.links().filter(({ name }) => name.startsWith('lint'))).toEqual([])
  })

  const macvlan = (more: Json) => list([{ type: 'macvlan', ...more }])
  test.each<[string, unknown, ...string[]]>([
    ['a plugin that is not there', list([bridge(), { type: 'portmapp' }]), 'error executable "portmapp"'],
    [
      'an IPAM plugin that is not there',
      list([bridge({ ipam: { type: 'whereabouts' } })]),
      'error executable "whereabouts"',
    ],
    ['a master that is not there', macvlan({ master: 'lintm9' }), 'error master "lintm9"'],
    ['an MTU above the master’s', macvlan({ master: 'lintm0', mtu: 1500 }), 'error mtu 1500'],
    ['a bridge that is none', list([bridge({ bridge: 'lintm0' })]), 'error master "lintm0"'],
    [
      'a bridge with an address of another network',
      list([bridge({ bridge: 'lintb0' })]),
      'error one-bridge "10.22.0.0/16"',
    ],
    [
      'a route of the host inside the subnet',
      list([bridge({ bridge: 'web0', ipam: range('10.68.0.0/16') })]),
      'error overlap "10.68.0.0/16"',
    ],
    [
      'a route of the host around the subnet',
      list([bridge({ bridge: 'web0', ipam: range('10.68.4.0/24') })]),
      'warning overlap "10.68.4.0/24"',
    ],
    [
      'a resolv.conf that is not there',
      list([bridge({ ipam: { ...range('10.22.0.0/16'), resolvConf: '/nonexistent/resolv.conf' } })]),
      'error file "/nonexistent/resolv.conf"',
    ],
    [
      'flannel without its file',
      list([{ type: 'flannel', subnetFile: '/nonexistent/subnet.env' }]),
      'warning file "/nonexistent/subnet.env"',
    ],
    ['nothing', list([bridge({ bridge: 'lintb0', ipam: range('10.67.0.0/24') }), portmap()])],
  ])('%s', async (_, config, ...expected) => {
    expect(await onNode(config)).toEqual(expected)
  })

  test('an executable that does not take the version', async () => {
    const old = `${folder}/old`
    mkdirSync(old)
    const script = '#!/bin/sh\necho \'{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}\'\n'
    writeFileSync(`${old}/aged`, script, { mode: 0o755 })
    expect(await onNode(list([{ type: 'aged' }]), [old])).toEqual(['error executable "aged"'])
    expect(await onNode(list([{ type: 'aged' }], { cniVersion: '0.4.0' }), [old])).toEqual([])
  })

  test('nftables where somebody uses iptables', async () => {
    const network = list([bridge({ ipMasq: true, ipMasqBackend: 'nftables' })])
    expect(await onNode(network)).toEqual([])
    const rule = ['iptables', '-A', 'FORWARD', '-s', '10.99.0.0/16', '-j', 'DROP']
    expect(Bun.spawnSync(rule).exitCode).toBe(0)
    try {
      expect(await onNode(network)).toEqual(['warning backend "nftables"'])
    } finally {
      Bun.spawnSync(['iptables', '-F', 'FORWARD'])
    }
  })
})

test('nftables beside a program that reads iptables', async () => {
  const tools = `${folder}/tools`
  mkdirSync(tools)
  writeFileSync(`${tools}/nerdctl`, '#!/bin/sh\n', { mode: 0o755 })
  const network = write(list([bridge({ ipMasq: true, ipMasqBackend: 'nftables' })]))
  const path = process.env.PATH
  process.env.PATH = `${tools}:${path}`
  try {
    const node = { path: [ours], builtins }
    const { findings } = await lint({ files: [network], load: served.load, node, verbs: [] })
    expect(findings.map(brief)).toEqual(['warning backend "nftables"'])
    expect(findings[0]?.why).toContain('nerdctl looks there for ports that are free')
  } finally {
    process.env.PATH = path
  }
})

describe('the command', () => {
  const catena = (words: string[], env: Record<string, string> = {}) => {
    const { exitCode, stdout, stderr } = Bun.spawnSync([ourExecutable('catena'), 'lint', ...words], {
      env: { PATH: process.env.PATH, CNI_PATH: ours, ...env },
    })
    return { status: exitCode, stdout: `${stdout}`, stderr: `${stderr}` }
  }

  test('JSON in a pipe; exit status 1 for errors, and for warnings where it is strict', () => {
    const [error, warning, fine] = [
      write(list([bridge({ isGatewya: true })])),
      write(
        list([bridge({ vendorAnnotation: true, bridge: 'api0', ipam: range('10.23.0.0/16') })], {
          name: 'api',
        }),
      ),
      write(list([bridge()])),
    ]
    const first = catena([error, warning])
    expect(first.status).toBe(1)
    expect(JSON.parse(first.stdout)).toMatchObject({ shape: 'catena-lint-1', errors: 1, warnings: 1 })
    expect(catena([warning]).status).toBe(0)
    expect(catena([warning, '--strict']).status).toBe(1)
    expect(catena([fine, '--strict', '--format', 'text'])).toEqual({
      status: 0,
      stdout: '✓ 1 file: nothing to say\n',
      stderr: '',
    })
  })

  test.each([80, 40])(
    'a terminal of %d columns: colours, unless NO_COLOR is set, and no longer lines',
    width => {
      const file = write(list([bridge({ isGatewya: true, hairpinMode: true, promiscMode: true })]))
      const onTerminal = (env: Record<string, string>) => {
        const command = `stty cols ${width}; ${ourExecutable('catena')} lint ${file}`
        const { stdout } = Bun.spawnSync(['script', '-qec', command, '/dev/null'], {
          env: { PATH: process.env.PATH, TERM: 'xterm', ...env },
        })
        return `${stdout}`.replaceAll('\r\n', '\n').trimEnd()
      }
      const [plain, coloured] = [onTerminal({ NO_COLOR: '1' }), onTerminal({})]
      expect(plain).not.toContain('\x1b')
      expect(coloured).toContain('\x1b[31merror\x1b[39m')
      expect(Bun.stripANSI(coloured)).toBe(plain)
      expect(Math.max(...plain.split('\n').map(line => Bun.stringWidth(line)))).toBeLessThanOrEqual(width)
      expect(plain).toEndWith('✗ 1 file: 2 errors, 0 warnings')
    },
  )

  test("GitHub's form, with what would end a value written otherwise", () => {
    const file = write(list([bridge({ isGatewya: true })]), 'a,b:c%.conflist')
    const { stdout, status } = catena([file, '--format', 'github'])
    const name = file.replaceAll('%', '%25').replaceAll(':', '%3A').replaceAll(',', '%2C')
    expect(status).toBe(1)
    expect(stdout).toBe(
      `::error file=${name},line=19,col=7,endColumn=18,title=catena lint%3A unknown-key::bridge has no key "isGatewya": did you mean "isGateway"?%0Aa key that is not known is passed over without a word%0Awrite "isGateway"\n`,
    )
  })

  test('a folder, by itself or by NETCONFPATH; one without networks, and a file that is not there', () => {
    const place = `${folder}/net.d`
    mkdirSync(place)
    expect(catena([], { NETCONFPATH: place })).toMatchObject({ status: 1 })
    writeFileSync(`${place}/20-one.conf`, JSON.stringify(single()))
    writeFileSync(`${place}/90-web.conflist`, JSON.stringify(list([bridge({ bridge: 'web7' })])))
    writeFileSync(`${place}/README`, 'no network')
    const [byName, bySetting] = [catena([place]), catena([], { NETCONFPATH: place })]
    expect(JSON.parse(byName.stdout).files).toEqual([`${place}/90-web.conflist`, `${place}/20-one.conf`])
    expect(bySetting).toEqual({ status: 0, stdout: byName.stdout, stderr: '' })
    const missing = catena([`${place}/nosuch.conflist`])
    expect(missing.status).toBe(1)
    expect(JSON.parse(missing.stdout).msg).toContain('nosuch.conflist: there is no such file')
  })
})

/** A shipped network in which something is another value, or some characters are others. */
const spoilt = fc
  .tuple(
    fc.constantFrom('podman', 'kind', 'k3s', 'nerdctl'),
    fc.nat(),
    fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom(',', '"', '{', ']', '\\', '//', '')),
    fc.boolean(),
  )
  .map(([name, place, value, isText]) => {
    const text = readFileSync(`${import.meta.dir}/../fixtures/conflists/${name}.conflist`, 'utf8')
    if (!isText) {
      const starts = [...text.matchAll(/: (?=["{[tf\d])/g)].map(({ index }) => index + 2)
      const start = starts[place % starts.length] ?? 0
      const old = /^("[^"]*"|true|false|\d+)/.exec(text.slice(start))?.[0]
      if (old !== undefined)
        return text.slice(0, start) + JSON.stringify(value) + text.slice(start + old.length)
    }
    const at = place % text.length
    return `${text.slice(0, at)}${typeof value === 'string' ? value : ''}${text.slice(at + 1)}`
  })

test('whatever a file holds: every finding has a place, and what is no JSON is told from what is', async () => {
  await fc.assert(
    fc.asyncProperty(spoilt, async text => {
      const { findings } = await lintAlone([write(text)])
      const isJson = (() => {
        try {
          JSON.parse(text)
          return true
        } catch {
          return false
        }
      })()
      expect(findings.some(({ rule }) => rule === 'json')).toBe(!isJson)
      for (const { line, column, endColumn } of findings)
        expect(line > 0 && column > 0 && endColumn > column).toBe(true)
    }),
    { numRuns: 200 },
  )
})

test('every rule is on its page', () => {
  const page = readFileSync(`${import.meta.dir}/../../docs/command/lint.md`, 'utf8')
  for (const [rule, says] of Object.entries(rules)) expect(page).toContain(`| \`${rule}\` | ${says} |`)
})
