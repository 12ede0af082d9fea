/** portmap's configuration, and the mappings that follow from it. */
import * as z from 'zod/mini'
import { formatAddress, isUnspecified, parseAddress } from '../../chain/protocol/address.ts'

const flag = z._default(z.boolean(), false)
const portNumber = z.int().check(z.minimum(1), z.maximum(65535))

const mapping = z.object({
  hostPort: portNumber,
  containerPort: portNumber,
  protocol: z._default(
    z.string().check(z.refine(name => /^(tcp|udp|sctp)?$/i.test(name), 'must be tcp, udp or sctp')),
    'tcp',
  ),
  hostIP: z._default(
    z.string().check(z.refine(text => text === '' || parseAddress(text) !== undefined, 'must be an address')),
    '',
  ),
})

/** Tokens that begin so are written for iptables: the whole list then is. */
const isForIptables = (conditions: readonly string[] = []) => /^[-!]/.test(conditions[0] ?? '')

const keys = z.object({
  backend: z.optional(z.enum(['', 'iptables', 'nftables'])),
  snat: z._default(z.boolean(), true),
  masqAll: flag,
  markMasqBit: z.optional(z.int().check(z.minimum(0), z.maximum(31))),
  externalSetMarkChain: z.optional(z.string()),
  conditionsV4: z.optional(z.array(z.string())),
  conditionsV6: z.optional(z.array(z.string())),
  runtimeConfig: z.optional(z.object({ portMappings: z.optional(z.array(mapping)) })),
})

export const configuration = keys.check(
  z.refine(({ markMasqBit, externalSetMarkChain }) => markMasqBit === undefined || !externalSetMarkChain, {
    path: ['markMasqBit'],
    message: 'cannot be set together with externalSetMarkChain',
  }),
  z.refine(({ conditionsV4 }) => !isForIptables(conditionsV4), {
    path: ['conditionsV4'],
    message: 'must be nftables expressions, such as ["ip","saddr","10.0.0.0/8"], not iptables options',
  }),
  z.refine(({ conditionsV6 }) => !isForIptables(conditionsV6), {
    path: ['conditionsV6'],
    message: 'must be nftables expressions, such as ["ip6","saddr","fd00::/8"], not iptables options',
  }),
  z.refine(({ runtimeConfig }) => repeated(runtimeConfig?.portMappings ?? []) === undefined, {
    path: ['runtimeConfig', 'portMappings'],
    message: 'must not name one host port twice',
  }),
)

export type PortmapConfiguration = z.infer<typeof configuration>
type Mapping = z.infer<typeof mapping>

/** A mapping in canonical form. */
export interface PortMapping {
  protocol: 'tcp' | 'udp' | 'sctp'
  hostPort: number
  containerPort: number
  /** Only on this host address; on all of `families` when absent. */
  hostAddress?: string
  families: readonly (4 | 6)[]
}

/** An unspecified host address means all addresses of its family; none at all, of both. */
function canonical({ hostPort, containerPort, protocol, hostIP }: Mapping): PortMapping {
  const address = hostIP === '' ? undefined : parseAddress(hostIP)
  return {
    protocol: (protocol.toLowerCase() || 'tcp') as PortMapping['protocol'],
    hostPort,
    containerPort,
    families: address ? [address.family] : [4, 6],
    ...(address && !isUnspecified(address) ? { hostAddress: formatAddress(address) } : {}),
  }
}

export function portMappings({ runtimeConfig }: PortmapConfiguration): PortMapping[] {
  return (runtimeConfig?.portMappings ?? []).map(canonical)
}

function repeated(mappings: readonly Mapping[]): string | undefined {
  const seen = new Set<string>()
  for (const { protocol, hostPort, hostAddress, families } of mappings.map(canonical)) {
    for (const family of families) {
      const key = `${family} ${protocol} ${hostAddress ?? '*'} ${hostPort}`
      if (seen.has(key)) return key
      seen.add(key)
    }
  }
  return undefined
}
