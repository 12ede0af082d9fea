/** Commands that take an owner's elements and chains out of our nftables tables. Reads, and changes nothing itself. */
import type { Transport } from '../../linux/netlink/socket.ts'
import type { Command } from '../../linux/nftables/nft.ts'
import { collectionOf, elementCommands } from './elements.ts'
import { type Role, TABLE } from './layout.ts'
import { type FoundElement, ownedChains } from './read.ts'

/** Whose elements go, and of which roles. */
export interface Picked {
  isOwner(owner: string | undefined): boolean
  hasRole(role: Role): boolean
}

/** Commands that delete the elements and chains of owners in some roles. */
export function removals(
  netfilter: Transport,
  found: readonly FoundElement[],
  { isOwner, hasRole }: Picked,
): Command[] {
  const elements = found.filter(
    element => element.owner !== undefined && isOwner(element.owner) && hasRole(collectionOf(element).role),
  )
  const chains = hasRole('ports')
    ? (['ip', 'ip6'] as const).flatMap(family =>
        ownedChains(netfilter, family).filter(({ owner }) => isOwner(owner)),
      )
    : []
  return [
    ...elementCommands(
      'delete',
      elements.map(element => ({ element })),
    ),
    ...chains.flatMap<Command>(({ family, name }) => [
      { verb: 'flush', kind: 'chain', family, table: TABLE, name },
      { verb: 'delete', kind: 'chain', family, table: TABLE, name },
    ]),
  ]
}
