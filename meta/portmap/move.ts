/** Published ports of a live attachment, moved to the other backend. */
import { imposedBackend } from '../../chain/filter/backend.ts'
import type { BackendName, Decision } from '../../chain/filter/decision.ts'
import { PORTS_PREFIX, partOf } from '../../chain/filter/iptables/chains.ts'
import { hasElements, leaveIptables, leaveNftables, moveRules } from '../../chain/filter/move.ts'
import type { Moved, MoveRequest } from '../../chain/plugin/define.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import type { Result } from '../../chain/protocol/result.ts'
import { namedBackend } from './configuration.ts'
import { type Call, type Publication, portsPublishedBy, type Target, targetsOf } from './publication.ts'
import { forget, type Publisher, recall, remember } from './publishers.ts'
import { passReservationsOn } from './reservations.ts'
import type { PortmapConfiguration } from './schema.ts'
import { chains, roles } from './sweep.ts'

interface Ways {
  /** What CHECK looks at. */
  kept: BackendName
  publicationBy(
    decision: Pick<Decision, 'backend' | 'variant'>,
    call: Call,
    targets: readonly Target[],
  ): Promise<Publication>
}

/** The record says iptables from before its rules are there until after they have gone: its reservations go by it. */
export async function movePorts(
  call: MoveRequest<PortmapConfiguration> & { previous: Result },
  { kept, publicationBy }: Ways,
): Promise<Moved> {
  const { attachment, config, engine, netns, to } = call
  const { id } = ownerOf(attachment)
  const targets = targetsOf(call.previous, call)
  const published = portsPublishedBy(call, targets)
  const addresses = targets.map(({ address }) => address)
  const register = (through: Pick<Publisher, 'published'>) =>
    remember({ ...attachment, netns, addresses, ...through })
  const unregister = (before: Publisher | undefined) => {
    passReservationsOn(id, { ...attachment, netns, addresses, published })
    if (before) remember(before)
    else forget(id)
  }
  return moveRules(call, {
    named: namedBackend(config),
    kept,
    found: {
      nftables: hasElements(attachment, ['published-address', 'hairpin-source']),
      iptables: partOf(PORTS_PREFIX, attachment) !== undefined,
    },
    async enter(undo) {
      const publication = await publicationBy(await imposedBackend(to, call), call, targets)
      if (to === 'iptables') {
        const before = recall(id)
        undo('forget the reservations', () => unregister(before))
        register({ published })
        undo('delete the new rules', () => leaveIptables(engine, attachment, chains))
      } else undo('delete the new rules', () => leaveNftables(engine, attachment, roles))
      await publication.place()
    },
    async leave() {
      if (to === 'iptables') return leaveNftables(engine, attachment, roles)
      await leaveIptables(engine, attachment, chains)
      passReservationsOn(id, { ...attachment, netns, addresses, published })
      register({ published: [] })
    },
  })
}
