/** The schema as plain checks. Made of schema.ts by `bun tools/docs.ts`: change that. */
import type { z } from 'zod/mini'
import type { Checks } from '../../chain/protocol/checks.ts'
import { hasHairpinOrPromiscuity, hasLinkName, inspectTrunk, isVlan, makesUseOfAddresses } from './configuration.ts'
import { isKnownMasqueradeBackend, isText } from '../../chain/plugin/rules.ts'
import type * as schema from './schema.ts'

export const configuration: Checks<z.infer<typeof schema.configuration>> = {
  check: {
    type: 'object',
    keys: {
      bridge: { type: 'string', default: 'cni0' },
      isGateway: { type: 'boolean', default: false },
      isDefaultGateway: { type: 'boolean', default: false },
      forceAddress: { type: 'boolean', default: false },
      ipMasq: { type: 'boolean', default: false },
      ipMasqBackend: { type: 'custom', isOptional: true, rules: [isText] },
      mtu: { type: 'int', maximum: 2147483647, default: 0 },
      hairpinMode: { type: 'boolean', default: false },
      promiscMode: { type: 'boolean', default: false },
      vlan: { type: 'int', default: 0, rules: [isVlan] },
      vlanTrunk: { type: 'array', isOptional: true, each: {
        type: 'object',
        keys: {
          minID: { type: 'int', isOptional: true },
          maxID: { type: 'int', isOptional: true },
          id: { type: 'int', isOptional: true },
        },
      } },
      preserveDefaultVlan: { type: 'boolean', default: false },
      macspoofchk: { type: 'boolean', default: false },
      enabledad: { type: 'boolean', default: false },
      disableContainerInterface: { type: 'boolean', default: false },
      portIsolation: { type: 'boolean', default: false },
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
      args: {
        type: 'object',
        isOptional: true,
        keys: {
          cni: {
            type: 'object',
            isOptional: true,
            keys: {
              mac: { type: 'string', isOptional: true },
            },
          },
        },
      },
      runtimeConfig: {
        type: 'object',
        isOptional: true,
        keys: {
          mac: { type: 'string', isOptional: true },
        },
      },
    },
    rules: [hasLinkName, hasHairpinOrPromiscuity, makesUseOfAddresses, isKnownMasqueradeBackend],
    inspections: [inspectTrunk],
  },
  schema: async () => (await import('./schema.ts')).configuration,
}
