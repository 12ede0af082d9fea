/** What belongs to an attachment beside its addresses: ports, limits, and where its sources disagree. Pure. */
import { canonicalCidr } from '../ip/text.ts'
import type { Link } from '../linux/netlink/link.ts'
import { places } from '../linux/netlink/qdisc.ts'
import type { Result } from '../runtime/network.ts'
import type { Disagreement, Limits, Port } from './model.ts'
import type { Stack } from './stack.ts'

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

/** As the kernel has them: a token bucket on the host end, and one on the link that its incoming packets are sent through. */
export function limitsOf(host: Link | undefined, { disciplines }: Stack): Limits {
  const rateOf = (index: number) => {
    const of = disciplines.filter(({ link }) => link === index)
    const root = of.find(({ parent }) => parent === places.root)
    const rate = root?.bucket?.rate
    return rate === undefined ? undefined : Number(rate) * 8
  }
  const toContainer = host && rateOf(host.index)
  return toContainer === undefined ? {} : { toContainer }
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
