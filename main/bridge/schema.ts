/** bridge's configuration: keys, bounds, and what excludes what. */
import * as z from 'zod/mini'
import {
  dns,
  flag,
  ipam,
  knownMasqueradeBackend,
  masqueradeBackend,
  mtu,
  number,
  text,
} from '../../chain/plugin/schema.ts'
import {
  HIGHEST_VLAN,
  hasHairpinOrPromiscuity,
  hasLinkName,
  inspectTrunk,
  isVlan,
  makesUseOfAddresses,
} from './configuration.ts'

const trunkEntry = z.object({ minID: number, maxID: number, id: number })

const keys = z.object({
  bridge: z._default(z.string(), 'cni0'),
  isGateway: flag,
  isDefaultGateway: flag,
  forceAddress: flag,
  ipMasq: flag,
  ipMasqBackend: masqueradeBackend,
  mtu,
  hairpinMode: flag,
  promiscMode: flag,
  vlan: z._default(
    z.int().check(
      z.refine(isVlan, {
        error: ({ input }) => `invalid VLAN ID ${input} (must be between 0 and ${HIGHEST_VLAN})`,
      }),
    ),
    0,
  ),
  vlanTrunk: z.optional(z.array(trunkEntry)),
  preserveDefaultVlan: flag,
  macspoofchk: flag,
  enabledad: flag,
  disableContainerInterface: flag,
  portIsolation: flag,
  dns,
  ipam,
  args: z.optional(z.object({ cni: z.optional(z.object({ mac: text })) })),
  runtimeConfig: z.optional(z.object({ mac: text })),
})

export const configuration = keys.check(
  z.refine(hasLinkName, {
    path: ['bridge'],
    message: 'must be an interface name of 1 to 15 characters',
  }),
  z.refine(hasHairpinOrPromiscuity, {
    path: ['promiscMode'],
    message: 'cannot set hairpin mode and promiscuous mode at the same time',
  }),
  z.refine(makesUseOfAddresses, {
    path: ['disableContainerInterface'],
    message: 'cannot use IPAM when DisableContainerInterface flag is set, which leaves the interface down',
  }),
  knownMasqueradeBackend,
  z.check(inspectTrunk),
)

export type BridgeConfiguration = z.infer<typeof configuration>
