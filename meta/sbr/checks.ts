/** The schema as plain checks. Made of schema.ts by `bun tools/docs.ts`: change that. */
import type { z } from 'zod/mini'
import type { Checks } from '../../chain/protocol/checks.ts'
import { isTableOfOurs } from '../../chain/interface/routing-table.ts'
import type * as schema from './schema.ts'

export const configuration: Checks<z.infer<typeof schema.configuration>> = {
  check: {
    type: 'object',
    keys: {
      table: { type: 'int', minimum: 1, maximum: 4294967295, isOptional: true, rules: [isTableOfOurs] },
      gateways: { type: 'array', isOptional: true, each: { type: 'string' } },
      addSourceHints: { type: 'boolean', default: false },
    },
  },
  schema: async () => (await import('./schema.ts')).configuration,
}
