/** What the firewall of one container comes to: which backends have what of it. ADD brings it about, CHECK looks for it. */

import type { Backend } from '../../chain/filter/backend.ts'
import { addOwned } from '../../chain/filter/nftables/apply.ts'
import type { Owned } from '../../chain/filter/nftables/elements.ts'
import { missingOwned } from '../../chain/filter/nftables/missing.ts'
import { sweepElements } from '../../chain/filter/sweep.ts'
import { hasNftables } from '../../chain/linux/nftables/list.ts'
import type { AttachmentRequest } from '../../chain/plugin/define.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import type { Result } from '../../chain/protocol/result.ts'
import { preparedChain, wayTo } from './admin-chain.ts'
import type { Choice } from './backends.ts'
import { adminChain, zoneOf } from './configuration.ts'
import * as firewalld from './firewalld.ts'
import { addressesOf, ingressOf } from './ingress.ts'
import { rulesIn } from './iptables.ts'
import { type FirewallRecord, recall, remember } from './records.ts'
import { release } from './release.ts'
import { ownedBy, roles } from './rules.ts'
import type { FirewallConfiguration } from './schema.ts'

type Request = Pick<AttachmentRequest<FirewallConfiguration>, 'attachment' | 'config' | 'engine' | 'io'>

/** A container's firewall as one backend: what each of those that were chosen has of it. */
export function firewallBy(request: Request, way: { previous: Result; choice: Choice }): Backend {
  const { attachment, engine, io } = request
  const { id } = ownerOf(attachment)
  const { owned, parts, record } = planFirewall(request, way)
  const sweep = async () => void (await sweepElements(engine, { roles, isOwner: owner => owner === id }))
  return {
    async add(undo) {
      const earlier = recall(id)
      if (earlier) await release(io.env, id, earlier) // a killed ADD's, perhaps of other addresses
      if (record) {
        undo('release the addresses', () => release(io.env, id, record))
        remember(id, record)
      }
      if (owned.elements.length > 0) {
        undo('delete the rules', sweep)
        await addOwned(engine, owned)
      }
      for (const part of parts) await part.add()
    },
    async check() {
      const found = await Promise.all(parts.map(part => part.check()))
      const missing = [...missingOwned(owned), ...found].filter(each => each !== undefined)
      return missing.length === 0 ? undefined : missing.join('; ')
    },
    remove: sweep,
  }
}

/** What is not in our tables, and goes by the record. */
interface Part {
  add(): Promise<void>
  check(): Promise<string | undefined> | string | undefined
}

interface Plan {
  /** In our nftables tables. */
  owned: Owned
  /** In iptables and in firewalld. */
  parts: Part[]
  /** What is to be remembered of it; absent where nftables has all, and says itself whose it is. */
  record?: FirewallRecord
}

/** What a choice comes to, for who brings it about. */
export function planFirewall(
  { attachment, config, engine, io }: Request,
  { previous, choice }: { previous: Result; choice: Choice },
): Plan {
  const { backend, accepting: filters, obeyed, prepared } = choice
  const addresses = addressesOf(previous)
  const ingress = ingressOf(config, previous)
  const admin = adminChain(config)
  // A drop is final in whichever table it is: policies are nftables' affair, but for who wants all in iptables.
  const isIptables = backend === 'iptables'
  const sources = backend === 'firewalld' ? { zone: zoneOf(config), addresses } : undefined
  const spec = { addresses, admin, ingress: isIptables ? ingress : undefined }
  const record = {
    addresses,
    backend,
    filters,
    ...(sources ? { zone: sources.zone } : {}),
    ...(isIptables && ingress ? { ingress } : {}),
  }
  return {
    owned: ownedBy(attachment, {
      addresses,
      accept: backend === 'nftables',
      admin,
      ingress,
      keepsPolicy: !isIptables,
      isolate: !isIptables || hasNftables(),
    }),
    parts: [
      ...filters.map(filter => rulesIn(filter, spec)),
      ...obeyed.map(filter => wayTo(admin, filter, engine)),
      ...prepared.map(filter => preparedChain(admin, filter)),
      ...(sources ? [firewalld.sourcesIn(io.env, sources)] : []),
    ],
    ...(sources || filters.length > 0 ? { record } : {}),
  }
}
