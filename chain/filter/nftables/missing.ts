/** CHECK: what of an owner's share in our tables is not as it should be. */
import { openNetfilter } from '../../linux/nftables/netfilter.ts'
import { collectionOf, type Element, keyText, type Owned } from './elements.ts'
import { missingFoundations } from './foundations.ts'
import { TABLE } from './layout.ts'
import { listOwned, ownedChains } from './read.ts'
import { areRivals, isShareable, waitingElement } from './sharing.ts'

/**
 * What is missing of an owner's elements, and of the tables' own rules: sentences for CHECK; none when all is there. An
 * element may belong to another owner of whom `alsoFine` says so.
 */
export function missingOwned(owned: Owned, alsoFine: (owner: string) => boolean = () => false): string[] {
  const { owner, elements, chains = [], shared = [] } = owned
  if (elements.length === 0 && chains.length === 0) return []
  using netfilter = openNetfilter()
  const found = new Map(listOwned(netfilter).map(element => [keyText(element), element]))
  const isWaiting = (element: Element) =>
    isShareable(element) &&
    found.has(keyText(waitingElement(element, owner.id))) &&
    [...found.values()].some(held => areRivals(held, element))
  const used = [...new Set(elements.map(({ family }) => family))]
  const present = used
    .flatMap(family => ownedChains(netfilter, family === 'ip6' ? 'ip6' : 'ip'))
    .map(({ name }) => name)
  return [
    ...missingFoundations(netfilter, owned),
    ...chains.filter(({ name }) => !present.includes(name)).map(({ name }) => `chain ${name} is missing`),
    ...shared
      .filter(element => !found.has(keyText(element)))
      .map(element => `element ${describeElement(element)} is missing`),
    ...elements.flatMap(element => {
      const held = found.get(keyText(element))
      const what = describeElement(element)
      if (held?.owner !== owner.id && isWaiting(element)) return []
      if (!held) return [`element ${what} is missing`]
      if (held.owner !== owner.id && held.owner !== undefined && alsoFine(held.owner)) return []
      if (held.owner !== owner.id)
        return [`element ${what} ${held.comment ? `belongs to ${held.comment}` : 'is unowned'}`]
      const same = JSON.stringify(held.value) === JSON.stringify(element.value)
      return same
        ? []
        : [`element ${what} is ${JSON.stringify(held.value)}, not ${JSON.stringify(element.value)}`]
    }),
  ]
}

function describeElement(element: Element): string {
  const { family, key } = element
  return `${family} ${TABLE} ${collectionOf(element).name} ${JSON.stringify(key)}`
}
