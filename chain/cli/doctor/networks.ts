/** What is wrong with a network as a whole: addresses that two have, gateways that no link has, ranges that are full. */
import { contains, formatAddress, lastOf, networkOf, parseAddress, parseCidr } from '../../ip/address.ts'
import { status } from '../../linux/libc/status.ts'
import { readSysctl } from '../../linux/sysctl.ts'
import { bare, cachedResultOf } from '../../observe/attachments.ts'
import { pluginsIn } from '../../observe/files.ts'
import type { Attachment, NodeModel } from '../../observe/model.ts'
import type { Finding } from '../finding.ts'
import { cachedOf, trouble } from './interfaces.ts'

export function networks(node: NodeModel): Finding[] {
  return [
    ...sharedAddresses(node),
    ...gateways(node),
    ...strayAddresses(node),
    ...unreserved(node),
    ...ranges(node),
    ...daemons(node),
    ...forwarding(node),
    ...reversePaths(node),
  ]
}

/** Two networks may have one address; two interfaces of one network, or of one bridge, may not. */
function sharedAddresses({ attachments }: NodeModel): Finding[] {
  const byAddress = new Map<string, Attachment[]>()
  for (const attachment of attachments.filter(({ link, network }) => link && network !== '')) {
    const place = attachment.host?.master ?? attachment.network
    for (const address of new Set(attachment.addresses.map(bare))) {
      const key = `${address} ${place}`
      byAddress.set(key, [...(byAddress.get(key) ?? []), attachment])
    }
  }
  return [...byAddress]
    .filter(([, of]) => new Set(of.map(({ namespace }) => namespace)).size > 1)
    .map(([key, of]) => {
      const [address = ''] = key.split(' ')
      // it stays with whom its runtime gave it to
      const isGiven = ({ cache }: Attachment) =>
        Boolean(cache && cachedResultOf(cache.attachment)?.ips.some(ip => bare(ip.address) === address))
      const [, ...others] = of.toSorted((one, other) => Number(isGiven(other)) - Number(isGiven(one)))
      return trouble({
        kind: 'address-twice',
        says: `${of.map(({ name }) => name).join(' and ')} have one address, ${address}`,
        why: 'whoever answers first gets the packets of both',
        evidence: of.map(({ name, ifname, netns = '' }) => `${ifname} of ${name} (${netns}) has it`),
        commands: others.map(({ netns = '', addresses, ifname }) => {
          const whole = addresses.find(each => bare(each) === address)
          return `nsenter --net=${netns} ip address delete ${whole} dev ${ifname}`
        }),
      })
    })
}

const isGateway = (plugin: Readonly<Record<string, unknown>>) =>
  plugin.type === 'bridge' && (plugin.isGateway === true || plugin.isDefaultGateway === true)

/** The bridge is its containers' gateway, and has not the address. */
function gateways(node: NodeModel): Finding[] {
  const groups = new Map<string, { bridge: string; gateway: string; names: string[] }>()
  for (const { cache, gateways, name } of cachedOf(node)) {
    const plugin = pluginsIn(cache?.attachment.configuration ?? '').find(isGateway)
    if (!plugin) continue
    const bridge = String(plugin.bridge || 'cni0')
    for (const gateway of gateways) {
      const key = `${bridge} ${gateway}`
      const known = groups.get(key) ?? { bridge, gateway, names: [] }
      groups.set(key, { ...known, names: [...known.names, name] })
    }
  }
  return [...groups.values()].flatMap(({ bridge, gateway, names }) => {
    const found = node.links.find(({ link }) => link.name === bridge)
    if (!found || found.addresses.some(address => bare(address) === bare(gateway))) return []
    return [
      trouble({
        kind: 'missing-gateway',
        says: `bridge ${bridge} has not the address ${gateway}, which is its containers' gateway`,
        why: 'they reach one another alone',
        evidence: [
          `${names.slice(0, 3).join(', ')}${names.length > 3 ? ` and ${names.length - 3} more` : ''} send to it`,
          `${bridge} has ${found.addresses.join(', ') || 'no address'}`,
        ],
        commands: [`ip address add ${gateway} dev ${bridge}`],
      }),
    ]
  })
}

/** The subnets of a network's host-local, as text. */
function subnetsOf(plugin: Readonly<Record<string, unknown>>): Range[] {
  const { ipam } = plugin
  if (typeof ipam !== 'object' || ipam === null) return []
  const { ranges, ...single } = ipam as { ranges?: unknown; subnet?: unknown }
  const sets = Array.isArray(ranges) ? ranges.flat() : []
  return [single, ...sets].flatMap(range => {
    const { subnet, rangeStart, rangeEnd, gateway } = range as Partial<Record<string, string>>
    return typeof subnet === 'string' && parseCidr(subnet)
      ? [
          {
            subnet,
            ...(rangeStart ? { rangeStart } : {}),
            ...(rangeEnd ? { rangeEnd } : {}),
            ...(gateway ? { gateway } : {}),
          },
        ]
      : []
  })
}

interface Range {
  subnet: string
  rangeStart?: string
  rangeEnd?: string
  gateway?: string
}

/** All configurations that are in force: of the files, and of what containers were made with. */
function configured(node: NodeModel): { network: string; plugin: Readonly<Record<string, unknown>> }[] {
  const files = node.networks.flatMap(({ network }) =>
    (network?.plugins ?? []).map(({ raw }) => ({ network: network?.name ?? '', plugin: raw })),
  )
  const names = new Set(files.map(({ network }) => network))
  const cached = new Map<string, { network: string; plugin: Readonly<Record<string, unknown>> }[]>()
  for (const { network, cache } of cachedOf(node)) {
    if (names.has(network) || cached.has(network)) continue
    const plugins = pluginsIn(cache?.attachment.configuration ?? '')
    cached.set(
      network,
      plugins.map(plugin => ({ network, plugin })),
    )
  }
  return [...files, ...[...cached.values()].flat()]
}

/** An address on a network's bridge that lies in another network, and in none of the bridge's own. */
function strayAddresses(node: NodeModel): Finding[] {
  const all = configured(node)
  return node.links
    .filter(({ role }) => role === 'bridge')
    .flatMap(({ link, addresses, networks }) => {
      const own = all
        .filter(({ network }) => networks.includes(network))
        .flatMap(({ plugin }) => subnetsOf(plugin))
      if (own.length === 0) return []
      return addresses.flatMap(address => {
        const isIn = ({ subnet }: Range) => isWithin(subnet, address)
        if (own.some(isIn)) return []
        const other = all.find(({ plugin }) => subnetsOf(plugin).some(isIn))
        if (!other) return []
        return [
          trouble({
            kind: 'stray-address',
            says: `bridge ${link.name} of network ${networks.join(', ')} has ${address}, which is of network ${other.network}`,
            why: `packets for ${other.network} go to the wrong bridge, and the bridge plugin refuses to add its own gateway`,
            evidence: [
              `${link.name} has ${address}`,
              `network ${other.network} has ${subnetsOf(other.plugin)[0]?.subnet}`,
            ],
            commands: [`ip address delete ${address} dev ${link.name}`],
          }),
        ]
      })
    })
}

function isWithin(subnet: string, address: string): boolean {
  const [network, one] = [parseCidr(subnet), parseAddress(bare(address))]
  return network !== undefined && one !== undefined && contains(network, one)
}

/** An address that host-local may give to the next container too. */
function unreserved(node: NodeModel): Finding[] {
  const kept = new Set(node.reservations.map(({ network, address }) => `${network} ${address}`))
  return cachedOf(node).flatMap(({ cache, network, addresses, name, containerId, ifname, link }) => {
    const plugins = pluginsIn(cache?.attachment.configuration ?? '')
    const ipam = plugins.map(plugin => plugin.ipam).find(each => typeof each === 'object' && each !== null)
    const { type, dataDir } = (ipam ?? {}) as { type?: string; dataDir?: string }
    // what its runtime gave it and it has: an address that somebody changed is another finding
    const cached = (cache && cachedResultOf(cache.attachment)?.ips.map(ip => bare(ip.address))) ?? []
    const live = addresses.map(bare)
    const given = new Set(cached.filter(address => live.includes(address)))
    if (type !== 'host-local' || !link) return []
    return [...given]
      .filter(address => plugins.flatMap(subnetsOf).some(({ subnet }) => isWithin(subnet, address)))
      .filter(address => !kept.has(`${network} ${address}`))
      .map(address => {
        const path = `${dataDir || '/var/lib/cni/networks'}/${network}/${address}`
        return trouble({
          kind: 'missing-reservation',
          says: `nothing keeps ${address} for ${name}, who has it`,
          why: 'host-local gives it to the next container as well',
          evidence: [`${ifname} of ${name} has it`, `there is no ${path}`],
          commands: [`printf '${containerId}\\r\\n${ifname}' >${path}`],
        })
      })
  })
}

const NEARLY = 90 // per cent

function ranges(node: NodeModel): Finding[] {
  return configured(node).flatMap(({ network, plugin }) =>
    subnetsOf(plugin).flatMap(range => {
      const cidr = parseCidr(range.subnet)
      if (!cidr) return []
      const start = parseAddress(range.rangeStart ?? '')?.value ?? networkOf(cidr).address.value + 1n
      const last = lastOf(cidr).value - (cidr.address.family === 4 ? 1n : 0n)
      const end = parseAddress(range.rangeEnd ?? '')?.value ?? last
      const gateway = parseAddress(range.gateway ?? '')?.value ?? networkOf(cidr).address.value + 1n
      const size = end - start + 1n - (gateway >= start && gateway <= end ? 1n : 0n)
      const used = node.reservations.filter(each => {
        const address = each.network === network ? parseAddress(each.address) : undefined
        return address?.family === cidr.address.family && address.value >= start && address.value <= end
      })
      const share = size > 0n ? Number((BigInt(used.length) * 100n) / size) : 100
      if (share < NEARLY || used.length === 0) return []
      const leaked = used.filter(({ label }) => label === 'orphan').length
      return [
        trouble({
          kind: 'range-nearly-full',
          level: BigInt(used.length) >= size ? 'problem' : 'notice',
          says: `${used.length} of ${size} addresses of ${range.subnet} (network ${network}) are given away`,
          why: 'when there are none left, no container starts on it',
          evidence: [
            `${formatAddress({ family: cidr.address.family, value: start })} to ${formatAddress({ family: cidr.address.family, value: end })}`,
            `${leaked} of them are leaked`,
          ],
          commands:
            leaked > 0 ? ['catena doctor --repair'] : [`catena lint # and widen the range of ${network}`],
        }),
      ]
    }),
  )
}

/** A network that gets its addresses by DHCP, and no daemon that does it. */
function daemons(node: NodeModel): Finding[] {
  const sockets = new Map<string, string>()
  for (const { network, plugin } of configured(node)) {
    const { type, daemonSocketPath } = (plugin.ipam ?? {}) as { type?: string; daemonSocketPath?: string }
    if (type === 'dhcp') sockets.set(daemonSocketPath || '/run/cni/dhcp.sock', network)
  }
  return [...sockets]
    .filter(([path]) => status(path) === undefined)
    .map(([path, network]) => {
      const hasUnit = status('/etc/systemd/system/cni-dhcp.socket') !== undefined
      return trouble({
        kind: 'dhcp-daemon',
        says: `network ${network} gets its addresses by DHCP, and the daemon does not run`,
        why: 'no container is added to it, leases are not renewed, and addresses of the living run out',
        evidence: [
          `there is no socket ${path}`,
          hasUnit ? 'its unit is installed' : 'its unit is not installed',
        ],
        commands: [...(hasUnit ? [] : ['catena install --units']), 'systemctl enable --now cni-dhcp.socket'],
      })
    })
}

const FORWARDING = { ip: 'net/ipv4/ip_forward', ip6: 'net/ipv6/conf/all/forwarding' } as const

function forwarding(node: NodeModel): Finding[] {
  return (['ip', 'ip6'] as const).flatMap(family => {
    const isOf = (address: string) => address.includes(':') === (family === 'ip6')
    const users = cachedOf(node).filter(({ gateways, host }) => host?.kind === 'veth' && gateways.some(isOf))
    if (users.length === 0 || readSysctl(FORWARDING[family]) !== '0') return []
    const name = FORWARDING[family].replaceAll('/', '.')
    return [
      trouble({
        kind: 'forwarding-off',
        says: `the host forwards no packets of ${family === 'ip' ? 'IPv4' : 'IPv6'}`,
        why: 'containers reach the host and their own bridge, and nothing else; published ports are dead',
        evidence: [`${name} is 0`, `${users.length} containers have the host for their gateway`],
        commands: [`sysctl -w ${name}=1`],
      }),
    ]
  })
}

/** Answers of a container that has several networks leave by its default route, and come in where they are not expected. */
function reversePaths(node: NodeModel): Finding[] {
  const ends = new Map<string, Attachment[]>()
  for (const attachment of cachedOf(node)) {
    if (attachment.namespace && attachment.addresses.some(each => !each.includes(':')))
      ends.set(attachment.namespace, [...(ends.get(attachment.namespace) ?? []), attachment])
  }
  const all = Number(readSysctl('net/ipv4/conf/all/rp_filter') ?? 0)
  const strict = new Map<string, string>()
  for (const several of ends.values()) {
    if (several.length < 2) continue
    for (const { host, name } of several) {
      const link = node.host.links.find(({ index }) => index === (host?.master ?? host?.index))
      const own = Number(readSysctl(`net/ipv4/conf/${link?.name}/rp_filter`) ?? 0)
      if (link && Math.max(all, own) === 1) strict.set(link.name, name)
    }
  }
  return [...strict].map(([link, name]) =>
    trouble({
      kind: 'reverse-path',
      level: 'notice',
      says: `${link} drops what comes in by it and would be answered by another way`,
      why: `${name} has several networks: what it answers by its default route to who asked it in the other one is dropped`,
      evidence: [`rp_filter of ${link} or of all is 1: strict`, `${name} has several interfaces with IPv4`],
      commands: [`sysctl -w net.ipv4.conf.${link}.rp_filter=2`],
    }),
  )
}
