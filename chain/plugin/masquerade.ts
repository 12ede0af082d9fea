/**
 * What bridge and ptp have in packet filters: masquerade of a container's addresses, by our nftables tables or by iptables,
 * and elements of their own. Taking it away looks at both, and at what the Go plugins left, whatever is configured.
 */
import type { Transport } from '../linux/netlink/socket.ts'
import type { Command, Engine } from '../linux/nft.ts'
import type { AddRequest, Attachment, GcRequest } from './define.ts'
import { masquerade, type Owned, type OwnedElement, type Source } from './elements.ts'
import { MASQUERADE_PREFIX, requireIptables } from './iptables.ts'
import type { Role } from './layout.ts'
import { legacyMasquerade } from './legacy.ts'
import { isStale, ownerOf } from './owner.ts'
import { addOwned, missingOwned } from './ruleset.ts'
import { sweepAttachment, sweepStale } from './sweep.ts'

/** `ipMasqBackend`; nftables when silent. */
export type MasqueradeBackend = '' | 'iptables' | 'nftables' | undefined

export interface Wish {
  attachment: Attachment
  /** Addresses to be masqueraded, if they are to be. */
  sources: readonly Source[]
  backend: MasqueradeBackend
  /** More for our nftables tables. */
  elements?: readonly OwnedElement[]
}

const isByIptables = ({ backend, sources }: Wish) => backend === 'iptables' && sources.length > 0

function ownedBy(wish: Wish): Owned {
  const { attachment, sources, elements = [] } = wish
  return {
    owner: ownerOf(attachment),
    elements: [...(isByIptables(wish) ? [] : masquerade(sources)), ...elements],
  }
}

/** What is swept of bridge and ptp. */
export interface Sweep {
  roles: readonly Role[]
  extra?(netfilter: Transport): Command[]
}

/** Puts the rules there, all or nothing. */
export async function addRules(
  { engine, undo }: Pick<AddRequest<unknown>, 'engine' | 'undo'>,
  wish: Wish,
  sweep: Sweep,
): Promise<void> {
  const owned = ownedBy(wish)
  if (owned.elements.length === 0 && !isByIptables(wish)) return
  undo('delete the rules', () => sweepRules(engine, wish.attachment, sweep))
  if (owned.elements.length > 0) await addOwned(engine, owned)
  if (!isByIptables(wish)) return
  const { addMasquerade } = await import('./iptables-masquerade.ts')
  await addMasquerade(wish.attachment, wish.sources)
}

/** A sentence for CHECK about something that is missing. */
export async function missingRules(wish: Wish): Promise<string | undefined> {
  const [missing] = missingOwned(ownedBy(wish))
  if (missing || !isByIptables(wish)) return missing
  const { missingMasquerade } = await import('./iptables-masquerade.ts')
  return missingMasquerade(wish.attachment, wish.sources)
}

/** STATUS: throws where the backend that is asked for is not there. */
export function requireBackend(config: { ipMasq: boolean; ipMasqBackend?: MasqueradeBackend }): void {
  if (config.ipMasq && config.ipMasqBackend === 'iptables') requireIptables()
}

const chains = [MASQUERADE_PREFIX] as const

/** DEL. */
export function sweepRules(engine: Engine, attachment: Attachment, { roles, extra }: Sweep): Promise<void> {
  const { id } = ownerOf(attachment)
  const masquerade = legacyMasquerade(owner => owner === id)
  return sweepAttachment(engine, attachment, {
    roles,
    chains,
    extra: netfilter => [...masquerade(netfilter), ...(extra?.(netfilter) ?? [])],
  })
}

/** GC: those of a network's attachments that are not valid. */
export function sweepStaleRules(
  { engine, network, valid }: Pick<GcRequest<unknown>, 'engine' | 'network' | 'valid'>,
  { roles }: Sweep,
): Promise<void> {
  const extra = legacyMasquerade(isStale(network, valid))
  return sweepStale(engine, { network, valid }, { roles, chains, extra })
}
