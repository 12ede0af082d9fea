/** The networks of a folder against one another: names, bridges, VLANs, addresses. */
import { formatCidr, networkOf, overlaps } from '../../ip/address.ts'
import { lookup } from '../../protocol/configuration.ts'
import { type Subnet, subnetsOf } from './addresses.ts'
import { isGateway } from './chain.ts'
import { placeOf, spanOf } from './document.ts'
import type { Fault } from './fault.ts'
import { faultIn, type NetworkPlace, type PluginPlace } from './network.ts'

/** Networks in the order in which runtimes look at them. */
export function crossFaults(networks: readonly NetworkPlace[]): Fault[] {
  return networks.flatMap((network, index) => {
    const earlier = networks.slice(0, index)
    const name = nameFault(network, earlier)
    return name ? [name] : earlier.flatMap(other => between(network, other))
  })
}

const whereIs = ({ document }: NetworkPlace, path: Subnet['path']) =>
  `${document.file}:${placeOf(document.text, spanOf(document, path)).line}`

function nameFault(network: NetworkPlace, earlier: readonly NetworkPlace[]): Fault | undefined {
  const other = earlier.find(({ name }) => name !== '' && name === network.name)
  if (!other) return undefined
  const says = `${whereIs(other, ['name'])} has a network ${network.name} already`
  const why = 'runtimes take the first one that they find: this one is never used'
  return faultIn(network.document, 'one-name')(['name'], says, { why, write: 'another name' })
}

interface Member {
  network: NetworkPlace
  place: PluginPlace
}

function between(network: NetworkPlace, other: NetworkPlace): Fault[] {
  return network.plugins.flatMap(place =>
    other.plugins.flatMap(another => pairFaults({ network, place }, { network: other, place: another })),
  )
}

const text = ({ raw }: PluginPlace, key: string) => {
  const value = lookup(raw, key)
  return typeof value === 'string' ? value : ''
}

export const bridgeOf = (place: PluginPlace) => text(place, 'bridge') || 'cni0'

/** The link that containers of a network share, if it can be told. */
function sharedLink(place: PluginPlace): string | undefined {
  if (place.type === 'bridge') return `bridge ${bridgeOf(place)}`
  const master = text(place, 'master')
  if (place.type === 'vlan') return master && `VLAN ${lookup(place.raw, 'vlanId')} of ${master}`
  return ['macvlan', 'ipvlan'].includes(place.type) && master !== '' ? master : undefined
}

/** Packets of the host reach its containers by their addresses. */
const isRouted = (place: PluginPlace) => place.type === 'ptp' || (place.type === 'bridge' && isGateway(place))

function pairFaults(one: Member, other: Member): Fault[] {
  const [link, same] = [sharedLink(one.place), sharedLink(other.place)]
  if (one.place.type === 'vlan' && link && link === same) return [vlanFault(one, other, link)]
  const isOneBridge = one.place.type === 'bridge' && other.place.type === 'bridge' && link === same
  const different = isOneBridge ? bridgeFault(one, other) : undefined
  if (different) return [different]
  const isShared = link !== undefined && link === same
  if (!isShared && !(isRouted(one.place) && isRouted(other.place))) return []
  const areBridges = one.place.type === 'bridge' && other.place.type === 'bridge' && !isShared
  return overlapFaults(one, other, { bySubnet: areBridges })
}

function vlanFault({ place }: Member, other: Member, link: string): Fault {
  const says = `${link} is that of ${whereIs(other.network, [...other.place.path, 'vlanId'])}`
  const why = 'the kernel has one interface for each VLAN of a link'
  return faultIn(place.document, 'one-vlan')([...place.path, 'vlanId'], says, { why, write: 'another VLAN' })
}

/** Subnets that are others on both sides, family by family. */
function bridgeFault(one: Member, other: Member): Fault | undefined {
  const [mine, theirs] = [subnetsOf(one.place), subnetsOf(other.place)]
  const subnet = mine.find(each => {
    const ofFamily = theirs.filter(({ cidr }) => cidr.address.family === each.cidr.address.family)
    return ofFamily.length > 0 && !ofFamily.some(({ cidr }) => overlaps(cidr, each.cidr))
  })
  if (!subnet) return undefined
  const level = isGateway(one.place) && isGateway(other.place) ? 'error' : 'warning'
  const fault = faultIn(one.place.document, 'one-bridge', level)
  const says = `bridge ${bridgeOf(one.place)} has another subnet in ${whereIs(other.network, theirs[0]?.path ?? [])}`
  const why =
    'containers of the two networks are on one wire; which of them got its gateway is a matter of luck'
  return fault([...subnet.path, 'subnet'], says, { why, write: '"bridge": "…" with a name of its own' })
}

function overlapFaults(one: Member, other: Member, { bySubnet }: { bySubnet: boolean }): Fault[] {
  return subnetsOf(one.place).flatMap(mine => {
    const theirs = subnetsOf(other.place).find(each =>
      bySubnet ? overlaps(mine.cidr, each.cidr) : rangesOverlap(mine, each),
    )
    if (!theirs) return []
    const fault = faultIn(one.place.document, 'overlap')
    const says = `${formatCidr(networkOf(mine.cidr))} overlaps ${formatCidr(networkOf(theirs.cidr))} of ${whereIs(other.network, theirs.path)}`
    const why = bySubnet
      ? 'the host has two ways to one address, and takes one of them'
      : 'each network counts for itself: two containers get one address'
    return [fault([...mine.path, 'subnet'], says, { why, write: 'a subnet that is free' })]
  })
}

function rangesOverlap(one: Subnet, other: Subnet): boolean {
  if (one.start.family !== other.start.family) return false
  return one.start.value <= other.end.value && other.start.value <= one.end.value
}
