/** The page on flannel. */
import { type Page, routesKeys } from '../page.ts'

export const page: Page = {
  line: 'Makes another plugin’s configuration of the subnet that flanneld has given the host, and runs that.',
  keys: {
    subnetFile: { says: 'What flanneld writes.', default: '/run/flannel/subnet.env' },
    dataDir: {
      says: 'Where the delegates’ configurations are kept for DEL; an absolute path.',
      default: '/var/lib/cni/flannel',
    },
    delegate:
      'Keys for the delegate, which is `bridge` unless `type` says otherwise. Neither `name` nor `ipam`.',
    'ipam.type': 'The plugin that gives addresses; absent: host-local.',
    ...routesKeys('ipam.routes'),
    runtimeConfig: 'All of it goes to the delegate.',
  },
  makes: [
    'Nothing by itself: the delegate makes what it makes, with flannel’s MTU, and `ipMasq` where flanneld does not masquerade.',
    'DEL runs the delegate’s with the configuration that ADD used, and removes that afterwards.',
  ],
  state: ['`<dataDir>/<container>`: the delegate’s configuration. It goes when the delegate has deleted.'],
  look: [{ run: 'ip -n web address show eth0', shows: '10.44.7.2/24' }],
  refusals: [
    {
      change: { subnetFile: '/run/none.env' },
      code: 11,
      says: '/run/none.env',
      remedy: 'Is flanneld running? It writes the file when it has a subnet.',
    },
    {
      change: { delegate: { type: 'flannel' } },
      code: 7,
      says: 'must be the name of a plugin other than flannel',
      remedy: 'Name another, or none.',
    },
    {
      change: { delegate: { name: 'x' } },
      code: 7,
      says: "must have neither 'name' nor 'ipam'",
      remedy: 'Leave them out.',
    },
  ],
  differs: [
    'CHECK, STATUS and GC reach the delegate.',
    'The state goes only after the delegate’s DEL.',
    'Two interfaces of one container do not collide.',
    'A broken `subnet.env` is refused by its line.',
  ],
  example: {
    host: [
      'mkdir -p /run/flannel',
      "printf '%s\\n' FLANNEL_NETWORK=10.44.0.0/16 FLANNEL_SUBNET=10.44.7.1/24 FLANNEL_MTU=1450 FLANNEL_IPMASQ=true >/run/flannel/subnet.env",
    ],
    plugins: [{ type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } }],
  },
}
