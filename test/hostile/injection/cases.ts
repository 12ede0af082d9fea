/** The plugins whose calls are refused something, each as it is used: what is there before, and what is called. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { createLink, findLink, removeLink } from '../../../chain/linux/netlink/link.ts'
import { hostNamespace, type Namespace } from '../../fixtures/namespace.ts'
import type { Feature } from '../../kernel/features.ts'

export interface Step {
  type: string
  [key: string]: unknown
}

export interface Case {
  name: string
  needs?: readonly Feature[]
  /** What the container has before, by plugins that are not disturbed. */
  before?: readonly Step[]
  step: Step
  /** Makes what the host or the container must have. */
  prepare?(container: Namespace): void
  /** Takes away what stays by intention: so that the next call has to make it again. */
  tidy?(): void
  /** Sysctls of the container that are to come back. */
  sysctls?: readonly string[]
  startsPrograms?: true
  /** Other cases show the same, and it is for a kernel that is slow: left to the long form. */
  atLength?: true
}

const ipam = { type: 'host-local', ranges: [[{ subnet: '10.50.0.0/16' }], [{ subnet: 'fd00:50::/64' }]] }
const BRIDGE = 'inject0'
const plain: Step = { type: 'bridge', bridge: BRIDGE, isGateway: true, ipam }
const full: Step = { ...plain, ipMasq: true, macspoofchk: true, hairpinMode: true }
const mappings = [
  { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
  { hostPort: 8081, containerPort: 53, protocol: 'udp' },
]
const portmap: Step = { type: 'portmap', runtimeConfig: { portMappings: mappings } }

function withoutBridge(): void {
  using host = hostNamespace()
  for (const name of [`${BRIDGE}.7`, BRIDGE]) removeLink(host.route, name)
}

/** A link of the host that is there again, should a namespace have taken it along. */
function withLink(name: string): () => void {
  return () => {
    using host = hostNamespace()
    if (!findLink(host.route, name))
      createLink(host.route, { name, up: true, kind: { type: 'veth', peer: { name: `${name}p` } } })
  }
}

const ofSecondKernel: readonly Feature[] = ['bridge-vlan', 'dummy', 'ipvlan', 'vlan']

const SUBNET_FILE = '/run/flannel-inject.env'

/** The same plugin with flannel before it. Its addresses are those of flanneld's subnet. */
function underFlannel({ name, step: { ipam: _, ...delegate }, ...rest }: Case): Case {
  return {
    ...rest,
    name: `${name}, under flannel`,
    ...(rest.needs?.some(need => ofSecondKernel.includes(need)) ? { atLength: true } : {}),
    step: { type: 'flannel', subnetFile: SUBNET_FILE, delegate },
    prepare(container) {
      rest.prepare?.(container)
      mkdirSync('/run/flannel', { recursive: true })
      const lines = ['FLANNEL_NETWORK=10.50.0.0/16', 'FLANNEL_SUBNET=10.50.7.1/24', 'FLANNEL_MTU=1450']
      writeFileSync(SUBNET_FILE, [...lines, 'FLANNEL_IPMASQ=true', ''].join('\n'))
    },
  }
}

const main: Case[] = [
  { name: 'bridge', step: full },
  { name: 'bridge that is not there yet', step: full, tidy: withoutBridge },
  {
    name: 'bridge with VLANs',
    needs: ['bridge-vlan'],
    step: { ...plain, vlan: 7 },
    tidy: withoutBridge,
  },
  { name: 'ptp', step: { type: 'ptp', ipMasq: true, ipam } },
  {
    name: 'macvlan',
    needs: ['macvlan'],
    prepare: withLink('injmaster'),
    step: { type: 'macvlan', master: 'injmaster', ipam },
  },
  {
    name: 'ipvlan',
    needs: ['ipvlan'],
    prepare: withLink('injmaster'),
    step: { type: 'ipvlan', master: 'injmaster', ipam },
  },
  {
    name: 'vlan',
    needs: ['vlan'],
    prepare: withLink('injmaster'),
    step: { type: 'vlan', master: 'injmaster', vlanId: 9, ipam },
  },
  { name: 'tap', needs: ['tun'], step: { type: 'tap', ipam } },
  { name: 'dummy', needs: ['dummy'], step: { type: 'dummy', ipam } },
  {
    name: 'host-device',
    prepare: withLink('injdevice'),
    step: { type: 'host-device', device: 'injdevice', ipam },
  },
]

const meta: Case[] = [
  { name: 'portmap', before: [full], step: portmap },
  {
    name: 'portmap over ptp',
    before: [{ type: 'ptp', ipam }],
    step: { ...portmap, conditionsV4: ['ip', 'saddr', '192.0.2.0/24'] },
    startsPrograms: true,
  },
  {
    name: 'portmap by iptables',
    before: [full],
    step: { ...portmap, backend: 'iptables' },
    startsPrograms: true,
  },
  { name: 'firewall', before: [full], step: { type: 'firewall', ingressPolicy: 'same-bridge' } },
  {
    name: 'firewall by iptables',
    before: [full],
    step: { type: 'firewall', backend: 'iptables', iptablesAdminChainName: 'ADMIN' },
    startsPrograms: true,
  },
  {
    name: 'bandwidth',
    needs: ['tbf', 'ingress', 'ifb'],
    before: [plain],
    step: {
      type: 'bandwidth',
      ingressRate: 8e6,
      ingressBurst: 8e6,
      egressRate: 8e6,
      egressBurst: 8e6,
      unshapedSubnets: ['10.0.0.0/8'],
    },
  },
  { name: 'sbr', before: [{ ...plain, isDefaultGateway: true }], step: { type: 'sbr' } },
  { name: 'vrf', needs: ['vrf'], before: [plain], step: { type: 'vrf', vrfname: 'blue' } },
  {
    name: 'tuning',
    before: [plain],
    step: {
      type: 'tuning',
      mac: '02:00:00:00:50:50',
      mtu: 1400,
      promisc: true,
      allmulti: true,
      sysctl: { 'net.ipv4.conf.IFNAME.log_martians': '1', 'net.ipv4.conf.IFNAME.rp_filter': '2' },
    },
    sysctls: ['net/ipv4/conf/eth0/log_martians', 'net/ipv4/conf/eth0/rp_filter'],
  },
]

const iptables: Case = {
  name: 'bridge by iptables',
  step: { ...plain, ipMasq: true, ipMasqBackend: 'iptables' },
  startsPrograms: true,
}

export const cases: readonly Case[] = [
  ...main,
  iptables,
  ...main.map(underFlannel),
  { name: 'loopback', step: { type: 'loopback' } },
  ...meta,
]
