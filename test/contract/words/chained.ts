/** What plugins that come after another one refuse, but for those that filter. */
import { mac, noMac, type Row } from './row.ts'

export const ofChained: Row[] = [
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
