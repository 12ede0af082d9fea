/** firewall's configuration. */
import * as z from 'zod/mini'

const ADMIN_CHAIN = 'CNI-ADMIN'
const ZONE = 'trusted'

/** Chains that have a meaning of their own, in our tables or in iptables: an administrator's cannot be one of them. */
const taken =
  /^(prerouting|input|forward|output|postrouting|published|translate|guard|overrides|conditions-.*|CNI-FORWARD|CNI-ISOLATION-STAGE-[12])$/i

/** What both nft and iptables take as the name of a chain; iptables' limit is 28 bytes. */
const chainName = z.string().check(
  z.refine(
    name => /^([A-Za-z][\w./-]{0,27})?$/.test(name),
    'must be the name of a chain: a letter, then letters, digits and any of _ . / -, at most 28',
  ),
  z.refine(name => !taken.test(name), 'must not be a chain that has another meaning'),
)

export const configuration = z.object({
  /** Silent: firewalld where it runs, else nftables; and iptables as well, where its rules would stand in the way. */
  backend: z._default(z.enum(['', 'iptables', 'nftables', 'firewalld']), ''),
  iptablesAdminChainName: z._default(chainName, ADMIN_CHAIN),
  firewalldZone: z._default(z.string(), ZONE),
  ingressPolicy: z._default(z.enum(['', 'open', 'same-bridge', 'isolated']), ''),
})

export type FirewallConfiguration = z.infer<typeof configuration>

/** The chain that an administrator fills; an empty name is none given. */
export const adminChain = ({ iptablesAdminChainName }: FirewallConfiguration) =>
  iptablesAdminChainName || ADMIN_CHAIN

export const zoneOf = ({ firewalldZone }: FirewallConfiguration) => firewalldZone || ZONE

export type Policy = 'same-bridge' | 'isolated'

/** What is kept away from a container; undefined when nothing is. */
export function policyOf({ ingressPolicy }: FirewallConfiguration): Policy | undefined {
  return ingressPolicy === 'same-bridge' || ingressPolicy === 'isolated' ? ingressPolicy : undefined
}
