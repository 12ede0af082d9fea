/** An administrator's chain in filters of iptables that have no other rules of ours: found, led to, prepared. */
import { applyPlan, IptablesError, type Known } from '../../chain/linux/iptables/apply.ts'
import type { BriefTable } from '../../chain/linux/iptables/brief.ts'
import { withBriefTable } from '../../chain/linux/iptables/sign.ts'
import { type Family, findTools } from '../../chain/linux/iptables/tools.ts'
import type { Engine } from '../../chain/linux/nftables/nft.ts'
import { explain, FORWARD, planFor, TABLE, variants } from './iptables.ts'
import type { Filter } from './records.ts'

/** What becomes of an administrator's chain in filters that have no other rules of ours. */
export interface AdminFilters {
  /** They hold it, and nothing leads there yet. */
  unled: Filter[]
  /** Those of the machine's choice, of families in which it is nowhere. None where the tools are missing. */
  without: Filter[]
}

export function adminFilters(
  used: readonly Family[],
  { admin, but }: { admin: string; but: readonly Filter[] },
): AdminFilters {
  const found: AdminFilters = { unled: [], without: [] }
  for (const family of used) {
    const states = variants.map(variant => {
      const isOther = but.some(one => one.family === family && one.variant === variant)
      return isOther ? 'led' : stateOf({ family, variant }, admin)
    })
    for (const [at, variant] of variants.entries())
      if (states[at] === 'unled') found.unled.push({ family, variant })
    const tools = states.every(state => state === 'absent') ? findTools(family) : undefined
    if (tools) found.without.push({ family, variant: tools.variant })
  }
  return found
}

/** Whether what is forwarded comes by an administrator's chain: over ours, or straight. */
function stateOf(filter: Filter, admin: string): 'absent' | 'led' | 'unled' {
  const leads = (table: BriefTable, from: string, to: string) =>
    table.rulesIn(from).some(({ targets }) => targets.includes(to))
  const look = (table: BriefTable) => {
    if (!table.hasChain(admin)) return 'absent'
    const isLed =
      leads(table, 'FORWARD', admin) || (leads(table, 'FORWARD', FORWARD) && leads(table, FORWARD, admin))
    return isLed ? 'led' : 'unled'
  }
  return withBriefTable({ ...filter, table: TABLE }, look, [admin, FORWARD]) ?? 'absent'
}

/** Has what is forwarded come by an administrator's chain that is there, even where the tools are not. */
async function leadTo(filter: Filter, admin: string, engine: Engine): Promise<void> {
  try {
    await makeWay(filter, admin)
  } catch (thrown) {
    if (!(thrown instanceof IptablesError) || filter.variant === 'legacy') throw explain(thrown)
    const expr = [{ jump: { target: admin } }]
    await engine([
      { verb: 'insert', kind: 'rule', family: filter.family, table: TABLE, chain: 'FORWARD', expr },
    ])
  }
}

function makeWay(filter: Filter, admin: string, known: Known = {}): Promise<void> {
  return applyPlan(planFor(filter, { addresses: [], admin, ingress: undefined }), known)
}

/** As `leadTo`, for who may want to fill the chain: where the tools do not work, it stays empty. */
async function prepare(filter: Filter, admin: string): Promise<void> {
  try {
    await makeWay(filter, admin, { lacksChains: true })
  } catch (thrown) {
    if (!(thrown instanceof IptablesError)) throw thrown
  }
}

/** The way of what is forwarded over an administrator's chain, in a filter in which there is none. */
export function wayTo(admin: string, filter: Filter, engine: Engine) {
  return { add: () => leadTo(filter, admin, engine), check: () => missingWay(filter, admin) }
}

/** An administrator's chain for who may want to fill it: it is not missed. */
export function preparedChain(admin: string, filter: Filter) {
  return { add: () => prepare(filter, admin), check: () => undefined }
}

/** The sentence about a filter in which what is forwarded does not come by an administrator's chain. */
function missingWay(filter: Filter, admin: string): string {
  const tool = filter.family === 'ip' ? 'iptables' : 'ip6tables'
  return `${tool} (${filter.variant}) no longer leads from FORWARD over ${FORWARD} to ${admin}`
}
