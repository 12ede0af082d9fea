/** VLANs on the bridge: which a port carries, and the interface through which the host is a VLAN's gateway. */
import { errno } from '../../chain/linux/libc/errno.ts'
import { addVlans, listVlans, type PortVlan, removeVlans } from '../../chain/linux/netlink/bridge-vlan.ts'
import {
  createLink,
  findLink,
  type Link,
  type NewLink,
  removeLink,
  setLink,
} from '../../chain/linux/netlink/link.ts'
import { batch, isRefusal, type Transport } from '../../chain/linux/netlink/socket.ts'
import { reversible, type Undo } from '../../chain/plugin/undo.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import type { BridgeConfiguration } from './schema.ts'

type VlanKeys = Pick<BridgeConfiguration, 'vlan' | 'vlanTrunk' | 'preserveDefaultVlan'>

/** True when the configuration names VLANs: the bridge must filter them then. */
export function wantsFiltering(keys: VlanKeys): boolean {
  return portVlans(keys).length > 0
}

/** Refuses a bridge that lets every VLAN through though the configuration speaks of them. */
export function requireFiltering(bridge: Link, { created }: { created: boolean }): void {
  if (bridge.data.vlanFiltering) return
  if (created) throw cannotFilter(bridge.name)
  throw new CniError(code.internal, `vlan: bridge ${bridge.name} exists without VLAN filtering`, {
    details: `switch it on with \`ip link set ${bridge.name} type bridge vlan_filtering 1\`: that changes what its other ports see`,
  })
}

/** For a kernel that refuses a bridge that is to filter, or ignores it. */
export function cannotFilter(bridge: string): CniError {
  return new CniError(code.internal, `vlan: bridge ${bridge} cannot filter VLANs`, {
    details: 'the kernel was built without CONFIG_BRIDGE_VLAN_FILTERING',
  })
}

/** VLAN 1: what is untagged on a trunk without a native VLAN of its own. */
const DEFAULT_VLAN = 1

/** What a port is to carry, sorted, each once: the access VLAN or a trunk's native one untagged, the trunk tagged. */
export function portVlans({ vlan, vlanTrunk = [] }: VlanKeys): PortVlan[] {
  const trunk = vlanTrunk.flatMap(({ id, minID, maxID }) => [
    ...(id === undefined ? [] : [id]),
    ...(minID === undefined || maxID === undefined ? [] : rangeOf(minID, maxID)),
  ])
  if (vlan === 0 && trunk.length === 0) return []
  const native = vlan === 0 ? DEFAULT_VLAN : vlan
  return [...new Set([native, ...trunk])]
    .sort((one, other) => one - other)
    .map(id => ({ id, native: id === native, untagged: id === native }))
}

function rangeOf(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, step) => first + step)
}

/** Gives a port its VLANs; what it had from the bridge goes, unless it is to be preserved. */
export function setPortVlans(host: Transport, port: Link, keys: VlanKeys): void {
  const vlans = portVlans(keys)
  if (vlans.length === 0) return
  const ids = new Set(vlans.map(({ id }) => id))
  const given = keys.preserveDefaultVlan ? [] : vlansOf(host, port).filter(({ id }) => !ids.has(id))
  batch(host, [...(given.length > 0 ? [removeVlans(port.index, given)] : []), addVlans(port.index, vlans)])
}

function vlansOf(host: Transport, port: Link): PortVlan[] {
  return listVlans(host, ({ link }) => link === port.index)[0]?.vlans ?? []
}

/** VLANs that a port does not carry as it should, as sentences. */
export function missingVlans(host: Transport, port: Link, keys: VlanKeys): string[] {
  const vlans = portVlans(keys)
  if (vlans.length === 0) return []
  const present = new Map(vlansOf(host, port).map(vlan => [vlan.id, vlan]))
  return vlans.flatMap(vlan => {
    const found = present.get(vlan.id)
    if (!found) return [`VLAN ${vlan.id} is missing on ${port.name}`]
    if (found.native === vlan.native && found.untagged === vlan.untagged) return []
    return [`VLAN ${vlan.id} on ${port.name} is ${kindOf(found)}, not ${kindOf(vlan)}`]
  })
}

const kindOf = ({ native, untagged }: PortVlan) =>
  [native ? 'native' : '', untagged ? 'untagged' : 'tagged'].filter(Boolean).join(' and ')

/** The interface of the host that is in a VLAN of the bridge: "cni0.5". */
export function gatewayName(bridge: string, vlan: number): string {
  return `${bridge}.${vlan}`
}

function peerName(name: string): string {
  return `veth${new Bun.CryptoHasher('sha512').update(name).digest('hex').slice(0, 8)}`
}

const NAME_LENGTH = 15 // IFNAMSIZ without the terminating zero

export interface GatewaySpec {
  bridge: Link
  vlan: number
  /** No other port needs the gateway: undoing may take it away. */
  isUnused(gateway: Link): boolean
}

/**
 * Finds or creates the host's interface in a VLAN: one end of a veth pair whose other end is a port of the bridge with that
 * VLAN alone. Two ADDs at once make one; what a killed one left unfinished is completed.
 */
export function ensureGatewayLink(host: Transport, undo: Undo, gateway: GatewaySpec): Link {
  const { bridge, vlan } = gateway
  const name = gatewayName(bridge.name, vlan)
  if (name.length > NAME_LENGTH) {
    throw new CniError(code.invalidConfiguration, `bridge: ${bridge.name} is too long for VLAN ${vlan}`, {
      details: `its gateway would be the interface ${name}, and names have at most ${NAME_LENGTH} characters`,
    })
  }
  createIfAbsent(host, undo, { ...gateway, name })
  return completeGatewayLink(host, { bridge, vlan, name })
}

function completeGatewayLink(
  host: Transport,
  { bridge, vlan, name }: { bridge: Link; vlan: number; name: string },
): Link {
  const link = findLink(host, name)
  const peer = link?.parent === undefined ? undefined : findLink(host, link.parent)
  if (!link || peer?.master !== bridge.index) {
    throw new CniError(code.internal, `${name} exists and does not lead to bridge ${bridge.name}`, {
      details: `it is a ${link?.kind ?? 'device'}; the gateway of VLAN ${vlan} needs that name: delete or rename it`,
    })
  }
  const keys = { vlan, vlanTrunk: undefined, preserveDefaultVlan: false }
  if (missingVlans(host, peer, keys).length > 0) setPortVlans(host, peer, keys)
  if (!link.up) setLink(host, link.index, { up: true }) // a veth's peer cannot be up from the start
  return link
}

function createIfAbsent(
  host: Transport,
  undo: Undo,
  { bridge, name, isUnused }: GatewaySpec & { name: string },
): void {
  if (findLink(host, name)) return
  const pair: NewLink = {
    name: peerName(name),
    kind: { type: 'veth', peer: { name, mtu: bridge.mtu } },
    master: bridge.index,
    mtu: bridge.mtu,
    up: true,
  }
  try {
    reversible(undo, `delete ${name}`, {
      forth: () => createLink(host, pair),
      back: () => {
        const link = findLink(host, name)
        return link && isUnused(link) && removeLink(host, link.index)
      },
    })
  } catch (thrown) {
    if (!isRefusal(thrown, errno.EEXIST)) throw thrown // another container's ADD was quicker
  }
}

/** True when no other port than the given ones is in the VLAN natively: no other port needs its gateway. */
export function isVlanUnused(
  host: Transport,
  bridge: Link,
  { vlan, except }: { vlan: number; except: readonly (number | undefined)[] },
): boolean {
  const others = listVlans(host, ({ link, master }) => master === bridge.index && !except.includes(link))
  return !others.some(({ vlans }) => vlans.some(({ id, native }) => native && id === vlan))
}
