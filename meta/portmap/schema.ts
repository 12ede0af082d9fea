/** portmap's configuration: keys, bounds, and what excludes what. */
import * as z from 'zod/mini'
import type { BackendName } from '../../chain/filter/decision.ts'
import { isAddressOrEmpty } from '../../chain/plugin/rules.ts'
import { chainName, flag } from '../../chain/plugin/schema.ts'
import {
  hasConsistentMappings,
  hasOneKindOfMark,
  isBackendOrEmpty,
  isBit,
  isOneLine,
  isPort,
  isProtocol,
  languageOf,
  marksByOwnBackend,
  suitsIptablesV4,
  suitsIptablesV6,
  suitsNftablesV4,
  suitsNftablesV6,
} from './configuration.ts'

const portNumber = (of: string) =>
  z.int().check(
    z.refine(isPort, {
      error: ({ input }) => `Invalid ${of} port number: ${input}, must be between 1 and 65535`,
    }),
  )

const mapping = z.object({
  hostPort: portNumber('host'),
  containerPort: portNumber('container'),
  protocol: z._default(z.string().check(z.refine(isProtocol, 'must be tcp, udp or sctp')), 'tcp'),
  hostIP: z._default(z.string().check(z.refine(isAddressOrEmpty, 'must be an address')), ''),
})

const conditions = z.optional(
  z.array(z.string().check(z.refine(isOneLine, 'must be words, without line ends'))),
)

const keys = z.object({
  backend: z.optional(
    z.custom<'' | BackendName>(isBackendOrEmpty, {
      error: ({ input }) => `unrecognized backend ${JSON.stringify(input)}, must be iptables or nftables`,
    }),
  ),
  snat: z._default(z.boolean(), true),
  masqAll: flag,
  markMasqBit: z.optional(z.int().check(z.refine(isBit, 'MasqMarkBit must be between 0 and 31'))),
  externalSetMarkChain: z.optional(chainName),
  conditionsV4: conditions,
  conditionsV6: conditions,
  runtimeConfig: z.optional(z.object({ portMappings: z.optional(z.array(mapping)) })),
})

type Keys = z.infer<typeof keys>

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

const inLanguage = (
  key: keyof typeof examples,
  suits: { nftables: (config: Keys) => boolean; iptables: (config: Keys) => boolean },
) => [
  z.refine<Keys>(suits.nftables, {
    path: [key],
    error: ({ input }) =>
      `${requestedBut(input as Keys, 'nftables')}: must be ${examples[key].nftables}, not iptables options, for backend nftables`,
  }),
  z.refine<Keys>(suits.iptables, {
    path: [key],
    error: ({ input }) =>
      `${requestedBut(input as Keys, 'iptables')}: must be ${examples[key].iptables}, not nftables expressions, for backend iptables`,
  }),
]

export const configuration = keys.check(
  z.refine(hasOneKindOfMark, {
    path: ['markMasqBit'],
    message: 'Cannot specify externalSetMarkChain and markMasqBit',
  }),
  z.refine(marksByOwnBackend, {
    path: ['externalSetMarkChain'],
    error: ({ input }) => `${requestedBut(input as Keys, 'nftables')}: it is a chain of iptables`,
  }),
  ...inLanguage('conditionsV4', { nftables: suitsNftablesV4, iptables: suitsIptablesV4 }),
  ...inLanguage('conditionsV6', { nftables: suitsNftablesV6, iptables: suitsIptablesV6 }),
  z.refine(hasConsistentMappings, {
    path: ['runtimeConfig', 'portMappings'],
    message: 'must not send one host port to two ports of the container',
  }),
)

export type PortmapConfiguration = z.infer<typeof configuration>
