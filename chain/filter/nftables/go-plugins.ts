/**
 * What the Go plugins leave for an attachment in their nftables tables, found and taken away: a node can so be
 * taken over while it runs. Their iptables chains are iptables.ts' and sweep.ts' affair, for ours have the same names.
 */

import type { Transport } from '../../linux/netlink/socket.ts'
import { listChains, listRules } from '../../linux/nftables/list.ts'
import type { Command, Family } from '../../linux/nftables/nft.ts'
import type { Attachment } from '../../plugin/define.ts'
import { ownerIn } from '../../plugin/owner.ts'

interface Where {
  family: Family
  table: string
}

function deleteRule({ family, table }: Where, chain: string, handle: number): Command {
  return { verb: 'delete', kind: 'rule', family, table, chain, handle }
}

/** Deletes the rules of some chains that a test picks. */
function deleteRules(
  netfilter: Transport,
  where: Where,
  { chains, picked }: { chains: readonly string[]; picked: (comment: string) => boolean },
): Command[] {
  return listRules(netfilter, where)
    .filter(({ chain, comment }) => chains.includes(chain) && picked(comment))
    .map(({ chain, handle }) => deleteRule(where, chain, handle))
}

/** Masquerade of bridge and ptp, of the owners that a test picks: their comments begin with the same two hashes as ours. */
export function goPluginsMasquerade(
  isOwner: (owner: string) => boolean,
): (netfilter: Transport) => Command[] {
  const picked = (comment: string) => {
    const owner = ownerIn(comment)
    return owner !== undefined && isOwner(owner)
  }
  const where = { family: 'inet', table: 'cni_plugins_masquerade' } as const
  return netfilter => deleteRules(netfilter, where, { chains: ['masq_checks'], picked })
}

/** Published ports. Theirs carry the container's ID alone. */
export function goPluginsPorts({ containerId }: Attachment): (netfilter: Transport) => Command[] {
  return netfilter =>
    (['ip', 'ip6'] as const).flatMap(family =>
      deleteRules(
        netfilter,
        { family, table: 'cni_hostport' },
        {
          chains: ['hostports', 'hostip_hostports', 'masquerading'],
          picked: comment => comment === containerId,
        },
      ),
    )
}

/** The frame filter of the Go plugin's macspoofchk. */
export function goPluginsSpoofCheck({
  containerId,
  ifname: name,
}: Attachment): (netfilter: Transport) => Command[] {
  const suffix = `${containerId}-${name}`
  const where = { family: 'bridge', table: 'nat' } as const
  const chains = [`cni-br-iface-${suffix}`, `cni-br-iface-${suffix}-mac`]
  return netfilter => {
    const present = listChains(netfilter, 'bridge').filter(
      chain => chain.table === 'nat' && chains.includes(chain.name),
    )
    return [
      ...deleteRules(netfilter, where, {
        chains: ['PREROUTING'],
        picked: comment => comment === `macspoofchk-${suffix}`,
      }),
      ...present.map<Command>(({ name: chain }) => ({ verb: 'flush', kind: 'chain', ...where, name: chain })),
      ...present.map<Command>(({ name: chain }) => ({
        verb: 'delete',
        kind: 'chain',
        ...where,
        name: chain,
      })),
    ]
  }
}
