/**
 * Words that people search for: where the Go plugin refuses with a phrase, ours refuses with the same phrase somewhere in its
 * sentence. Both are run; what the Go plugin of today does not say that way is marked.
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { rmSync } from 'node:fs'
import { removeLink } from '../../chain/linux/netlink/link.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, call, execute, peerExecutable, type Verb } from '../fixtures/plugin.ts'
import { every } from './attachment.ts'

const MASTER = 'words0'
const BRIDGE = 'words1'
const FOLDER = '/run/words'
const ipam = { type: 'host-local', dataDir: FOLDER, ranges: [[{ subnet: '10.63.0.0/24' }]] }
const withRanges = (...sets: object[][]) => ({ ipam: { ...ipam, ranges: sets } })

beforeAll(() => {
  using host = hostNamespace()
  host.createLink({ name: MASTER, up: true, kind: { type: 'veth', peer: { name: 'words2' } } })
  host.createLink({ name: BRIDGE, up: true, kind: { type: 'bridge' } }, '10.64.0.9/24')
})

afterAll(() => {
  rmSync(FOLDER, { recursive: true, force: true })
  using host = hostNamespace()
  for (const name of [MASTER, BRIDGE]) removeLink(host.route, name)
})

interface Row {
  plugin: string
  says: string
  config?: object
  verb?: Verb
  args?: string
  netns?: string
  /** Makes the container's eth0, with this address where one is given; prevResult tells of it. */
  chained?: true | string
  /** prevResult, from that of a chained interface. */
  previous?(container: Namespace): object
  /** Does something to the container before the call. */
  before?(container: Namespace): void
  /** Why the Go plugin is not asked: it crashes, or says it otherwise. */
  unasked?: 'crashes' | 'prints a pointer' | 'another sentence since' | 'has no such check'
}

const mac = 'zz:00'
const noMac = `address ${mac}: invalid MAC address`
const master = { master: MASTER, ipam }
const bridge = { bridge: BRIDGE, ipam }
const addresses = (...list: object[]) => ({ ipam: { addresses: list } })

const rows: Row[] = [
  // the run
  ...['bridge', 'ptp', 'macvlan', 'tap', 'host-device', 'dummy', 'loopback', 'tuning'].map(
    (plugin): Row => ({
      plugin,
      netns: '/run/netns/nowhere',
      config: { ...bridge, ...master, device: MASTER, mtu: 1400 },
      ...(plugin === 'tuning' ? { previous: () => ({ cniVersion: '1.1.0', interfaces: [], ips: [] }) } : {}),
      says: 'failed to Statfs "/run/netns/nowhere": no such file or directory',
    }),
  ),
  {
    plugin: 'macvlan',
    netns: '/etc/passwd',
    config: { ...master },
    says: ': unknown FS magic on "/etc/passwd": ',
  },
  { plugin: 'host-local', config: { ipam }, args: 'FOO=x', says: 'ARGS: unknown args ["FOO=x"]' },
  { plugin: 'host-local', config: { ipam }, args: 'FOO', says: 'ARGS: invalid pair "FOO"' },
  {
    plugin: 'host-local',
    config: { ipam },
    args: 'IgnoreUnknown=maybe',
    says: 'ARGS: error parsing value of pair "IgnoreUnknown=maybe": boolean unmarshal error: invalid input maybe',
  },
  {
    plugin: 'loopback',
    config: { prevResult: { cniVersion: '0.4.0' } },
    says: 'could not parse prevResult: result type supports [1.0.0 1.1.0] but unmarshalled CNIVersion is "0.4.0"',
  },
  {
    plugin: 'macvlan',
    config: { cniVersion: '0.2.0', master: MASTER },
    says: 'cannot convert: no valid IP addresses',
  },
  {
    plugin: 'bridge',
    verb: 'CHECK',
    config: { ...bridge, cniVersion: '0.3.1' },
    says: 'config version does not allow CHECK',
  },

  // IPAM
  { plugin: 'static', says: "IPAM config missing 'ipam' key" },
  { plugin: 'host-local', says: "IPAM config missing 'ipam' key" },
  { plugin: 'dhcp', says: "IPAM config missing 'ipam' key", unasked: 'crashes' },
  {
    plugin: 'static',
    config: addresses({ address: '10.10.0.1' }),
    says: "the 'address' field is expected to be in CIDR notation, got: '10.10.0.1'",
  },
  {
    plugin: 'static',
    config: addresses(),
    args: 'IP=10.10.0.1',
    says: "the 'ip' field is expected to be in CIDR notation, got: '10.10.0.1'",
  },
  {
    plugin: 'static',
    config: addresses(),
    args: 'IP=10.1.0.1/8;GATEWAY=x',
    says: 'invalid gateway address: x',
  },
  ...[{ args: { cni: { ips: ['10.10.0.1'] } } }, { runtimeConfig: { ips: ['10.10.0.1'] } }].map(
    (more): Row => ({
      plugin: 'static',
      config: { ...addresses(), ...more },
      says: "an entry in the 'ips' field is NOT in CIDR notation, got: '10.10.0.1'",
    }),
  ),
  {
    plugin: 'static',
    config: addresses({ address: '10.1.0.1/8', gateway: 'x' }),
    says: 'invalid IP address: x',
  },
  { plugin: 'static', config: { ipam: { routes: [{ dst: 'x' }] } }, says: 'invalid CIDR address: x' },
  {
    plugin: 'static',
    config: { ipam: { routes: [{ dst: '10.0.0.0/8', gw: 'x' }] } },
    says: 'invalid IP address: x',
  },
  {
    plugin: 'static',
    config: { cniVersion: '0.2.0', ...addresses({ address: '10.1.0.1/8' }, { address: '10.1.0.2/8' }) },
    says: 'CNI version 0.2.0 does not support more than 1 address per family',
  },
  { plugin: 'static', verb: 'CHECK', config: addresses(), says: 'Required prevResult missing' },
  {
    plugin: 'static',
    verb: 'CHECK',
    config: {
      ...addresses({ address: '10.1.0.1/8', gateway: '10.0.0.1' }),
      prevResult: { cniVersion: '1.1.0', ips: [{ address: '10.1.0.1/8' }] },
    },
    says: 'static: Failed to match addr 10.1.0.1 on interface eth0',
  },
  { plugin: 'host-local', config: { ipam: {} }, says: 'no IP ranges specified' },
  { plugin: 'host-local', config: { ipam: { subnet: 'x' } }, says: 'invalid CIDR address: x' },
  { plugin: 'host-local', config: withRanges([]), says: 'invalid range set 0: empty range set' },
  {
    plugin: 'host-local',
    config: withRanges([{ subnet: '192.0.2.12/24' }]),
    says: 'invalid range set 0: Network has host bits set. For a subnet mask of length 24 the network address is 192.0.2.0',
  },
  {
    plugin: 'host-local',
    config: withRanges([{ subnet: '192.0.2.0/31' }]),
    says: 'Network 192.0.2.0/31 too small to allocate from',
  },
  ...[
    { range: { rangeStart: '192.0.3.0' }, says: 'RangeStart 192.0.3.0 not in network 192.0.2.0/24' },
    { range: { rangeEnd: '192.0.4.0' }, says: 'RangeEnd 192.0.4.0 not in network 192.0.2.0/24' },
    {
      range: { rangeStart: '192.0.2.50', rangeEnd: '192.0.2.40' },
      says: 'RangeStart 192.0.2.50 not in network 192.0.2.0/24',
    },
  ].map(({ range, says }): Row => {
    const config = withRanges([{ subnet: '192.0.2.0/24', ...range }])
    // the Go plugin reads the start before the end: its sentence is its own specs', from a range that is made in one go
    return { plugin: 'host-local', config, says }
  }),
  {
    plugin: 'host-local',
    config: withRanges([{ subnet: '10.1.0.0/22' }, { subnet: '10.1.2.0/24' }]),
    says: 'invalid range set 0: subnets 10.1.0.1-10.1.3.254 and 10.1.2.1-10.1.2.254 overlap',
  },
  {
    plugin: 'host-local',
    config: withRanges([{ subnet: '10.1.0.0/22' }, { subnet: 'fd00::/64' }]),
    says: 'invalid range set 0: mixed address families',
  },
  {
    plugin: 'host-local',
    config: withRanges([{ subnet: '10.1.0.0/22' }], [{ subnet: '10.1.2.0/24' }]),
    says: 'range set 0 overlaps with 1',
  },
  {
    plugin: 'host-local',
    config: { cniVersion: '0.2.0', ...withRanges([{ subnet: '10.1.0.0/24' }], [{ subnet: '10.1.2.0/24' }]) },
    says: 'CNI version 0.2.0 does not support more than 1 address per family',
  },
  {
    plugin: 'host-local',
    config: { ipam },
    args: 'IP=x',
    says: 'error parsing value of pair "IP=x": invalid IP address x',
  },
  { plugin: 'host-local', config: { ipam, runtimeConfig: { ips: ['x'] } }, says: 'invalid IP address x' },
  {
    plugin: 'host-local',
    config: { ipam, runtimeConfig: { ips: ['10.9.9.9'] } },
    says: 'failed to allocate all requested IPs: 10.9.9.9',
  },
  {
    plugin: 'host-local',
    config: { ipam, runtimeConfig: { ips: ['10.63.0.1'] } },
    says: "failed to allocate for range 0: requested ip 10.63.0.1 is subnet's gateway",
  },
  {
    plugin: 'host-local',
    config: { ipam: { ...ipam, resolvConf: '/none' } },
    says: 'open /none: no such file or directory',
  },
  {
    plugin: 'host-local',
    verb: 'CHECK',
    config: { ipam },
    says: 'host-local: Failed to find address added by container',
  },
  {
    plugin: 'dhcp',
    config: { ipam: { type: 'dhcp', daemonSocketPath: '/run/none.sock' } },
    says: 'error dialing DHCP daemon: dial unix /run/none.sock: connect: no such file or directory',
  },
  {
    plugin: 'dhcp',
    config: { ipam: { type: 'dhcp', request: [{ option: 'colour' }] } },
    says: 'Can not parse option "colour"',
    unasked: 'has no such check', // before its daemon answers
  },

  // bridge
  {
    plugin: 'bridge',
    config: { ...bridge, vlan: 4095 },
    says: 'invalid VLAN ID 4095 (must be between 0 and 4094)',
  },
  ...[
    { entry: { minID: 0, maxID: 5 }, says: 'incorrect trunk minID parameter' },
    { entry: { minID: 5, maxID: 4095 }, says: 'incorrect trunk maxID parameter' },
    { entry: { minID: 5, maxID: 4 }, says: 'minID is greater than maxID in trunk parameter' },
    { entry: { maxID: 4 }, says: 'minID and maxID should be configured simultaneously, minID is missing' },
    { entry: { minID: 4 }, says: 'minID and maxID should be configured simultaneously, maxID is missing' },
    { entry: { id: 0 }, says: 'incorrect trunk id parameter' },
  ].map(({ entry, says }): Row => ({ plugin: 'bridge', config: { ...bridge, vlanTrunk: [entry] }, says })),
  {
    plugin: 'bridge',
    config: { ...bridge, disableContainerInterface: true },
    says: 'cannot use IPAM when DisableContainerInterface flag is set',
  },
  {
    plugin: 'bridge',
    config: { ...bridge, hairpinMode: true, promiscMode: true },
    says: 'cannot set hairpin mode and promiscuous mode at the same time',
  },
  {
    plugin: 'bridge',
    config: { ...bridge, isGateway: true },
    says: `"${BRIDGE}" already has an IP address different from 10.63.0.1/24`,
  },
  { plugin: 'bridge', config: { ...bridge, isGateway: true }, says: 'failed to set bridge addr: ' },
  {
    plugin: 'bridge',
    config: { ...bridge, bridge: MASTER },
    says: `failed to create bridge "${MASTER}": "${MASTER}" already exists but is not a bridge`,
  },
  { plugin: 'bridge', config: { ...bridge, runtimeConfig: { mac } }, says: noMac },
  {
    plugin: 'bridge',
    config: { ...bridge, ipMasq: true, ipMasqBackend: 'pf' },
    says: 'unknown ipmasq backend "pf"',
  },
  {
    plugin: 'bridge',
    config: bridge,
    before: container =>
      container.createLink({ name: 'eth0', kind: { type: 'veth', peer: { name: 'eth1' } } }),
    says: 'container veth name ("eth0") peer provided (',
  },
  {
    plugin: 'bridge',
    config: { ...bridge, ipam: { type: 'none' } },
    says: 'failed to find plugin "none" in path [',
  },
  {
    plugin: 'bridge',
    verb: 'CHECK',
    config: { bridge: BRIDGE, ipam: { type: 'static' } },
    says: 'Required prevResult missing',
  },
  {
    plugin: 'bridge',
    verb: 'CHECK',
    config: { bridge: BRIDGE },
    chained: true,
    says: `CNI created bridge ${BRIDGE} in host namespace was not found`,
    unasked: 'another sentence since',
  },

  // what stands on a master
  ...['macvlan', 'vlan'].map(
    (plugin): Row => ({
      plugin,
      config: { ...master, mtu: -100 },
      says: 'invalid MTU -100, must be [0, master MTU(1500)]',
    }),
  ),
  ...['macvlan', 'vlan', 'ipvlan'].flatMap((plugin): Row[] => [
    {
      plugin,
      config: { ...master, mtu: 1501 },
      says: 'invalid MTU 1501, must be [0, master MTU(1500)]',
      ...(plugin === 'ipvlan' ? { unasked: 'has no such check' } : {}),
    },
    { plugin, config: { ...master, master: 'none0' }, says: 'Link not found' },
    {
      plugin,
      config: { ...master, master: 'none0' },
      says: 'failed to lookup master "none0": Link not found',
      ...(plugin === 'ipvlan' ? {} : { unasked: 'another sentence since' }), // the MTU is read first
    },
  ]),
  { plugin: 'macvlan', config: { ...master, mode: 'none' }, says: 'unknown macvlan mode: "none"' },
  { plugin: 'ipvlan', config: { ...master, mode: 'none' }, says: 'unknown ipvlan mode: "none"' },
  ...['macvlan', 'ipvlan'].map(
    (plugin): Row => ({ plugin, config: { ipam }, says: 'no default route interface found' }),
  ),
  { plugin: 'macvlan', config: { ...master, mac }, says: `invalid args ${mac} for MAC addr: ${noMac}` },
  {
    plugin: 'ipvlan',
    config: {
      ipam,
      prevResult: { cniVersion: '1.1.0', interfaces: [{ name: 'a' }, { name: 'b' }], ips: [] },
    },
    says: 'chained master failure. PrevResult lacks a single named interface',
  },
  {
    plugin: 'vlan',
    config: { ipam },
    says: '"master" field is required. It specifies the host interface name to create the VLAN for',
  },
  ...[-1, 5000].map(
    (vlanId): Row => ({
      plugin: 'vlan',
      config: { ...master, vlanId },
      says: `invalid VLAN ID ${vlanId} (must be between 0 and 4095 inclusive)`,
    }),
  ),
  { plugin: 'dummy', says: 'dummy interface requires an IPAM configuration' },
  { plugin: 'ptp', says: 'no plugin name provided' },
  { plugin: 'ptp', config: { ipam, ipMasq: true, ipMasqBackend: 'pf' }, says: 'unknown ipmasq backend "pf"' },
  {
    plugin: 'tap',
    config: { ipam, mac, owner: 0, group: 0 },
    says: `invalid args ${mac} for MAC addr: ${noMac}`,
  },
  { plugin: 'tap', config: { ipam, bridge: 'none0' }, says: 'failed to get bridge none0: Link not found' },

  // host-device
  { plugin: 'host-device', says: 'specify either "device", "hwaddr", "kernelpath" or "pciBusID"' },
  { plugin: 'host-device', config: { device: 'none0' }, says: 'failed to find host device: Link not found' },
  {
    plugin: 'host-device',
    config: { hwaddr: '02:00:00:00:00:99' },
    says: 'failed to find host device: failed to find physical interface',
  },
  {
    plugin: 'host-device',
    config: { hwaddr: mac },
    says: `failed to find host device: failed to parse MAC address "${mac}": ${noMac}`,
  },
  {
    plugin: 'host-device',
    config: { kernelpath: '/sys/class/net' },
    says: 'kernel device path "/sys/class/net" must be absolute and begin with /sys/devices/',
  },
  {
    plugin: 'host-device',
    config: { runtimeConfig: { deviceID: '0000:ff:1f.7' } },
    says: 'runtime config DeviceID 0000:ff:1f.7 not found or unsupported',
  },

  // CHECK of what makes an interface
  ...['macvlan', 'ptp', 'tap', 'host-device'].flatMap((plugin): Row[] => {
    const config =
      plugin === 'ptp'
        ? { ipam: { ...addresses().ipam, type: 'static' } }
        : { device: MASTER, master: MASTER }
    const check = { plugin, verb: 'CHECK', config } as const
    const nowhere = (container: Namespace) => ({
      cniVersion: '1.1.0',
      interfaces: [{ name: 'eth0', sandbox: container.path }],
      ips: [],
    })
    return [
      { ...check, says: plugin === 'macvlan' ? 'prevResult missing' : 'Required prevResult missing' },
      {
        ...check,
        previous: () => ({
          cniVersion: '1.1.0',
          interfaces: [{ name: 'eth0', sandbox: '/run/netns/other' }],
          ips: [],
        }),
        says: "doesn't match configured netns: /",
        ...(plugin === 'tap' ? { unasked: 'another sentence since' } : {}),
      },
      {
        ...check,
        previous: nowhere,
        says: 'ontainer Interface name in prevResult: eth0 not found',
        ...(plugin === 'tap' ? { unasked: 'has no such check' } : {}),
      },
    ]
  }),

  // what comes after
  { plugin: 'sbr', says: 'This plugin must be called as chained plugin' },
  { plugin: 'bandwidth', says: 'must be called as chained plugin', unasked: 'crashes' },
  { plugin: 'tuning', config: { mtu: 1400 }, says: 'Required prevResult missing' },
  { plugin: 'vrf', config: { vrfname: 'blue' }, says: 'missing prevResult from earlier plugin' },
  { plugin: 'vrf', chained: true, says: 'configuration is expected to have a valid vrf name' },
  { plugin: 'sbr', chained: true, says: 'No IP addresses supplied on interface: eth0' },
  {
    plugin: 'sbr',
    previous: () => ({
      cniVersion: '1.1.0',
      interfaces: [{ name: 'eth0' }],
      ips: [{ address: '10.1.0.5/16', interface: 0 }],
    }),
    says: 'Cannot find network interface eth0: Link not found',
  },
  { plugin: 'bandwidth', config: { ingressRate: 8000 }, says: 'if rate is set, burst must also be set' },
  { plugin: 'bandwidth', config: { egressBurst: 8000 }, says: 'if burst is set, rate must also be set' },
  {
    plugin: 'bandwidth',
    config: { ingressRate: 8000, ingressBurst: 2 ** 35 },
    says: 'burst cannot be more than 4GB',
  },
  {
    plugin: 'bandwidth',
    config: { ingressRate: 8000, ingressBurst: 8000 },
    previous: container => ({
      cniVersion: '1.1.0',
      interfaces: [{ name: 'eth0', sandbox: container.path }],
      ips: [],
    }),
    says: 'container interface eth0 has no veth peer: could not look up "eth0": Link not found',
  },
  {
    plugin: 'bandwidth',
    config: { ingressRate: 8000, ingressBurst: 8000 },
    previous: () => ({ cniVersion: '1.1.0', interfaces: [], ips: [] }),
    says: 'no interfaces provided',
  },
  { plugin: 'tuning', chained: true, config: { mac }, says: `invalid args ${mac} for MAC addr: ${noMac}` },
  {
    plugin: 'tuning',
    config: { mtu: 1400 },
    previous: () => ({ cniVersion: '1.1.0', interfaces: [], ips: [] }),
    says: 'failed to get "eth0": Link not found',
  },
  {
    plugin: 'tuning',
    chained: true,
    config:
      '{"cniVersion":"1.1.0","name":"n","sysctl":{"net.x":"1","net.x":"2"},"prevResult":{"cniVersion":"1.1.0","ips":[]}}' as unknown as object,
    says: 'duplicated sysctl keys are not allowed',
  },
  {
    plugin: 'tuning',
    chained: true,
    config: { sysctl: { 'kernel.shmmax': '1' } },
    says: 'invalid net sysctl key: "kernel',
    unasked: 'another sentence since', // with slashes in the place of dots
  },
  ...[
    { config: { mtu: 1400 }, says: 'Error: Tuning configured MTU of eth0 is 1400, current value is 1500' },
    {
      config: { txQLen: 5 },
      says: 'Error: Tuning configured Transmit Queue Length of eth0 is 5, current value is 1000',
    },
    {
      config: { allmulti: true },
      says: 'Error: Tuning configured all-multicast mode of eth0 is true, current value is false',
    },
    {
      config: { mac: '02:00:00:00:00:09' },
      says: 'Error: Tuning configured Ethernet of eth0 is 02:00:00:00:00:09, current value is ',
    },
  ].map(
    ({ config, says }): Row => ({
      plugin: 'tuning',
      verb: 'CHECK',
      chained: true,
      config,
      says,
      ...('mtu' in config || 'mac' in config ? {} : { unasked: 'prints a pointer' }),
    }),
  ),
]

const published = (hostPort: number, containerPort: number) => ({
  runtimeConfig: { portMappings: [{ hostPort, containerPort, protocol: 'tcp' }] },
})

/** What filters packets. */
const filters: Row[] = [
  { plugin: 'portmap', config: published(0, 80), chained: true, says: 'Invalid host port number: 0' },
  { plugin: 'portmap', config: published(80, 0), chained: true, says: 'Invalid container port number: 0' },
  { plugin: 'portmap', config: published(80, 80), says: 'must be called as chained plugin' },
  { plugin: 'portmap', verb: 'CHECK', config: published(80, 80), says: 'Required prevResult missing' },
  { plugin: 'portmap', config: { backend: 'pf', ...published(80, 80) }, says: 'unrecognized backend "pf"' },
  ...[-1, 32].map(
    (markMasqBit): Row => ({
      plugin: 'portmap',
      config: { markMasqBit, ...published(80, 80) },
      says: 'MasqMarkBit must be between 0 and 31',
    }),
  ),
  {
    plugin: 'portmap',
    config: { markMasqBit: 5, externalSetMarkChain: 'X', ...published(80, 80) },
    says: 'Cannot specify externalSetMarkChain and markMasqBit',
  },
  {
    plugin: 'portmap',
    config: { backend: 'iptables', conditionsV4: ['a'], conditionsV6: ['b'], ...published(80, 80) },
    says: 'iptables backend was requested but configuration contains nftables-specific options [conditionsV4 conditionsV6]',
  },
  {
    plugin: 'portmap',
    config: {
      backend: 'nftables',
      externalSetMarkChain: 'X',
      conditionsV4: ['-a'],
      conditionsV6: ['-b'],
      ...published(80, 80),
    },
    says: 'nftables backend was requested but configuration contains iptables-specific options [externalSetMarkChain conditionsV4 conditionsV6]',
  },
  { plugin: 'firewall', says: 'missing prevResult from earlier plugin' },
  { plugin: 'firewall', verb: 'CHECK', says: 'missing prevResult from earlier plugin' },
  {
    plugin: 'firewall',
    config: { ingressPolicy: 'none' },
    previous: () => ({ cniVersion: '1.1.0', interfaces: [], ips: [{ address: '10.1.0.5/16' }] }),
    says: 'unknown ingress policy: "none"',
  },
]

function callOf({ config = {}, args, netns, chained, previous, before }: Row, container: Namespace): Call {
  if (chained) {
    const address = typeof chained === 'string' ? [chained] : []
    container.createLink({ name: 'eth0', kind: { type: 'veth', peer: { name: 'eth1' } } }, ...address)
  }
  before?.(container)
  const told = { cniVersion: '1.1.0', interfaces: [{ name: 'eth0', sandbox: container.path }], ips: [] }
  const prevResult = previous?.(container) ?? (chained ? told : undefined)
  return {
    netns: netns ?? container,
    containerId: container.name,
    ...(args ? { args } : {}),
    config: typeof config === 'string' ? config : { ...(prevResult ? { prevResult } : {}), ...config },
  }
}

const titled = [...rows, ...filters].map(row => [`${row.plugin}: ${row.says}`, row] as const)

describe('what the Go plugin says, ours says too', () => {
  test.each(titled)('%s', async (_, row) => {
    const { plugin, says, unasked } = row
    const verb = row.verb ?? 'ADD'
    if (!unasked) {
      using container = freshNamespace('words')
      const go = execute(peerExecutable(plugin), verb, callOf(row, container))
      expect(go.json.msg).toContain(says)
      execute(peerExecutable(plugin), 'DEL', {
        ...callOf({ plugin, says }, container),
        config: row.config ?? {},
      }) // what it leaves
    }
    using container = freshNamespace('words')
    const own = every[plugin]
    if (!own) throw new Error(`there is no plugin ${plugin}`)
    const us = await call(own, verb, { ...callOf(row, container), delegates: Object.values(every) })
    expect(us.json?.msg).toContain(says)
    await call(own, 'DEL', {
      ...callOf({ plugin, says }, container),
      config: row.config ?? {},
      delegates: Object.values(every),
    })
  })
})

test('no plugin with a counterpart in Go is left out', () => {
  const covered = new Set(titled.map(([, { plugin }]) => plugin))
  const elsewhere = ['flannel'] // is not among them
  expect(
    Object.keys(every)
      .filter(name => !covered.has(name))
      .sort(),
  ).toEqual(elsewhere.sort())
})
