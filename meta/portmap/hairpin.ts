/** What a bridge has to let through, besides the rules, for a container's connections to its own published ports. */
import { changeBridgePort, findLink } from '../../chain/linux/netlink/link.ts'
import { openRoute, request } from '../../chain/linux/netlink/socket.ts'
import { type Keep, reversible, type Undo } from '../../chain/plugin/undo.ts'
import type { Result } from '../../chain/protocol/result.ts'

/**
 * With br_netfilter, a container's connection to its own published port is translated inside the bridge and has to leave
 * through the port that it came in by: a bridge lets only hairpin ports do that.
 */
export function enableHairpin({ interfaces }: Result, { undo, keep }: { undo: Undo; keep: Keep }): void {
  const host = keep(openRoute())
  for (const { name, sandbox } of interfaces) {
    const link = sandbox ? undefined : findLink(host, name)
    if (!link?.port || link.port.hairpin) continue
    const change = (settings: { hairpin: boolean }) => request(host, changeBridgePort(link.index, settings))
    reversible(undo, `take hairpin mode from ${name}`, {
      forth: () => change({ hairpin: true }),
      back: () => findLink(host, link.index) && change({ hairpin: false }),
    })
  }
}
