/** Which backend keeps a container's rules, and why: what backend.ts decides, as data and in words. */
import { findTools, findVariant, type Variant } from '../linux/iptables/tools.ts'

export type BackendName = 'nftables' | 'iptables'

export interface Decision {
  backend: BackendName
  /** Where iptables is to keep the rules. */
  variant?: Variant
  /** The reason, as the end of a sentence: "because …". */
  why: string
  /** Who has decided it: the configuration, whose word is final, an administrator for the node, or what is found there. */
  by: 'configuration' | 'node' | 'use'
  /** Known on the way: iptables drops what is forwarded and not accepted. */
  dropsForwarded?: boolean
}

/** iptables where its tools are, of the variant that is in use if there are some, else of the machine's choice. */
export function iptablesBecause(reason: Pick<Decision, 'why' | 'by'>, used?: Variant): Decision {
  const tools = (used && findVariant('ip', used)) ?? findTools('ip')
  if (tools) return { backend: 'iptables', variant: tools.variant, ...reason }
  return { backend: 'nftables', why: `iptables is not installed, though ${reason.why}`, by: 'use' }
}

/** The sentence about a decision that STATUS writes to standard error. */
export function describeDecision(
  what: string,
  { backend, why, variant }: { backend: string; why: string; variant?: Variant },
): string {
  const kind = variant === undefined ? backend : `${backend} (${variant})`
  return `${what} by ${kind}, because ${why}`
}
