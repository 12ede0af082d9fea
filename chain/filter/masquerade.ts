/**
 * What bridge and ptp have in packet filters: masquerade of a container's addresses, by our nftables tables or by iptables,
 * and elements of their own. Taking it away looks at both, and at what the Go plugins left, whatever is configured.
 */
import type { Variant } from '../linux/iptables/tools.ts'
import type { Transport } from '../linux/netlink/socket.ts'
import type { Command, Engine } from '../linux/nftables/nft.ts'
import type { AddRequest, Attachment, BaseRequest, GcRequest } from '../plugin/define.ts'
import { isStale, ownerOf } from '../plugin/owner.ts'
import { addByBackend, type Backend, decideBackend } from './backend.ts'
import { type BackendName, type Decision, describeDecision } from './decision.ts'
import { hasOwnChain, MASQUERADE_PREFIX, partOf, requireIptables } from './iptables/chains.ts'
import { addOwned } from './nftables/apply.ts'
import { type Element, masquerade, type Source } from './nftables/elements.ts'
import { goPluginsMasquerade } from './nftables/go-plugins.ts'
import type { Role } from './nftables/layout.ts'
import { missingOwned } from './nftables/missing.ts'
import { sweepAttachment, sweepStale } from './sweep.ts'

/** `ipMasqBackend`; silent: see backend.ts. */
export type MasqueradeBackend = '' | BackendName | undefined

export interface MasqueradeSpec {
  attachment: Attachment
  /** Addresses to be masqueraded, if they are to be. */
  sources: readonly Source[]
  backend: MasqueradeBackend
  /** More for our nftables tables. */
  elements?: readonly Element[]
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
  const remove = () => sweepRules(request.engine, attachment, sweep)
  request.undo('delete the rules', remove)
  const context = { engine: request.engine, remove }
  if (sources.length === 0) return await byNftables(spec, context).add(request.undo)
  const decision = await decideBackend(spec.backend, request)
  await addByBackend(request, {
    by: decision.by,
    backend: async () => backendFor(decision, spec, context),
    fallback: async other => backendFor(other, spec, context),
  })
}

/** What a backend takes rules away by, and puts elements there. */
interface Context {
  engine: Engine
  remove(): Promise<void>
}

const backendFor = (
  { backend, variant }: Pick<Decision, 'backend' | 'variant'>,
  spec: MasqueradeSpec,
  context: Context,
) => (backend === 'iptables' ? byIptables(spec, context, variant) : byNftables(spec, context))

function byNftables({ attachment, sources, elements = [] }: MasqueradeSpec, context: Context): Backend {
  const owned = { owner: ownerOf(attachment), elements: [...masquerade(sources), ...elements] }
  return {
    remove: context.remove,
    async add() {
      // of an ADD that was killed, when the node was another one
      if (sources.length > 0 && partOf(MASQUERADE_PREFIX, attachment)) await context.remove()
      await addOwned(context.engine, owned)
    },
    check: async () => missingOwned(owned)[0],
  }
}

/** iptables masquerades; other elements are nftables' all the same. */
function byIptables(spec: MasqueradeSpec, context: Context, variant?: Variant): Backend {
  const { attachment, sources, elements = [] } = spec
  const owned = { owner: ownerOf(attachment), elements }
  return {
    remove: context.remove,
    async add() {
      if (elements.length > 0) await addOwned(context.engine, owned)
      const { addMasquerade } = await import('./iptables/masquerade.ts')
      await addMasquerade(attachment, sources, variant)
    },
    async check() {
      const [missing] = missingOwned(owned)
      if (missing !== undefined) return missing
      const { missingMasquerade } = await import('./iptables/masquerade.ts')
      return missingMasquerade(attachment, sources)
    },
  }
}

/** The rules of a live attachment, by what ADD chose. */
export function rulesAtAdd(
  { engine }: Pick<BaseRequest<unknown>, 'engine'>,
  spec: MasqueradeSpec,
  sweep: Sweep,
): Backend {
  const backend = spec.sources.length > 0 && isKeptByIptables(spec) ? 'iptables' : 'nftables'
  const remove = () => sweepRules(engine, spec.attachment, sweep)
  return backendFor({ backend }, spec, { engine, remove })
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
