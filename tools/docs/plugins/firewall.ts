/** The page on firewall. */
import type { Page } from '../page.ts'

export const page: Page = {
  line: 'Lets the host forward packets from and to the container, and keeps networks apart where that is asked for.',
  keys: {
    backend:
      '`iptables`, `nftables` or `firewalld`. Silent, empty or something else: firewalld where it runs, else iptables on a node that uses it, else nftables ([backends](../backends.md)).',
    iptablesAdminChainName:
      'The chain for an administrator’s own rules, which come before those that accept the containers’ packets.',
    firewalldZone: 'The zone that the container’s addresses join.',
    ingressPolicy: {
      says: '`same-bridge`: packets of other bridges’ containers do not come in. `isolated`: nor do those of its own bridge’s others.',
      values: ['', 'open', 'same-bridge', 'isolated'],
    },
  },
  makes: [
    'nftables: elements of `forwarded` in `ip catena` and `ip6 catena`; for a policy of `policy_bridge`, `policy_inside`, `policy_member` and `isolated`.',
    'iptables: two rules for each address in `CNI-FORWARD` of table `filter`; for a policy rules in `CNI-ISOLATION-STAGE-1` and `-2`.',
    'firewalld: the addresses are sources of the zone.',
    'The administrator’s chain, where it is not there, in the backend’s table, and in iptables where that is installed. It stays.',
    'DEL takes away what is the container’s, and the policy with the last container of a bridge.',
  ],
  look: [{ run: 'nft list set ip catena forwarded', shows: '10.39.0.2 comment' }],
  refusals: [
    {
      change: { ingressPolicy: 'closed' },
      code: 7,
      says: 'unknown ingress policy: "closed", must be open, same-bridge or isolated',
      remedy: 'Name one of the three.',
    },
    {
      change: { iptablesAdminChainName: 'forward' },
      code: 7,
      says: 'must not be a chain that has another meaning',
      remedy: 'Choose another name.',
    },
  ],
  differs: [
    'Backends nftables, iptables and firewalld (over D-Bus, no program is run).',
    'Silent means firewalld where it runs, else iptables where the node uses it, else nftables ([which when](../backends.md)).',
    'An administrator’s chain of iptables is obeyed whatever the backend.',
    'Overrides go into `CNI-ADMIN` of `ip catena` and `ip6 catena` and stay.',
    'A policy goes with its last container, and `isolated` needs no br_netfilter.',
    'Rules are found again without `prevResult`.',
    'STATUS, GC.',
  ],
  example: {
    plugins: [
      {
        type: 'bridge',
        bridge: 'cni0',
        isDefaultGateway: true,
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.39.0.0/24' }]] },
      },
      { type: 'firewall', backend: 'nftables', ingressPolicy: 'same-bridge' },
    ],
  },
}
