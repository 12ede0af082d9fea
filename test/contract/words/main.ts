/** What plugins that make an interface refuse. */
import type { Namespace } from '../../fixtures/namespace.ts'
import { addresses, BRIDGE, bridge, ipam, MASTER, mac, master, noMac, type Row } from './row.ts'

export const ofMain: Row[] = [
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
]
