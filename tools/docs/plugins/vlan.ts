/** The page on vlan. */
import { dnsKeys, ipamKeys, mtuKey, type Page } from '../page.ts'

export const page: Page = {
  line: 'Gives the container an interface in a VLAN of a link of the host.',
  keys: {
    master: 'Required. The link that carries the tagged frames.',
    vlanId: 'The VLAN, 0 to 4094.',
    mtu: `${mtuKey} The master’s at most.`,
    linkInContainer: 'The master is in the container, not on the host.',
    ...dnsKeys,
    ...ipamKeys,
  },
  makes: [
    'A VLAN link of the name CNI_IFNAME in the container. A VLAN can be given once for each master.',
    'DEL takes it away, and the addresses; it works without `master`.',
  ],
  look: [{ run: 'ip -n web -d link show eth0', shows: 'vlan protocol 802.1Q id 7' }],
  refusals: [
    { change: { vlanId: 5000 }, code: 7, says: 'vlanId', remedy: 'Choose 0 to 4094.' },
    {
      change: { master: undefined },
      code: 7,
      says: 'master',
      remedy: 'Name the link that carries the VLAN.',
    },
  ],
  differs: [
    'As macvlan.',
    '`ipam` may be left out.',
    'A VLAN that is in use on the master and a master that is down are said in words.',
    'Neighbours are told of the addresses.',
    'DEL works without master.',
  ],
  example: {
    host: [
      'ip link add uplink0 type veth peer name uplink1',
      'ip link set uplink0 up',
      'ip link set uplink1 up',
    ],
    plugins: [
      {
        type: 'vlan',
        master: 'uplink0',
        vlanId: 7,
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.33.0.0/24' }]] },
      },
    ],
    needs: ['vlan'],
  },
}
