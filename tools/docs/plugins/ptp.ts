/** The page on ptp. */
import { backendValues, dnsKeys, mtuKey, type Page, silentBackend } from '../page.ts'

export const page: Page = {
  line: 'Connects each container to the host by a pair of its own, with a route on either side; no bridge.',
  keys: {
    ipMasq: 'What the container sends beyond its network has the host’s address.',
    ipMasqBackend: {
      says: `What masquerades. ${silentBackend}`,
      values: backendValues,
      beside: { ipMasq: true },
    },
    mtu: mtuKey,
    ...dnsKeys,
    'ipam.type': 'Required. The plugin that gives addresses.',
  },
  makes: [
    'A veth pair: CNI_IFNAME in the container; on the host `veth` and eight digits that follow from the attachment, with the gateway’s address.',
    'On the host a route to each address of the container; in the container routes to its network by way of the gateway.',
    'Forwarding is switched on and stays. With `ipMasq` the rules that `bridge` makes.',
    'DEL takes away the pair (routes go with it), the rules and the addresses, also without the namespace.',
  ],
  look: [
    { run: 'ip route show 10.30.0.2', shows: '10.30.0.2 dev veth' },
    { run: 'ip -n web route show', shows: 'via 10.30.0.1 dev eth0' },
  ],
  refusals: [
    {
      change: { ipMasqBackend: 'pf', ipMasq: true },
      code: 7,
      says: 'unknown ipmasq backend',
      remedy: 'Name `iptables` or `nftables`, or neither.',
    },
    { change: { mtu: 'large' }, code: 7, says: 'mtu: must be', remedy: 'A number, without quotes.' },
  ],
  differs: [
    'Masquerade as `bridge`.',
    'The pair comes before the IPAM plugin is asked, so a second ADD takes no address.',
    'An address that the host routes to another container is refused and that one named.',
    'IPv6 addresses are usable at once.',
    'CHECK looks at the host’s end, its routes and the rules too.',
    'A failed ADD leaves nothing.',
    'DEL needs no namespace, and sweeps the rules also when `ipMasq` is off by now.',
    'GC.',
  ],
  example: {
    plugins: [
      {
        type: 'ptp',
        ipMasq: true,
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.30.0.0/24' }]], routes: [{ dst: '0.0.0.0/0' }] },
      },
    ],
  },
}
