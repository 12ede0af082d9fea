/** The schema as plain checks. Made of schema.ts by `bun tools/docs.ts`: change that. */
import type { z } from 'zod/mini'
import type { Checks } from '../../chain/protocol/checks.ts'
import type * as schema from './schema.ts'

export const configuration: Checks<z.infer<typeof schema.configuration>> = {
  check: {
    type: 'object',
    keys: {
      name: { type: 'string', isOptional: true },
      prevResult: { type: 'unknown', isOptional: true },
      ipam: {
        type: 'object',
        keys: {
          daemonSocketPath: { type: 'string', isOptional: true },
          priority: { type: 'int', maximum: 4294967295, isOptional: true },
          provide: { type: 'array', isOptional: true, each: {
            type: 'object',
            keys: {
              option: { type: 'string' },
              value: { type: 'string', isOptional: true },
              fromArg: { type: 'string', isOptional: true },
            },
          } },
          request: { type: 'array', isOptional: true, each: {
            type: 'object',
            keys: {
              option: { type: 'string', isOptional: true },
              skipDefault: { type: 'boolean', isOptional: true },
            },
          } },
          ipv4: { type: 'boolean', isOptional: true },
          ipv6: { type: 'literal', values: [false, 'auto', 'dhcp', 'slaac'], isOptional: true },
        },
      },
    },
  },
  schema: async () => (await import('./schema.ts')).configuration,
}
