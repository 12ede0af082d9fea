/** The schema as plain checks. Made of schema.ts by `bun tools/docs.ts`: change that. */
import type { z } from 'zod/mini'
import type { Checks } from '../../chain/protocol/checks.ts'
import { isChainName } from '../../chain/plugin/rules.ts'
import { isFreeChainName, isPolicyOrEmpty } from './configuration.ts'
import type * as schema from './schema.ts'

export const configuration: Checks<z.infer<typeof schema.configuration>> = {
  check: {
    type: 'object',
    keys: {
      backend: { type: 'string', default: '' },
      iptablesAdminChainName: { type: 'string', default: 'CNI-ADMIN', rules: [isChainName, isFreeChainName] },
      firewalldZone: { type: 'string', default: 'trusted' },
      ingressPolicy: { type: 'custom', default: '', rules: [isPolicyOrEmpty] },
    },
  },
  schema: async () => (await import('./schema.ts')).configuration,
}
