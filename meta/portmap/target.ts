/** Where connections to published ports are sent, and how a backend is asked to send them there. */

import { familyOf } from '../../chain/ip/family.ts'
import { networkText, splitCidr } from '../../chain/ip/text.ts'
import type { Variant } from '../../chain/linux/iptables/tools.ts'
import type { AddRequest, Attachment, CheckRequest } from '../../chain/plugin/define.ts'
import type { Result } from '../../chain/protocol/result.ts'
import type { PortmapConfiguration } from './configuration.ts'
import type { Published } from './publishers.ts'

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

/** What a backend has for an attachment. */
export interface Publication {
  /** To be remembered, where the kernel cannot be asked for it. */
  published?: readonly Published[]
  /**
   * Puts it there, replacing what this attachment had before, with a guard of 127.0.0.0/8 if a link is going to let that
   * through.
   */
  add(localnet: string | undefined): Promise<void>
  /** A sentence about something that is missing. */
  missing(): Promise<string | undefined>
}

export type Call = AddRequest<PortmapConfiguration> | CheckRequest<PortmapConfiguration>

/** What publishes ports. */
export interface PortBackend {
  /** Plans an attachment's rules; refuses what the backend cannot do before anything is touched, where it can tell. */
  plan(call: Call, targets: readonly Target[], variant?: Variant): Promise<Publication>
  /** STATUS: throws when the node lacks what the backend needs. */
  requireReady(): void
}
