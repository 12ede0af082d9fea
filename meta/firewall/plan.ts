/** What the firewall of one container comes to: which backends have what of it. ADD brings it about, CHECK looks for it. */
import { hasNftables } from '../../chain/linux/netlink/nftables.ts'
import type { AttachmentRequest } from '../../chain/plugin/define.ts'
import type { Owned } from '../../chain/plugin/elements.ts'
import type { Result } from '../../chain/protocol/result.ts'
import { chooseBackends } from './backends.ts'
import { adminChain, type FirewallConfiguration, zoneOf } from './configuration.ts'
import type { Sources } from './firewalld.ts'
import type { Filter, Wanted } from './iptables.ts'
import type { FirewallRecord } from './records.ts'
import { ownedBy } from './rules.ts'
import { addressesOf, familyOf, ingressOf } from './subject.ts'

export interface Plan {
  addresses: string[]
  /** In our nftables tables. */
  owned: Owned
  /** Which of iptables' filters have rules, and what is in each. */
  filters: Filter[]
  wanted: Wanted
  /** What firewalld has; absent where it has nothing. */
  sources?: Sources
  /** What is to be remembered of it; absent where nftables has all, and says itself whose it is. */
  record?: FirewallRecord
}

export async function planFirewall(
  {
    attachment,
    config,
    world,
  }: Pick<AttachmentRequest<FirewallConfiguration>, 'attachment' | 'config' | 'world'>,
  previous: Result,
): Promise<Plan> {
  const addresses = addressesOf(previous)
  const families = [...new Set(addresses.map(familyOf))]
  const ingress = ingressOf(config, previous)
  const backends = await chooseBackends(config, families, world.env)
  const admin = adminChain(config)
  // A drop is final in whichever table it is: policies are nftables' affair, but for who wants all in iptables.
  const isIptables = config.backend === 'iptables'
  const { iptables: filters, firewalld } = backends
  const zone = zoneOf(config)
  const record = {
    addresses,
    ...(firewalld ? { zone } : {}),
    ...(isIptables && ingress ? { ingress } : {}),
  }
  return {
    addresses,
    owned: ownedBy(attachment, {
      addresses,
      accept: backends.nftables,
      admin,
      ingress,
      fence: !isIptables,
      isolate: !isIptables || hasNftables(),
    }),
    filters,
    wanted: { addresses, admin, ingress: isIptables ? ingress : undefined },
    ...(firewalld ? { sources: { zone, addresses } } : {}),
    ...(firewalld || filters.length > 0 ? { record } : {}),
  }
}
