/** Whether somebody uses iptables on this machine, of either variant: asked of the kernel, without running a program. */
import { listAllTables } from '../nftables/list.ts'
import { openNetfilterIfPresent } from '../nftables/netfilter.ts'
import type { Place, Sought } from './brief.ts'
import { legacyTables } from './removal.ts'
import { signOfUse } from './sign.ts'

/** The first sign of use, and what it is in words: "a rule in chain FORWARD". */
export interface Use extends Place {
  sign: string
}

const families = ['ip', 'ip6'] as const

/** The tables filter and nat that there are: one question of nf_tables and two files, most often answered by nothing. */
function placesOf(): Place[] {
  const places: Place[] = []
  {
    using netfilter = openNetfilterIfPresent()
    for (const { family, name } of netfilter ? listAllTables(netfilter) : []) {
      if ((family === 'ip' || family === 'ip6') && (name === 'filter' || name === 'nat'))
        places.push({ family, variant: 'nf_tables', table: name })
    }
  }
  for (const family of families) {
    for (const table of legacyTables(family))
      if (table === 'filter' || table === 'nat') places.push({ family, variant: 'legacy', table })
  }
  return places
}

/** The first sign that iptables is in use here; undefined where there is none. */
export function findUse(sought: Sought): Use | undefined {
  for (const place of placesOf()) {
    const sign = signOfUse(place, sought)
    if (sign !== undefined) return { ...place, sign }
  }
  return undefined
}
