/** portmap's configuration, and the mappings that follow from it. */
import * as z from 'zod/mini'
import type { BackendName } from '../../chain/filter/decision.ts'
import { formatAddress, isUnspecified, parseAddress } from '../../chain/ip/address.ts'

const flag = z._default(z.boolean(), false)
const portNumber = (of: string) =>
  z.int().check(
    z.refine(number => number >= 1 && number <= 65535, {
      error: ({ input }) => `Invalid ${of} port number: ${input}, must be between 1 and 65535`,
    }),
  )

const mapping = z.object({
  hostPort: portNumber('host'),
  containerPort: portNumber('container'),
  protocol: z._default(
    z.string().check(z.refine(name => /^(tcp|udp|sctp)?$/i.test(name), 'must be tcp, udp or sctp')),
    'tcp',
  ),
  hostIP: z._default(
    z.string().check(z.refine(text => text === '' || parseAddress(text) !== undefined, 'must be an address')),
    '',
  ),
})

const conditions = z.optional(
  z.array(z.string().check(z.refine(token => !/[\r\n\0]/.test(token), 'must be words, without line ends'))),
)

const chainName = z
  .string()
  .check(
    z.refine(
      name => /^((?![!-])[\x21-\x7e]{1,28})?$/.test(name),
      'must be the name of a chain: 28 printable characters of ASCII at most, not beginning with ! or -',
    ),
  )

const keys = z.object({
  backend: z.optional(
    z.custom<'' | BackendName>(name => ['', 'iptables', 'nftables'].includes(name as string), {
      error: ({ input }) => `unrecognized backend ${JSON.stringify(input)}, must be iptables or nftables`,
    }),
  ),
  snat: z._default(z.boolean(), true),
  masqAll: flag,
  markMasqBit: z.optional(
    z.int().check(z.refine(bit => bit >= 0 && bit <= 31, 'MasqMarkBit must be between 0 and 31')),
  ),
  externalSetMarkChain: z.optional(chainName),
  conditionsV4: conditions,
  conditionsV6: conditions,
  runtimeConfig: z.optional(z.object({ portMappings: z.optional(z.array(mapping)) })),
})

type Keys = z.infer<typeof keys>

/** The language of conditions, as the reference tells it: by their first token. */
function languageOf(words: readonly string[] = []): BackendName | undefined {
  const [first] = words
  if (first === undefined) return undefined
  return /^[-!]/.test(first) ? 'iptables' : 'nftables'
}

/** The backend that is named, or the one that the other keys are written for; undefined where none is. */
export function namedBackend(keys: Keys): BackendName | undefined {
  const { backend, externalSetMarkChain, conditionsV4, conditionsV6 } = keys
  if (backend) return backend
  if (externalSetMarkChain) return 'iptables'
  return languageOf(conditionsV4) ?? languageOf(conditionsV6)
}

const isForOther = (config: Keys, words: readonly string[] | undefined) =>
  (languageOf(words) ?? namedBackend(config)) !== namedBackend(config)

const examples = {
  conditionsV4: {
    nftables: 'nftables expressions, such as ["ip","saddr","10.0.0.0/8"]',
    iptables: 'iptables options, such as ["-s","10.0.0.0/8"]',
  },
  conditionsV6: {
    nftables: 'nftables expressions, such as ["ip6","saddr","fd00::/8"]',
    iptables: 'iptables options, such as ["-s","fd00::/8"]',
  },
}

/** The Go plugin's words for options that are the other backend's: it names all of them. */
function requestedBut(config: Keys, backend: BackendName): string {
  const other = backend === 'iptables' ? 'nftables' : 'iptables'
  const options = [
    ...(other === 'iptables' && config.externalSetMarkChain ? ['externalSetMarkChain'] : []),
    ...(['conditionsV4', 'conditionsV6'] as const).filter(key => languageOf(config[key]) === other),
  ]
  return `${backend} backend was requested but configuration contains ${other}-specific options [${options.join(' ')}]`
}

const inLanguage = (key: keyof typeof examples, { nftables, iptables } = examples[key]) => [
  z.refine<Keys>(config => !(namedBackend(config) === 'nftables' && isForOther(config, config[key])), {
    path: [key],
    error: ({ input }) =>
      `${requestedBut(input as Keys, 'nftables')}: must be ${nftables}, not iptables options, for backend nftables`,
  }),
  z.refine<Keys>(config => !(namedBackend(config) === 'iptables' && isForOther(config, config[key])), {
    path: [key],
    error: ({ input }) =>
      `${requestedBut(input as Keys, 'iptables')}: must be ${iptables}, not nftables expressions, for backend iptables`,
  }),
]

export const configuration = keys.check(
  z.refine(({ markMasqBit, externalSetMarkChain }) => markMasqBit === undefined || !externalSetMarkChain, {
    path: ['markMasqBit'],
    message: 'Cannot specify externalSetMarkChain and markMasqBit',
  }),
  z.refine(({ backend, externalSetMarkChain }) => !(backend === 'nftables' && externalSetMarkChain), {
    path: ['externalSetMarkChain'],
    error: ({ input }) => `${requestedBut(input as Keys, 'nftables')}: it is a chain of iptables`,
  }),
  ...inLanguage('conditionsV4'),
  ...inLanguage('conditionsV6'),
  z.refine(({ runtimeConfig }) => contradictory(runtimeConfig?.portMappings ?? []) === undefined, {
    path: ['runtimeConfig', 'portMappings'],
    message: 'must not send one host port to two ports of the container',
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

/** What is to be published, each port once: runtimes say one twice, as for "0.0.0.0" and for "::". */
export function portMappings({ runtimeConfig }: PortmapConfiguration): PortMapping[] {
  const seen = new Map<string, number>()
  return (runtimeConfig?.portMappings ?? []).map(canonical).flatMap(mapping => {
    const families = mapping.families.filter(family => !seen.has(keyOf(mapping, family)))
    for (const family of families) seen.set(keyOf(mapping, family), mapping.containerPort)
    return families.length === 0 ? [] : [{ ...mapping, families }]
  })
}

const keyOf = ({ protocol, hostPort, hostAddress = '*' }: PortMapping, family: 4 | 6) =>
  `${family} ${protocol} ${hostAddress} ${hostPort}`

/** A host port that is to lead to two ports of the container. */
function contradictory(mappings: readonly Mapping[]): string | undefined {
  const targets = new Map<string, number>()
  for (const mapping of mappings.map(canonical)) {
    for (const family of mapping.families) {
      const key = keyOf(mapping, family)
      const target = targets.get(key) ?? mapping.containerPort
      if (target !== mapping.containerPort) return key
      targets.set(key, target)
    }
  }
  return undefined
}
