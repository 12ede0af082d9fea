/**
 * What the Go reference plugins leave for an attachment in nf_tables, found and taken away: their nftables tables, and their
 * iptables chains where iptables is the one that writes to nf_tables. A node can so be taken over while it runs.
 */
import { listChains, listRules } from '../linux/netlink/nftables.ts'
import type { Transport } from '../linux/netlink/socket.ts'
import type { Command, Family } from '../linux/nft.ts'
import type { Attachment } from './define.ts'
import { ownerOf } from './owner.ts'

interface Where {
  family: Family
  table: string
}

function deleteRule({ family, table }: Where, chain: string, handle: number): Command {
  return { delete: { rule: { family, table, chain, handle } } }
}

/** Deletes the rules of some chains that a test picks. */
function deleteRules(
  netfilter: Transport,
  where: Where,
  { chains, picked }: { chains: readonly string[]; picked: (comment: string) => boolean },
): Command[] {
  return listRules(netfilter, where.family, where.table)
    .filter(({ chain, comment }) => chains.includes(chain) && picked(comment))
    .map(({ chain, handle }) => deleteRule(where, chain, handle))
}

/** SHA-512 in hexadecimal behind a prefix, cut to a length: how the reference names chains. */
export function hashedName(prefix: string, length: number, text: string): string {
  const digest = new Bun.CryptoHasher('sha512').update(text).digest('hex')
  return `${prefix}${digest}`.slice(0, length)
}

const CHAIN_LENGTH = 28 // what iptables takes

/** A chain of the table `nat` with whatever jumps to it. */
function deleteChain(netfilter: Transport, name: string): Command[] {
  return (['ip', 'ip6'] as const).flatMap(family => {
    const chains = listChains(netfilter, family)
    if (!chains.some(chain => chain.table === 'nat' && chain.name === name)) return []
    const where = { family, table: 'nat' }
    const jumps = listRules(netfilter, family, 'nat').filter(({ targets }) => targets.includes(name))
    return [
      ...jumps.map(({ chain, handle }) => deleteRule(where, chain, handle)),
      { flush: { chain: { ...where, name } } },
      { delete: { chain: { ...where, name } } },
    ] satisfies Command[]
  })
}

/** Masquerade of bridge and ptp, of both backends. */
export function legacyMasquerade(attachment: Attachment): (netfilter: Transport) => Command[] {
  const { id } = ownerOf(attachment) // their comments begin with the same two hashes
  const chain = hashedName('CNI-', CHAIN_LENGTH, attachment.network + attachment.containerId)
  return netfilter => [
    ...deleteRules(
      netfilter,
      { family: 'inet', table: 'cni_plugins_masquerade' },
      { chains: ['masq_checks'], picked: comment => comment.startsWith(id) },
    ),
    ...deleteChain(netfilter, chain),
  ]
}

/** Published ports, of both backends. Theirs carry the container's ID alone. */
export function legacyPorts(attachment: Attachment): (netfilter: Transport) => Command[] {
  const { network, containerId } = attachment
  return netfilter => [
    ...(['ip', 'ip6'] as const).flatMap(family =>
      deleteRules(
        netfilter,
        { family, table: 'cni_hostport' },
        {
          chains: ['hostports', 'hostip_hostports', 'masquerading'],
          picked: comment => comment === containerId,
        },
      ),
    ),
    ...['CNI-DN-', 'CNI-SN-'].flatMap(prefix =>
      deleteChain(netfilter, hashedName(prefix, CHAIN_LENGTH, network + containerId)),
    ),
  ]
}

/** The frame filter of the reference's macspoofchk. */
export function legacySpoofCheck({
  containerId,
  interface: name,
}: Attachment): (netfilter: Transport) => Command[] {
  const reference = `${containerId}-${name}`
  const where = { family: 'bridge', table: 'nat' } as const
  const chains = [`cni-br-iface-${reference}`, `cni-br-iface-${reference}-mac`]
  return netfilter => {
    const present = listChains(netfilter, 'bridge').filter(
      chain => chain.table === 'nat' && chains.includes(chain.name),
    )
    return [
      ...deleteRules(netfilter, where, {
        chains: ['PREROUTING'],
        picked: comment => comment === `macspoofchk-${reference}`,
      }),
      ...present.map<Command>(({ name: chain }) => ({ flush: { chain: { ...where, name: chain } } })),
      ...present.map<Command>(({ name: chain }) => ({ delete: { chain: { ...where, name: chain } } })),
    ]
  }
}
