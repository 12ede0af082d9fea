/** What a container has in our nftables tables: what ADD puts there and CHECK looks for. */

import { fence, forwarded, isolatePort, type Owned } from '../../chain/filter/nftables/elements.ts'
import type { Attachment } from '../../chain/plugin/define.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import { familyOf, type Ingress } from './subject.ts'

export const roles = ['firewall'] as const

export interface Wanted {
  addresses: readonly string[]
  /** Whether accepting its packets is nftables' affair, and not another backend's alone. */
  accept: boolean
  /** The chain that an administrator fills. */
  admin: string
  ingress: Ingress | undefined
  /** Whether nftables keeps other bridges away, and the frames of neighbours. */
  fence: boolean
  isolate: boolean
}

export function ownedBy(attachment: Attachment, wanted: Wanted): Owned {
  const { addresses, accept, admin, ingress } = wanted
  const isolated = ingress?.policy === 'isolated'
  const fenced =
    ingress && wanted.fence
      ? fence({ bridge: ingress.bridge, addresses, isolated })
      : { elements: [], shared: [] }
  const families = [...new Set(addresses.map(familyOf))]
  return {
    owner: ownerOf(attachment),
    elements: [
      ...(accept ? forwarded(addresses) : []),
      ...fenced.elements,
      ...(isolated && wanted.isolate && ingress.port !== undefined ? isolatePort(ingress.port) : []),
    ],
    shared: fenced.shared ?? [],
    overrides: accept ? families.map(family => ({ family, name: admin })) : [],
  }
}
