/** What a container has in our nftables tables: what ADD puts there and CHECK looks for. */

import { forwarded, ingressPolicy, isolatePort, type Owned } from '../../chain/filter/nftables/elements.ts'
import type { Attachment } from '../../chain/plugin/define.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import { familyOf, type Ingress } from './ingress.ts'

export const roles = ['firewall'] as const

export interface OwnedSpec {
  addresses: readonly string[]
  /** Whether accepting its packets is nftables' affair, and not another backend's alone. */
  accept: boolean
  /** The chain that an administrator fills. */
  admin: string
  ingress: Ingress | undefined
  /** Whether nftables keeps other bridges away, and the frames of neighbours. */
  ingressPolicy: boolean
  isolate: boolean
}

export function ownedBy(attachment: Attachment, spec: OwnedSpec): Owned {
  const { addresses, accept, admin, ingress } = spec
  const isolated = ingress?.policy === 'isolated'
  const policy =
    ingress && spec.ingressPolicy
      ? ingressPolicy({ bridge: ingress.bridge, addresses, isolated })
      : { elements: [], shared: [] }
  const families = [...new Set(addresses.map(familyOf))]
  return {
    owner: ownerOf(attachment),
    elements: [
      ...(accept ? forwarded(addresses) : []),
      ...policy.elements,
      ...(isolated && spec.isolate && ingress.port !== undefined ? isolatePort(ingress.port) : []),
    ],
    shared: policy.shared ?? [],
    overrides: accept ? families.map(family => ({ family, name: admin })) : [],
  }
}
