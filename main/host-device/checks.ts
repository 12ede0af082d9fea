/** The schema as plain checks. Made of schema.ts by `bun tools/docs.ts`: change that. */
import type { z } from 'zod/mini'
import type { Checks } from '../../chain/protocol/checks.ts'
import type * as schema from './schema.ts'

export const configuration: Checks<z.infer<typeof schema.configuration>> = {
  check: {
    type: 'object',
    keys: {
      device: { type: 'string', default: '' },
      hwaddr: { type: 'string', default: '' },
      kernelpath: { type: 'string', default: '' },
      pciBusID: { type: 'string', default: '' },
      DPDKMode: { type: 'boolean', default: false },
      runtimeConfig: {
        type: 'object',
        isOptional: true,
        keys: {
          deviceID: { type: 'string', default: '' },
        },
      },
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
  },
  schema: async () => (await import('./schema.ts')).configuration,
}
