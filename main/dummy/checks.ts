/** The schema as plain checks. Made of schema.ts by `bun tools/docs.ts`: change that. */
import type { z } from 'zod/mini'
import type { Checks } from '../../chain/protocol/checks.ts'
import type * as schema from './schema.ts'

export const configuration: Checks<z.infer<typeof schema.configuration>> = {
  check: {
    type: 'object',
    keys: {
      ipam: {
        type: 'object',
        isOptional: true,
        keys: {
          type: { type: 'string', isOptional: true },
        },
      },
    },
  },
  schema: async () => (await import('./schema.ts')).configuration,
}
