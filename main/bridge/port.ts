/** A container's port on the bridge: the bridge itself, and the veth pair whose host end is the port. */

import { bestEffort } from '../../chain/interface/configure.ts'
import { PENDING } from '../../chain/interface/create.ts'
import { prepareHostLink } from '../../chain/interface/forwarding.ts'
import { otherThan } from '../../chain/interface/owner.ts'
import { createPair } from '../../chain/interface/pair.ts'
import { awaitLink } from '../../chain/interface/ready.ts'
import { readFile } from '../../chain/linux/files.ts'
import { errno } from '../../chain/linux/libc/errno.ts'
import { type HeldNames, holdName, openNames } from '../../chain/linux/lock.ts'
import {
  changeBridgePort,
  createLink,
  findLink,
  type Link,
  listLinks,
  removeLink,
  setLink,
} from '../../chain/linux/netlink/link.ts'
import { isRefusal, type KernelError, type Transport } from '../../chain/linux/netlink/socket.ts'
import { ensureSysctl } from '../../chain/linux/sysctl.ts'
import type { Attachment } from '../../chain/plugin/define.ts'
import { hostEndName, readableOwner } from '../../chain/plugin/owner.ts'
import { type Keep, reversible, type Undo } from '../../chain/plugin/undo.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import { cannotFilter } from './vlan.ts'

/**
 * The bridge's own hardware address, from node and name: without one of its own a bridge takes its lowest port's, and
 * every container that comes or goes could change it under its neighbours' ARP tables.
 */
function bridgeAddress(name: string): string {
  const node = readFile('/etc/machine-id')?.trim() || readFile('/proc/sys/kernel/hostname')?.trim() || ''
  const digest = new Bun.CryptoHasher('sha512').update(`${node} ${name}`).digest()
  const bytes = [((digest[0] ?? 0) & 0xfc) | 2, ...digest.subarray(1, 6)] // locally administered, unicast
  return bytes.map(byte => byte.toString(16).padStart(2, '0')).join(':')
}

export interface BridgeSpec {
  name: string
  mtu: number
  promiscuous: boolean
  vlanFiltering: boolean
}

/**
 * Finds the bridge or creates it, up. One that is there keeps its MTU and its addresses. Another container may join one that
 * is created here: undoing takes it away only if none did.
 */
export function ensureBridge(
  host: Transport,
  { undo, keep }: { undo: Undo; keep: Keep },
  spec: BridgeSpec,
): { bridge: Link; created: boolean } {
  const existing = findLink(host, spec.name)
  if (existing) return { bridge: adoptBridge(host, existing, spec), created: false }
  const names = keep(openNames()) // undoing may have to do without new descriptors
  try {
    reversible(undo, `delete bridge ${spec.name}`, {
      forth: () => createBridge(host, spec),
      back: () => removeIfUnused(host, spec.name, names),
    })
  } catch (thrown) {
    if (spec.vlanFiltering && isRefusal(thrown, errno.EOPNOTSUPP)) throw cannotFilter(spec.name)
    if (!isRefusal(thrown, errno.EEXIST)) throw thrown // another ADD made it meanwhile
    return ensureBridge(host, { undo, keep }, spec)
  }
  prepareHostLink(spec.name)
  const bridge = findLink(host, spec.name)
  if (!bridge) throw new CniError(code.internal, `bridge ${spec.name} vanished after it was created`)
  return { bridge, created: true }
}

function createBridge(host: Transport, spec: BridgeSpec): void {
  createLink(host, {
    name: spec.name,
    kind: { type: 'bridge', ...(spec.vlanFiltering ? { vlanFiltering: true } : {}) },
    address: bridgeAddress(spec.name),
    up: true,
    ...(spec.mtu > 0 ? { mtu: spec.mtu } : {}),
    ...(spec.promiscuous ? { promiscuous: true } : {}),
  })
}

/** Refuses a link of another kind that has the bridge's name. */
export function requireBridge({ kind, name }: Link): void {
  if (kind === 'bridge') return
  throw new CniError(
    code.internal,
    `failed to create bridge "${name}": "${name}" already exists but is not a bridge`,
    {
      details: `it is a ${kind ?? 'device'}; name another bridge in the configuration, or rename the link`,
    },
  )
}

function adoptBridge(host: Transport, bridge: Link, { promiscuous }: BridgeSpec): Link {
  requireBridge(bridge)
  const address = addressToKeep(bridge)
  const wished = {
    ...(bridge.up ? {} : { up: true }),
    ...(promiscuous && !bridge.promiscuous ? { promiscuous } : {}),
    ...(address === undefined ? {} : { address }),
  }
  if (Object.keys(wished).length > 0) setLink(host, bridge.index, wished)
  return address === undefined ? bridge : { ...bridge, address }
}

const CHOSEN_BY_SOMEBODY = '3' // NET_ADDR_SET
const NONE = '00:00:00:00:00:00' // of a bridge whose last port has gone

/**
 * A bridge whose hardware address was never set takes its lowest port's: one that comes with a container would leave the
 * neighbours with a dead one. So it is set to what it is, before there is a port; undefined where somebody has done that.
 */
function addressToKeep({ name, address }: Link): string | undefined {
  if (readFile(`/sys/class/net/${name}/addr_assign_type`)?.trim() === CHOSEN_BY_SOMEBODY) return undefined
  return address === NONE ? bridgeAddress(name) : address
}

export interface PortSpec {
  attachment: Attachment
  netns: string
  bridge: Link
  mtu: number
  mac: string | undefined
  hairpin: boolean
  isolated: boolean
}

/** Creates the pair, its host's end on the bridge with its port settings. */
export function createPort(host: Transport, undo: Undo, spec: PortSpec): Link {
  const { attachment, bridge, hairpin, isolated } = spec
  const name = hostEndName(attachment)
  // First: creation can end half done, or without a word of how it ended.
  undo(`delete ${name}`, () => removeOwn(host, attachment))
  const port = createPair(host, {
    ...spec,
    master: bridge.index,
    settings: [changeBridgePort(name, { hairpin, isolated })],
    explain: refusal => refusedPair(refusal, attachment, name),
  })
  bestEffort(() => ensureSysctl(`net/ipv6/conf/${name}/accept_ra`, '0'))
  return port
}

/** Whoever was here before, under another owner's alias, stays. */
function removeOwn(host: Transport, attachment: Attachment): 'removed' | 'absent' {
  const link = findLink(host, hostEndName(attachment))
  return link && otherThan(attachment, link.alias) === undefined ? removeLink(host, link.index) : 'absent'
}

function refusedPair(refusal: KernelError, attachment: Attachment, host: string): CniError {
  if (refusal.errno === errno.EEXIST) return occupied(attachment, { name: host }, refusal)
  const message = `failed to make veth pair: create veth pair ${attachment.ifname} – ${host}: ${refusal.said ?? refusal.message}`
  return new CniError(code.internal, message, { details: refusal.message, cause: refusal })
}

function occupied(
  attachment: Attachment,
  { name, alias }: Pick<Link, 'name' | 'alias'>,
  cause?: KernelError,
): CniError {
  const message = `container veth name ("${attachment.ifname}") peer provided ("${name}") already exists`
  const other = otherThan(attachment, alias)
  return new CniError(code.internal, message, {
    details: other
      ? `${name} belongs to another attachment (${readableOwner(other)})`
      : 'the interface is in use: a second ADD for a live attachment, or another network',
    cause,
  })
}

/**
 * Deletes what an earlier ADD of the same attachment left when it was killed; one of an older version shows by having no alias,
 * which is given last. A finished one is refused before anything of it is touched.
 */
export function removeHalfDone(host: Transport, attachment: Attachment): 'removed' | 'absent' {
  const left = findLink(host, hostEndName(attachment))
  if (!left) return 'absent'
  if (left.group !== PENDING && left.alias) throw occupied(attachment, left)
  return removeLink(host, left.index)
}

const FORWARDING = 3 // BR_STATE_FORWARDING
const isForwarding = (link: Link) => link.state === 'up' && link.port?.state === FORWARDING

/**
 * Waits until the port carries frames, and the bridge with it; answers the bridge as it is then. Spanning tree may take longer:
 * an up link is enough then.
 */
export function awaitPort(
  host: Transport,
  { port: index, bridge }: { port: number; bridge: number },
): Link | undefined {
  const port = awaitLink(host, index, isForwarding)
  if (port?.state === 'up') return isForwarding(port) ? awaitLink(host, bridge) : findLink(host, bridge)
  throw new CniError(code.internal, `bridge port in error state: ${port?.state ?? 'gone'}`, {
    details: `${port?.name ?? `link ${index}`} has no carrier: is the container's end up?`,
  })
}

/** True when nothing is on the bridge, but for one port that does not count. */
export function isUnused(host: Transport, bridge: Link, except?: number): boolean {
  return listLinks(host, { master: bridge.index }).every(({ index }) => index === except)
}

/** Keeps a bridge from being taken away by the ADD that made it: from before it is looked for until something is on it. */
export function keepBridge(bridge: string): HeldNames | Promise<HeldNames> {
  const names = openNames()
  const name = `bridge ${bridge}`
  const shared = { shared: true }
  return names.tryHold(name, shared) ? names : holdName(name, shared, names)
}

/** Deletes a bridge that nothing is on, and that no port is about to join. */
async function removeIfUnused(
  host: Transport,
  name: string,
  names: HeldNames,
): Promise<'removed' | 'absent'> {
  await names.hold(`bridge ${name}`)
  const bridge = findLink(host, name)
  return bridge && isUnused(host, bridge) ? removeLink(host, bridge.index) : 'absent'
}
