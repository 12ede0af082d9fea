/** What is to be drawn of a network, from the results of its attachments. Knows no terminal and asks no kernel. */

import { describeRuleBackends, type RuleBackends } from '../filter/rule-backends.ts'
import { isIpv6 } from '../ip/family.ts'
import { nameIn } from '../linux/files.ts'
import { newestVersion } from '../protocol/version.ts'
import { type CachedAttachment, parseResult, type Result } from '../runtime/network.ts'
import { containerIdFor } from './environment.ts'
import type { DrawnContainer, DrawnNetwork, DrawnPort, DrawnUplink } from './picture.ts'

/** An attachment, with what keeps its rules where that is known. */
export type Shown = CachedAttachment & { backends?: RuleBackends }

interface Placed {
  attachment: Shown
  result: Result
}

/** The picture's content; undefined for a network that has no bridge. */
export function topologyOf(
  name: string,
  attachments: readonly Shown[],
  uplinks: DrawnUplink[] = [],
): DrawnNetwork | undefined {
  const placed = attachments.flatMap(attachment => {
    const result = resultOf(attachment)
    return result ? [{ attachment, result }] : []
  })
  const bridge = placed.map(({ result }) => hostEnds(result)).find(ends => ends.length > 1)?.[0]
  if (bridge === undefined) return undefined
  return {
    name,
    uplinks,
    bridge: { name: bridge, addresses: [...new Set(placed.flatMap(({ result }) => gatewaysOf(result)))] },
    containers: placed.map(containerOf),
  }
}

/** A result of whatever version; undefined for one that cannot be read. */
export function resultOf({ result }: CachedAttachment): Result | undefined {
  if (!result) return undefined
  try {
    return parseResult(result, typeof result.cniVersion === 'string' ? result.cniVersion : newestVersion)
  } catch {
    return undefined
  }
}

/** Names of the interfaces on the host: a bridge comes before the port that belongs to the container. */
function hostEnds({ interfaces }: Result): string[] {
  return interfaces.filter(({ sandbox }) => !sandbox).map(({ name }) => name)
}

/** "10.22.0.1/16": the gateways, with the length of the prefix that they are in. */
function gatewaysOf({ ips }: Result): string[] {
  return ips.flatMap(({ address, gateway }) => (gateway ? [`${gateway}/${address.split('/')[1]}`] : []))
}

function containerOf({ attachment, result }: Placed): DrawnContainer {
  const kept = describeRuleBackends(attachment.backends ?? {})
  return {
    name: nameOf(attachment),
    ifname: attachment.ifname,
    hostEnd: hostEnds(result)[1] ?? '',
    addresses: result.ips.map(({ address }) => address),
    ports: portsOf(attachment.capabilityArgs?.portMappings),
    ...(kept === undefined ? {} : { kept }),
  }
}

/** An ID that was derived from the namespace's path says less than the path's last part. */
function nameOf({ containerId, netns = '' }: CachedAttachment): string {
  const name = nameIn(netns)
  return name && containerId === containerIdFor(netns) ? name : containerId
}

/** Published ports as a runtime gave them: it has been held against portmap's schema at ADD. */
function portsOf(mappings: unknown): DrawnPort[] {
  if (!Array.isArray(mappings)) return []
  return (mappings as Partial<Record<string, unknown>>[]).map(mapping => {
    const address = String(mapping.hostIP ?? mapping.HostIP ?? '')
    const port = String(mapping.hostPort ?? mapping.HostPort ?? '')
    return {
      host: address ? `${isIpv6(address) ? `[${address}]` : address}:${port}` : port,
      container: Number(mapping.containerPort ?? mapping.ContainerPort ?? 0),
      protocol: String(mapping.protocol ?? mapping.Protocol ?? 'tcp').toLowerCase(),
    }
  })
}
