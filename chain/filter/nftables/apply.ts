/**
 * An owner's share in our nftables tables: put there as one transaction, found again and swept by owner alone. What is missing of it
 * says missing.ts. Knows no plugin.
 */
import '../../linux/nftables/batch.ts' // which the engine would load by itself: who comes here needs it
import { errno } from '../../linux/libc/errno.ts'
import { takeLock, unlessUnwritable } from '../../linux/lock.ts'
import type { Transport } from '../../linux/netlink/socket.ts'
import { chainsOfRules, familiesWith, rulesetGeneration } from '../../linux/nftables/list.ts'
import { openNetfilter, openNetfilterIfPresent } from '../../linux/nftables/netfilter.ts'
import { type Command, type Engine, NftError } from '../../linux/nftables/nft.ts'
import { CniError, code } from '../../protocol/error.ts'
import { setsOf } from './chains.ts'
import { clearTheWay, type OnConflict } from './conflict.ts'
import { additions, collectionOf, elementCommands, type Owned } from './elements.ts'
import { foundations, partsOf } from './foundations.ts'
import { collectionsOf, families, type OurFamily, ownChains, type Role, TABLE } from './layout.ts'
import { type FoundElement, listerFor, ownedChains } from './read.ts'
import { type Picked, removals } from './remove.ts'
import { foundElement, promotions } from './sharing.ts'

const LOCK = '/run/catena/nftables/lock'

/** Adding shares the lock; only who deletes a whole table excludes the others. */
function lockTables(how: { shared: boolean }): Disposable {
  return takeLock(LOCK, how)
}

/** For who deletes: where nothing can be written nothing has been added, and there is no other to exclude. */
function lockTablesIfPossible(how: { shared: boolean }): Disposable | undefined {
  return unlessUnwritable(() => lockTables(how))
}

/** Each one that fails is another's that succeeded. */
const ATTEMPTS = 50

/** An nft failure as a CNI error with a hint. */
function explain(thrown: unknown): unknown {
  if (!(thrown instanceof NftError)) return thrown
  const missing = thrown.errno === errno.ENOENT && thrown.command === undefined
  const hint = missing ? '; install the package nftables' : ''
  return new CniError(code.internal, thrown.message, {
    details: `${thrown.said.trim()}${hint}`,
    cause: thrown,
  })
}

/**
 * Adds what an owner needs as one transaction, with the tables if they are not there. What the owner has already is replaced, in
 * these roles, once any of it is in the way: nothing is read before that.
 * Keys that another owner of the same network has are taken over with all that he has in the same role, unless `onConflict`
 * says otherwise; an owner of another network keeps his, and shares the key where it can be shared.
 */
export async function addOwned(
  engine: Engine,
  owned: Owned,
  onConflict: OnConflict = () => 'take',
): Promise<void> {
  using _shared = lockTables({ shared: true })
  using netfilter = openNetfilter()
  let sets: Command[] = []
  try {
    return await engine([...foundations(netfilter, owned), ...additions(owned)])
  } catch (thrown) {
    if (!isInTheWay(thrown)) throw explain(thrown)
    if (thrown.errno === errno.ENOENT) sets = setsFor(owned)
  }
  for (let attempt = 1; ; attempt++) {
    // what is decided from a list must still be true when it is done
    const generation = rulesetGeneration(netfilter)
    const way = clearTheWay(netfilter, owned, onConflict)
    try {
      const commands = [
        ...foundations(netfilter, owned),
        ...sets,
        ...way.commands,
        ...additions(way.remaining),
      ]
      return await engine(commands, generation)
    } catch (thrown) {
      if (!isInTheWay(thrown) || attempt === ATTEMPTS) throw explain(thrown)
      if (thrown.errno === errno.ENOENT) sets = setsFor(owned)
    }
  }
}

/** One that no rule looks into can be deleted by hand, without the chain that tells whether its part is there. */
function setsFor(owned: Owned): Command[] {
  return partsOf(owned).flatMap(({ family, part }) => setsOf(family, part))
}

/** A key that is taken, by itself or by a prefix that overlaps; something that has gone meanwhile, or was changed. */
function isInTheWay(thrown: unknown): thrown is NftError {
  return (
    thrown instanceof NftError &&
    [errno.EEXIST, errno.ENOENT, errno.ENOTEMPTY, errno.ERESTART].some(number => number === thrown.errno)
  )
}

export interface Removal {
  roles: readonly Role[]
  isOwner(owner: string): boolean
  /** More to delete in the same transaction, such as what the Go plugins left. */
  extra?(netfilter: Transport): Command[]
  /** Before a table goes in which nothing is owned: for what its own elements guard. */
  beforeEmptied?(netfilter: Transport, family: OurFamily): void
}

/**
 * Removes everything that the picked owners have in these roles. Tables in which nothing is owned afterwards go as a
 * whole, and what members keep goes with the last of them. Needs no namespace, no address, no configuration.
 */
export async function removeOwned(engine: Engine, removal: Removal): Promise<'removed' | 'absent'> {
  const { extra = () => [] } = removal
  using netfilter = openNetfilterIfPresent()
  if (!netfilter) return 'absent'
  let shared: Applied = 'absent'
  let known: { generation: number; plan: RemovalPlan }
  {
    using _shared = lockTablesIfPossible({ shared: true })
    const generation = rulesetGeneration(netfilter)
    const plan = planRemoval(netfilter, removal)
    known = { generation, plan }
    if (plan.emptied.length === 0 && plan.kept.length === 0) {
      shared = await applyRemoval(engine, [...plan.commands, ...extra(netfilter)], { generation })
      // with others' removals in between, this one may have been the last without knowing it
      if (shared !== 'overtaken' && rulesetGeneration(netfilter) - generation <= 1) return shared
    }
  }
  using _exclusive = lockTablesIfPossible({ shared: false })
  for (let attempt = 1; ; attempt++) {
    const isKnown = attempt === 1 && rulesetGeneration(netfilter) === known.generation
    const { commands, emptied, kept } = isKnown ? known.plan : planRemoval(netfilter, removal)
    for (const family of emptied) removal.beforeEmptied?.(netfilter, family)
    const tables = emptied.map<Command>(family => ({ verb: 'delete', kind: 'table', family, name: TABLE }))
    const all = [...commands, ...kept, ...tables, ...extra(netfilter)]
    const left = await applyRemoval(engine, all, { isLast: attempt === ATTEMPTS })
    if (left !== 'overtaken') return shared === 'removed' ? shared : left
  }
}

/** Overtaken: another has changed something since it was listed, and nothing is done. */
type Applied = 'removed' | 'absent' | 'overtaken'

async function applyRemoval(
  engine: Engine,
  commands: readonly Command[],
  { generation, isLast = false }: { generation?: number; isLast?: boolean },
): Promise<Applied> {
  if (commands.length === 0) return 'absent'
  try {
    await engine(commands, generation)
  } catch (thrown) {
    const isOvertaken =
      thrown instanceof NftError && [errno.ENOENT, errno.ERESTART].some(number => number === thrown.errno)
    if (!isLast && isOvertaken) return 'overtaken'
    throw explain(thrown)
  }
  return 'removed'
}

interface RemovalPlan {
  /** Deletes the owners' elements and chains from tables that others still need. */
  commands: Command[]
  /** Tables that are not needed any more. */
  emptied: OurFamily[]
  /** Deletes what the last member of its kind leaves. Only for who excludes others: a new member adds it again. */
  kept: Command[]
}

function planRemoval(netfilter: Transport, { roles, isOwner }: Removal): RemovalPlan {
  const present = familiesWith(netfilter, families, TABLE)
  const listers = new Map(present.map(family => [family, listerFor(netfilter, family)]))
  const picked: Picked = {
    isOwner: owner => owner !== undefined && isOwner(owner),
    hasRole: role => roles.includes(role),
  }
  const listed = (family: OurFamily, hasRole: (role: Role) => boolean) =>
    listers.get(family)?.(collectionsOf(family).filter(({ role }) => hasRole(role))) ?? []
  const isOtherRole = (role: Role) => !picked.hasRole(role)
  const found = present.flatMap(family => listed(family, picked.hasRole))
  const staying = found.filter(({ owner }) => owner !== undefined && !picked.isOwner(owner))
  const emptied = present.filter(
    family =>
      !staying.some(element => element.family === family) &&
      !listed(family, isOtherRole).some(({ owner }) => owner !== undefined) &&
      !holdsRulesOfOthers(netfilter, family),
  )
  const needed = found.filter(({ family }) => !emptied.includes(family))
  const { deleted, created } = promotions(staying)
  const lookedUp = created.map(({ element, comment }) => foundElement(element, comment))
  const orphans = needed.filter(element => isOrphan(element, [...staying, ...lookedUp]))
  return {
    commands: [
      ...removals(netfilter, needed, picked).filter(({ family }) => !emptied.some(gone => gone === family)),
      ...elementCommands(
        'delete',
        deleted.map(element => ({ element })),
      ),
      ...elementCommands('create', created),
    ],
    emptied,
    kept: elementCommands(
      'delete',
      orphans.map(element => ({ element })),
    ),
  }
}

/** Rules in a table of ours that are not ours: an administrator's, in a chain for overrides. */
function holdsRulesOfOthers(netfilter: Transport, family: OurFamily): boolean {
  const others = chainsOfRules(netfilter, family, TABLE).filter(chain => !ownChains[family].includes(chain))
  if (others.length === 0 || family === 'bridge') return others.length > 0
  const owned = ownedChains(netfilter, family).map(({ name }) => name)
  return others.some(chain => !owned.includes(chain))
}

/** An element of a collection that another one keeps, in which nothing stays that begins as it does. */
function isOrphan(element: FoundElement, staying: readonly FoundElement[]): boolean {
  const { family, key } = element
  const { keptBy } = collectionOf(element)
  if (keptBy === undefined) return false
  return !staying.some(other => other.family === family && other.kind === keptBy && other.key[0] === key[0])
}
