/** bridge's configuration: keys, bounds, and what excludes what. */
import * as z from 'zod/mini'
import { dns, flag, ipam, mtu, text } from '../../chain/plugin/schema.ts'

const vlanId = z.int().check(z.minimum(1), z.maximum(4094))

const optionalId = z.optional(vlanId)

export const trunkEntry = z.object({ minID: optionalId, maxID: optionalId, id: optionalId })

const keys = z.object({
  bridge: z._default(z.string(), 'cni0'),
  isGateway: flag,
  isDefaultGateway: flag,
  forceAddress: flag,
  ipMasq: flag,
  ipMasqBackend: z.optional(z.enum(['', 'iptables', 'nftables'])),
  mtu,
  hairpinMode: flag,
  promiscMode: flag,
  vlan: z._default(z.int().check(z.minimum(0), z.maximum(4094)), 0),
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

/** A name that the kernel takes for a bridge. */
const isLinkName = (name: string) => /^[^/:\s]{1,15}$/.test(name) && name !== '.' && name !== '..'

export const configuration = keys.check(
  z.refine(({ bridge }) => isLinkName(bridge), {
    path: ['bridge'],
    message: 'must be an interface name of 1 to 15 characters',
  }),
  z.refine(({ hairpinMode, promiscMode }) => !(hairpinMode && promiscMode), {
    path: ['promiscMode'],
    message: 'cannot set hairpin mode and promiscuous mode at the same time',
  }),
  z.refine(({ disableContainerInterface, ipam }) => !(disableContainerInterface && ipam?.type), {
    path: ['disableContainerInterface'],
    message: 'cannot use IPAM when the container interface is to stay down',
  }),
  z.refine(
    ({ vlanTrunk = [] }) =>
      vlanTrunk.every(({ minID, maxID }) => (minID === undefined) === (maxID === undefined)),
    {
      path: ['vlanTrunk'],
      message: 'minID and maxID must come together',
    },
  ),
  z.refine(({ vlanTrunk = [] }) => vlanTrunk.every(({ minID = 0, maxID = 0 }) => minID <= maxID), {
    path: ['vlanTrunk'],
    message: 'minID must not be above maxID',
  }),
)

export type BridgeConfiguration = z.infer<typeof configuration>
