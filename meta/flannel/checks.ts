/** The schema as plain checks. Made of schema.ts by `bun tools/docs.ts`: change that. */
import type { z } from 'zod/mini'
import type { Checks } from '../../chain/protocol/checks.ts'
import { isAddressOrEmpty, isCidr } from '../../chain/plugin/rules.ts'
import { isOfAnotherType, leavesNameAndIpam } from './delegate-rules.ts'
import { isStateFolder } from '../../chain/plugin/state.ts'
import type * as schema from './schema.ts'

export const anyConfiguration: Checks<z.infer<typeof schema.anyConfiguration>> = {
  check: {
    type: 'object',
    keys: {
      subnetFile: { type: 'unknown', isOptional: true },
      dataDir: { type: 'unknown', isOptional: true },
      delegate: { type: 'unknown', isOptional: true },
      ipam: { type: 'unknown', isOptional: true },
      runtimeConfig: { type: 'unknown', isOptional: true },
    },
  },
  schema: async () => (await import('./schema.ts')).anyConfiguration,
}

export const strict: Checks<z.infer<typeof schema.strict>> = {
  check: {
    type: 'object',
    keys: {
      subnetFile: { type: 'string', isOptional: true },
      dataDir: { type: 'string', isOptional: true, rules: [isStateFolder] },
      delegate: { type: 'record', default: {}, each: { type: 'unknown' }, rules: [leavesNameAndIpam, isOfAnotherType] },
      ipam: {
        type: 'object',
        isOptional: true,
        keys: {
          type: { type: 'string', isOptional: true },
          routes: { type: 'array', default: [], each: {
            type: 'object',
            keys: {
              dst: { type: 'string', rules: [isCidr] },
              gw: { type: 'string', isOptional: true, rules: [isAddressOrEmpty] },
              mtu: { type: 'int', isOptional: true },
              advmss: { type: 'int', isOptional: true },
              priority: { type: 'int', isOptional: true },
              table: { type: 'int', isOptional: true },
              scope: { type: 'int', isOptional: true },
            },
          } },
        },
      },
      runtimeConfig: { type: 'record', isOptional: true, each: { type: 'unknown' } },
    },
  },
  schema: async () => (await import('./schema.ts')).strict,
}
