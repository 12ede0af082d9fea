/** Lists of plugins with configurations of all kinds, most of which ADD accepts: made by fast-check. */
import fc from 'fast-check'
import type { Step } from './rows.ts'

/** The link of the host that macvlan, vlan and ipvlan stand on. */
export const MASTER = 'master0'

const flag = fc.boolean()
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 2 })
const rarely = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 1 })

const addresses = {
  4: ['10.60.1.5/24', '10.60.1.5/32', '10.60.1.6/24', '10.60.2.4/31', '10.61.0.9/16', '192.0.2.66/26'],
  6: ['fd00:60:1::5/64', 'fd00:60:1::5/128', 'fd00:60:1::6/64', 'fd00:60:2::4/127', '2001:db8:60::9/48'],
}
const gateways = {
  4: ['10.60.1.1', '10.60.1.254', '10.60.2.5', '10.61.0.1', '192.0.2.65', '203.0.113.1', '0.0.0.0'],
  6: ['fd00:60:1::1', 'FD00:60:1:0::FE', 'fd00:60:2::5', '2001:db8:60::1', 'fe80::1', '::'],
}
const destinations = {
  4: ['0.0.0.0/0', '10.99.0.0/16', '10.99.7.1/16', '198.51.100.7/32', '203.0.113.1/32'],
  6: ['::/0', '2001:db8:99::/48', '2001:db8:99::7/48', '2001:db8:98::1/128'],
}
/** Mostly the first one, which goes with the first ones of the others; else any. */
const pick = (texts: Record<4 | 6, string[]>, family: 4 | 6) =>
  fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(...texts[family].slice(0, 1)) },
    { weight: 1, arbitrary: fc.constantFrom(...texts[family]) },
  )
const ofEither = <T>(make: (family: 4 | 6) => fc.Arbitrary<T>) => fc.oneof(make(4), make(6))

const route = ofEither(family =>
  fc.record(
    {
      dst: fc.constantFrom(...destinations[family]),
      gw: maybe(pick(gateways, family)),
      priority: rarely(fc.constantFrom(0, 5, 700)),
      table: rarely(fc.constantFrom(0, 7, 254, 1000)),
      scope: rarely(fc.constantFrom(0, 253)),
      mtu: rarely(fc.constantFrom(0, 1300)),
      advmss: rarely(fc.constantFrom(0, 1200)),
    },
    { requiredKeys: ['dst'] },
  ),
)
const routes = fc.array(route, { maxLength: 2 })

const staticIpam = fc.record({
  type: fc.constant('static'),
  addresses: fc.uniqueArray(
    ofEither(family =>
      fc.record(
        { address: pick(addresses, family), gateway: maybe(pick(gateways, family)) },
        { requiredKeys: ['address'] },
      ),
    ),
    { minLength: 1, maxLength: 3, selector: ({ address }) => address },
  ),
  routes,
})

const range = ofEither(family =>
  fc.record(
    {
      subnet: fc.constantFrom(...(family === 4 ? ['10.60.1.0/24', '10.61.0.0/16'] : ['fd00:60:1::/64'])),
      gateway: maybe(pick(gateways, family)),
    },
    { requiredKeys: ['subnet'] },
  ),
)
const hostLocal = fc.record({
  type: fc.constant('host-local'),
  ranges: fc.uniqueArray(
    range.map(one => [one]),
    { minLength: 1, maxLength: 3, selector: ([one]) => one?.subnet },
  ),
  routes,
})

const ipam = fc.oneof(staticIpam, hostLocal)
const mtu = rarely(fc.constantFrom(0, 1280, 1400))

/** Main plugins by the kernel that has their links; each stands on the link `master`. */
const usual: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    type: fc.constant('bridge'),
    bridge: fc.constant('check0'),
    isGateway: flag,
    isDefaultGateway: flag,
    ipMasq: flag,
    hairpinMode: flag,
    macspoofchk: flag,
    portIsolation: flag,
    mtu,
    ipam,
  }),
  fc.record({ type: fc.constant('ptp'), ipMasq: flag, mtu, ipam }),
  fc.record({
    type: fc.constant('macvlan'),
    master: fc.constant(MASTER),
    mode: fc.constantFrom('', 'bridge', 'private', 'vepa'),
    mtu,
    ipam,
  }),
  fc.record({ type: fc.constant('tap'), multiQueue: flag, mtu, ipam }),
)

/** Rate and burst come together. */
const limit = (direction: 'ingress' | 'egress') =>
  fc
    .constantFrom([0, 0], [1_000_000, 80_000], [8_000_000_000, 34_359_738_359])
    .map(([rate, burst]) => ({ [`${direction}Rate`]: rate, [`${direction}Burst`]: burst }))
const portMapping = fc.record(
  {
    hostPort: fc.integer({ min: 30_000, max: 30_020 }),
    containerPort: fc.constantFrom(80, 443),
    protocol: fc.constantFrom('tcp', 'udp', 'TCP'),
    hostIP: fc.constantFrom('', '0.0.0.0', '127.0.0.1', '::'),
  },
  { requiredKeys: ['hostPort', 'containerPort', 'protocol'] },
)
const chained: Record<string, fc.Arbitrary<object>> = {
  tuning: fc.record(
    {
      mtu: fc.constantFrom(0, 1280, 1290),
      promisc: flag,
      allmulti: flag,
      txQLen: fc.constantFrom(0, 700),
      mac: fc.constantFrom('', '02:00:00:00:07:01', '02-00-00-00-07-02'),
      sysctl: fc.constantFrom({}, { 'net.ipv4.conf.IFNAME.arp_filter': '1', 'net.core.somaxconn': '77' }),
    },
    { requiredKeys: [] },
  ),
  sbr: fc.record(
    {
      table: fc.constantFrom(1, 4242),
      gateways: fc.constantFrom<string[]>([], ['10.60.1.9'], ['fd00:60:1::9', '10.60.1.9']),
      addSourceHints: flag,
    },
    { requiredKeys: [] },
  ),
  bandwidth: fc.tuple(limit('ingress'), limit('egress')).map(([one, other]) => ({ ...one, ...other })),
  vrf: fc.record({ vrfname: fc.constant('blue'), table: fc.constantFrom(0, 1001) }),
  portmap: fc.record({
    snat: flag,
    runtimeConfig: fc.record({ portMappings: fc.array(portMapping, { maxLength: 3 }) }),
  }),
  firewall: fc.record(
    {
      ingressPolicy: fc.constantFrom('open', 'same-bridge', 'isolated'),
      backend: fc.constantFrom('nftables', ''),
    },
    { requiredKeys: [] },
  ),
}

const vlans: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    type: fc.constant('vlan'),
    master: fc.constant(MASTER),
    vlanId: fc.constantFrom(5, 4094),
    mtu,
    ipam,
  }),
  fc.record({
    type: fc.constant('ipvlan'),
    master: fc.constant(MASTER),
    mode: fc.constantFrom('', 'l2', 'l3', 'l3s'),
    mtu,
    ipam,
  }),
  fc.record({ type: fc.constant('dummy'), ipam }),
)

/** A list: a main plugin, and some of those that come after it, in the order of their names here. */
function listOf(main: fc.Arbitrary<Step>, names: readonly (keyof typeof chained)[]): fc.Arbitrary<Step[]> {
  return main.chain(first =>
    fc
      .subarray([...names], { maxLength: Math.min(3, names.length) })
      .chain(types =>
        fc.tuple(
          ...types.map(type => (chained[type] ?? fc.constant({})).map(config => ({ type, ...config }))),
        ),
      )
      .map(rest => [first, ...rest]),
  )
}

export const usualLists = listOf(usual, ['tuning', 'sbr', 'bandwidth', 'portmap', 'firewall'])

/** For a kernel with VLANs, ipvlan, dummies and VRF, and without nftables. */
export const otherLists = listOf(vlans, ['tuning', 'vrf'])

/** The same kind of list for a second interface of the container: with other subnets and another bridge. */
export function forSecondInterface(lists: fc.Arbitrary<Step[]>): fc.Arbitrary<Step[]> {
  return lists.map(steps =>
    JSON.parse(
      JSON.stringify(steps).replaceAll(/10\.6[01]|(?:fd|FD)00:60|db8:60|check0|4094/g, text =>
        text === 'check0' ? 'check1' : text === '4094' ? '7' : text.replace('6', '7'),
      ),
    ),
  )
}
