/** What a container has in our nftables tables: what ADD puts there and CHECK looks for. */

import type { Element, Owned } from '../../chain/filter/nftables/elements.ts'
import { tableFamilyOf } from '../../chain/ip/family.ts'
import type { Attachment } from '../../chain/plugin/define.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import { familiesOf, type Ingress } from './ingress.ts'

export const roles = ['firewall'] as const

export interface OwnedSpec {
  addresses: readonly string[]
  /** Whether accepting its packets is nftables' affair, and not another backend's alone. */
  accept: boolean
  /** The chain that an administrator fills. */
  admin: string
  ingress: Ingress | undefined
  /** Whether nftables keeps other bridges away, and the frames of neighbours. */
  keepsPolicy: boolean
  isolate: boolean
}

export function ownedBy(attachment: Attachment, spec: OwnedSpec): Owned {
  const { addresses, accept, admin, ingress } = spec
  const isolated = ingress?.policy === 'isolated'
  const policy =
    ingress && spec.keepsPolicy
      ? ingressPolicy({ bridge: ingress.bridge, addresses, isolated })
      : { elements: [], shared: [] }
  return {
    owner: ownerOf(attachment),
    elements: [
      ...(accept ? forwarded(addresses) : []),
      ...policy.elements,
      ...(isolated && spec.isolate && ingress.port !== undefined ? isolatePort(ingress.port) : []),
    ],
    shared: policy.shared,
    overrides: accept ? familiesOf(addresses).map(family => ({ family, name: admin })) : [],
  }
}

/** Containers whose packets, and the answers to them, are forwarded. */
export function forwarded(addresses: readonly string[]): Element[] {
  return addresses.map(address => ({ family: tableFamilyOf(address), kind: 'forwarded', key: [address] }))
}

export interface IngressPolicy {
  /** The link that containers are reached over: a bridge, or a host end that is on none. */
  bridge: string
  addresses: readonly string[]
  isolated: boolean
}

/** Containers that other bridges with a policy do not reach; when isolated, their own neighbours neither. */
export function ingressPolicy({ bridge, addresses, isolated }: IngressPolicy): {
  elements: Element[]
  shared: Element[]
} {
  const kinds = isolated ? (['policy-member', 'isolated'] as const) : (['policy-member'] as const)
  return {
    elements: kinds.flatMap(kind =>
      addresses.map<Element>(address => ({ family: tableFamilyOf(address), kind, key: [bridge, address] })),
    ),
    shared: familiesOf(addresses).flatMap<Element>(family => [
      { family, kind: 'policy-bridge', key: [bridge] },
      { family, kind: 'policy-inside', key: [bridge, bridge] },
    ]),
  }
}

/** A bridge's port (by name) between which and the other ports no frame goes. */
export function isolatePort(port: string): Element[] {
  return [{ family: 'bridge', kind: 'isolated-port', key: [port] }]
}
