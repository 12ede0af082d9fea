/** firewall: lets a container's packets through the host, and keeps other bridges and neighbours away where a policy says so. */
import { hasNftables } from '../chain/linux/netlink/nftables.ts'
import type { Engine } from '../chain/linux/nft.ts'
import { definePlugin } from '../chain/plugin/define.ts'
import { requirePrevious } from '../chain/plugin/interface.ts'
import { isStale, ownerOf } from '../chain/plugin/owner.ts'
import { addOwned, missingOwned, removeOwned } from '../chain/plugin/ruleset.ts'
import { main } from '../chain/plugin/run.ts'
import { everyStep } from '../chain/plugin/undo.ts'
import type { World } from '../chain/plugin/world.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import { obstacles } from './firewall/backends.ts'
import { configuration, zoneOf } from './firewall/configuration.ts'
import * as firewalld from './firewall/firewalld.ts'
import * as iptables from './firewall/iptables.ts'
import { planFirewall } from './firewall/plan.ts'
import { forget, recall, recorded, remember, withoutOthers } from './firewall/records.ts'
import { roles } from './firewall/rules.ts'
import { addressesOf } from './firewall/subject.ts'

const NO_RESULT = 'missing prevResult from earlier plugin'

export const firewall = definePlugin({
  name: 'firewall',
  versions: ['0.4.0', '1.0.0', '1.1.0'],
  config: configuration,

  async add(request) {
    const { attachment, config, engine, undo, world } = request
    const previous = requirePrevious(request.previous, NO_RESULT)
    const { id } = ownerOf(attachment)
    const { addresses, owned, filters, wanted, sources } = await planFirewall(request, previous)
    await forgetEarlier(world, id, addresses)
    if (sources || filters.length > 0) {
      undo('forget the addresses', () => forget(id))
      remember(id, { addresses, ...(sources ? { zone: sources.zone } : {}) })
    }
    if (owned.elements.length > 0) {
      undo('delete the rules', () => sweep(engine, id))
      await addOwned(engine, owned)
    }
    if (filters.length > 0) undo('delete the rules of iptables', () => iptables.removeRulesOf(addresses))
    for (const filter of filters) await iptables.addRules(filter, wanted)
    if (sources) {
      undo('take the addresses out of firewalld', () => firewalld.removeSources(world.env, sources))
      await firewalld.addSources(world.env, sources)
    }
    for (const obstacle of obstacles(config, addresses)) world.stderr(`firewall: ${obstacle}\n`)
    return previous
  },

  async check(request) {
    const previous = requirePrevious(request.previous, NO_RESULT)
    const { owned, filters, wanted, sources } = await planFirewall(request, previous)
    const missing = [
      ...missingOwned(owned),
      ...(await Promise.all(filters.map(filter => iptables.missingFrom(filter, wanted)))),
      sources && (await firewalld.missingSource(request.world.env, sources)),
    ].filter(each => each !== undefined)
    if (missing.length === 0) return
    throw new CniError(code.internal, missing.join('; '), {
      details: 'was the ruleset flushed, or the firewall reloaded?',
    })
  },

  async del({ attachment, config, engine, previous, world }) {
    const { id } = ownerOf(attachment)
    const record = recall(id)
    const told = previous ? addressesOf(previous) : []
    const addresses = withoutOthers(id, [...new Set([...(record?.addresses ?? []), ...told])])
    const zone = record ? record.zone : zoneOf(config)
    let isOurs = record !== undefined
    await everyStep({
      'delete the rules': async () => {
        isOurs = (await sweep(engine, id)) === 'removed' || isOurs
      },
      'delete the rules of iptables': () => iptables.removeRulesOf(addresses),
      // without a record, only the Go plugin can have put anything there
      'take the addresses out of firewalld': () =>
        zone !== undefined && (record || (!isOurs && config.backend !== 'iptables'))
          ? firewalld.removeSources(world.env, { zone, addresses })
          : undefined,
      'forget the addresses': () => forget(id),
    })
  },

  async status({ config, world }) {
    if (config.backend === 'firewalld') await firewalld.requireRunning(world.env)
    if (config.backend === 'iptables') return iptables.requireInstalled()
    if (hasNftables()) return
    throw new CniError(code.pluginNotAvailable, 'the kernel has no nf_tables', {
      details: 'load the module nf_tables, or set backend to iptables',
    })
  },

  async gc({ network, valid, engine, world }) {
    const isOwner = isStale(network, valid)
    await everyStep({
      'delete stale rules': () => removeOwned(engine, { roles, isOwner }),
      'delete stale addresses': async () => {
        for (const id of recorded().filter(isOwner)) await forgetOwner(world, id)
      },
    })
  },
})

function sweep(engine: Engine, id: string): Promise<'removed' | 'absent'> {
  return removeOwned(engine, { roles, isOwner: owner => owner === id })
}

/** Takes an owner's recorded addresses away, and then its record. */
async function forgetOwner(world: World, id: string): Promise<void> {
  await letGo(world, id, recall(id)?.addresses ?? [])
  forget(id)
}

/** A killed ADD may have been for other addresses. */
async function forgetEarlier(world: World, id: string, addresses: readonly string[]): Promise<void> {
  const earlier = recall(id)?.addresses ?? []
  await letGo(
    world,
    id,
    earlier.filter(address => !addresses.includes(address)),
  )
}

async function letGo(world: World, id: string, recorded: readonly string[]): Promise<void> {
  const zone = recall(id)?.zone
  const addresses = withoutOthers(id, recorded)
  if (addresses.length === 0) return
  await iptables.removeRulesOf(addresses)
  if (zone !== undefined) await firewalld.removeSources(world.env, { zone, addresses })
}

if (import.meta.main) main(firewall)
