/** portmap's configuration: what it may hold beyond the types of its keys, and the mappings that follow from it. */
import type { BackendName } from '../../chain/filter/decision.ts'
import { formatAddress, isUnspecified, parseAddress } from '../../chain/ip/address.ts'

export const isPort = (number: number) => number >= 1 && number <= 65535

export const isProtocol = (name: string) => /^(tcp|udp|sctp)?$/i.test(name)

export const isOneLine = (token: string) => !/[\r\n\0]/.test(token)

export const isBit = (bit: number) => bit >= 0 && bit <= 31

export const isBackendOrEmpty = (name: unknown) => name === '' || name === 'iptables' || name === 'nftables'

interface Keys {
  backend?: '' | BackendName | undefined
  externalSetMarkChain?: string | undefined
  conditionsV4?: readonly string[] | undefined
  conditionsV6?: readonly string[] | undefined
}

/** The language of conditions, as the Go plugin tells it: by their first token. */
export function languageOf(conditions: readonly string[] = []): BackendName | undefined {
  const [first] = conditions
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

const suits = (config: Keys, backend: BackendName, conditions: readonly string[] | undefined) =>
  namedBackend(config) !== backend || (languageOf(conditions) ?? backend) === backend

/** Conditions are in the language of the backend. */
export const suitsNftablesV4 = (config: Keys) => suits(config, 'nftables', config.conditionsV4)
export const suitsNftablesV6 = (config: Keys) => suits(config, 'nftables', config.conditionsV6)
export const suitsIptablesV4 = (config: Keys) => suits(config, 'iptables', config.conditionsV4)
export const suitsIptablesV6 = (config: Keys) => suits(config, 'iptables', config.conditionsV6)

export const hasOneKindOfMark = (config: Keys & { markMasqBit?: number | undefined }) =>
  config.markMasqBit === undefined || !config.externalSetMarkChain

/** A chain that sets the mark is one of iptables. */
export const marksByOwnBackend = ({ backend, externalSetMarkChain }: Keys) =>
  !(backend === 'nftables' && externalSetMarkChain)

interface Mapping {
  hostPort: number
  containerPort: number
  protocol: string
  hostIP: string
}

/** A configuration, as far as mappings are concerned. */
interface Mapped {
  runtimeConfig?: { portMappings?: readonly Mapping[] | undefined } | undefined
}

/** No host port is to lead to two ports of the container. */
export const hasConsistentMappings = ({ runtimeConfig }: Mapped) =>
  contradictory(runtimeConfig?.portMappings ?? []) === undefined

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
export function portMappings({ runtimeConfig }: Mapped): PortMapping[] {
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
