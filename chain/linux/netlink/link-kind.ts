/** What can be set on every link, and the part that belongs to its kind: IFLA_INFO_DATA for bridge, veth, macvlan, VLAN, VRF and others. */
import {
  attribute,
  attributeMap,
  attributes,
  readUint8,
  readUint16,
  readUint16Big,
  readUint32,
  uint8,
  uint16,
  uint16Big,
  uint32,
} from './codec.ts'

/** What can be set on a link, at creation or later. */
export interface LinkSettings {
  name?: string
  up?: boolean
  mtu?: number
  address?: string
  /** Index of the master; 0 takes it away. */
  master?: number
  /** Descriptor of the namespace to put the link into. */
  namespace?: number
  alias?: string
  /** Unlike an alias, it can be given at creation. */
  group?: number
  transmitQueueLength?: number
  promiscuous?: boolean
  allMulticast?: boolean
}

/** Decoded IFLA_INFO_DATA of those kinds that have any for us. */
export interface KindData {
  mode?: number
  vlan?: number
  vlanProtocol?: number
  table?: number
  vlanFiltering?: boolean
}

/** What is to be created. Numbers of modes are those of linux/if_link.h. */
export type Kind =
  | { type: 'bridge'; vlanFiltering?: boolean }
  | { type: 'veth'; peer: LinkSettings & { name: string } }
  | { type: 'macvlan'; mode: number; broadcastQueueLength?: number }
  | { type: 'ipvlan'; mode: number }
  | { type: 'vlan'; id: number }
  | { type: 'vrf'; table: number }
  | { type: 'dummy' }
  | { type: 'ifb' }

/** MACVLAN_MODE_*. */
export const macvlanModes = { private: 1, vepa: 2, bridge: 4, passthru: 8 } as const
/** IPVLAN_MODE_*. */
export const ipvlanModes = { l2: 0, l3: 1, l3s: 2 } as const

const VETH_INFO_PEER = 1
const BR_VLAN_FILTERING = 7
const MACVLAN_MODE = 1
const MACVLAN_BC_QUEUE_LEN = 7
const IPVLAN_MODE = 1
const VLAN_ID = 1
const VLAN_PROTOCOL = 5
const VRF_TABLE = 1
const ETH_P_8021Q = 0x8100

/** A kind as attributes; `peer` writes a veth's other end as a message of its own. */
export function kindAttributes(
  kind: Kind,
  peer: (settings: LinkSettings) => Uint8Array,
): { type: string; data: Uint8Array[] } {
  return { type: kind.type, data: dataAttributes(kind, peer) }
}

function dataAttributes(kind: Kind, peer: (settings: LinkSettings) => Uint8Array): Uint8Array[] {
  switch (kind.type) {
    case 'bridge':
      return kind.vlanFiltering === undefined ? [] : [uint8(BR_VLAN_FILTERING, kind.vlanFiltering ? 1 : 0)]
    case 'veth':
      return [attribute(VETH_INFO_PEER, peer(kind.peer))]
    case 'macvlan':
      return [
        uint32(MACVLAN_MODE, kind.mode),
        ...(kind.broadcastQueueLength ? [uint32(MACVLAN_BC_QUEUE_LEN, kind.broadcastQueueLength)] : []),
      ]
    case 'ipvlan':
      return [uint16(IPVLAN_MODE, kind.mode)]
    case 'vlan':
      return [uint16(VLAN_ID, kind.id), uint16Big(VLAN_PROTOCOL, ETH_P_8021Q)]
    case 'vrf':
      return [uint32(VRF_TABLE, kind.table)]
    case 'dummy':
    case 'ifb':
      return []
  }
}

/** Reads what belongs to a kind; unknown kinds have nothing for us. */
export function readKindData(kind: string, bytes: Uint8Array): KindData {
  const found = attributeMap(bytes)
  const read = <T>(type: number, reader: (value: Uint8Array) => T): T | undefined => {
    const value = found.get(type)
    return value && reader(value)
  }
  const data: KindData = {}
  const set = <K extends keyof KindData>(key: K, value: KindData[K] | undefined) => {
    if (value !== undefined) data[key] = value
  }
  if (kind === 'macvlan') set('mode', read(MACVLAN_MODE, readUint32))
  if (kind === 'ipvlan') set('mode', read(IPVLAN_MODE, readUint16))
  if (kind === 'vlan') {
    set('vlan', read(VLAN_ID, readUint16))
    set('vlanProtocol', read(VLAN_PROTOCOL, readUint16Big))
  }
  if (kind === 'vrf') set('table', read(VRF_TABLE, readUint32))
  if (kind === 'bridge') {
    const filtering = read(BR_VLAN_FILTERING, readUint8)
    set('vlanFiltering', filtering === undefined ? undefined : filtering !== 0)
  }
  return data
}

export interface BridgePort {
  /** BR_STATE_*: 3 is forwarding. */
  state: number
  hairpin: boolean
  isolated: boolean
}

/** Reads IFLA_INFO_SLAVE_DATA of a bridge's port. */
export function readBridgePort(bytes: Uint8Array): BridgePort {
  const port: BridgePort = { state: 0, hairpin: false, isolated: false }
  for (const { type, value } of attributes(bytes)) {
    if (type === 1)
      port.state = readUint8(value) // IFLA_BRPORT_STATE
    else if (type === 4) port.hairpin = readUint8(value) !== 0
    else if (type === 33) port.isolated = readUint8(value) !== 0
  }
  return port
}
