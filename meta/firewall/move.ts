/** The firewall of a live attachment, moved to the other backend. */
import { imposedBackend } from '../../chain/filter/backend.ts'
import { hasElements, leaveNftables, moveRules } from '../../chain/filter/move.ts'
import { addOwned } from '../../chain/filter/nftables/apply.ts'
import type { Moved, MoveRequest } from '../../chain/plugin/define.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import type { Result } from '../../chain/protocol/result.ts'
import { choiceBy } from './backends.ts'
import { adminChain, namedBackend } from './configuration.ts'
import { addressesOf, familiesOf } from './ingress.ts'
import { removePolicies } from './iptables-removal.ts'
import { planFirewall } from './plan.ts'
import { type FirewallRecord, forget, recall, recordsOfOthers, remember } from './records.ts'
import { release } from './release.ts'
import { roles } from './rules.ts'
import type { FirewallConfiguration } from './schema.ts'

type Request = MoveRequest<FirewallConfiguration> & { previous: Result }

/**
 * Where FORWARD of iptables drops what nobody accepts, the addresses stay accepted there: only policies are moved then. The record
 * says iptables from before its rules are there until after they have gone.
 */
export async function moveFirewall(request: Request): Promise<Moved> {
  const { attachment, config, engine, io, previous, to } = request
  const { id } = ownerOf(attachment)
  const before = recall(id)
  if (before?.backend === 'firewalld')
    return { outcome: 'left', why: 'firewalld runs, and has the addresses' }
  const addresses = addressesOf(previous)
  if (addresses.length === 0) return { outcome: 'none' }
  const used = familiesOf(addresses)
  const planned = async () => {
    const decision = await imposedBackend(to, { chain: adminChain(config), args: request.args })
    return planFirewall(request, { previous, choice: choiceBy(decision, request, used) })
  }
  let plan: Awaited<ReturnType<typeof planned>> | undefined
  const kept = before?.backend === 'iptables' ? 'iptables' : 'nftables'
  return moveRules(request, {
    named: namedBackend(config),
    kept,
    found: {
      nftables: hasElements(attachment, [
        'forwarded',
        ...(kept === 'iptables' ? [] : (['policy-member'] as const)),
      ]),
      iptables: kept === 'iptables',
    },
    async enter(undo) {
      plan = await planned()
      const { owned, parts, record } = plan
      if (to === 'iptables' && record) {
        undo('delete the new rules', () => withdraw(io.env, id, { from: record, to: before }))
        remember(id, record)
      }
      for (const part of parts) await part.add()
      if (owned.elements.length > 0) await addOwned(engine, owned) // in the place of all that it had there
    },
    async leave() {
      if (to === 'nftables') await withdraw(io.env, id, { from: before, to: plan?.record })
      else if (!plan?.owned.elements.length) await leaveNftables(engine, attachment, roles)
    },
  })
}

/** Takes away what one record has in iptables, but for what another one needs there. */
async function withdraw(
  env: Request['io']['env'],
  id: string,
  { from, to }: { from: FirewallRecord | undefined; to: FirewallRecord | undefined },
): Promise<void> {
  if (!to) {
    if (from) await release(env, id, from)
    else forget(id)
    return
  }
  if (from?.ingress) await removePolicies(from.ingress.bridge, () => [...recordsOfOthers(id), to])
  remember(id, to)
}
