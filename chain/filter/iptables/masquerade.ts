/** Masquerade by iptables, for bridge and ptp: names, comments and order are those of the Go plugins. */
import { tableFamilyOf } from '../../ip/family.ts'
import type { Args } from '../../linux/iptables/plan.ts'
import type { Family, Variant } from '../../linux/iptables/tools.ts'
import type { Attachment } from '../../plugin/define.ts'
import type { Source } from '../nftables/elements.ts'
import {
  addChain,
  type ChainSpec,
  chainName,
  families,
  MASQUERADE_PREFIX,
  missingFromChain,
  ownershipComment,
  type Part,
} from './chains.ts'

const multicast = { ip: '224.0.0.0/4', ip6: 'ff00::/8' }

/**
 * Pure: the chain of a container. Of several addresses the networks are let through first: the Go plugins masquerade what goes
 * to the second one's.
 */
export function masqueradeChain(attachment: Attachment, sources: readonly Source[]): ChainSpec {
  const comment = ['-m', 'comment', '--comment', ownershipComment('', attachment)]
  const chain = chainName(MASQUERADE_PREFIX, attachment)
  const partOf = (family: Family, own: readonly Source[]): Part => ({
    rules: [
      ...own.map<Args>(({ network }) => ['-d', network, ...comment, '-j', 'ACCEPT']),
      ['!', '-d', multicast[family], ...comment, '-j', 'MASQUERADE'],
    ],
    enter: own.map(({ address }) => ({
      chain: 'POSTROUTING',
      args: ['-s', address, ...comment, '-j', chain],
    })),
  })
  const parts = families.flatMap(family => {
    const own = sources.filter(({ address }) => tableFamilyOf(address) === family)
    return own.length === 0 ? [] : [[family, partOf(family, own)] as const]
  })
  return {
    attachment,
    prefix: MASQUERADE_PREFIX,
    shared: () => ({ chains: [], ensure: [] }),
    parts: Object.fromEntries(parts),
  }
}

export function addMasquerade(
  attachment: Attachment,
  sources: readonly Source[],
  variant?: Variant,
): Promise<void> {
  return addChain({ ...masqueradeChain(attachment, sources), variant })
}

/** A sentence about what is missing; undefined when all is there. */
export function missingMasquerade(
  attachment: Attachment,
  sources: readonly Source[],
): Promise<string | undefined> {
  return missingFromChain(masqueradeChain(attachment, sources))
}
