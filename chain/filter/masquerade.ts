/**
 * What bridge and ptp have in packet filters: masquerade of a container's addresses, by our nftables tables or by iptables,
 * and elements of their own. Taking it away looks at both, and at what the Go plugins left, whatever is configured.
 */
import type { Transport } from '../linux/netlink/socket.ts'
import type { Command, Engine } from '../linux/nftables/nft.ts'
import type { AddRequest, Attachment, BaseRequest, GcRequest } from '../plugin/define.ts'
import { isStale, ownerOf } from '../plugin/owner.ts'
import { decideBackend, withBackend } from './backend.ts'
import { type Backend, type Decision, describeDecision } from './decision.ts'
import { hasOwnChain, MASQUERADE_PREFIX, partOf, requireIptables } from './iptables/chains.ts'
import { addOwned, missingOwned } from './nftables/apply.ts'
import { type Element, masquerade, type Owned, type Source } from './nftables/elements.ts'
import { goPluginsMasquerade } from './nftables/go-plugins.ts'
import type { Role } from './nftables/layout.ts'
import { sweepAttachment, sweepStale } from './sweep.ts'

/** `ipMasqBackend`; silent: see backend.ts. */
export type MasqueradeBackend = '' | Backend | undefined

export interface MasqueradeSpec {
  attachment: Attachment
  /** Addresses to be masqueraded, if they are to be. */
  sources: readonly Source[]
  backend: MasqueradeBackend
  /** More for our nftables tables. */
  elements?: readonly Element[]
}

function ownedBy({ attachment, sources, elements = [] }: MasqueradeSpec, backend: Backend): Owned {
  return {
    owner: ownerOf(attachment),
    elements: [...(backend === 'iptables' ? [] : masquerade(sources)), ...elements],
  }
}

/** What is swept of bridge and ptp. */
export interface Sweep {
  roles: readonly Role[]
  extra?(netfilter: Transport): Command[]
}

/** Puts the rules there, all or nothing. */
export async function addRules(
  request: Pick<AddRequest<unknown>, 'args' | 'engine' | 'undo' | 'io'>,
  spec: MasqueradeSpec,
  sweep: Sweep,
): Promise<void> {
  const { attachment, sources, elements = [] } = spec
  if (sources.length === 0 && elements.length === 0) return
  request.undo('delete the rules', () => sweepRules(request.engine, attachment, sweep))
  if (sources.length === 0) return await addOwned(request.engine, ownedBy(spec, 'nftables'))
  const decision = await decideBackend(spec.backend, request)
  // of an ADD that was killed, when the node was another one
  if (decision.backend === 'nftables' && partOf(MASQUERADE_PREFIX, attachment))
    await sweepRules(request.engine, attachment, sweep)
  await withBackend<Decision>(request, {
    decision,
    instead: other => other,
    apply: decision => addBy(decision, request.engine, spec),
    sweep: () => sweepRules(request.engine, attachment, sweep),
  })
}

async function addBy({ backend, variant }: Decision, engine: Engine, spec: MasqueradeSpec): Promise<void> {
  const owned = ownedBy(spec, backend)
  if (owned.elements.length > 0) await addOwned(engine, owned)
  if (backend === 'nftables') return
  const { addMasquerade } = await import('./iptables/masquerade.ts')
  await addMasquerade(spec.attachment, spec.sources, variant)
}

/** A sentence for CHECK about something that is missing. What ADD chose is what is looked at. */
export async function missingRules(spec: MasqueradeSpec): Promise<string | undefined> {
  const { attachment, sources } = spec
  const isByIptables = sources.length > 0 && isKeptByIptables(spec)
  const [missing] = missingOwned(ownedBy(spec, isByIptables ? 'iptables' : 'nftables'))
  if (missing || !isByIptables) return missing
  const { missingMasquerade } = await import('./iptables/masquerade.ts')
  return missingMasquerade(attachment, sources)
}

function isKeptByIptables({ attachment, backend }: MasqueradeSpec): boolean {
  if (backend === 'iptables' || partOf(MASQUERADE_PREFIX, attachment)) return true
  return !backend && hasOwnChain(MASQUERADE_PREFIX, attachment)
}

/** STATUS: throws where the backend that is asked for is not there; says which one it is where none is named. */
export async function requireBackend({
  config,
  engine,
  io,
}: Pick<
  BaseRequest<{ ipMasq: boolean; ipMasqBackend?: MasqueradeBackend }>,
  'config' | 'engine' | 'io'
>): Promise<void> {
  if (!config.ipMasq) return
  const { proven } = await import('./fallback.ts')
  const decision = await proven(await decideBackend(config.ipMasqBackend), engine)
  if (decision.backend === 'iptables') requireIptables()
  if (decision.by !== 'configuration')
    io.stderr(`${describeDecision('addresses are masqueraded', decision)}\n`)
}

const chains = [MASQUERADE_PREFIX] as const

/** DEL. */
export function sweepRules(engine: Engine, attachment: Attachment, { roles, extra }: Sweep): Promise<void> {
  const { id } = ownerOf(attachment)
  const masquerade = goPluginsMasquerade(owner => owner === id)
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
  const extra = goPluginsMasquerade(isStale(network, valid))
  return sweepStale(engine, { network, valid }, { roles, chains, extra })
}
