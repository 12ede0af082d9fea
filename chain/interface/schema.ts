/** Pieces of configuration of plugins that work on interfaces, as schemas. */
import * as z from 'zod/mini'
import { isTableOfOurs } from './routing-table.ts'

const MAXIMUM = 0xffffffff

/** A table's number in a configuration. */
export function tableNumber(minimum: 0 | 1) {
  return z.optional(
    z
      .int()
      .check(
        z.minimum(minimum),
        z.maximum(MAXIMUM),
        z.refine(
          isTableOfOurs,
          'must not be 253, 254 or 255, because these are the default, main and local table',
        ),
      ),
  )
}
