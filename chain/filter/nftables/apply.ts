/**
 * An owner's share in our nftables tables, put there as one transaction. What is missing of it says missing.ts, what takes it away
 * removal.ts. Knows no plugin.
 */
import '../../linux/nftables/batch.ts' // which the engine would load by itself: who comes here needs it
import { errno } from '../../linux/libc/errno.ts'
import { rulesetGeneration } from '../../linux/nftables/list.ts'
import { openNetfilter } from '../../linux/nftables/netfilter.ts'
import { type Command, type Engine, NftError } from '../../linux/nftables/nft.ts'
import { setsOf } from './chains.ts'
import { clearTheWay, type OnConflict } from './conflict.ts'
import { additions, type Owned } from './elements.ts'

import { foundations, partsOf } from './foundations.ts'
import { ATTEMPTS, explain, lockTables } from './transaction.ts'

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
