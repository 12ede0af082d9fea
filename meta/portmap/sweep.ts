/** Everything that portmap has for an attachment, of any backend, and what the Go plugin left. */

import { PORTS_PREFIX } from '../../chain/filter/iptables/chains.ts'
import { goPluginsPorts } from '../../chain/filter/nftables/go-plugins.ts'
import { sweepAttachment } from '../../chain/filter/sweep.ts'
import type { Engine } from '../../chain/linux/nftables/nft.ts'
import type { Attachment } from '../../chain/plugin/define.ts'

export const roles = ['ports'] as const

/** Its chains in iptables; the second is what releases before 0.7 had as well. */
export const chains = [PORTS_PREFIX, 'CNI-SN-'] as const

export function sweepPorts(engine: Engine, attachment: Attachment): Promise<void> {
  return sweepAttachment(engine, attachment, { roles, chains, extra: goPluginsPorts(attachment) })
}
