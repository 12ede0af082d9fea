/** The page on dhcp. */
import type { Page } from '../page.ts'

export const page: Page = {
  line: 'Asks the network’s DHCP server for addresses; a daemon keeps the leases (IPv4, DHCPv6, router advertisements).',
  keys: {
    'ipam.daemonSocketPath': { says: 'Where the daemon listens.', default: '/run/cni/dhcp.sock' },
    'ipam.priority': 'Metric of the routes that the server names.',
    'ipam.provide[].option':
      'An option to send: its number, or a name such as `host-name`, `user-class`, `dhcp-client-identifier`.',
    'ipam.provide[].value': 'Its value.',
    'ipam.provide[].fromArg': 'The key of CNI_ARGS that has its value.',
    'ipam.request[].option': 'An option to ask for.',
    'ipam.request[].skipDefault': 'The options that are asked for anyway are not.',
    'ipam.ipv4': { says: 'Whether an IPv4 address is asked for.', isOurs: true, default: 'true' },
    'ipam.ipv6': {
      says: 'How IPv6 addresses come to be: as the routers’ advertisements say, by DHCPv6, or made of advertised prefixes.',
      isOurs: true,
      default: 'false',
    },
  },
  makes: [
    'A lease, which the daemon renews while the interface is there; addresses, routes and DNS of the result come from the server.',
    'DEL has the daemon give the lease back. If the daemon is down, it does so when it is back.',
  ],
  state: [
    '`/var/lib/cni/dhcp/<the socket’s path>/`: a file for each lease, which the next daemon goes on with.',
  ],
  look: [{ run: 'ip -n web address show eth0', shows: 'inet 10.9.0.' }],
  refusals: [
    {
      change: { ipam: { type: 'dhcp', daemonSocketPath: '/run/cni/none.sock' } },
      code: 11,
      says: '/run/cni/none.sock',
      remedy: 'Start the daemon: `dhcp daemon`, or `systemctl enable --now cni-dhcp.socket`.',
    },
    {
      change: { ipam: { type: 'dhcp', ipv4: false } },
      code: 7,
      says: 'is false, and ipam.ipv6 asks for no address either',
      remedy: 'Ask for one of the two.',
    },
  ],
  notes: [
    'The daemon: `dhcp daemon [-pidfile FILE] [-hostprefix PATH] [-socketpath PATH] [-broadcast] [-timeout DURATION] [-resendmax NUMBER] [-resendtimeout DURATION] [-probe]`.',
    'Either side may be the Go one; a daemon that knows IPv4 only is noticed where IPv6 is asked for.',
  ],
  differs: [
    'Leases survive the daemon’s restart.',
    'Renewal and release are unicast.',
    'CHECK asks for the lease the container has, never for another.',
    'DEL succeeds while the daemon is down, which releases later.',
    'STATUS says 50 then.',
    'Either side may be the Go one. `ipv6: "auto"`, `"dhcp"` or `"slaac"`: DHCPv6 (RFC 8415) and router advertisements (RFC 4861, 4191, 8106).',
    'Addresses, default route, routes, MTU and DNS are in the result, kept up by the daemon and taken away when their time is over.',
    'A daemon that knows IPv4 only is noticed.',
  ],
  example: {
    host: ['ip link add lan0 type bridge', 'ip address add 10.9.0.1/24 dev lan0', 'ip link set lan0 up'],
    daemon: 'dhcp',
    plugins: [{ type: 'bridge', bridge: 'lan0', ipam: { type: 'dhcp' } }],
  },
}
