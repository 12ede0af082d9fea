/** The page on ipvlan. */
import { ipvlanModes } from '../../../chain/linux/netlink/link-kind.ts'
import { dnsKeys, mtuKey, type Page } from '../page.ts'

export const page: Page = {
  line: 'Gives the container an interface that shares the hardware address of a link of the host.',
  keys: {
    master:
      'The link that it stands on; absent: the interface of prevResult, else the one of the host’s default route.',
    mode: {
      says: `What is switched by: ${Object.keys(ipvlanModes)
        .map(mode => `\`${mode}\``)
        .join(', ')}.`,
      default: '"l2"',
    },
    mtu: `${mtuKey} The master’s at most.`,
    linkInContainer: 'The master is in the container, not on the host.',
    ...dnsKeys,
    'ipam.type':
      'The plugin that gives addresses. Required unless another plugin came before, whose addresses are then taken.',
  },
  makes: [
    'An ipvlan link of the name CNI_IFNAME in the container, with addresses and routes; neighbours are told once it is up.',
    'DEL takes it away, and the addresses; it works without `master`.',
  ],
  look: [{ run: 'ip -n web -d link show eth0', shows: 'ipvlan  mode l2' }],
  refusals: [
    { change: { mode: 'l9' }, code: 7, says: 'unknown ipvlan mode: "l9"', remedy: 'One of the modes above.' },
  ],
  differs: [
    'As macvlan.',
    '`mtu` is held against the master’s.',
    'With `linkInContainer` a refused creation is an error.',
    'CHECK and DEL work without `master`.',
  ],
  example: {
    host: [
      'ip link add uplink0 type veth peer name uplink1',
      'ip link set uplink0 up',
      'ip link set uplink1 up',
    ],
    plugins: [
      {
        type: 'ipvlan',
        master: 'uplink0',
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.32.0.0/24' }]] },
      },
    ],
    needs: ['ipvlan'],
  },
}
