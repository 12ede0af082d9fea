/** firewall's configuration. */
import * as z from 'zod/mini'

const ADMIN_CHAIN = 'CNI-ADMIN'
const ZONE = 'trusted'

/** Chains that have a meaning of their own, in our tables or in iptables: an administrator's cannot be one of them. */
const taken =
  /^(prerouting|input|forward|output|postrouting|published|translate|guard|overrides|conditions-.*|CNI-FORWARD|CNI-ISOLATION-STAGE-[12])$/i

/** What iptables takes as the name of a chain; over netlink nf_tables takes it as well. */
const chainName = z.string().check(
  z.refine(
    name => /^((?![!-])[\x21-\x7e]{1,28})?$/.test(name),
    'must be the name of a chain: 28 printable characters of ASCII at most, not beginning with ! or -',
  ),
  z.refine(name => !taken.test(name), 'must not be a chain that has another meaning'),
)

const policies = ['', 'open', 'same-bridge', 'isolated'] as const

export const configuration = z.object({
  /** One that is not known is none, as for the Go plugin: see `namedBackend`. */
  backend: z._default(z.string(), ''),
  iptablesAdminChainName: z._default(chainName, ADMIN_CHAIN),
  firewalldZone: z._default(z.string(), ZONE),
  ingressPolicy: z._default(
    z.custom<(typeof policies)[number]>(name => (policies as readonly unknown[]).includes(name), {
      error: ({ input }) =>
        `unknown ingress policy: ${JSON.stringify(input)}, must be open, same-bridge or isolated`,
    }),
    '',
  ),
})

export type FirewallConfiguration = z.infer<typeof configuration>

/** What packets are accepted by, where the configuration says so. */
export function namedBackend({ backend }: FirewallConfiguration): 'iptables' | 'nftables' | 'firewalld' | '' {
  return backend === 'iptables' || backend === 'nftables' || backend === 'firewalld' ? backend : ''
}

/** The chain that an administrator fills; an empty name is none given. */
export const adminChain = ({ iptablesAdminChainName }: FirewallConfiguration) =>
  iptablesAdminChainName || ADMIN_CHAIN

export const zoneOf = ({ firewalldZone }: FirewallConfiguration) => firewalldZone || ZONE

export type Policy = 'same-bridge' | 'isolated'

/** What is kept away from a container; undefined when nothing is. */
export function policyOf({ ingressPolicy }: FirewallConfiguration): Policy | undefined {
  return ingressPolicy === 'same-bridge' || ingressPolicy === 'isolated' ? ingressPolicy : undefined
}
