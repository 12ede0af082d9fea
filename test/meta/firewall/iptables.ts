/** What the tests of a firewall by iptables share. */
import type { Variant } from '../../../chain/linux/iptables/tools.ts'
import { saved } from '../../fixtures/iptables.ts'
import { hostNamespace } from '../../fixtures/namespace.ts'

export const iptables = { backend: 'iptables' }

/** Runs iptables or ip6tables of a variant. */
export function run(variant: Variant, family: 'ip' | 'ip6', ...words: string[]): void {
  const suffix = variant === 'legacy' ? 'legacy' : 'nft'
  hostNamespace().run(`${family === 'ip' ? 'iptables' : 'ip6tables'}-${suffix}`, '-w', ...words)
}

/** The filter tables of both families. */
export const filters = (variant: Variant) => [
  ...saved(variant, 'ip', 'filter'),
  ...saved(variant, 'ip6', 'filter'),
]
