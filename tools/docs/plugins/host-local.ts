/** The page on host-local. */
import { type Page, routesKeys } from '../page.ts'

const range = (path: string) => ({
  [`${path}.subnet`]: 'The network, with prefix length.',
  [`${path}.rangeStart`]: 'First address to give; absent: the first after the network’s own.',
  [`${path}.rangeEnd`]: 'Last address to give; absent: the last before broadcast.',
  [`${path}.gateway`]: 'The gateway, which is never given; absent: the first address of the network.',
})

export const page: Page = {
  line: 'Hands out addresses of ranges, kept on this host’s disk.',
  keys: {
    ...range('ipam'),
    ...range('ipam.ranges[][]'),
    ...routesKeys('ipam.routes'),
    'ipam.dataDir': { says: 'Folder of reservations; an absolute path.', default: '/var/lib/cni/networks' },
    'ipam.resolvConf': 'A file like `/etc/resolv.conf`, for `dns` of the result.',
    'args.cni.ips[]': 'Addresses that the container is to have.',
    'runtimeConfig.ips[]': 'The same, from the runtime. IP in CNI_ARGS counts too.',
    ...range('runtimeConfig.ipRanges[][]'),
  },
  makes: [
    'One address of each set of ranges is reserved: the next after the one that was given last.',
    'Nothing in the kernel. DEL frees all that the attachment has; GC frees what is not alive.',
  ],
  state: [
    '`<dataDir>/<network>/<address>`: container and interface, as the Go plugin writes them.',
    '`<dataDir>/<network>/last_reserved_ip.<set>`: where to go on. `<dataDir>/<network>/lock` is locked during a call.',
  ],
  look: [{ run: 'cat /var/lib/cni/networks/example-host-local/10.37.0.2', shows: 'eth0' }],
  refusals: [
    {
      change: { ipam: { type: 'host-local', ranges: [] } },
      code: 7,
      says: 'no IP ranges specified',
      remedy: 'Name a subnet.',
    },
    {
      change: { ipam: { type: 'host-local', ranges: [[{ subnet: '10.37.0.1/24' }]] } },
      code: 7,
      says: '10.37.0.1/24',
      remedy: 'A network, without bits of a host.',
    },
    {
      change: { ipam: { type: 'host-local', subnet: '10.37.0.0/24', dataDir: 'here' } },
      code: 7,
      says: 'must be an absolute path',
      remedy: 'Begin with `/`.',
    },
  ],
  notes: ['`catena status NETWORK` says 50 when a set is full, with the numbers.'],
  differs: [
    'The same files, byte for byte.',
    'No file is read to allocate, except once after a reboot or after another program has changed the folder.',
    'A set known to be full is refused without a listing.',
    'Torn files count as free.',
    'What was reserved before a reboot is taken back when no link has it, and the same container gets the same address again.',
    'GC and STATUS (50, with numbers).',
  ],
  example: {
    plugins: [
      {
        type: 'ptp',
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.37.0.0/24' }]], routes: [{ dst: '0.0.0.0/0' }] },
      },
    ],
  },
}
