/** What the firewall of one container comes to: which backends have what of it. ADD brings it about, CHECK looks for it. */

import type { Owned } from '../../chain/filter/nftables/elements.ts'
import { hasNftables } from '../../chain/linux/nftables/list.ts'
import type { AttachmentRequest } from '../../chain/plugin/define.ts'
import type { Result } from '../../chain/protocol/result.ts'
import type { Choice } from './backends.ts'
import { adminChain, type FirewallConfiguration, zoneOf } from './configuration.ts'
import type { Sources } from './firewalld.ts'
import { addressesOf, ingressOf } from './ingress.ts'
import type { FilterSpec } from './iptables.ts'
import type { Filter, FirewallRecord } from './records.ts'
import { ownedBy } from './rules.ts'

export interface Plan {
  addresses: string[]
  /** In our nftables tables. */
  owned: Owned
  /** Which of iptables' filters have rules, and what is in each. */
  filters: Filter[]
  wanted: FilterSpec
  /** What firewalld has; absent where it has nothing. */
  sources?: Sources
  /** What is to be remembered of it; absent where nftables has all, and says itself whose it is. */
  record?: FirewallRecord
}

export function planFirewall(
  { attachment, config }: Pick<AttachmentRequest<FirewallConfiguration>, 'attachment' | 'config'>,
  { previous, choice }: { previous: Result; choice: Choice },
): Plan {
  const { backend, accepting: filters } = choice
  const addresses = addressesOf(previous)
  const ingress = ingressOf(config, previous)
  const admin = adminChain(config)
  // A drop is final in whichever table it is: policies are nftables' affair, but for who wants all in iptables.
  const isIptables = backend === 'iptables'
  const firewalld = backend === 'firewalld'
  const zone = zoneOf(config)
  const record = {
    addresses,
    backend,
    filters,
    ...(firewalld ? { zone } : {}),
    ...(isIptables && ingress ? { ingress } : {}),
  }
  return {
    addresses,
    owned: ownedBy(attachment, {
      addresses,
      accept: backend === 'nftables',
      admin,
      ingress,
      keepsPolicy: !isIptables,
      isolate: !isIptables || hasNftables(),
    }),
    filters,
    wanted: { addresses, admin, ingress: isIptables ? ingress : undefined },
    ...(firewalld ? { sources: { zone, addresses } } : {}),
    ...(firewalld || filters.length > 0 ? { record } : {}),
  }
}
