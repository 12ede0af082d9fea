/** What a container on the bridge has in packet filters: masquerade, and the guard of its port. */

import * as masquerade from '../../chain/filter/masquerade.ts'
import type { Element } from '../../chain/filter/nftables/elements.ts'
import { goPluginsSpoofCheck } from '../../chain/filter/nftables/go-plugins.ts'
import { collectionsWith } from '../../chain/filter/nftables/layout.ts'
import { listIn } from '../../chain/filter/nftables/read.ts'
import { networkText, splitCidr } from '../../chain/ip/text.ts'
import { openNetfilterIfPresent } from '../../chain/linux/nftables/netfilter.ts'
import type { Engine } from '../../chain/linux/nftables/nft.ts'
import type { Attachment } from '../../chain/plugin/define.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import type { Result } from '../../chain/protocol/result.ts'
import type { BridgeConfiguration } from './schema.ts'

export const sweep = { roles: ['masquerade', 'frames'] } as const

/** What ADD puts there and CHECK looks for. */
export function rulesFor(parts: {
  config: BridgeConfiguration
  attachment: Attachment
  result: Result
  /** Name of the port. */
  port: string
  /** The one hardware address that frames may come from, where they are guarded. */
  mac: string
}): masquerade.MasqueradeSpec {
  const { config, attachment, result, port, mac } = parts
  const sources = result.ips
    .filter(ip => ip.interface === undefined || result.interfaces[ip.interface]?.name === attachment.ifname)
    .flatMap(({ address }) => {
      const [split, network] = [splitCidr(address), networkText(address)]
      return split && network ? [{ address: split.address, network }] : []
    })
  return {
    attachment,
    sources: config.ipMasq ? sources : [],
    backend: config.ipMasqBackend,
    elements: config.macspoofchk ? guardPort(port, mac) : [],
  }
}

/** Frames from a bridge port (by name) are let through with this hardware address only. */
export function guardPort(port: string, mac: string): Element[] {
  return [
    { family: 'bridge', kind: 'guarded-port', key: [port] },
    { family: 'bridge', kind: 'allowed-source', key: [port, mac] },
  ]
}

/**
 * The hardware address that a guarded port of this attachment lets through; undefined when there is none. CHECK asks, since a
 * plugin after this one (tuning) may have given the container's interface another address.
 */
export function allowedAddress(attachment: Attachment, port: string): string | undefined {
  using netfilter = openNetfilterIfPresent()
  if (!netfilter) return undefined
  const { id } = ownerOf(attachment)
  for (const element of listIn(netfilter, 'bridge', collectionsWith('bridge', 'allowed-source')))
    if (element.kind === 'allowed-source' && element.owner === id && element.key[0] === port)
      return element.key[1]
  return undefined
}

export function sweepRules(engine: Engine, attachment: Attachment): Promise<void> {
  return masquerade.sweepRules(engine, attachment, { ...sweep, extra: goPluginsSpoofCheck(attachment) })
}
