/** portmap: publishes a container's ports on the host's addresses. */
import { decideBackend, withBackend } from '../chain/filter/backend.ts'
import { type Backend, type Decision, describeDecision } from '../chain/filter/decision.ts'
import { hasOwnChain, PORTS_PREFIX } from '../chain/filter/iptables/chains.ts'
import { sweepStale } from '../chain/filter/sweep.ts'
import { type AddRequest, definePlugin } from '../chain/plugin/define.ts'
import { isStale, ownerOf } from '../chain/plugin/owner.ts'
import { main } from '../chain/plugin/run.ts'
import { everyStep } from '../chain/plugin/undo.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import {
  configuration,
  namedBackend,
  type PortmapConfiguration,
  portMappings,
} from './portmap/configuration.ts'
import { forgetConnectionsThrough, forgetConnectionsToHost, publishedBy } from './portmap/connections.ts'
import { enableHairpin } from './portmap/hairpin.ts'
import { closeOwnLocalnet, linkToContainer, openLocalnet } from './portmap/localnet.ts'
import { recall, recorded, remember } from './portmap/publishers.ts'
import { forgetPublisher } from './portmap/reservations.ts'
import { transferPorts } from './portmap/standby.ts'
import { chains, roles, sweepPorts } from './portmap/sweep.ts'
import { type PortBackend, type Publication, type Target, targetsOf } from './portmap/target.ts'

export const portmap = definePlugin({
  name: 'portmap',
  chained: true,
  config: configuration,

  async add(call) {
    const { config, attachment, previous, engine, io } = call
    const mappings = portMappings(config)
    if (mappings.length === 0) return previous
    const targets = targetsOf(previous, call)
    const decision = await decideBackend(namedBackend(config), call)
    if (decision.dropsForwarded) io.stderr(`portmap: ${unreachable(targets)}\n`)
    await withBackend<Decision>(call, {
      decision,
      instead: other => other,
      apply: decision => publish(call, targets, decision),
      sweep: () => sweepPorts(engine, attachment),
    })
    if (config.snat) enableHairpin(previous, call)
    forgetConnectionsToHost(mappings)
    return previous
  },

  async check(call) {
    if (portMappings(call.config).length === 0) return
    const { plan } = await loadBackend(backendAtAdd(call))
    const missing = await (await plan(call, targetsOf(call.previous, call))).missing()
    if (missing)
      throw new CniError(code.internal, missing, { details: 'was the ruleset flushed or reloaded?' })
  },

  async del({ attachment, engine }) {
    const { id } = ownerOf(attachment)
    const published = publishedBy(id)
    await everyStep({
      'close the way from 127.0.0.1': () => closeOwnLocalnet(id),
      'hand the ports over': () => transferPorts(engine, attachment),
      'delete the rules': () => sweepPorts(engine, attachment),
      'forget connections': () => forgetConnectionsThrough(published),
      'forget the publisher': () => forgetPublisher(id, attachment),
    })
  },

  async status({ config, engine, io }) {
    const { proven } = await import('../chain/filter/fallback.ts')
    const decision = await proven(await decideBackend(namedBackend(config)), engine)
    const { requireReady } = await loadBackend(decision.backend)
    requireReady()
    if (decision.by !== 'configuration') io.stderr(`${describeDecision('ports are published', decision)}\n`)
  },

  async gc({ network, valid, engine }) {
    const stale = recorded().filter(isStale(network, valid))
    await everyStep({
      'close the ways from 127.0.0.1': () => stale.forEach(closeOwnLocalnet),
      'hand stale ports over': async () => {
        for (const publisher of stale.flatMap(owner => recall(owner) ?? []))
          await transferPorts(engine, publisher)
      },
      'delete stale rules': () => sweepStale(engine, { network, valid }, { roles, chains }),
      'forget stale publishers': () => stale.forEach(owner => void forgetPublisher(owner)),
    })
  },
})

type Call = AddRequest<PortmapConfiguration>

/** To let packets through is the plugin firewall's part; whether it comes later in the list, nobody tells. */
const unreachable = (targets: readonly Target[]) =>
  `FORWARD of iptables drops what no rule accepts: ports published on ${targets.map(({ address }) => address).join(' and ')} are reached from outside only where the plugin firewall follows in the list, or a rule accepts the packets`

async function publish(call: Call, targets: readonly Target[], decision: Decision): Promise<void> {
  const { config, attachment, netns, engine, undo } = call
  const { plan } = await loadBackend(decision.backend)
  const publication = await plan(call, targets, decision.variant)
  const { id } = ownerOf(attachment)
  const earlier = recall(id) // of an ADD that was killed, perhaps by the other backend: that does not replace it
  if (earlier && isByIptables(earlier) !== isByIptables(publication)) await sweepPorts(engine, attachment)
  if (earlier) forgetPublisher(id)
  undo('forget the publisher', () => forgetPublisher(id))
  const addresses = targets.map(({ address }) => address)
  remember({ ...attachment, netns, addresses, published: publication.published ?? [] })
  undo('delete the rules', () => sweepPorts(engine, attachment))
  undo('close the way from 127.0.0.1', () => closeOwnLocalnet(id))
  const isOnLoopback = config.snat && portMappings(config).some(({ families }) => families.includes(4))
  const localnet = isOnLoopback ? linkToContainer(targets) : undefined
  await publication.add(localnet)
  if (localnet !== undefined) openLocalnet(localnet)
}

/** Only what iptables publishes is remembered. */
const isByIptables = ({ published }: Pick<Publication, 'published'>) => Boolean(published?.length)

/** Whatever the node has become since. */
function backendAtAdd({ config, attachment }: Pick<Call, 'config' | 'attachment'>): Backend {
  const publisher = recall(ownerOf(attachment).id)
  if (publisher) return isByIptables(publisher) ? 'iptables' : 'nftables'
  return namedBackend(config) ?? (hasOwnChain(PORTS_PREFIX, attachment) ? 'iptables' : 'nftables')
}

/** Most nodes use one of them: the other is not even loaded. */
function loadBackend(backend: Backend): Promise<PortBackend> {
  return backend === 'iptables' ? import('./portmap/iptables.ts') : import('./portmap/nftables.ts')
}

if (import.meta.main) main(portmap)
