/** Networks against the node that they are for: its executables, links, routes and files. */
import { formatCidr, networkOf, overlaps, parseCidr } from '../../ip/address.ts'
import { status } from '../../linux/libc/status.ts'
import { listAddresses } from '../../linux/netlink/address.ts'
import { type Link, listLinks } from '../../linux/netlink/link.ts'
import { listRoutes, MAIN_TABLE, type Route } from '../../linux/netlink/route.ts'
import { openRoute, type Transport } from '../../linux/netlink/socket.ts'
import { isObject, lookup } from '../../protocol/configuration.ts'
import { toCniError } from '../../protocol/error.ts'
import { supportedVersions } from '../../protocol/version.ts'
import { pluginVersions, type RuntimeOptions } from '../../runtime/network.ts'
import { type Subnet, subnetsOf } from './addresses.ts'
import { isGateway } from './chain.ts'
import type { Fault } from './fault.ts'
import { bridgeOf } from './files.ts'
import { faultIn, type NetworkPlace, type PluginPlace } from './network.ts'
import { ipamOf, ipamTypeOf } from './plugin.ts'

/** What the kernel says, asked once. */
interface Host {
  links: readonly Link[]
  routes: readonly Route[]
  addressesOf(link: Link): string[]
}

export async function nodeFaults(
  networks: readonly NetworkPlace[],
  options: RuntimeOptions,
): Promise<Fault[]> {
  using route = openRoute()
  const host = hostOf(route)
  const places = networks.flatMap(({ plugins }) => plugins)
  return [
    ...(await executableFaults(networks, options)),
    ...places.flatMap(place => [
      ...masterFaults(place, host),
      ...bridgeFaults(place, host),
      ...routeFaults(place, host),
      ...fileFaults(place),
    ]),
    ...(await backendFaults(places, options)),
  ]
}

function hostOf(route: Transport): Host {
  return {
    links: listLinks(route),
    routes: listRoutes(route, { table: MAIN_TABLE }),
    addressesOf: ({ index }) =>
      listAddresses(route, index).map(({ address, prefixLength }) => `${address}/${prefixLength}`),
  }
}

async function executableFaults(
  networks: readonly NetworkPlace[],
  options: RuntimeOptions,
): Promise<Fault[]> {
  const asked = new Map<string, Promise<readonly string[] | Error>>()
  const versionsOf = (type: string) =>
    asked.getOrInsertComputed(type, () => pluginVersions(type, options).catch(thrown => toCniError(thrown)))
  const faults = networks.flatMap(network =>
    network.plugins.flatMap(place =>
      typesOf(place).map(async ({ type, path }): Promise<Fault[]> => {
        const fault = faultIn(place.document, 'executable')
        const versions = await versionsOf(type)
        if (versions instanceof Error)
          return [fault(path, versions.message.replace(/^failed to /, 'cannot '))]
        const { cniVersion } = network
        if (versions.includes(cniVersion) || !supportedVersions.includes(cniVersion)) return []
        const says = `the executable of ${type} does not take version ${cniVersion}`
        return [fault(path, says, { why: `it takes ${versions.join(', ')}` })]
      }),
    ),
  )
  return (await Promise.all(faults)).flat()
}

function typesOf(place: PluginPlace): { type: string; path: PluginPlace['path'] }[] {
  const { path, raw, type } = place
  const ipam = ipamTypeOf(place)
  const delegate = type === 'flannel' ? lookup(raw, 'delegate') : undefined
  const delegated = isObject(delegate) ? (lookup(delegate, 'type') ?? 'bridge') : 'bridge'
  return [
    { type, path: [...path, 'type'] },
    ...(ipam === undefined ? [] : [{ type: ipam, path: [...path, 'ipam', 'type'] }]),
    ...(type === 'flannel' ? [{ type: String(delegated), path: [...path, 'delegate', 'type'] }] : []),
  ]
}

const MASTERED = ['macvlan', 'ipvlan', 'vlan']

function masterFaults({ document, path, raw, type }: PluginPlace, { links, routes }: Host): Fault[] {
  if (!MASTERED.includes(type) || lookup(raw, 'linkInContainer') === true) return []
  const fault = faultIn(document, 'master')
  const name = lookup(raw, 'master')
  const isNamed = typeof name === 'string' && name !== ''
  if (!isNamed && type !== 'macvlan') return []
  const byDefault = routes.find(({ prefixLength, link }) => prefixLength === 0 && link !== undefined)?.link
  const isMeant = (link: Link) =>
    isNamed ? link.name === name || link.alternativeNames?.includes(name) : link.index === byDefault
  const master = links.find(isMeant)
  const at = [...path, isNamed ? 'master' : 'type']
  if (!master) {
    if (!isNamed) return [fault(at, 'no master is named, and the host has no default route')]
    const there = links.filter(link => !link.loopback && link.kind !== 'veth').map(link => link.name)
    return [fault(at, `the host has no link ${name}`, { why: `it has ${there.join(', ') || 'none but lo'}` })]
  }
  const mtu = lookup(raw, 'mtu')
  if (typeof mtu !== 'number' || mtu <= master.mtu) return []
  const says = `mtu: ${mtu} is above that of ${master.name}, ${master.mtu}`
  return [
    faultIn(document, 'mtu')([...path, 'mtu'], says, {
      why: 'longer packets are lost',
      write: `${master.mtu}`,
    }),
  ]
}

function bridgeFaults(place: PluginPlace, { links, addressesOf }: Host): Fault[] {
  if (place.type !== 'bridge') return []
  const { document, path, raw } = place
  const link = links.find(each => each.name === bridgeOf(place))
  if (!link) return []
  if (link.kind !== 'bridge') {
    const says = `${link.name} of the host is no bridge, but a ${link.kind ?? 'device'}`
    return [faultIn(document, 'master')([...path, 'bridge'], says, { write: 'another name' })]
  }
  if (!isGateway(place) || lookup(raw, 'forceAddress') === true) return []
  const present = addressesOf(link).flatMap(address => parseCidr(address) ?? [])
  return subnetsOf(place).flatMap(subnet => {
    const others = present.filter(
      ({ address }) =>
        address.family === subnet.cidr.address.family && !isLinkLocal(address.value, address.family),
    )
    if (others.length === 0 || others.some(each => overlaps(each, subnet.cidr))) return []
    const says = `bridge ${link.name} has ${others.map(formatCidr).join(', ')}`
    const why = 'ADD refuses a bridge that has an address of another network'
    return [
      faultIn(document, 'one-bridge')([...subnet.path, 'subnet'], says, {
        why,
        write: '"forceAddress": true, or another bridge',
      }),
    ]
  })
}

const isLinkLocal = (value: bigint, family: 4 | 6) => family === 6 && value >> 118n === 0x3fan

/** Routes of the host, others than those of the network itself, that share addresses with it. */
function routeFaults(place: PluginPlace, { links, routes }: Host): Fault[] {
  if (!['bridge', 'ptp'].includes(place.type) || (place.type === 'bridge' && !isGateway(place))) return []
  const others = routes.filter(route => route.prefixLength > 0 && !isOwn(place, links, route))
  return subnetsOf(place).flatMap(subnet => {
    const found = others.find(route => overlaps(subnet.cidr, cidrOf(route)))
    return found ? [routeFault(place, subnet, { route: found, links })] : []
  })
}

const cidrOf = ({ destination, prefixLength }: Route) =>
  parseCidr(`${destination}/${prefixLength}`) ?? {
    address: { family: 4 as const, value: 0n },
    prefixLength: 32,
  }

/** By the network's bridge, by host ends of containers, and what every IPv6 link has. */
function isOwn(place: PluginPlace, links: readonly Link[], route: Route): boolean {
  const link = links.find(({ index }) => index === route.link)
  if (route.destination.startsWith('fe80:') || route.destination.startsWith('ff')) return true
  if (!link) return false
  return link.kind === 'veth' || (place.type === 'bridge' && link.name === bridgeOf(place))
}

function routeFault(
  { document }: PluginPlace,
  { path, cidr }: Subnet,
  { route, links }: { route: Route; links: readonly Link[] },
): Fault {
  const way = cidrOf(route)
  const isInside = way.prefixLength >= cidr.prefixLength
  const link = links.find(({ index }) => index === route.link)?.name
  const says = `${formatCidr(networkOf(cidr))} overlaps the host’s route to ${formatCidr(way)}${link ? ` by ${link}` : ''}`
  const why = isInside
    ? 'packets to these containers go there instead'
    : 'the host no longer reaches that part of what the route leads to'
  return faultIn(document, 'overlap', isInside ? 'error' : 'warning')([...path, 'subnet'], says, {
    why,
    write: 'a subnet that is free',
  })
}

function fileFaults(place: PluginPlace): Fault[] {
  const { document, path, raw, type } = place
  const resolvConf = ipamTypeOf(place) === 'host-local' ? lookup(ipamOf(place), 'resolvConf') : undefined
  const subnetFile = type === 'flannel' ? (lookup(raw, 'subnetFile') ?? '/run/flannel/subnet.env') : undefined
  const isMissing = (file: unknown): file is string =>
    typeof file === 'string' && file !== '' && status(file) === undefined
  return [
    ...(isMissing(resolvConf)
      ? [
          faultIn(document, 'file')([...path, 'ipam', 'resolvConf'], `there is no file ${resolvConf}`, {
            why: 'ADD fails',
          }),
        ]
      : []),
    ...(isMissing(subnetFile)
      ? [
          faultIn(document, 'file', 'warning')(
            [...path, subnetFile === lookup(raw, 'subnetFile') ? 'subnetFile' : 'type'],
            `there is no file ${subnetFile}`,
            { why: 'flanneld writes it; until then ADD fails' },
          ),
        ]
      : []),
  ]
}

/** Programs that look for containers' rules in iptables. */
const readers: Readonly<Record<string, string>> = {
  nerdctl: 'looks there for ports that are free',
  'kube-proxy': 'keeps services of the node there',
  ufw: 'drops there what it has not allowed',
  dockerd: 'drops there what it has not forwarded',
}
const FOLDERS = ['/usr/bin', '/usr/sbin', '/usr/local/bin', '/usr/local/sbin', '/sbin', '/bin']

/** Why a configuration that names no backend gets iptables here: STATUS of a plugin says it. Undefined where it gets nftables. */
async function useOfIptables({ builtins, path }: RuntimeOptions): Promise<string | undefined> {
  const environment = { CNI_COMMAND: 'STATUS', CNI_PATH: path.join(':') }
  const configuration = JSON.stringify({ cniVersion: '1.1.0', name: 'lint', type: 'portmap' })
  const answer = await builtins?.run('portmap', environment, configuration)
  return /by iptables .*because (.*)/.exec(answer?.stderr ?? '')?.[1]
}

async function backendFaults(places: readonly PluginPlace[], options: RuntimeOptions): Promise<Fault[]> {
  const named = places.flatMap(place => {
    const key = ['ipMasqBackend', 'backend'].find(each => lookup(place.raw, each) === 'nftables')
    return key === undefined ? [] : [{ place, key }]
  })
  if (named.length === 0) return []
  const use = await useOfIptables(options)
  const searched = [process.env.PATH ?? '', ...FOLDERS].join(':')
  const present = Object.keys(readers).filter(name => Bun.which(name, { PATH: searched }) !== null)
  const reasons = [...(use === undefined ? [] : [use]), ...present.map(name => `${name} ${readers[name]}`)]
  if (reasons.length === 0) return []
  return named.map(({ place: { document, path }, key }) =>
    faultIn(document, 'backend', 'warning')([...path, key], 'nftables, on a node that uses iptables', {
      why: reasons.join('; '),
      write: '"iptables", or no word of it',
    }),
  )
}
