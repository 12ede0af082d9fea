/** Lets the host route between its links. */
import { ensureSysctl } from '../linux/sysctl.ts'

/** Switches forwarding on for the families of these addresses. Stays on: others may rely on it by now. */
export function enableForwarding(addresses: readonly string[]): void {
  if (addresses.some(address => !address.includes(':'))) ensureSysctl('net/ipv4/ip_forward', '1')
  if (addresses.some(address => address.includes(':'))) ensureSysctl('net/ipv6/conf/all/forwarding', '1')
}
