/** Faults that `catena lint` is to find in a file alone, each with what is found and where, and what the tests of it write. */
export type Json = Record<string, unknown>

export const list = (plugins: unknown[], more: Json = {}) => ({
  cniVersion: '1.1.0',
  name: 'web',
  plugins,
  ...more,
})
export const range = (subnet: string, more: Json = {}) => ({
  type: 'host-local',
  ranges: [[{ subnet, ...more }]],
})
export const bridge = (more: Json = {}) => ({
  type: 'bridge',
  bridge: 'web0',
  isGateway: true,
  ipam: range('10.22.0.0/16'),
  ...more,
})
export const portmap = (more: Json = {}) => ({
  type: 'portmap',
  capabilities: { portMappings: true },
  ...more,
})
export const dummy = { type: 'dummy', ipam: { type: 'static', addresses: [{ address: '10.9.0.1/24' }] } }

/** Each fault with what is found, which is all that is found. */
export const faults: [string, unknown, string, ...string[]][] = [
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
