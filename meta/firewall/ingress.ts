/** Whom the firewall is for: the addresses of prevResult, and the bridge that an ingress policy is about. */

import { onHost } from '../../chain/interface/configure.ts'
import { familyOf, tableFamilyOf, widthOf } from '../../chain/ip/family.ts'
import { splitCidr } from '../../chain/ip/text.ts'
import { findLink, type Link } from '../../chain/linux/netlink/link.ts'
import type { Transport } from '../../chain/linux/netlink/socket.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import type { Result } from '../../chain/protocol/result.ts'
import { type Policy, policyOf } from './configuration.ts'
import type { FirewallConfiguration } from './schema.ts'

export const familiesOf = (addresses: readonly string[]) => [...new Set(addresses.map(tableFamilyOf))]

/** An address as a network of one. */
export const hostCidr = (address: string) => `${address}/${widthOf(familyOf(address))}`

/** All addresses of a result, without prefix lengths. */
export function addressesOf({ ips }: Result): string[] {
  const addresses = ips.flatMap(({ address }) => splitCidr(address)?.address ?? [])
  return [...new Set(addresses)]
}

export interface Ingress {
  policy: Policy
  /** The link that packets to and from the container go over: a bridge, or a host end that is on none. */
  bridge: string
  /** The container's port, where it is on a bridge. */
  port?: string
}

/** What an ingress policy is about; undefined where there is none. Code 7 when prevResult names no link of the host. */
export function ingressOf(config: FirewallConfiguration, previous: Result): Ingress | undefined {
  const policy = policyOf(config)
  return policy && onHost(host => findIngress(host, policy, previous))
}

function findIngress(host: Transport, policy: Policy, { interfaces }: Result): Ingress {
  const links = interfaces.flatMap(({ name, sandbox }) => (sandbox ? [] : (findLink(host, name) ?? [])))
  const port = links.find(({ master }) => master !== undefined)
  const bridge = bridgeOf(host, links, port) ?? links[0]
  if (bridge) return { policy, bridge: bridge.name, ...(port ? { port: port.name } : {}) }
  throw new CniError(
    code.invalidConfiguration,
    `ingressPolicy: ${policy} needs a link of the host that leads to the container, and prevResult names none`,
    { details: 'chain firewall after bridge or ptp, or leave the policy open' },
  )
}

function bridgeOf(host: Transport, links: readonly Link[], port: Link | undefined): Link | undefined {
  const isBridge = ({ kind }: Link) => kind === 'bridge'
  const master = port?.master === undefined ? undefined : findLink(host, port.master)
  return [master, ...links].find(link => link && isBridge(link))
}
