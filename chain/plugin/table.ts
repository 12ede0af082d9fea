/** Routing tables of a container: which numbers are free, which a configuration may name, and one plugin at a time choosing. */
import * as z from 'zod/mini'
import { type HeldLock, takeLock } from '../linux/files.ts'
import { listRouteTables } from '../linux/netlink/route.ts'
import { listRules } from '../linux/netlink/rule.ts'
import type { Transport } from '../linux/netlink/socket.ts'

/** RT_TABLE_DEFAULT, RT_TABLE_MAIN, RT_TABLE_LOCAL: the kernel's own. */
const reserved = [253, 254, 255]
const MAXIMUM = 0xffffffff

/** A table's number in a configuration. */
export function tableNumber(minimum: 0 | 1) {
  return z.optional(
    z.int().check(
      z.minimum(minimum),
      z.maximum(MAXIMUM),
      z.refine(
        table => !reserved.includes(table),
        'must not be 253, 254 or 255, because these are the default, main and local table',
      ),
    ),
  )
}

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
 * Holds other plugins off a container while a table is chosen and filled: a lock on the namespace's own file, as the
 * reference takes it. Nothing is created where there is no namespace.
 */
export function lockNamespace(netns: string): HeldLock {
  return takeLock(netns, { existing: true })
}
