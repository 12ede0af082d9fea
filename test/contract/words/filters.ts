/** What plugins that filter packets refuse. */
import type { Row } from './row.ts'

const published = (hostPort: number, containerPort: number) => ({
  runtimeConfig: { portMappings: [{ hostPort, containerPort, protocol: 'tcp' }] },
})

export const ofFilters: Row[] = [
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
