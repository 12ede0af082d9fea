/** What the host has to let through for published ports, besides the rules. */
import { errno } from '../../chain/linux/libc/errno.ts'
import { changeBridgePort, findLink } from '../../chain/linux/netlink/link.ts'
import { routeTo } from '../../chain/linux/netlink/route.ts'
import { isRefusal, openRoute, request } from '../../chain/linux/netlink/socket.ts'
import { type Keep, reversible, type Undo } from '../../chain/plugin/undo.ts'
import type { Result } from '../../chain/protocol/result.ts'
import type { Target } from './target.ts'

/** The link towards the container: the host's 127.0.0.1 reaches it only if that link lets loopback addresses through. */
export function linkToContainer(targets: readonly Target[]): string | undefined {
  const target = targets.find(({ family }) => family === 4)
  if (!target) return undefined
  using host = openRoute()
  try {
    const { link } = routeTo(host, target.address)
    return link === undefined ? undefined : findLink(host, link)?.name
  } catch (thrown) {
    if (isRefusal(thrown, errno.ENETUNREACH, errno.EHOSTUNREACH)) return undefined
    throw thrown
  }
}

/**
 * With br_netfilter, a container's connection to its own published port is translated inside the bridge and has to leave
 * through the port that it came in by: a bridge lets only hairpin ports do that.
 */
export function enableHairpin({ interfaces }: Result, { undo, keep }: { undo: Undo; keep: Keep }): void {
  const host = keep(openRoute())
  for (const { name, sandbox } of interfaces) {
    const link = sandbox ? undefined : findLink(host, name)
    if (!link?.port || link.port.hairpin) continue
    const set = (hairpin: boolean) => request(host, changeBridgePort(link.index, { hairpin }))
    reversible(undo, `take hairpin mode from ${name}`, {
      forth: () => set(true),
      back: () => findLink(host, link.index) && set(false),
    })
  }
}
