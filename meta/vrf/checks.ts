/** The schema as plain checks. Made of schema.ts by `bun tools/docs.ts`: change that. */
import type { z } from 'zod/mini'
import type { Checks } from '../../chain/protocol/checks.ts'
import { isTableOfOurs } from '../../chain/interface/routing-table.ts'
import type * as schema from './schema.ts'

export const configuration: Checks<z.infer<typeof schema.configuration>> = {
  check: {
    type: 'object',
    keys: {
      vrfname: { type: 'string', default: '' },
      table: { type: 'int', minimum: 0, maximum: 4294967295, isOptional: true, rules: [isTableOfOurs] },
    },
  },
  schema: async () => (await import('./schema.ts')).configuration,
}
