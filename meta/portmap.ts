/** portmap: publishes a container's ports on the host's addresses. */
import { addByBackend, type Backend, decideBackend } from '../chain/filter/backend.ts'
import { type BackendName, type Decision, describeDecision } from '../chain/filter/decision.ts'
import { hasOwnChain, PORTS_PREFIX } from '../chain/filter/iptables/chains.ts'
import { sweepStale } from '../chain/filter/sweep.ts'
import { type CheckRequest, definePlugin } from '../chain/plugin/define.ts'
import { isStale, ownerOf } from '../chain/plugin/owner.ts'
import { main } from '../chain/plugin/run.ts'
import { everyStep } from '../chain/plugin/undo.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import type { Result } from '../chain/protocol/result.ts'
import { configuration } from './portmap/checks.ts'
import { namedBackend, portMappings } from './portmap/configuration.ts'
import { forgetConnectionsThrough, forgetConnectionsToHost, publishedBy } from './portmap/connections.ts'
import { enableHairpin } from './portmap/hairpin.ts'
import { closeOwnLocalnet } from './portmap/localnet.ts'
import {
  type Call,
  type PortBackend,
  type Publication,
  type Target,
  targetsOf,
} from './portmap/publication.ts'
import { recall, recorded, transferPorts } from './portmap/publishers.ts'
import { forgetPublisher } from './portmap/reservations.ts'
import type { PortmapConfiguration } from './portmap/schema.ts'
import { chains, roles, sweepPorts } from './portmap/sweep.ts'

export const portmap = definePlugin({
  name: 'portmap',
  chained: true,
  config: configuration,

  async add(call) {
    const { config, previous, io } = call
    const mappings = portMappings(config)
    if (mappings.length === 0) return previous
    const targets = targetsOf(previous, call)
    const decision = await decideBackend(namedBackend(config), call)
    if (decision.dropsForwarded) io.stderr(`portmap: ${unreachable(targets)}\n`)
    await addByBackend(call, {
      by: decision.by,
      backend: () => publicationBy(decision, call, targets),
      fallback: other => publicationBy(other, call, targets),
    })
    if (config.snat) enableHairpin(previous, call)
    forgetConnectionsToHost(mappings)
    return previous
  },

  async check(call) {
    const missing = await (await publicationAtAdd(call))?.check()
    if (missing)
      throw new CniError(code.internal, missing, { details: 'was the ruleset flushed or reloaded?' })
  },

  async rules(call) {
    const publication = await publicationAtAdd(call)
    return (
      publication && {
        async add(undo) {
          await publication.add(undo)
          forgetConnectionsToHost(portMappings(call.config))
        },
        check: publication.check,
      }
    )
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

  async move(call) {
    if (portMappings(call.config).length === 0) return { outcome: 'none' }
    const { movePorts } = await import('./portmap/move.ts')
    return movePorts(call, { kept: backendAtAdd(call), publicationBy })
  },
})

/** To let packets through is the plugin firewall's part; whether it comes later in the list is unknown here. */
const unreachable = (targets: readonly Target[]) =>
  `FORWARD of iptables drops what no rule accepts: ports published on ${targets.map(({ address }) => address).join(' and ')} are reached from outside only where the plugin firewall follows in the list, or a rule accepts the packets`

async function publicationBy(
  { backend, variant }: Pick<Decision, 'backend' | 'variant'>,
  call: Call,
  targets: readonly Target[],
): Promise<Publication> {
  const { publish } = await loadBackend(backend)
  return publish(call, targets, variant)
}

/** By the backend of its ADD; undefined where nothing is published. */
async function publicationAtAdd(
  call: CheckRequest<PortmapConfiguration> & { previous: Result },
): Promise<Backend | undefined> {
  if (portMappings(call.config).length === 0) return undefined
  return publicationBy({ backend: backendAtAdd(call) }, call, targetsOf(call.previous, call))
}

/** Whatever the node has become since. */
function backendAtAdd({ config, attachment }: Pick<Call, 'config' | 'attachment'>): BackendName {
  const publisher = recall(ownerOf(attachment).id)
  // only what iptables publishes is remembered
  if (publisher) return publisher.published?.length ? 'iptables' : 'nftables'
  return namedBackend(config) ?? (hasOwnChain(PORTS_PREFIX, attachment) ? 'iptables' : 'nftables')
}

/** Most nodes use one of them: the other is not even loaded. */
function loadBackend(backend: BackendName): Promise<PortBackend> {
  return backend === 'iptables' ? import('./portmap/iptables.ts') : import('./portmap/nftables.ts')
}

if (import.meta.main) main(portmap)
