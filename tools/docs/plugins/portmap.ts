/** The page on portmap. */
import { backendValues, type Page, silentBackend } from '../page.ts'

const port = { minimum: 1, maximum: 65535 }
const conditions =
  'More that a connection must match to be sent to the container: expressions of nftables, or options of iptables, by the backend.'

export const page: Page = {
  line: 'Publishes a container’s ports on the host’s addresses.',
  keys: {
    backend: { says: `What publishes. ${silentBackend}`, values: backendValues },
    snat: 'Connections that would be answered past the host are masqueraded: the container’s own, its siblings’, and from 127.0.0.1.',
    masqAll: 'All published connections are masqueraded.',
    markMasqBit: {
      says: 'Bit of the packet mark for iptables’ masquerade; nftables needs none. 13 where it is absent.',
      minimum: 0,
      maximum: 31,
    },
    externalSetMarkChain:
      'A chain of iptables’ table `nat` that marks packets for masquerade, such as `KUBE-MARK-MASQ`. Means iptables.',
    'conditionsV4[]': conditions,
    'conditionsV6[]': conditions,
    'runtimeConfig.portMappings[].hostPort': { says: 'Port of the host.', ...port },
    'runtimeConfig.portMappings[].containerPort': { says: 'Port of the container.', ...port },
    'runtimeConfig.portMappings[].protocol': {
      says: '`tcp`, `udp` or `sctp`.',
      values: ['tcp', 'udp', 'sctp', 'TCP', 'UDP', 'SCTP', ''],
    },
    'runtimeConfig.portMappings[].hostIP':
      'Only on this address of the host; empty, `0.0.0.0` or `::`: on all.',
  },
  makes: [
    'nftables: for each port elements of `port_address` and `port_port` (with `hostIP`: `hostip_address`, `hostip_port`) in `ip catena` and `ip6 catena`; with `snat` of `hairpin_port` and `hairpin_source`. The rules over them are the same for all containers.',
    'iptables: chains `CNI-DN-<hash>` in table `nat`, led to from `CNI-HOSTPORT-DNAT`, as the Go plugin makes them.',
    '`net.ipv4.conf.<link>.route_localnet` where 127.0.0.1 is to reach a port, with a guard against 127.0.0.0/8 from outside.',
    'Connections of UDP that are known to the kernel are forgotten, so that the next packet goes the new way.',
    'DEL takes away the elements or chains by their owner, of either backend; a container of several networks goes on publishing by the next of them.',
  ],
  state: [
    '`/run/catena/ports/`: which ports iptables publishes for whom. Gone after a reboot, as the rules are.',
  ],
  look: [
    { run: 'nft list map ip catena port_address', shows: 'tcp . 8080 comment' },
    { run: 'nft list map ip catena port_port', shows: ': 80' },
    { run: 'catena list', shows: '8080' },
  ],
  refusals: [
    {
      change: { markMasqBit: 40 },
      code: 7,
      says: 'MasqMarkBit must be between 0 and 31',
      remedy: 'Choose another bit, or leave it out.',
    },
    {
      change: { markMasqBit: 3, externalSetMarkChain: 'MARK' },
      code: 7,
      says: 'Cannot specify externalSetMarkChain and markMasqBit',
      remedy: 'Leave out one of them.',
    },
    {
      change: { backend: 'pf' },
      code: 7,
      says: 'unrecognized backend "pf", must be iptables or nftables',
      remedy: 'Name one of the two, or none.',
    },
    {
      change: { backend: 'iptables', conditionsV4: ['ip', 'saddr', '192.0.2.0/24'] },
      code: 7,
      says: 'iptables backend was requested but configuration contains nftables-specific options',
      remedy: 'Write the conditions for the backend that is named.',
    },
  ],
  notes: ['A host port that a live container holds is refused, and that one named.'],
  differs: [
    'nftables maps: a new connection costs the same with one port and with thousands.',
    'Or iptables, chain by chain as the Go plugin ([which when](../backends.md)).',
    'One port said twice with one destination is one.',
    'Conditions belong to their network alone.',
    'Two interfaces are two owners.',
    'A host port that a live container publishes is refused, naming the publisher; a dead publisher’s is taken over.',
    '127.0.0.0/8 from outside is dropped where `route_localnet` is on.',
    'UDP connections are forgotten on ADD and on DEL.',
    'On several networks of one container the first holds the ports, and the next takes them over when it goes.',
    'A port needs no `runtimeConfig` to be deleted.',
    'DEL and GC sweep both backends.',
  ],
  example: {
    plugins: [
      {
        type: 'bridge',
        bridge: 'cni0',
        isDefaultGateway: true,
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.22.0.0/16' }]] },
      },
      { type: 'portmap', backend: 'nftables', capabilities: { portMappings: true } },
    ],
    capabilities: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] },
  },
}
