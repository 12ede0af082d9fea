/** The schema as plain checks. Made of schema.ts by `bun tools/docs.ts`: change that. */
import type { z } from 'zod/mini'
import type { Checks } from '../../chain/protocol/checks.ts'
import { isStateFolder } from '../../chain/plugin/state.ts'
import type * as schema from './schema.ts'

export const configuration: Checks<z.infer<typeof schema.configuration>> = {
  check: {
    type: 'object',
    keys: {
      sysctl: { type: 'record', isOptional: true, each: { type: 'string' } },
      mac: { type: 'string', isOptional: true },
      promisc: { type: 'boolean', isOptional: true },
      mtu: { type: 'int', minimum: 0, maximum: 2147483647, isOptional: true },
      allmulti: { type: 'boolean', isOptional: true },
      txQLen: { type: 'int', isOptional: true },
      dataDir: { type: 'string', default: '', rules: [isStateFolder] },
      runtimeConfig: {
        type: 'object',
        isOptional: true,
        keys: {
          mac: { type: 'string', isOptional: true },
        },
      },
      args: {
        type: 'object',
        isOptional: true,
        keys: {
          cni: {
            type: 'object',
            isOptional: true,
            keys: {
              sysctl: { type: 'record', isOptional: true, each: { type: 'string' } },
              mac: { type: 'string', isOptional: true },
              promisc: { type: 'boolean', isOptional: true },
              mtu: { type: 'int', minimum: 0, maximum: 2147483647, isOptional: true },
              allmulti: { type: 'boolean', isOptional: true },
              txQLen: { type: 'int', isOptional: true },
            },
          },
        },
      },
    },
  },
  schema: async () => (await import('./schema.ts')).configuration,
}
