/** The delegate's configuration, from flannel's and from what flanneld says. Pure. */
import { configuredRoutes } from '../../chain/plugin/configured.ts'
import { type JsonObject, lookup } from '../../chain/protocol/configuration.ts'
import type { FlannelConfiguration } from './configuration.ts'
import type { Subnets } from './subnet-file.ts'

/** A configuration for the plugin of its `type`. */
export interface DelegateConfiguration extends JsonObject {
  name: string
  type: string
}

/**
 * What the delegate is given: the user's words over flanneld's. Without `subnets` (flanneld is not there) it is enough for
 * verbs that hand out nothing.
 */
export function translate(
  { delegate, ipam, routes, runtimeConfig }: FlannelConfiguration,
  { network, cniVersion, subnets }: { network: string; cniVersion: string; subnets: Subnets | undefined },
): DelegateConfiguration {
  const type = String(lookup(delegate, 'type') ?? 'bridge')
  const defaults = {
    ...(subnets ? { ipMasq: !subnets.masqueraded, mtu: subnets.mtu } : {}),
    ...(type === 'bridge' ? { isGateway: true } : {}),
  }
  return {
    ...withDefaults(delegate, defaults),
    cniVersion,
    name: network,
    type,
    ...(runtimeConfig ? { runtimeConfig } : {}),
    ipam: {
      ...without(withDefaults(ipam, { type: 'host-local' }), ['ranges', 'routes']),
      ...(subnets ? { ranges: subnets.subnets.map(subnet => [{ subnet }]) } : {}),
      routes: [...configuredRoutes(routes), ...(subnets?.networks ?? []).map(dst => ({ dst }))],
    },
  }
}

/** Keys match as plugins match them, whatever their case: a default must not stand beside what the user wrote. */
function withDefaults(given: JsonObject, defaults: JsonObject): JsonObject {
  const absent = Object.entries(defaults).filter(([key]) => lookup(given, key) === undefined)
  const names = absent.map(([key]) => key)
  return { ...without(given, names), ...Object.fromEntries(absent) }
}

function without(given: JsonObject, names: readonly string[]): JsonObject {
  const dropped = new Set(names.map(name => name.toLowerCase()))
  return Object.fromEntries(Object.entries(given).filter(([key]) => !dropped.has(key.toLowerCase())))
}
