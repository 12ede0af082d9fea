/**
 * Takes away everything that an attachment has in any packet filter: in our nftables tables, in the Go plugins', and in
 * iptables of either variant. It looks instead of remembering which backend was configured, and starts a process only where
 * the kernel has a table of the older kind.
 */
import { removalCommands, removeFromLegacy } from '../linux/iptables/removal.ts'
import type { Transport } from '../linux/netlink/socket.ts'
import type { Command, Engine } from '../linux/nftables/nft.ts'
import type { Attachment, ValidAttachment } from '../plugin/define.ts'
import { isStale, ownerOf } from '../plugin/owner.ts'
import {
  families,
  type Leaving,
  leaveChains,
  lockRulesIfUsed,
  staleAttachments,
  TABLE,
} from './iptables/chains.ts'
import { closeGuardedLinks } from './localnet.ts'
import { type Removal, removeOwned } from './nftables/apply.ts'
import type { Role } from './nftables/layout.ts'

/** What of an attachment is swept. */
export interface Swept {
  roles: readonly Role[]
  /** Prefixes of its chains in iptables. */
  chains?: readonly string[]
  /** More to delete in the same transaction, such as what the Go plugins left in nftables. */
  extra?(netfilter: Transport): Command[]
}

export async function sweepAttachment(engine: Engine, attachment: Attachment, swept: Swept): Promise<void> {
  const { id } = ownerOf(attachment)
  await sweep(engine, { ...swept, isOwner: owner => owner === id, attachments: [attachment] })
}

/** GC: what belongs to a network but to none of its valid attachments. */
export async function sweepStale(
  engine: Engine,
  { network, valid }: { network: string; valid: readonly ValidAttachment[] },
  swept: Swept,
): Promise<void> {
  const attachments = swept.chains ? staleAttachments(network, valid) : []
  await sweep(engine, { ...swept, isOwner: isStale(network, valid), attachments })
}

async function sweep(
  engine: Engine,
  swept: Swept & { isOwner(owner: string): boolean; attachments: readonly Attachment[] },
): Promise<void> {
  const { roles, chains = [], extra = () => [], isOwner, attachments } = swept
  const searched = attachments.length * chains.length > 0 ? families : []
  let leaving: Leaving
  {
    using lock = lockRulesIfUsed()
    leaving = leaveChains(attachments, chains)
    const filter = { ...leaving, lock }
    try {
      await sweepElements(engine, {
        roles,
        isOwner,
        extra: netfilter => [
          ...extra(netfilter),
          ...searched.flatMap(family => removalCommands(netfilter, { family, table: TABLE }, filter)),
        ],
      })
    } finally {
      for (const family of searched) removeFromLegacy(family, TABLE, filter)
    }
  }
  await leaving.finish()
}

/** What owners have in our nftables tables; what a table's elements guard is closed before the table goes. */
export function sweepElements(engine: Engine, removal: Removal): Promise<'removed' | 'absent'> {
  return removeOwned(engine, { ...removal, beforeEmptied: closeGuardedLinks })
}
