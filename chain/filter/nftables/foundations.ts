/** The tables themselves: what of them is missing, as commands for ADD and as sentences for CHECK. */
import type { Transport } from '../../linux/netlink/socket.ts'
import { findChain, listRules, tableExists } from '../../linux/nftables/list.ts'
import type { Command } from '../../linux/nftables/nft.ts'
import { chainsOf, landmarkOf, OVERRIDES, overrideCommands, ruleCounts } from './chains.ts'
import { collectionOf, type Owned } from './elements.ts'
import { families, type OurFamily, type Part, partOf, TABLE } from './layout.ts'

/** The parts of our tables that an owner's elements are in, and those that he shares. */
export function partsOf({ elements, shared = [] }: Owned): { family: OurFamily; part: Part }[] {
  return families.flatMap(family => {
    const own = [...elements, ...shared].filter(element => element.family === family)
    const parts = new Set(own.map(element => partOf(collectionOf(element).role)))
    return [...parts].map(part => ({ family, part }))
  })
}

/** Commands for what of the tables themselves is missing. */
export function foundations(netfilter: Transport, owned: Owned): Command[] {
  const isMissing = (family: OurFamily, chain: string) =>
    !findChain(netfilter, { family, table: TABLE, chain })
  const parts = partsOf(owned).filter(({ family, part }) => isMissing(family, landmarkOf(family, part)))
  const unused = missingOverrides(netfilter, owned)
  return [
    ...parts.flatMap(({ family, part }) => chainsOf(family, part)),
    ...unused.flatMap(one => overrideCommands({ ...one, exists: !isMissing(one.family, one.name) })),
  ]
}

function missingOverrides(netfilter: Transport, { overrides = [] }: Owned) {
  return overrides.filter(
    ({ family, name }) =>
      !listRules(netfilter, { family, table: TABLE, chain: OVERRIDES }).some(({ targets }) =>
        targets.includes(name),
      ),
  )
}

export function missingFoundations(netfilter: Transport, owned: Owned): string[] {
  const used = [...new Set(owned.elements.map(({ family }) => family))]
  const absent = used.filter(family => !tableExists(netfilter, family, TABLE))
  if (absent.length > 0) return absent.map(family => `table ${family} ${TABLE} is missing`)
  return [
    ...partsOf(owned).flatMap(({ family, part }) => missingRules(netfilter, family, part)),
    ...missingOverrides(netfilter, owned).map(
      ({ family, name }) => `chain ${family} ${TABLE} ${OVERRIDES} no longer jumps to ${name}`,
    ),
  ]
}

function missingRules(netfilter: Transport, family: OurFamily, part: Part): string[] {
  const rules = listRules(netfilter, { family, table: TABLE })
  return [...ruleCounts(family, part)].flatMap(([chain, count]) => {
    const there = rules.filter(rule => rule.chain === chain).length
    return there === count ? [] : [`chain ${family} ${TABLE} ${chain} has ${there} rules instead of ${count}`]
  })
}
