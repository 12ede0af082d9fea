/** The page on tuning. */
import { macKey, type Page } from '../page.ts'

const settings = (path: string, from = '') => ({
  [`${path}sysctl`]: `Parameters of the kernel in the container, by name. \`/etc/cni/tuning/allowlist.conf\` says which are allowed, where it is.${from}`,
  [`${path}mac`]: macKey + from,
  [`${path}promisc`]: `Whether the interface takes all frames; \`false\` leaves it alone.${from}`,
  [`${path}mtu`]: `The interface’s MTU; 0 leaves it alone.${from}`,
  [`${path}allmulti`]: `Whether it takes all multicast.${from}`,
  [`${path}txQLen`]: `Length of its queue, modulo 2^32.${from}`,
})

export const page: Page = {
  line: 'Sets parameters of the kernel and of the interface in the container.',
  keys: {
    ...settings(''),
    dataDir: { says: 'Folder of backups; an absolute path.', default: '/run/cni/tuning' },
    'runtimeConfig.mac': `${macKey} Comes before MAC in CNI_ARGS, and that before \`mac\`.`,
    ...settings('args.cni.', ' Comes before the key of that name above; `mac` before the runtime’s too.'),
  },
  makes: [
    'Each parameter is written and read back, all or none.',
    'DEL restores the interface’s former values, where it is still there; parameters go with the namespace.',
  ],
  state: [
    '`<dataDir>/<container>_<interface>.json`: what the interface was before, as the Go plugin writes it.',
  ],
  look: [
    { run: 'nsenter --net=/run/netns/web cat /proc/sys/net/core/somaxconn', shows: '512', stays: true },
    { run: 'ip -n web link show eth0', shows: 'mtu 1400' },
  ],
  refusals: [
    {
      change: { sysctl: { 'net.core.nothing': '1' } },
      code: 999,
      says: 'net.core.nothing',
      remedy: '`sysctl -a` in the container shows what there is.',
    },
    { change: { mac: 'no' }, code: 7, says: 'mac', remedy: 'Six bytes between colons.' },
  ],
  differs: [
    'All or nothing.',
    'Each sysctl is read back.',
    'Interface names with dots.',
    'Stale backups go.',
  ],
  example: {
    plugins: [
      { type: 'ptp', ipam: { type: 'host-local', ranges: [[{ subnet: '10.40.0.0/24' }]] } },
      { type: 'tuning', sysctl: { 'net.core.somaxconn': '512' }, mtu: 1400 },
    ],
  },
}
