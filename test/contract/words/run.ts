/** What the run refuses, for whichever plugin. */
import { bridge, ipam, MASTER, master, type Row } from './row.ts'

export const ofTheRun: Row[] = [
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
]
