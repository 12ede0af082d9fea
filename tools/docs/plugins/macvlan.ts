/** The page on macvlan. */
import { macvlanModes } from '../../../chain/linux/netlink/link-kind.ts'
import { dnsKeys, ipamKeys, macKey, mtuKey, type Page } from '../page.ts'

export const page: Page = {
  line: 'Gives the container an interface with a hardware address of its own on a link of the host.',
  keys: {
    master: 'The link that it stands on; absent: the one of the host’s default route.',
    mode: {
      says: `How its siblings are reached: ${Object.keys(macvlanModes)
        .map(mode => `\`${mode}\``)
        .join(', ')}.`,
      default: '"bridge"',
    },
    mtu: `${mtuKey} The master’s at most.`,
    mac: macKey,
    linkInContainer: 'The master is in the container, not on the host.',
    bcqueuelen: 'Broadcasts that may wait in the kernel; 0: its choice.',
    ...dnsKeys,
    ...ipamKeys,
    'runtimeConfig.mac': `${macKey} Comes before MAC in CNI_ARGS, and that before \`mac\`.`,
  },
  makes: [
    'A macvlan link of the name CNI_IFNAME in the container, with the addresses and routes of `ipam`; neighbours are told.',
    'DEL takes it away, and the addresses. It asks neither for master nor for namespace: a namespace that goes takes its links along.',
  ],
  look: [{ run: 'ip -n web -d link show eth0', shows: 'macvlan mode bridge' }],
  refusals: [
    {
      change: { mode: 'none' },
      code: 7,
      says: 'unknown macvlan mode: "none"',
      remedy: 'One of the modes above.',
    },
    { change: { mtu: 9000 }, code: 7, says: 'mtu', remedy: 'At most the master’s MTU.' },
  ],
  notes: ['The host itself does not reach the container through the master: the kernel keeps the two apart.'],
  differs: [
    'Created under its final name (before Linux 6.15 renamed only where the host has a link of that name).',
    'No wait for IPv6.',
    'CHECK compares master and MTU.',
    'A failed ADD leaves no link.',
    'A retry recognises its own half-done ADD.',
    'DEL asks neither for master nor for namespace.',
    'STATUS says 50 when the master or the kind of link is missing.',
  ],
  example: {
    host: [
      'ip link add uplink0 type veth peer name uplink1',
      'ip link set uplink0 up',
      'ip link set uplink1 up',
    ],
    plugins: [
      {
        type: 'macvlan',
        master: 'uplink0',
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.31.0.0/24' }]] },
      },
    ],
    needs: ['macvlan'],
  },
}
