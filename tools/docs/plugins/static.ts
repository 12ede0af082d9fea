/** The page on static. */
import { dnsKeys, type Page, routesKeys } from '../page.ts'

export const page: Page = {
  line: 'Hands out the addresses that its configuration, or whoever adds the container, names.',
  keys: {
    'ipam.addresses[].address': 'An address with prefix length.',
    'ipam.addresses[].gateway': 'The gateway of its network.',
    ...routesKeys('ipam.routes'),
    ...Object.fromEntries(Object.entries(dnsKeys).map(([path, text]) => [`ipam.${path}`, text])),
    'args.cni.ips[]': 'Addresses with prefix length, instead of the configuration’s.',
    'runtimeConfig.ips[]': 'The same, from the runtime. IP and GATEWAY of CNI_ARGS count too.',
  },
  makes: ['Nothing: it keeps nothing, and does not know whether another container has the address.'],
  look: [{ run: 'ip -n web address show eth0', shows: '10.38.0.5/24' }],
  refusals: [
    {
      change: { ipam: { type: 'static', addresses: [{ address: '10.38.0.5' }] } },
      code: 7,
      says: 'expected to be in CIDR notation',
      remedy: 'Add the prefix length: `10.38.0.5/24`.',
    },
  ],
  differs: ['The same answers, byte for byte.'],
  example: {
    plugins: [
      {
        type: 'bridge',
        bridge: 'cni0',
        ipam: {
          type: 'static',
          addresses: [{ address: '10.38.0.5/24', gateway: '10.38.0.1' }],
          routes: [{ dst: '0.0.0.0/0' }],
        },
      },
    ],
  },
}
