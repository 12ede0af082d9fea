/** What a container on the bridge has in our nftables tables. */
import type { Attachment } from '../../chain/plugin/define.ts'
import { guardPort, masquerade, type Owned } from '../../chain/plugin/elements.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import { formatAddress, formatCidr, networkOf, parseCidr } from '../../chain/protocol/address.ts'
import type { Result } from '../../chain/protocol/result.ts'
import type { BridgeConfiguration } from './configuration.ts'

export const roles = ['masquerade', 'frames'] as const

/** The elements of an attachment: what ADD puts there and CHECK looks for. */
export function ownedBy(parts: {
  config: BridgeConfiguration
  attachment: Attachment
  result: Result
  /** Name of the port. */
  port: string
  /** The one hardware address that frames may come from, where they are guarded. */
  mac: string
}): Owned {
  const { config, attachment, result, port, mac } = parts
  const pairs = result.ips
    .filter(
      ip => ip.interface === undefined || result.interfaces[ip.interface]?.name === attachment.interface,
    )
    .flatMap(({ address }) => {
      const cidr = parseCidr(address)
      return cidr ? [{ address: formatAddress(cidr.address), network: formatCidr(networkOf(cidr)) }] : []
    })
  return {
    owner: ownerOf(attachment),
    elements: [
      ...(config.ipMasq ? masquerade(pairs) : []),
      ...(config.macspoofchk ? guardPort(port, mac) : []),
    ],
  }
}
