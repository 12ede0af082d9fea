/**
 * Every plugin of the executable in a list as it is used: what the node has to have, the list for a container, and the same
 * configuration as somebody may have changed or broken it since ADD. The tests of this folder run every row.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { findLink, removeLink } from '../../chain/linux/netlink/link.ts'
import { hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { daemonAt, dnsmasq } from '../ipam/dhcp/network.ts'
import type { Feature } from '../kernel/features.ts'

export interface Step {
  type: string
  [key: string]: unknown
}

/** What a row's containers share. */
export interface Node {
  /** A container's list of plugins. */
  steps(container: Namespace): Step[]
  /** Takes away or undoes what is not the plugins' to remove, once a container's DEL is done. */
  tidy?(container: Namespace): Promise<void> | void
  /** The same list for another network: whose addresses, bridge and subnets are others. */
  elsewhere(steps: Step[]): Step[]
  /** Ends the daemon that the plugin talks to. */
  stopDaemon?(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

export interface Row {
  plugin: string
  /** What tells this row from others of the plugin. */
  variant?: string
  needs?: readonly Feature[]
  /** Nothing of its list makes rules, so there are none to flush. */
  withoutRules?: true
  node(): Promise<Node> | Node
  /** Keys of the plugin's configuration as an administrator has changed them; undefined takes one away. */
  changed: object
  /** Keys with values that the schema refuses. */
  refused: object
}

export function titleOf({ plugin, variant }: Row): string {
  return variant ? `${plugin} (${variant})` : plugin
}

/** What the runtime hands to the plugins that say they want it; they take it as `runtimeConfig`. */
const publishing = (container: Namespace) => {
  const hostPort = 20_000 + Number(container.name.split('-').at(-1))
  return {
    portMappings: ['tcp', 'udp'].map(protocol => ({ hostPort, containerPort: 80, protocol })),
  }
}

const ranges = [[{ subnet: '10.40.0.0/16' }], [{ subnet: 'fd00:40::/64' }]]
const routes = [{ dst: '0.0.0.0/0' }]
const hostLocal = { type: 'host-local', ranges, routes }
const otherRanges = { type: 'host-local', ranges: [[{ subnet: '10.41.0.0/24' }]] }
const brokenRanges = { type: 'host-local', ranges: 'none', routes: 7, dataDir: {} }

const BRIDGE = 'contract4'
const bridge = (more: object = {}): Step => ({
  type: 'bridge',
  bridge: BRIDGE,
  isDefaultGateway: true,
  ipam: hostLocal,
  ...more,
})
const masquerading = { ipMasq: true, hairpinMode: true }
const portmap = (container: Namespace, more: object = {}): Step => ({
  type: 'portmap',
  runtimeConfig: publishing(container),
  ...more,
})

/** What is 4 in the names and addresses of a row's network is 5 in those of the other one. */
function withFives(steps: Step[]): Step[] {
  return JSON.parse(
    JSON.stringify(steps).replaceAll(/10\.4|fd00:4|fd4|contract4|subnet-4/g, text => text.replace('4', '5')),
  )
}

function node(steps: Node['steps'], more: Partial<Node> = {}): Node {
  return {
    steps,
    elsewhere: withFives,
    ...more,
    async [Symbol.asyncDispose]() {
      await more[Symbol.asyncDispose]?.()
      using host = hostNamespace()
      for (const name of [BRIDGE, 'contract5']) removeLink(host.route, name)
    },
  }
}

/** A link of the host that others stand on. */
function withMaster(steps: (master: string) => Node['steps']): Node {
  using host = hostNamespace()
  host.createLink({ name: 'master0', kind: { type: 'veth', peer: { name: 'master1' } } })
  return node(steps('master0'), {
    async [Symbol.asyncDispose]() {
      using host = hostNamespace()
      removeLink(host.route, 'master0')
    },
  })
}

/** A device for each container. One that went with its namespace is as good as taken away. */
function withDevices(): Node {
  const deviceOf = ({ name }: Namespace) => `nic${name.split('-').at(-1)}`
  const createFor = (container: Namespace) => {
    using host = hostNamespace()
    const device = deviceOf(container)
    if (!findLink(host.route, device)) {
      const kind = { type: 'veth', peer: { name: `${device}p` } } as const
      host.createLink({ name: device, kind })
    }
    return device
  }
  return node(container => [{ type: 'host-device', device: createFor(container), ipam: hostLocal }], {
    tidy(container) {
      using host = hostNamespace()
      removeLink(host.route, deviceOf(container))
      removeLink(host.route, `${deviceOf(container)}p`)
    },
  })
}

const FLANNEL = '/run/flannel'

/** Two networks, with a file for each. */
function withFlanneld(): Node {
  mkdirSync(FLANNEL, { recursive: true })
  for (const number of [4, 5]) {
    const lines = [
      `FLANNEL_NETWORK=10.${number}2.0.0/16`,
      `FLANNEL_SUBNET=10.${number}2.7.1/24`,
      `FLANNEL_IPV6_NETWORK=fd${number}2::/48`,
      `FLANNEL_IPV6_SUBNET=fd${number}2:0:0:7::1/64`,
      'FLANNEL_MTU=1450',
      'FLANNEL_IPMASQ=false',
    ]
    writeFileSync(`${FLANNEL}/subnet-${number}.env`, `${lines.join('\n')}\n`)
  }
  const subnetFile = `${FLANNEL}/subnet-4.env`
  const end = () => rmSync(FLANNEL, { recursive: true, force: true })
  const delegate = { bridge: BRIDGE, hairpinMode: true, isDefaultGateway: true }
  return node(container => [{ type: 'flannel', subnetFile, delegate }, portmap(container)], {
    stopDaemon: async () => end(),
    [Symbol.asyncDispose]: async () => end(),
  })
}

let daemons = 0

/** A bridge with a DHCP server, and the daemon that keeps the leases. */
async function withDhcp(): Promise<Node> {
  using host = hostNamespace()
  const address = '02:00:00:00:09:01'
  host.createLink({ name: BRIDGE, address, kind: { type: 'bridge' } }, '10.9.0.1/24')
  const server = await dnsmasq(host, { interface: BRIDGE })
  const socket = `/run/cni/contract-${++daemons}.sock`
  let leaseClient: Awaited<ReturnType<typeof daemonAt>> | undefined = await daemonAt(socket)
  const stop = async () => {
    await leaseClient?.end()
    leaseClient = undefined
  }
  const ipam = { type: 'dhcp', daemonSocketPath: socket }
  return node(() => [bridge({ isDefaultGateway: false, ipam })], {
    elsewhere: steps => steps, // there is one server, which gives everybody another address
    stopDaemon: stop,
    /** The next daemon reads what DEL has noted, and gives the lease back. */
    async tidy() {
      if (leaseClient) return
      leaseClient = await daemonAt(socket)
      await leaseClient.event('released')
    },
    async [Symbol.asyncDispose]() {
      await stop()
      await server.stop()
    },
  })
}

const sharing = { steps: (more: object = {}) => [bridge({ ...masquerading, ...more })] }

/** Chained behind a bridge that needs no nf_tables, for kernels without it. */
const behindBridge = (step: Step): Node => node(() => [bridge(), step])

export const rows: readonly Row[] = [
  {
    plugin: 'bridge',
    node: () => node(() => sharing.steps({ macspoofchk: true })),
    changed: { bridge: 'other0', ipMasq: false, macspoofchk: false, vlan: 7, ipam: otherRanges },
    refused: {
      bridge: 7,
      ipMasq: 'yes',
      mtu: 2 ** 31,
      vlan: 'x',
      vlanTrunk: [{ id: 'x' }],
      ipam: brokenRanges,
    },
  },
  {
    plugin: 'bridge',
    variant: 'without addresses',
    node: () => node(() => [{ type: 'bridge', bridge: BRIDGE }]),
    changed: { bridge: 'other0' },
    refused: { bridge: null, ipam: 'none' },
  },
  {
    plugin: 'loopback',
    node: () => node(() => [...sharing.steps(), { type: 'loopback' }]),
    changed: { more: 'than it knows' },
    refused: {},
  },
  {
    plugin: 'ptp',
    node: () => node(() => [{ type: 'ptp', ipMasq: true, ipam: hostLocal }]),
    changed: { ipMasq: false, mtu: 1400, ipam: otherRanges },
    refused: { ipMasq: 'yes', ipMasqBackend: 'pf', mtu: 'big', ipam: brokenRanges },
  },
  {
    plugin: 'macvlan',
    needs: ['macvlan'],
    node: () =>
      withMaster(master => () => [
        { type: 'macvlan', master, ipam: hostLocal },
        { type: 'tuning', mtu: 1400 },
      ]),
    changed: { master: 'other0', mode: 'vepa', ipam: otherRanges },
    refused: { master: 7, mode: 'none', mtu: 'x', ipam: brokenRanges },
  },
  {
    plugin: 'host-device',
    node: withDevices,
    changed: { device: 'other0', ipam: otherRanges },
    refused: { device: 7, hwaddr: 7, ipam: brokenRanges },
  },
  {
    plugin: 'vlan',
    needs: ['vlan'],
    withoutRules: true,
    node: () => {
      let id = 6
      return withMaster(master => () => [{ type: 'vlan', master, vlanId: ++id, ipam: hostLocal }])
    },
    changed: { master: 'other0', vlanId: 99, ipam: otherRanges },
    refused: { master: 7, vlanId: 5000, ipam: brokenRanges },
  },
  {
    plugin: 'ipvlan',
    needs: ['ipvlan'],
    withoutRules: true,
    node: () => withMaster(master => () => [{ type: 'ipvlan', master, ipam: hostLocal }]),
    changed: { master: 'other0', mode: 'l3', ipam: otherRanges },
    refused: { master: 7, mode: 'l9', ipam: brokenRanges },
  },
  {
    plugin: 'tap',
    needs: ['tun'],
    node: () => node(() => [{ type: 'tap', ipam: hostLocal }]),
    changed: { multiQueue: true, bridge: 'other0', ipam: otherRanges },
    refused: { multiQueue: 'x', owner: -1, bridge: 7, ipam: brokenRanges },
  },
  {
    plugin: 'dummy',
    needs: ['dummy'],
    withoutRules: true,
    node: () => node(() => [{ type: 'dummy', ipam: hostLocal }]),
    changed: { ipam: otherRanges },
    refused: { ipam: brokenRanges },
  },
  {
    plugin: 'host-local',
    node: () => node(() => [{ type: 'ptp', ipam: hostLocal }]),
    changed: { ipam: otherRanges },
    refused: { ipam: brokenRanges },
  },
  {
    plugin: 'dhcp',
    node: withDhcp,
    changed: { bridge: 'other0' },
    refused: { mtu: 'x' },
  },
  {
    plugin: 'static',
    node: () => {
      let last = 1
      const addressed = () => [{ address: `10.43.0.${++last}/24`, gateway: '10.43.0.1' }]
      return node(() => [bridge({ ...masquerading, ipam: { type: 'static', addresses: addressed() } })])
    },
    changed: { ipam: { type: 'static', addresses: [] } },
    refused: { ipam: { type: 'static', addresses: [{ address: 'none' }], routes: 'none' } },
  },
  {
    plugin: 'portmap',
    variant: 'over ptp',
    node: () => node(container => [{ type: 'ptp', ipMasq: true, ipam: hostLocal }, portmap(container)]),
    changed: { snat: false, masqAll: true },
    refused: { snat: 'x', conditionsV4: 7, runtimeConfig: { portMappings: [{ hostPort: 'x' }] } },
  },
  {
    plugin: 'portmap',
    variant: 'over ptp, iptables',
    node: () =>
      node(container => [
        { type: 'ptp', ipMasq: true, ipMasqBackend: 'iptables', ipam: hostLocal },
        portmap(container, { backend: 'iptables' }),
      ]),
    changed: { snat: false, backend: 'nftables' },
    refused: { snat: 'x', backend: 7, runtimeConfig: { portMappings: [{ hostPort: 'x' }] } },
  },
  {
    plugin: 'portmap',
    variant: 'iptables',
    node: () =>
      node(container => [
        bridge({ ...masquerading, ipMasqBackend: 'iptables' }),
        portmap(container, { backend: 'iptables', conditionsV4: ['-s', '192.0.2.0/24'] }),
      ]),
    changed: { snat: false, backend: 'nftables', conditionsV4: undefined },
    refused: { snat: 'x', backend: 7, runtimeConfig: { portMappings: [{ hostPort: 'x' }] } },
  },
  {
    plugin: 'portmap',
    node: () =>
      node(container => [
        ...sharing.steps(),
        portmap(container, { conditionsV4: ['ip', 'saddr', '192.0.2.0/24'] }),
      ]),
    changed: { snat: false, conditionsV4: undefined, masqAll: true },
    refused: { snat: 'x', conditionsV4: 7, runtimeConfig: { portMappings: [{ hostPort: 'x' }] } },
  },
  {
    plugin: 'firewall',
    variant: 'same-bridge',
    node: () => node(() => [...sharing.steps(), { type: 'firewall', ingressPolicy: 'same-bridge' }]),
    changed: { backend: 'iptables', ingressPolicy: 'open' },
    refused: { backend: 7, ingressPolicy: 'none', iptablesAdminChainName: 7, firewalldZone: {} },
  },
  {
    plugin: 'firewall',
    variant: 'isolated',
    node: () => node(() => [...sharing.steps(), { type: 'firewall', ingressPolicy: 'isolated' }]),
    changed: { ingressPolicy: 'same-bridge' },
    refused: { ingressPolicy: 7 },
  },
  {
    plugin: 'firewall',
    variant: 'iptables',
    node: () =>
      node(() => [
        ...sharing.steps({ ipMasqBackend: 'iptables' }),
        { type: 'firewall', backend: 'iptables', iptablesAdminChainName: 'ADMIN' },
      ]),
    changed: { backend: undefined, iptablesAdminChainName: 'OTHER' },
    refused: { backend: 7, ingressPolicy: 'none' },
  },
  {
    plugin: 'firewall',
    variant: 'iptables, isolated',
    node: () =>
      node(() => [
        ...sharing.steps({ ipMasqBackend: 'iptables' }),
        { type: 'firewall', backend: 'iptables', ingressPolicy: 'isolated' },
      ]),
    changed: { backend: undefined, ingressPolicy: 'open' },
    refused: { backend: 7, ingressPolicy: 'none' },
  },
  {
    plugin: 'bandwidth',
    needs: ['tbf', 'ingress', 'ifb'],
    node: () =>
      behindBridge({
        type: 'bandwidth',
        runtimeConfig: {
          bandwidth: { ingressRate: 8e6, ingressBurst: 8e6, egressRate: 8e6, egressBurst: 4294967295 },
        },
      }),
    changed: { ingressRate: 8000, ingressBurst: 8000, shapedSubnets: ['10.0.0.0/8'] },
    refused: { ingressRate: -1, ingressBurst: 'x', unshapedSubnets: ['none'] },
  },
  {
    plugin: 'flannel',
    node: withFlanneld,
    changed: { subnetFile: '/run/other/subnet.env', delegate: { type: 'ptp' } },
    refused: { delegate: { name: 'x', ipam: {}, type: 7 }, ipam: 'none' },
  },
  {
    plugin: 'sbr',
    node: () => behindBridge({ type: 'sbr' }),
    changed: { table: 77 },
    refused: { table: 'main' },
  },
  {
    plugin: 'vrf',
    needs: ['vrf'],
    withoutRules: true,
    node: () => behindBridge({ type: 'vrf', vrfname: 'blue' }),
    changed: { vrfname: 'red', table: 77 },
    refused: { vrfname: 7, table: -1 },
  },
  {
    plugin: 'tuning',
    node: () =>
      node(() => [
        ...sharing.steps(),
        {
          type: 'tuning',
          mtu: 1400,
          promisc: true,
          allmulti: true,
          sysctl: { 'net.ipv4.conf.IFNAME.rp_filter': '2' },
        },
      ]),
    changed: { mtu: undefined, promisc: undefined, allmulti: undefined, sysctl: { 'kernel.none': '1' } },
    refused: { mtu: 'x', promisc: 7, sysctl: { 'net.ipv4.ip_forward': 7 }, mac: 7 },
  },
]
