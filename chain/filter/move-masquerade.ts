/** Masquerade of a live attachment's addresses, moved to the other backend. */
import type { Moved, MoveRequest } from '../plugin/define.ts'
import { ownerOf } from '../plugin/owner.ts'
import { imposedBackend } from './backend.ts'
import { hasOwnChain, MASQUERADE_PREFIX, partOf } from './iptables/chains.ts'
import type { MasqueradeSpec } from './masquerade.ts'
import { hasElements, leaveIptables, leaveNftables, moveRules } from './move.ts'
import { addOwned } from './nftables/apply.ts'
import { masquerade } from './nftables/elements.ts'

export async function moveMasquerade(
  request: Pick<MoveRequest<unknown>, 'engine' | 'to' | 'isTrial' | 'args'>,
  { attachment, sources, backend: named }: MasqueradeSpec,
): Promise<Moved> {
  if (sources.length === 0) return { outcome: 'none' }
  const { engine, to } = request
  const isOurs = partOf(MASQUERADE_PREFIX, attachment) !== undefined
  const ways = {
    nftables: () => leaveNftables(engine, attachment, ['masquerade']),
    iptables: () => leaveIptables(engine, attachment, [MASQUERADE_PREFIX]),
  }
  return moveRules(request, {
    named,
    kept: isOurs || hasOwnChain(MASQUERADE_PREFIX, attachment) ? 'iptables' : 'nftables',
    found: { nftables: hasElements(attachment, ['masquerade']), iptables: isOurs },
    async enter(undo) {
      undo('delete the new rules', ways[to])
      if (to === 'nftables')
        return addOwned(engine, { owner: ownerOf(attachment), elements: masquerade(sources) })
      const { variant } = await imposedBackend(to, request)
      const { addMasquerade } = await import('./iptables/masquerade.ts')
      await addMasquerade(attachment, sources, variant)
    },
    leave: to === 'nftables' ? ways.iptables : ways.nftables,
  })
}
