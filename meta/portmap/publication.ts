/** What an attachment publishes: where connections to its ports are sent, and how a backend is asked to send them there. */

import type { Backend } from '../../chain/filter/backend.ts'
import { familyOf } from '../../chain/ip/family.ts'
import { networkText, splitCidr } from '../../chain/ip/text.ts'
import type { Variant } from '../../chain/linux/iptables/tools.ts'
import type { AddRequest, Attachment, CheckRequest } from '../../chain/plugin/define.ts'
import type { Result } from '../../chain/protocol/result.ts'
import { portMappings } from './configuration.ts'
import type { Published } from './publishers.ts'
import type { PortmapConfiguration } from './schema.ts'

/** The container's first address of a family, on this attachment's interface. */
export interface Target {
  address: string
  /** Its network with prefix length. */
  network: string
  family: 4 | 6
}

export function targetsOf({ ips, interfaces }: Result, { attachment }: { attachment: Attachment }): Target[] {
  const own = ips.filter(({ interface: index }) => {
    const on = index === undefined ? undefined : interfaces[index]
    return on === undefined || (on.name === attachment.ifname && Boolean(on.sandbox))
  })
  const targets = own.flatMap(({ address }) => {
    const [split, network] = [splitCidr(address), networkText(address)]
    return split && network ? [{ family: familyOf(network), address: split.address, network }] : []
  })
  return ([4, 6] as const).flatMap(family => targets.find(target => target.family === family) ?? [])
}

export type Call = AddRequest<PortmapConfiguration> | CheckRequest<PortmapConfiguration>

/** What an attachment publishes: its mappings, each with the address of its family. */
export function portsPublishedBy({ config }: Call, targets: readonly Target[]): Published[] {
  return targets.flatMap(({ family, address }) =>
    portMappings(config)
      .filter(({ families }) => families.includes(family))
      .map(({ protocol, hostPort, containerPort, hostAddress }) => ({
        protocol,
        hostPort,
        ...(hostAddress === undefined ? {} : { hostAddress }),
        address,
        containerPort,
      })),
  )
}

/** An attachment's rules. */
export interface Publication extends Backend {
  /** Puts them there for a publisher that is registered, beside whatever it has by the other backend. */
  place(): Promise<void>
}

/** What publishes ports: a file for each backend. */
export interface PortBackend {
  /** An attachment's rules; refuses what the backend cannot do before anything is touched, where it can tell. */
  publish(call: Call, targets: readonly Target[], variant?: Variant): Promise<Publication>
  /** STATUS: throws when the node lacks what the backend needs. */
  requireReady(): void
}
