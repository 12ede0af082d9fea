/** Which links' incoming packets are sent through which others. Changes nothing. */
import { listFilters } from '../linux/netlink/filter.ts'
import type { Link } from '../linux/netlink/link.ts'
import { handleOf } from '../linux/netlink/qdisc.ts'
import { openRoute } from '../linux/netlink/socket.ts'

/** Links that packets of others are redirected to, with those that do it. */
export function redirections(links: readonly Link[]): Map<number, number[]> {
  using route = openRoute()
  const found = new Map<number, number[]>()
  for (const { index, kind } of links) {
    if (kind !== 'veth') continue
    for (const { redirectTo } of listFilters(route, index, handleOf(0xffff)))
      if (redirectTo !== undefined) found.set(redirectTo, [...(found.get(redirectTo) ?? []), index])
  }
  return found
}
