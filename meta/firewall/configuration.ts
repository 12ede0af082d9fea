/** firewall's configuration: what it may hold beyond the types of its keys, and what it means. */

export const ADMIN_CHAIN = 'CNI-ADMIN'
export const ZONE = 'trusted'

/** Chains that have a meaning of their own, in our tables or in iptables: an administrator's cannot be one of them. */
const taken =
  /^(prerouting|input|forward|output|postrouting|published|translate|guard|overrides|conditions-.*|CNI-FORWARD|CNI-ISOLATION-STAGE-[12])$/i

export const policies = ['', 'open', 'same-bridge', 'isolated'] as const

export const isFreeChainName = (name: string) => !taken.test(name)

export const isPolicyOrEmpty = (name: unknown) => (policies as readonly unknown[]).includes(name)

/** What packets are accepted by, where the configuration says so. */
export function namedBackend({ backend }: { backend: string }): 'iptables' | 'nftables' | 'firewalld' | '' {
  return backend === 'iptables' || backend === 'nftables' || backend === 'firewalld' ? backend : ''
}

/** The chain that an administrator fills; an empty name is none given. */
export const adminChain = ({ iptablesAdminChainName }: { iptablesAdminChainName: string }) =>
  iptablesAdminChainName || ADMIN_CHAIN

export const zoneOf = ({ firewalldZone }: { firewalldZone: string }) => firewalldZone || ZONE

export type Policy = 'same-bridge' | 'isolated'

/** What is kept away from a container; undefined when nothing is. */
export function policyOf({ ingressPolicy }: { ingressPolicy: string }): Policy | undefined {
  return ingressPolicy === 'same-bridge' || ingressPolicy === 'isolated' ? ingressPolicy : undefined
}
