/** What is measured: lists of plugins with their configurations, the same for both sides, and the host that they need. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import type { Feature } from '../kernel/features.ts'

export interface Step {
  type: string
  [key: string]: unknown
}

export interface Case {
  name: string
  /** Called in this order by ADD, backwards by DEL, each with the result of the one before. */
  plugins: Step[]
  /** The plugins that get a row of their own; all when absent, and one for their sum when they are several. */
  rows?: string[]
  /** CNI_IFNAME. */
  interface?: string
  /** Helper programs that the host has, and no others. */
  programs?: string[]
  needs?: Feature[]
  /** There is no Go executable to be measured beside. */
  alone?: true
  /** Starts what has to run during one run of a side, whose executables are in the folder. */
  start?(host: Namespace, folder: string): Disposable
  /** Prepares a new host; answers what must live as long as it does. */
  prepare?(host: Namespace): Disposable | undefined
}

const ipam = { type: 'host-local', ranges: [[{ subnet: '10.88.0.0/16' }]], routes: [{ dst: '0.0.0.0/0' }] }
const bothFamilies = { ...ipam, ranges: [...ipam.ranges, [{ subnet: 'fd00:88::/64' }]] }
const addresses = { type: 'static', addresses: [{ address: '10.88.0.5/16' }] }

const bridge: Step = { type: 'bridge', bridge: 'cni0', isGateway: true, ipam }
const masquerade = (backend: string): Step => ({ ...bridge, ipMasq: true, ipMasqBackend: backend })
const tuning: Step = { type: 'tuning', sysctl: { 'net.ipv4.conf.IFNAME.rp_filter': '2' } }
const portmap = (backend?: string): Step => ({
  type: 'portmap',
  ...(backend === undefined ? {} : { backend }),
  snat: true,
  capabilities: { portMappings: true },
  runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] },
})
/** The Go plugin takes an unknown backend, such as nftables, for none: iptables, where no firewalld runs. */
const firewall = (backend: string): Step => ({ type: 'firewall', backend })

/** A host with one device and a default route through it. */
function withUplink(host: Namespace): Disposable {
  const outside = freshNamespace('outside')
  connect(
    { namespace: host, name: 'uplink0', addresses: ['192.0.2.2/24'] },
    { namespace: outside, name: 'uplink0', addresses: ['192.0.2.1/24'] },
  )
  host.run('ip', 'route', 'add', 'default', 'via', '192.0.2.1')
  return outside
}

function withDevice(host: Namespace): undefined {
  const kind = { type: 'veth', peer: { name: 'device1' } } as const
  host.createLink({ name: 'device0', kind })
}

const SUBNET_FILE = '/run/bench/subnet.env'

function withFlanneld(): undefined {
  mkdirSync('/run/bench', { recursive: true })
  const lines = [
    'FLANNEL_NETWORK=10.88.0.0/16',
    'FLANNEL_SUBNET=10.88.7.1/24',
    'FLANNEL_MTU=1450',
    'FLANNEL_IPMASQ=true',
  ]
  writeFileSync(SUBNET_FILE, `${lines.join('\n')}\n`)
}

const DHCP_SOCKET = '/run/bench/dhcp.sock'

/** A DHCP server on the host's bridge, and the side's daemon that keeps the leases. */
function withDhcp(host: Namespace, folder: string): Disposable {
  mkdirSync('/run/bench', { recursive: true })
  host.createLink({ name: 'cni0', address: '02:00:00:00:88:01', kind: { type: 'bridge' } }, '10.88.0.1/24')
  const pidFile = '/run/bench/dnsmasq.pid'
  const server = ['dnsmasq', '-C', '/dev/null', '--port=0', '--no-ping', '--leasefile-ro', '--interface=cni0']
  host.run(...server, '--user=root', `--pid-file=${pidFile}`, '--dhcp-range=10.88.0.50,10.88.0.99,120')
  rmSync(DHCP_SOCKET, { force: true })
  const daemon = host.inside(() =>
    Bun.spawn([`${folder}/dhcp`, 'daemon', '-socketpath', DHCP_SOCKET], {
      stdout: 'ignore',
      stderr: 'ignore',
    }),
  )
  host.run('sh', '-c', `until [ -S ${DHCP_SOCKET} ]; do :; done`)
  return {
    [Symbol.dispose]() {
      daemon.kill()
      process.kill(Number(readFileSync(pidFile, 'utf8')))
    },
  }
}

const onUplink = { prepare: withUplink, interface: 'eth0' }

export const cases: Case[] = [
  {
    name: 'chain-nftables',
    plugins: [masquerade('nftables'), tuning, portmap('nftables')],
    programs: ['nft'],
  },
  { name: 'chain-iptables', plugins: [masquerade('iptables'), tuning, portmap('iptables')] },
  {
    name: 'chain-figures',
    plugins: [{ ...bridge, ipMasq: true }, portmap(), tuning, { type: 'firewall' }],
  },
  { name: 'chain-firewall', plugins: [masquerade('iptables'), portmap('iptables'), tuning, firewall('')] },
  { name: 'loopback', plugins: [{ type: 'loopback' }], interface: 'lo' },
  { name: 'host-local', plugins: [{ type: 'host-local', ipam }] },
  { name: 'static', plugins: [{ type: 'static', ipam: addresses }] },
  { name: 'bridge', plugins: [bridge] },
  { name: 'ptp', plugins: [{ type: 'ptp', ipMasq: true, ipMasqBackend: 'iptables', ipam }] },
  {
    name: 'ptp-nftables',
    plugins: [{ type: 'ptp', ipMasq: true, ipMasqBackend: 'nftables', ipam }],
    programs: ['nft'],
  },
  {
    ...onUplink,
    name: 'macvlan',
    plugins: [{ type: 'macvlan', master: 'uplink0', mode: 'bridge', ipam }],
    needs: ['macvlan'],
  },
  { ...onUplink, name: 'ipvlan', plugins: [{ type: 'ipvlan', master: 'uplink0', ipam }], needs: ['ipvlan'] },
  {
    ...onUplink,
    name: 'vlan',
    plugins: [{ type: 'vlan', master: 'uplink0', vlanId: 7, ipam }],
    needs: ['vlan'],
  },
  { name: 'host-device', plugins: [{ type: 'host-device', device: 'device0', ipam }], prepare: withDevice },
  { name: 'dummy', plugins: [{ type: 'dummy', ipam: addresses }], needs: ['dummy'] },
  { name: 'tap', plugins: [{ type: 'tap', ipam }], needs: ['tun'] },
  {
    name: 'flannel',
    plugins: [{ type: 'flannel', subnetFile: SUBNET_FILE }],
    prepare: withFlanneld,
    alone: true,
  },
  {
    name: 'dhcp',
    plugins: [{ type: 'bridge', bridge: 'cni0', ipam: { type: 'dhcp', daemonSocketPath: DHCP_SOCKET } }],
    start: withDhcp,
  },
  { name: 'tuning', plugins: [bridge, tuning], rows: ['tuning'] },
  {
    name: 'bandwidth',
    plugins: [bridge, { type: 'bandwidth', ingressRate: 8e6, ingressBurst: 8e6 }],
    rows: ['bandwidth'],
    needs: ['tbf'],
  },
  { name: 'firewall', plugins: [bridge, firewall('')], rows: ['firewall'] },
  { name: 'firewall-dual', plugins: [{ ...bridge, ipam: bothFamilies }, firewall('')], rows: ['firewall'] },
  { name: 'firewall-iptables', plugins: [bridge, firewall('iptables')], rows: ['firewall'] },
  {
    name: 'firewall-isolated',
    plugins: [bridge, { ...firewall(''), ingressPolicy: 'isolated' }],
    rows: ['firewall'],
  },
  { name: 'sbr', plugins: [bridge, { type: 'sbr' }], rows: ['sbr'] },
  { name: 'vrf', plugins: [bridge, { type: 'vrf', vrfname: 'blue' }], rows: ['vrf'], needs: ['vrf'] },
]
