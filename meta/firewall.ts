/** firewall: lets a container's packets through the host, and keeps other bridges and neighbours away where a policy says so. */

import { addByBackend, type Backend } from '../chain/filter/backend.ts'
import { describeDecision } from '../chain/filter/decision.ts'
import { sweepElements } from '../chain/filter/sweep.ts'
import { hasNftables } from '../chain/linux/nftables/list.ts'
import type { Engine } from '../chain/linux/nftables/nft.ts'
import { type CheckRequest, definePlugin } from '../chain/plugin/define.ts'
import { isStale, ownerOf } from '../chain/plugin/owner.ts'
import { main } from '../chain/plugin/run.ts'
import { everyStep } from '../chain/plugin/undo.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import type { Result } from '../chain/protocol/result.ts'
import { blockingChains, choiceAtAdd, chooseBackend, decide, insteadOf } from './firewall/backends.ts'
import { configuration } from './firewall/checks.ts'
import { zoneOf } from './firewall/configuration.ts'
import * as firewalld from './firewall/firewalld.ts'
import { addressesOf, familiesOf } from './firewall/ingress.ts'
import * as iptables from './firewall/iptables.ts'
import { firewallBy } from './firewall/plan.ts'
import { recall, recorded } from './firewall/records.ts'
import { release } from './firewall/release.ts'
import { roles } from './firewall/rules.ts'
import type { FirewallConfiguration } from './firewall/schema.ts'

export const firewall = definePlugin({
  name: 'firewall',
  chained: true,
  versions: ['0.4.0', '1.0.0', '1.1.0'],
  config: configuration,

  async add(request) {
    const { config, previous, io } = request
    const addresses = addressesOf(previous)
    const choice = await chooseBackend(request, familiesOf(addresses))
    await addByBackend(request, {
      by: choice.by,
      backend: async () => firewallBy(request, { previous, choice }),
      fallback: async other =>
        firewallBy(request, { previous, choice: insteadOf(choice, other, familiesOf(addresses)) }),
    })
    for (const blocking of blockingChains(config, addresses)) io.stderr(`firewall: ${blocking}\n`)
    return previous
  },

  async check(request) {
    const missing = await (await firewallAtAdd(request)).check()
    if (missing === undefined) return
    throw new CniError(code.internal, missing, {
      details: 'was the ruleset flushed, or the firewall reloaded?',
    })
  },

  rules: firewallAtAdd,

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

  async move(request) {
    const { moveFirewall } = await import('./firewall/move.ts')
    return moveFirewall(request)
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

/** By the backend of its ADD. */
async function firewallAtAdd(
  request: CheckRequest<FirewallConfiguration> & { previous: Result },
): Promise<Backend> {
  const { previous } = request
  const choice = await choiceAtAdd(request, addressesOf(previous))
  return firewallBy(request, { previous, choice })
}

function sweep(engine: Engine, id: string): Promise<'removed' | 'absent'> {
  return sweepElements(engine, { roles, isOwner: owner => owner === id })
}

if (import.meta.main) main(firewall)
