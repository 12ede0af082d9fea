/** The schema as plain checks. Made of schema.ts by `bun tools/docs.ts`: change that. */
import type { z } from 'zod/mini'
import type { Checks } from '../../chain/protocol/checks.ts'
import { isKnownMasqueradeBackend, isText } from '../../chain/plugin/rules.ts'
import type * as schema from './schema.ts'

export const configuration: Checks<z.infer<typeof schema.configuration>> = {
  check: {
    type: 'object',
    keys: {
      ipMasq: { type: 'boolean', default: false },
      ipMasqBackend: { type: 'custom', isOptional: true, rules: [isText] },
      mtu: { type: 'int', maximum: 2147483647, default: 0 },
      dns: {
        type: 'object',
        isOptional: true,
        keys: {
          nameservers: { type: 'array', isOptional: true, each: { type: 'string' } },
          domain: { type: 'string', isOptional: true },
          search: { type: 'array', isOptional: true, each: { type: 'string' } },
          options: { type: 'array', isOptional: true, each: { type: 'string' } },
        },
      },
      ipam: {
        type: 'object',
        isOptional: true,
        keys: {
          type: { type: 'string', isOptional: true },
        },
      },
    },
    rules: [isKnownMasqueradeBackend],
  },
  schema: async () => (await import('./schema.ts')).configuration,
}
