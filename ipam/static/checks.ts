/** The schema as plain checks. Made of schema.ts by `bun tools/docs.ts`: change that. */
import type { z } from 'zod/mini'
import type { Checks } from '../../chain/protocol/checks.ts'
import { isAddressOrEmpty, isCidr } from '../../chain/plugin/rules.ts'
import type * as schema from './schema.ts'

export const anyConfiguration: Checks<z.infer<typeof schema.anyConfiguration>> = {
  check: {
    type: 'object',
    keys: {
      ipam: { type: 'unknown', isOptional: true },
      args: { type: 'unknown', isOptional: true },
      runtimeConfig: { type: 'unknown', isOptional: true },
    },
  },
  schema: async () => (await import('./schema.ts')).anyConfiguration,
}

export const configuration: Checks<z.infer<typeof schema.configuration>> = {
  check: {
    type: 'object',
    keys: {
      ipam: {
        type: 'object',
        keys: {
          addresses: { type: 'array', default: [], each: {
            type: 'object',
            keys: {
              address: { type: 'string', default: '' },
              gateway: { type: 'string', isOptional: true },
            },
          } },
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
              ips: { type: 'array', isOptional: true, each: { type: 'string' } },
            },
          },
        },
      },
      runtimeConfig: {
        type: 'object',
        isOptional: true,
        keys: {
          ips: { type: 'array', isOptional: true, each: { type: 'string' } },
        },
      },
    },
  },
  schema: async () => (await import('./schema.ts')).configuration,
}
