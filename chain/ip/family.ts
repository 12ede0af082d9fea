/** Families of internet addresses: which one a text is of, and what the kernel, the tables of packet filters and we call it. */

export const AF_INET = 2
export const AF_INET6 = 10

/** Whether an address in text, with prefix length or without, is of IPv6. */
export function isIpv6(address: string): boolean {
  return address.includes(':')
}

/** The family of an address in text. */
export function familyOf(address: string): 4 | 6 {
  return isIpv6(address) ? 6 : 4
}

/** The same as the kernel's sockets and netlink number it. */
export function socketFamilyOf(address: string): typeof AF_INET | typeof AF_INET6 {
  return isIpv6(address) ? AF_INET6 : AF_INET
}

/** The same as the tables of packet filters are named. */
export function tableFamilyOf(address: string): 'ip' | 'ip6' {
  return isIpv6(address) ? 'ip6' : 'ip'
}

/** The number of bits of a family's addresses. */
export function widthOf(family: 4 | 6): 32 | 128 {
  return family === 4 ? 32 : 128
}
