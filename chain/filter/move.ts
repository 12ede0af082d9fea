/**
 * Rules of a live attachment on their way from one backend to the other: those of the new one are put there first, then those of
 * the old one go, so that a packet finds some at every moment. Whatever a kill leaves, the same again finishes it. Established
 * connections do not ask the rules: connection tracking knows where they go, as long as either backend keeps it in use.
 */
import { openNetfilterIfPresent } from '../linux/nftables/netfilter.ts'
import type { Engine } from '../linux/nftables/nft.ts'
import type { Attachment, Moved, MoveRequest } from '../plugin/define.ts'
import { ownerOf } from '../plugin/owner.ts'
import { allOrNothing, type Undo } from '../plugin/undo.ts'
import type { BackendName } from './decision.ts'
import type { Element } from './nftables/elements.ts'
import type { Role } from './nftables/layout.ts'
import { listOwned } from './nftables/read.ts'
import { sweepAttachment, sweepElements } from './sweep.ts'

export interface Move {
  /** What the configuration insists on. */
  named: string | undefined
  /** Which backend CHECK looks at. */
  kept: BackendName
  /** Which have rules of ours for the attachment: both, where a move was cut short. */
  found: Readonly<Record<BackendName, boolean>>
  /** Puts the rules of the new backend there; each step is followed by what undoes it. */
  enter(undo: Undo): Promise<void>
  /** Takes away those of the old one. */
  leave(): Promise<void>
}

export async function moveRules(
  { to, isTrial }: Pick<MoveRequest<unknown>, 'to' | 'isTrial'>,
  { named, kept, found, enter, leave }: Move,
): Promise<Moved> {
  const other = to === 'iptables' ? 'nftables' : 'iptables'
  if (named && named !== to) return { outcome: 'left', why: `the configuration names ${named}` }
  if (!found.nftables && !found.iptables)
    return {
      outcome: 'left',
      why: "none of our rules are there: they are the Go plugin's, or have been flushed",
    }
  if (kept === to && found[to] && !found[other]) return { outcome: 'there', from: to }
  if (!isTrial) {
    await allOrNothing(enter)
    await leave()
  }
  return { outcome: 'moved', from: other }
}

/** Whether an attachment has an element of one of these kinds in our nftables tables. */
export function hasElements(attachment: Attachment, kinds: readonly Element['kind'][]): boolean {
  using netfilter = openNetfilterIfPresent()
  const { id } = ownerOf(attachment)
  return (
    netfilter !== undefined &&
    listOwned(netfilter).some(({ owner, kind }) => owner === id && kinds.includes(kind))
  )
}

/** What an attachment has in our nftables tables. */
export async function leaveNftables(
  engine: Engine,
  attachment: Attachment,
  roles: readonly Role[],
): Promise<void> {
  const { id } = ownerOf(attachment)
  await sweepElements(engine, { roles, isOwner: owner => owner === id })
}

/** What it has in its chains of iptables. */
export function leaveIptables(
  engine: Engine,
  attachment: Attachment,
  chains: readonly string[],
): Promise<void> {
  return sweepAttachment(engine, attachment, { roles: [], chains })
}
