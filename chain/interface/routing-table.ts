/** Routing tables of a container: which numbers are free, which a configuration may name, and one plugin at a time choosing. */
import { listRouteTables } from '../linux/netlink/route.ts'
import { listRules } from '../linux/netlink/rule.ts'
import type { Transport } from '../linux/netlink/socket.ts'
import { namespaceIdentity } from '../linux/netns.ts'

/** RT_TABLE_DEFAULT, RT_TABLE_MAIN, RT_TABLE_LOCAL: the kernel's own. */
const reserved = [253, 254, 255]

/** Whether a configuration may name a table: not one of the kernel's own. */
export const isTableOfOurs = (table: number) => !reserved.includes(table)

/** The first numbers from `first` on that no rule and no route uses, nor the caller. Infinite; the kernel's own are left out. */
export function* freeTables(
  container: Transport,
  { first, taken = [] }: { first: number; taken?: readonly (number | undefined)[] },
): Generator<number, never> {
  const used = new Set([
    ...reserved,
    ...taken,
    ...listRules(container).map(({ table }) => table),
    ...listRouteTables(container),
  ])
  for (let table = first; ; table++) if (!used.has(table)) yield table
}

/**
 * The name under which one plugin at a time chooses a table of a container and fills it. Not a lock on the namespace's own file, as
 * the Go plugin takes it: a process of the container can hold that for ever.
 */
export function tablesOf(netns: string): string {
  return `the routing tables of namespace ${namespaceIdentity(netns) ?? netns}`
}
