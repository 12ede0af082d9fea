/** The schema as plain checks. Made of schema.ts by `bun tools/docs.ts`: change that. */
import type { z } from 'zod/mini'
import type { Checks } from '../../chain/protocol/checks.ts'
import { hasConsistentMappings, hasOneKindOfMark, isBackendOrEmpty, isBit, isOneLine, isPort, isProtocol, marksByOwnBackend, suitsIptablesV4, suitsIptablesV6, suitsNftablesV4, suitsNftablesV6 } from './configuration.ts'
import { isAddressOrEmpty, isChainName } from '../../chain/plugin/rules.ts'
import type * as schema from './schema.ts'

export const configuration: Checks<z.infer<typeof schema.configuration>> = {
  check: {
    type: 'object',
    keys: {
      backend: { type: 'custom', isOptional: true, rules: [isBackendOrEmpty] },
      snat: { type: 'boolean', default: true },
      masqAll: { type: 'boolean', default: false },
      markMasqBit: { type: 'int', isOptional: true, rules: [isBit] },
      externalSetMarkChain: { type: 'string', isOptional: true, rules: [isChainName] },
      conditionsV4: { type: 'array', isOptional: true, each: { type: 'string', rules: [isOneLine] } },
      conditionsV6: { type: 'array', isOptional: true, each: { type: 'string', rules: [isOneLine] } },
      runtimeConfig: {
        type: 'object',
        isOptional: true,
        keys: {
          portMappings: { type: 'array', isOptional: true, each: {
            type: 'object',
            keys: {
              hostPort: { type: 'int', rules: [isPort] },
              containerPort: { type: 'int', rules: [isPort] },
              protocol: { type: 'string', default: 'tcp', rules: [isProtocol] },
              hostIP: { type: 'string', default: '', rules: [isAddressOrEmpty] },
            },
          } },
        },
      },
    },
    rules: [hasOneKindOfMark, marksByOwnBackend, suitsNftablesV4, suitsIptablesV4, suitsNftablesV6, suitsIptablesV6, hasConsistentMappings],
  },
  schema: async () => (await import('./schema.ts')).configuration,
}
