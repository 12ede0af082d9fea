/** The addresses of a network: subnets, gateways, routes, name servers, against one another. */
import {
  type Address,
  type Cidr,
  contains,
  formatCidr,
  isNetwork,
  lastOf,
  networkOf,
  parseAddress,
  parseCidr,
} from '../../ip/address.ts'
import { isObject, lookup } from '../../protocol/configuration.ts'
import type { Path } from './document.ts'
import type { Fault } from './fault.ts'
import { faultIn, type PluginPlace } from './network.ts'
import { ipamOf, ipamTypeOf } from './plugin.ts'

/** A range of host-local, or an address of static, as far as it can be read. */
export interface Subnet {
  path: Path
  cidr: Cidr
  gateway: Address | undefined
  /** What is handed out, both included. */
  start: Address
  end: Address
}

const text = (object: unknown, key: string): string => {
  const value = isObject(object) ? lookup(object, key) : undefined
  return typeof value === 'string' ? value : ''
}

const listAt = (object: unknown, key: string): unknown[] => {
  const value = isObject(object) ? lookup(object, key) : undefined
  return Array.isArray(value) ? value : []
}

function subnetAt(path: Path, object: unknown, key: 'subnet' | 'address'): Subnet[] {
  const cidr = parseCidr(text(object, key))
  if (!cidr) return []
  const isRange = key === 'subnet'
  const start = parseAddress(text(object, 'rangeStart')) ?? (isRange ? networkOf(cidr).address : cidr.address)
  const end = parseAddress(text(object, 'rangeEnd')) ?? (isRange ? lastOf(cidr) : cidr.address)
  return [{ path, cidr, gateway: parseAddress(text(object, 'gateway')), start, end }]
}

/** The subnets that a plugin's IPAM gives addresses of. */
export function subnetsOf(place: PluginPlace): Subnet[] {
  const ipam = ipamOf(place)
  const at = [...place.path, 'ipam']
  if (ipamTypeOf(place) === 'static') {
    return listAt(ipam, 'addresses').flatMap((each, index) =>
      subnetAt([...at, 'addresses', index], each, 'address'),
    )
  }
  if (ipamTypeOf(place) !== 'host-local') return []
  const sets = listAt(ipam, 'ranges').flatMap((set, index) =>
    (Array.isArray(set) ? set : []).flatMap((range, position) =>
      subnetAt([...at, 'ranges', index, position], range, 'subnet'),
    ),
  )
  return [...subnetAt(at, ipam, 'subnet'), ...sets]
}

interface Way {
  path: Path
  cidr: Cidr
  gateway: Address | undefined
  /** What keeps routes to one destination apart. */
  kind: string
}

function waysOf(place: PluginPlace): Way[] {
  return listAt(ipamOf(place), 'routes').flatMap((route, index) => {
    const cidr = parseCidr(text(route, 'dst'))
    if (!cidr || !isObject(route)) return []
    const kind = ['gw', 'table', 'priority'].map(key => String(lookup(route, key) ?? '')).join(' ')
    return [
      {
        path: [...place.path, 'ipam', 'routes', index],
        cidr,
        gateway: parseAddress(text(route, 'gw')),
        kind,
      },
    ]
  })
}

export function addressFaults(place: PluginPlace): Fault[] {
  const subnets = subnetsOf(place)
  const ways = waysOf(place)
  return [
    ...subnets.flatMap(subnet => gatewayFaults(place, subnet, ways)),
    ...ways.flatMap(way => wayFaults(place, way, subnets)),
    ...twice(place, ways),
    ...dnsFaults(place),
    ...mtuFaults(place, subnets),
    ...emptyRanges(place),
  ]
}

/** One that is outside can be meant: some providers have it so, with a route that leads to it. */
function gatewayFaults(
  { document }: PluginPlace,
  { path, cidr, gateway }: Subnet,
  ways: readonly Way[],
): Fault[] {
  if (!gateway || contains(cidr, gateway)) return []
  const isOtherFamily = gateway.family !== cidr.address.family
  if (
    !isOtherFamily &&
    ways.some(way => way.gateway === undefined && contains(way.cidr, gateway) && way.cidr.prefixLength > 0)
  )
    return []
  const subnet = formatCidr(networkOf(cidr))
  const fault = faultIn(document, 'gateway', isOtherFamily ? 'error' : 'warning')
  const why = isOtherFamily
    ? 'it is of the other family'
    : 'containers have no route to it, unless one is among `routes`'
  return [
    fault([...path, 'gateway'], `the gateway is outside of ${subnet}`, {
      why,
      write: `an address of ${subnet}`,
    }),
  ]
}

function wayFaults({ document }: PluginPlace, way: Way, subnets: readonly Subnet[]): Fault[] {
  const { path, cidr, gateway } = way
  const { family } = cidr.address
  const error = faultIn(document, 'route')
  const warning = faultIn(document, 'route', 'warning')
  if (gateway && gateway.family !== family)
    return [
      error([...path, 'gw'], `gw: the gateway of an IPv${family} route is an IPv${gateway.family} address`),
    ]
  const written = isNetwork(cidr)
    ? []
    : [
        warning([...path, 'dst'], 'dst: has bits set behind the prefix', {
          write: `"${formatCidr(networkOf(cidr))}"`,
        }),
      ]
  if (subnets.length === 0) return written
  if (!subnets.some(subnet => subnet.cidr.address.family === family)) {
    return [
      ...written,
      warning([...path, 'dst'], `containers get no IPv${family} address`, { why: 'the route leads nowhere' }),
    ]
  }
  if (gateway && !subnets.some(subnet => contains(subnet.cidr, gateway)) && !isLinkLocal(gateway))
    return [
      ...written,
      warning([...path, 'gw'], 'gw: is in no subnet of the network', {
        why: 'the kernel refuses a route by a gateway that it cannot reach',
      }),
    ]
  return written
}

const isLinkLocal = ({ family, value }: Address) => family === 6 && value >> 118n === 0x3fan // fe80::/10

function twice({ document }: PluginPlace, ways: readonly Way[]): Fault[] {
  const fault = faultIn(document, 'route')
  return ways.flatMap((way, index) => {
    const same = ways
      .slice(0, index)
      .some(each => formatCidr(each.cidr) === formatCidr(way.cidr) && each.kind === way.kind)
    return same
      ? [fault([...way.path, 'dst'], `dst: there is a route to ${formatCidr(way.cidr)} already`)]
      : []
  })
}

function dnsFaults({ document, path, raw }: PluginPlace): Fault[] {
  const fault = faultIn(document, 'dns')
  return [
    { at: [...path, 'dns'], dns: lookup(raw, 'dns') },
    { at: [...path, 'ipam', 'dns'], dns: lookup(ipamOf({ raw }), 'dns') },
  ].flatMap(({ at, dns }) =>
    listAt(dns, 'nameservers').flatMap((server, index) =>
      typeof server !== 'string' || parseAddress(server)
        ? []
        : [
            fault([...at, 'nameservers', index], 'a name server is an address', {
              why: 'resolvers take no names and no ports there',
            }),
          ],
    ),
  )
}

/** RFC 791 and RFC 8200: what every link has to carry. */
const LEAST = { 4: 68, 6: 1280 } as const

function mtuFaults({ document, path, raw }: PluginPlace, subnets: readonly Subnet[]): Fault[] {
  const mtu = lookup(raw, 'mtu')
  if (typeof mtu !== 'number' || mtu <= 0) return []
  const least = subnets.some(({ cidr }) => cidr.address.family === 6) ? LEAST[6] : LEAST[4]
  if (mtu >= least && mtu <= 65535) return []
  const fault = faultIn(document, 'mtu')
  if (mtu > 65535)
    return [
      fault([...path, 'mtu'], `mtu: ${mtu} is more than an IP packet can have`, { write: 'at most 65535' }),
    ]
  return [
    fault([...path, 'mtu'], `mtu: ${mtu} is less than IPv${least === LEAST[6] ? 6 : 4} needs`, {
      why: 'the kernel gives the interface no address',
      write: `at least ${least}`,
    }),
  ]
}

/** A range of one address, which is the gateway's. */
function emptyRanges(place: PluginPlace): Fault[] {
  const fault = faultIn(place.document, 'range')
  if (ipamTypeOf(place) !== 'host-local') return []
  return listAt(ipamOf(place), 'ranges').flatMap((set, index) =>
    (Array.isArray(set) ? set : []).flatMap((range, position) => {
      const [start, end, gateway] = ['rangeStart', 'rangeEnd', 'gateway'].map(
        key => parseAddress(text(range, key))?.value,
      )
      if (start === undefined || start !== end || start !== gateway) return []
      return [
        fault([...place.path, 'ipam', 'ranges', index, position], 'the range has one address, the gateway’s'),
      ]
    }),
  )
}
