/** The page on bridge. */
import { backendValues, dnsKeys, ipamKeys, macKey, mtuKey, type Page, silentBackend } from '../page.ts'

const vlanId = { minimum: 1, maximum: 4094 }

export const page: Page = {
  line: 'Joins containers of a network on a bridge of the host, which may be their gateway and masquerade them.',
  keys: {
    bridge: 'Name of the bridge, which is made when it is not there.',
    isGateway: 'The bridge has the gateway’s address, and the host forwards packets.',
    isDefaultGateway: 'The same, and the container’s default route leads there.',
    forceAddress: 'Another address that the bridge has is replaced; otherwise that is an error.',
    ipMasq: 'What the container sends beyond its network has the host’s address.',
    ipMasqBackend: {
      says: `What masquerades. ${silentBackend}`,
      values: backendValues,
      beside: { ipMasq: true },
    },
    mtu: mtuKey,
    hairpinMode: 'Frames may leave by the port that they came from. Not together with `promiscMode`.',
    promiscMode: 'The bridge takes all frames. It is switched on only, never off.',
    vlan: {
      says: 'The port’s own VLAN, untagged; 0: none. The bridge must filter VLANs.',
      minimum: 0,
      maximum: 4094,
    },
    'vlanTrunk[].minID': {
      says: 'First of a range of VLANs that the port takes tagged; with `maxID`.',
      ...vlanId,
    },
    'vlanTrunk[].maxID': { says: 'Last of the range.', ...vlanId },
    'vlanTrunk[].id': { says: 'One VLAN that the port takes tagged.', ...vlanId },
    preserveDefaultVlan: 'The port keeps the VLAN that the bridge gives every port.',
    macspoofchk: 'Frames from the container with another source address than its own are dropped (nftables).',
    enabledad: 'The kernel looks for duplicates of the container’s IPv6 addresses before they can be used.',
    disableContainerInterface: 'The container’s interface is left down. Not together with `ipam`.',
    portIsolation: 'The port exchanges no frames with other isolated ports.',
    ...dnsKeys,
    ...ipamKeys,
    'args.cni.mac': macKey,
    'runtimeConfig.mac': `${macKey} Comes before \`args.cni.mac\`, and that before MAC in CNI_ARGS.`,
  },
  makes: [
    'The bridge, if it is not there. It stays.',
    'A veth pair: CNI_IFNAME in the container; on the host a port whose name is made of network, container and interface (`veth` and eight digits).',
    'With `isGateway` the gateway’s addresses on the bridge (with `vlan` on `<bridge>.<vlan>`), and `net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`. These stay.',
    'With `ipMasq` elements of `masquerade_source` and `masquerade_local` in the tables `ip catena` and `ip6 catena`, or chains `CNI-<hash>` of iptables’ table `nat`; with `macspoofchk` elements in `bridge catena`. All carry the attachment in a comment.',
    'DEL takes away the pair, the rules and the addresses; it needs neither the namespace nor the bridge. GC does so for whatever is not alive.',
  ],
  look: [
    { run: 'ip link show master cni0', shows: 'state UP' },
    { run: 'ip -n web address show eth0', shows: '10.22.0.2/16' },
    { run: 'nft list set ip catena masquerade_source', shows: '10.22.0.2 comment' },
  ],
  refusals: [
    {
      change: { vlan: 5000 },
      code: 7,
      says: 'invalid VLAN ID 5000 (must be between 0 and 4094)',
      remedy: 'Choose 1 to 4094; 0 means none.',
    },
    {
      change: { hairpinMode: true, promiscMode: true },
      code: 7,
      says: 'cannot set hairpin mode and promiscuous mode at the same time',
      remedy: 'Leave out one of them.',
    },
    {
      change: { bridge: 'lo' },
      code: 999,
      says: 'already exists but is not a bridge',
      remedy: 'Another link has that name: choose another, or remove the link.',
    },
    {
      change: { ipMasqBackend: 'pf' },
      code: 7,
      says: 'unknown ipmasq backend',
      remedy: 'Name `iptables` or `nftables`, or neither.',
    },
  ],
  notes: [
    'With `bridge` as a later plugin of a list, the interface of prevResult becomes the port, and no pair is made.',
    'A bridge that others made keeps its hardware address, its MTU and its VLAN filtering.',
  ],
  differs: [
    'Masquerade is nftables, or iptables with the Go plugin’s chains and rules ([which when](../backends.md)).',
    'A bridge without VLAN filtering is refused in words.',
    'An interface of `prevResult` is attached in chained mode.',
    'The bridge has a stable hardware address of its own.',
    'Announcements go out when the port forwards (the Go plugin’s are lost).',
    'IPv6 addresses are usable at once.',
    'A retry recognises its own half-done ADD.',
    'A failed ADD leaves nothing.',
    'DEL needs no namespace.',
    'A default route without gateway from IPAM counts as one.',
  ],
  example: {
    plugins: [
      {
        type: 'bridge',
        bridge: 'cni0',
        isDefaultGateway: true,
        ipMasq: true,
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.22.0.0/16' }], [{ subnet: 'fd00:22::/64' }]] },
      },
    ],
  },
}
