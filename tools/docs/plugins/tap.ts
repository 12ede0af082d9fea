/** The page on tap. */
import { dnsKeys, ipamKeys, macKey, mtuKey, type Page } from '../page.ts'

export const page: Page = {
  line: 'Makes a tap device in the container, for a program such as a virtual machine monitor.',
  keys: {
    multiQueue: 'Several queues.',
    mtu: mtuKey,
    mac: macKey,
    owner: 'User who may open it.',
    group: 'Group that may open it.',
    selinuxContext: 'SELinux context in which it is made; the policy must allow the change.',
    bridge: 'A bridge in the container that it becomes a port of.',
    ...dnsKeys,
    ...ipamKeys,
    'runtimeConfig.mac': `${macKey} Comes before MAC in CNI_ARGS, and that before \`mac\`.`,
  },
  makes: [
    'A tap device of the name CNI_IFNAME in the container, that stays without a program that has it open.',
    'DEL takes it away, and the addresses.',
  ],
  look: [{ run: 'ip -n web -d link show eth0', shows: 'tun type tap' }],
  refusals: [
    { change: { owner: -1 }, code: 7, says: 'owner: must be at least 0', remedy: 'A user’s number.' },
    {
      change: { bridge: 'none0' },
      code: 7,
      says: 'none0',
      remedy: 'The bridge has to be in the container before.',
    },
  ],
  notes: ['`/dev/net/tun` is needed; STATUS says 50 without it.'],
  differs: [
    'No `ip` is run.',
    'Made under its final name, whole or not at all.',
    '`mtu` and `mac` count also with `owner` and `group`.',
    'Packet information is never switched on.',
    'A name that is taken is an error.',
    '`selinuxContext` is taken on by the plugin itself, so the policy must allow that change.',
    'CHECK compares kind, address, MTU and bridge.',
    'STATUS says 50 without `/dev/net/tun`.',
    'GC.',
  ],
  example: {
    plugins: [
      { type: 'tap', multiQueue: true, ipam: { type: 'host-local', ranges: [[{ subnet: '10.35.0.0/24' }]] } },
    ],
    needs: ['tun'],
  },
}
