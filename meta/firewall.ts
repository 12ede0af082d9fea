/** firewall: lets a container's packets through the host, and keeps other bridges and neighbours away where a policy says so. */

import { withBackend } from '../chain/filter/backend.ts'
import { describeDecision } from '../chain/filter/decision.ts'
import { addOwned, missingOwned } from '../chain/filter/nftables/apply.ts'
import { sweepElements } from '../chain/filter/sweep.ts'
import { hasNftables } from '../chain/linux/nftables/list.ts'
import type { Engine } from '../chain/linux/nftables/nft.ts'
import { type AddRequest, definePlugin } from '../chain/plugin/define.ts'
import { isStale, ownerOf } from '../chain/plugin/owner.ts'
import { main } from '../chain/plugin/run.ts'
import { everyStep } from '../chain/plugin/undo.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import type { Result } from '../chain/protocol/result.ts'
import {
  blockingChains,
  type Choice,
  choiceAtAdd,
  chooseBackend,
  decide,
  insteadOf,
} from './firewall/backends.ts'
import { configuration, type FirewallConfiguration, zoneOf } from './firewall/configuration.ts'
import * as firewalld from './firewall/firewalld.ts'
import { addressesOf, familiesOf } from './firewall/ingress.ts'
import * as iptables from './firewall/iptables.ts'
import { planFirewall } from './firewall/plan.ts'
import { recall, recorded, remember } from './firewall/records.ts'
import { release } from './firewall/release.ts'
import { roles } from './firewall/rules.ts'

export const firewall = definePlugin({
  name: 'firewall',
  chained: true,
  versions: ['0.4.0', '1.0.0', '1.1.0'],
  config: configuration,

  async add(request) {
    const { attachment, config, engine, previous, io } = request
    const { id } = ownerOf(attachment)
    const addresses = addressesOf(previous)
    const decision = await chooseBackend(request, familiesOf(addresses))
    await withBackend<Choice>(request, {
      decision,
      instead: other => insteadOf(decision, other, familiesOf(addresses)),
      apply: choice => apply(request, { previous, choice }),
      sweep: async () => void (await sweep(engine, id)),
    })
    for (const blocking of blockingChains(config, addresses)) io.stderr(`firewall: ${blocking}\n`)
    return previous
  },

  async check(request) {
    const { previous } = request
    const choice = await choiceAtAdd(request, addressesOf(previous))
    const { owned, filters, wanted, sources } = planFirewall(request, { previous, choice })
    const missing = [
      ...missingOwned(owned),
      ...(await Promise.all(filters.map(filter => iptables.missingFrom(filter, wanted)))),
      ...choice.obeyed.map(filter => iptables.missingWay(filter, wanted.admin)),
      sources && (await firewalld.missingSource(request.io.env, sources)),
    ].filter(each => each !== undefined)
    if (missing.length === 0) return
    throw new CniError(code.internal, missing.join('; '), {
      details: 'was the ruleset flushed, or the firewall reloaded?',
    })
  },

  async del({ attachment, config, engine, previous, io }) {
    const { id } = ownerOf(attachment)
    const told = previous ? addressesOf(previous) : []
    let swept: 'removed' | 'absent' = 'absent'
    await everyStep({
      'delete the rules': async () => {
        swept = await sweep(engine, id)
      },
      'release the addresses': () => {
        const record = recall(id)
        // what is not recorded, and not in our tables, may be the Go plugin's: anywhere
        const zone = record || swept === 'removed' ? record?.zone : zoneOf(config)
        const addresses = [...new Set([...(record?.addresses ?? []), ...told])]
        const known = record ?? { ingress: 'unknown' as const }
        return release(io.env, id, { ...known, addresses, ...(zone === undefined ? {} : { zone }) })
      },
    })
  },

  async status({ config, io }) {
    const decision = await decide({ config, io })
    const { backend } = decision
    if (backend === 'firewalld') await firewalld.requireRunning(io.env)
    if (decision.by !== 'configuration') io.stderr(`${describeDecision('packets are accepted', decision)}\n`)
    if (backend === 'iptables') return iptables.requireInstalled()
    if (hasNftables()) return
    throw new CniError(code.pluginNotAvailable, 'the kernel has no nf_tables', {
      details: 'load the module nf_tables, or set backend to iptables',
    })
  },

  async gc({ network, valid, engine, io }) {
    const isOwner = isStale(network, valid)
    await everyStep({
      'delete stale rules': () => sweepElements(engine, { roles, isOwner }),
      'delete stale addresses': async () => {
        for (const id of recorded().filter(isOwner))
          await release(io.env, id, recall(id) ?? { addresses: [], ingress: 'unknown' })
      },
    })
  },
})

type Request = AddRequest<FirewallConfiguration>

async function apply(request: Request, way: { previous: Result; choice: Choice }): Promise<void> {
  const { attachment, engine, undo, io } = request
  const { choice } = way
  const { id } = ownerOf(attachment)
  const { owned, filters, wanted, sources, record } = planFirewall(request, way)
  const earlier = recall(id)
  if (earlier) await release(io.env, id, earlier) // a killed ADD's, perhaps of other addresses
  if (record) {
    undo('release the addresses', () => release(io.env, id, record))
    remember(id, record)
  }
  if (owned.elements.length > 0) {
    undo('delete the rules', () => sweep(engine, id))
    await addOwned(engine, owned)
  }
  for (const filter of filters) await iptables.addRules(filter, wanted)
  for (const filter of choice.obeyed) await iptables.leadTo(filter, wanted.admin, engine)
  for (const filter of choice.prepared) await iptables.prepare(filter, wanted.admin)
  if (sources) await firewalld.addSources(io.env, sources)
}

function sweep(engine: Engine, id: string): Promise<'removed' | 'absent'> {
  return sweepElements(engine, { roles, isOwner: owner => owner === id })
}

if (import.meta.main) main(firewall)
