/** Where the elements that an owner needs are taken: who gives way, who shares, and who waits. */
import type { Transport } from '../../linux/netlink/socket.ts'
import type { Command } from '../../linux/nftables/nft.ts'
import { isSameNetwork } from '../../plugin/owner.ts'
import { collectionCommand } from './chains.ts'
import { collectionOf, type Element, elementCommands, keyText, type Owned } from './elements.ts'
import { families } from './layout.ts'
import { type FoundElement, listOwned } from './read.ts'
import { type Picked, removals } from './remove.ts'
import { areRivals, type Exchange, foundElement, isShareable, placeAmong, promotions } from './sharing.ts'

/** Decides about an element whose key another owner holds: take it over, leave it there, or refuse by throwing. */
export type OnConflict = (held: FoundElement, element: Element) => 'take' | 'leave'

/** Owners that stand in the way give up what they have in these roles; the same owner's leftovers go as well. */
export function clearTheWay(
  netfilter: Transport,
  owned: Owned,
  onConflict: OnConflict,
): { commands: Command[]; remaining: Owned } {
  const found = listOwned(netfilter)
  const roles = new Set(owned.elements.map(element => collectionOf(element).role))
  const { owners, elements } = takenOver(found, owned, onConflict)
  const picked: Picked = {
    isOwner: owner => owner !== undefined && owners.has(owner),
    hasRole: role => roles.has(role),
  }
  const others = found.filter(
    element => !(picked.isOwner(element.owner) && picked.hasRole(collectionOf(element).role)),
  )
  const { deleted, created, free } = share(others, { ...owned, elements })
  return {
    commands: [
      ...waitingCollections(created),
      ...removals(netfilter, found, picked),
      ...elementCommands(
        'delete',
        deleted.map(element => ({ element })),
      ),
      ...elementCommands('create', created),
    ],
    remaining: { ...owned, elements: free },
  }
}

/** The owners whose elements go, and what is still to be added once they are gone. */
function takenOver(
  found: readonly FoundElement[],
  { owner, elements }: Owned,
  onConflict: OnConflict,
): { owners: Set<string>; elements: Element[] } {
  const held = new Map(found.map(element => [keyText(element), element]))
  const owners = new Set([owner.id])
  const remaining = elements.filter(element => {
    const other = held.get(keyText(element))
    if (!other || other.owner === owner.id) return true
    if (isShareable(element) && !(other.owner && isSameNetwork(other.owner, owner.id))) return true
    if (onConflict(other, element) === 'leave') return false
    if (other.owner !== undefined) owners.add(other.owner)
    return true
  })
  return { owners, elements: remaining }
}

/** What others have stays: their own elements that waited for those that go, and the new owner's beside them. */
function share(others: readonly FoundElement[], { owner, elements }: Owned): Exchange & { free: Element[] } {
  const { deleted, created } = promotions(others)
  const free: Element[] = []
  const active = [...others, ...created.map(({ element, comment }) => foundElement(element, comment))]
  for (const element of elements) {
    const rivals = isShareable(element) ? active.filter(one => areRivals(one, element)) : []
    if (rivals.length === 0) {
      free.push(element)
      continue
    }
    const exchange = placeAmong(element, { rivals, owner })
    deleted.push(...exchange.deleted)
    created.push(...exchange.created)
  }
  return { deleted, created, free }
}

/** The sets that elements are to wait in, if they are not there yet. */
function waitingCollections(created: Exchange['created']): Command[] {
  return families.flatMap(family => {
    const elements = created.map(({ element }) => element).filter(element => element.family === family)
    const collections = new Set(elements.map(collectionOf))
    return [...collections]
      .filter(({ waitsFor }) => waitsFor !== undefined)
      .map(collection => collectionCommand(family, collection))
  })
}
