/** What belongs to an attachment beside its addresses: ports, limits, and where its sources disagree. Pure. */
import { canonicalCidr } from '../ip/text.ts'
import type { Link } from '../linux/netlink/link.ts'
import { places } from '../linux/netlink/qdisc.ts'
import type { Result } from '../runtime/network.ts'
import type { Disagreement, Limits, Port } from './model.ts'
import type { Stack } from './stack.ts'

/** "8080→80", "192.0.2.1:53→53/udp". */
export function portTextOf({ hostAddress, hostPort, containerPort, protocol }: Port): string {
  const host = hostAddress?.includes(':') ? `[${hostAddress}]` : hostAddress
  return `${host ? `${host}:` : ''}${hostPort}→${containerPort}${protocol === 'tcp' ? '' : `/${protocol}`}`
}

/** Published ports as a runtime gave them, in the spelling of any runtime. */
export function portsOf(mappings: unknown): Port[] {
  if (!Array.isArray(mappings)) return []
  return (mappings as (Partial<Record<string, unknown>> | null)[]).flatMap(mapping => {
    if (typeof mapping !== 'object' || mapping === null) return []
    const hostAddress = String(mapping.hostIP ?? mapping.HostIP ?? '')
    return [
      {
        protocol: String(mapping.protocol ?? mapping.Protocol ?? 'tcp').toLowerCase(),
        ...(hostAddress ? { hostAddress } : {}),
        hostPort: Number(mapping.hostPort ?? mapping.HostPort ?? 0),
        containerPort: Number(mapping.containerPort ?? mapping.ContainerPort ?? 0),
      },
    ]
  })
}

/**
 * As the kernel has them: a token bucket on the host end, and one on the link that its incoming packets are sent through.
 * `redirections`: of each link, those whose packets are sent through it.
 */
export function limitsOf(
  host: Link | undefined,
  { disciplines }: Stack,
  redirections: ReadonlyMap<number, readonly number[]>,
): Limits {
  if (!host) return {}
  const rateOf = (index: number | undefined) => {
    const root = disciplines.find(({ link, parent }) => link === index && parent === places.root)
    return root?.bucket && Number(root.bucket.rate) * 8
  }
  const through = [...redirections].find(([, users]) => users.includes(host.index))?.[0]
  const [toContainer, fromContainer] = [rateOf(host.index), rateOf(through)]
  return {
    ...(toContainer === undefined ? {} : { toContainer }),
    ...(fromContainer === undefined ? {} : { fromContainer }),
  }
}

/** What the cache says of an interface, and the kernel otherwise. */
export function disagreementsOf(of: {
  cached: readonly string[]
  result: Result | undefined
  ifname: string
  link: Link | undefined
  stack: Stack | undefined
}): Disagreement[] {
  const { cached, result, ifname, link, stack } = of
  if (!link || !stack || !result) return []
  const found: Disagreement[] = []
  const live = stack.addresses
    .filter(({ link: index }) => index === link.index)
    .map(({ address, prefixLength }) => `${address}/${prefixLength}`)
  const own = result.ips
    .filter(ip => ip.interface === undefined || result.interfaces[ip.interface]?.name === ifname)
    .map(({ address }) => canonicalCidr(address) ?? address)
  const missing = own.filter(address => !live.includes(address))
  if (cached.length > 0 && missing.length > 0)
    found.push({
      about: 'addresses',
      says: [
        { source: 'cache', value: own.join(', ') },
        { source: `link ${ifname}`, value: live.join(', ') || 'none' },
      ],
    })
  const mac = result.interfaces.find(({ name, sandbox }) => name === ifname && sandbox)?.mac?.toLowerCase()
  if (mac && link.address && mac !== link.address)
    found.push({
      about: 'hardware address',
      says: [
        { source: 'cache', value: mac },
        { source: `link ${ifname}`, value: link.address },
      ],
    })
  return found
}
