/** What the IPAM plugins refuse. */
import { addresses, ipam, type Row, withRanges } from './row.ts'

export const ofIpam: Row[] = [
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
]
