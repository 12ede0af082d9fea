/** The schema as plain checks. Made of schema.ts by `bun tools/docs.ts`: change that. */
import type { z } from 'zod/mini'
import type { Checks } from '../../chain/protocol/checks.ts'
import { isNetwork, isWhole } from './rules.ts'
import type * as schema from './schema.ts'

export const configuration: Checks<z.infer<typeof schema.configuration>> = {
  check: {
    type: 'object',
    keys: {
      ingressRate: { type: 'number', minimum: 0, maximum: 18446744073709552000, isOptional: true, rules: [isWhole] },
      ingressBurst: { type: 'number', minimum: 0, maximum: 18446744073709552000, isOptional: true, rules: [isWhole] },
      egressRate: { type: 'number', minimum: 0, maximum: 18446744073709552000, isOptional: true, rules: [isWhole] },
      egressBurst: { type: 'number', minimum: 0, maximum: 18446744073709552000, isOptional: true, rules: [isWhole] },
      unshapedSubnets: { type: 'array', isOptional: true, each: { type: 'string', rules: [isNetwork] } },
      shapedSubnets: { type: 'array', isOptional: true, each: { type: 'string', rules: [isNetwork] } },
      runtimeConfig: {
        type: 'object',
        isOptional: true,
        keys: {
          bandwidth: {
            type: 'object',
            isOptional: true,
            keys: {
              ingressRate: { type: 'number', minimum: 0, maximum: 18446744073709552000, isOptional: true, rules: [isWhole] },
              ingressBurst: { type: 'number', minimum: 0, maximum: 18446744073709552000, isOptional: true, rules: [isWhole] },
              egressRate: { type: 'number', minimum: 0, maximum: 18446744073709552000, isOptional: true, rules: [isWhole] },
              egressBurst: { type: 'number', minimum: 0, maximum: 18446744073709552000, isOptional: true, rules: [isWhole] },
              unshapedSubnets: { type: 'array', isOptional: true, each: { type: 'string', rules: [isNetwork] } },
              shapedSubnets: { type: 'array', isOptional: true, each: { type: 'string', rules: [isNetwork] } },
            },
          },
        },
      },
    },
  },
  schema: async () => (await import('./schema.ts')).configuration,
}
