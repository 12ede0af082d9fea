/** bridge's configuration: keys, bounds, and what excludes what. */
import * as z from 'zod/mini'
import {
  dns,
  flag,
  ipam,
  knownMasqueradeBackend,
  masqueradeBackend,
  mtu,
  text,
} from '../../chain/plugin/schema.ts'

const number = z.optional(z.int())

const trunkEntry = z.object({ minID: number, maxID: number, id: number })

const HIGHEST_VLAN = 4094 // 802.1Q: 4095 is reserved

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
      z.refine(id => id >= 0 && id <= HIGHEST_VLAN, {
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
    message: 'cannot use IPAM when DisableContainerInterface flag is set, which leaves the interface down',
  }),
  knownMasqueradeBackend,
  z.check(({ value: { vlanTrunk = [] }, issues }) => {
    for (const [index, entry] of vlanTrunk.entries()) {
      const fault = faultOf(entry)
      if (fault) issues.push({ code: 'custom', path: ['vlanTrunk', index], message: fault, input: entry })
    }
  }),
)

/** What is wrong with an entry of a trunk, in the Go plugin's words. One that names nothing is fine. */
function faultOf({ minID, maxID, id }: z.infer<typeof trunkEntry>): string | undefined {
  const isId = (number: number) => number >= 1 && number <= HIGHEST_VLAN
  const together = 'minID and maxID should be configured simultaneously'
  if (minID === undefined && maxID !== undefined) return `${together}, minID is missing`
  if (minID !== undefined && maxID === undefined) return `${together}, maxID is missing`
  const bounds = `parameter, must be between 1 and ${HIGHEST_VLAN}`
  if (minID !== undefined && !isId(minID)) return `incorrect trunk minID ${bounds}`
  if (maxID !== undefined && !isId(maxID)) return `incorrect trunk maxID ${bounds}`
  if (minID !== undefined && maxID !== undefined && minID > maxID)
    return 'minID is greater than maxID in trunk parameter'
  return id === undefined || isId(id) ? undefined : `incorrect trunk id ${bounds}`
}

export type BridgeConfiguration = z.infer<typeof configuration>
