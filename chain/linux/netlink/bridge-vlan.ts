/** VLANs of a bridge's ports (linux/if_bridge.h): list, add, remove. Knows nothing of what they are for. */
import { attributeMap, attributes, join, nested, readUint32, split, uint32, viewOf } from './codec.ts'
import { RTM_DELLINK, RTM_NEWLINK } from './link.ts'
import { dump, type Request, type Transport } from './socket.ts'

const RTM_GETLINK = 18
const RTM_SETLINK = 19
const AF_BRIDGE = 7
const IFLA_MASTER = 10
const IFLA_AF_SPEC = 26
const IFLA_EXT_MASK = 29
const IFLA_BRIDGE_VLAN_INFO = 2
const RTEXT_FILTER_BRVLAN_COMPRESSED = 4

// BRIDGE_VLAN_INFO_*
const PVID = 2
const UNTAGGED = 4
const RANGE_BEGIN = 8
const RANGE_END = 16

/** A VLAN that a port carries. */
export interface PortVlan {
  id: number
  /** What arrives untagged belongs to it. */
  native: boolean
  /** It leaves without its tag. */
  untagged: boolean
}

export interface PortVlans {
  /** Index of the port, or of the bridge itself. */
  link: number
  /** Index of the bridge; absent at the bridge itself. */
  master?: number
  vlans: PortVlan[]
}

function header(link: number): Uint8Array {
  const bytes = new Uint8Array(16) // struct ifinfomsg
  bytes[0] = AF_BRIDGE
  viewOf(bytes).setInt32(4, link, true)
  return bytes
}

/** struct bridge_vlan_info as an attribute. */
function information(flags: number, id: number): Uint8Array {
  return uint32(IFLA_BRIDGE_VLAN_INFO, flags | (id << 16))
}

const flagsOf = ({ native, untagged }: PortVlan) => (native ? PVID : 0) | (untagged ? UNTAGGED : 0)

/** Neighbours with the same flags go as one range; the native VLAN stands alone, as the kernel wants it. */
function encodeVlans(vlans: readonly PortVlan[]): Uint8Array[] {
  return runsOf(vlans).flatMap(({ first, last, flags }) =>
    first === last
      ? [information(flags, first)]
      : [information(flags | RANGE_BEGIN, first), information(flags | RANGE_END, last)],
  )
}

function runsOf(vlans: readonly PortVlan[]): { first: number; last: number; flags: number }[] {
  const runs: { first: number; last: number; flags: number }[] = []
  for (const vlan of vlans.toSorted((one, other) => one.id - other.id)) {
    const flags = flagsOf(vlan)
    const run = runs.at(-1)
    if (run && run.last + 1 === vlan.id && run.flags === flags && !(flags & PVID)) run.last = vlan.id
    else runs.push({ first: vlan.id, last: vlan.id, flags })
  }
  return runs
}

function describe(vlans: readonly PortVlan[]): string {
  return runsOf(vlans)
    .map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`))
    .join(', ')
}

/** The request that lets a port carry VLANs; of one that it has, the flags change. */
export function addVlans(link: number, vlans: readonly PortVlan[]): Request {
  return {
    operation: `add VLAN ${describe(vlans)} to port ${link}`,
    type: RTM_SETLINK,
    payload: join(header(link), nested(IFLA_AF_SPEC, ...encodeVlans(vlans))),
  }
}

/** The request that takes VLANs from a port. */
export function removeVlans(link: number, vlans: readonly PortVlan[]): Request {
  return {
    operation: `delete VLAN ${describe(vlans)} from port ${link}`,
    type: RTM_DELLINK,
    payload: join(
      header(link),
      nested(IFLA_AF_SPEC, ...encodeVlans(vlans.map(({ id }) => ({ id, native: false, untagged: false })))),
    ),
  }
}

/** The VLANs of all bridges and their ports, or of those that are picked. */
export function listVlans(
  route: Transport,
  isPicked: (port: Pick<PortVlans, 'link' | 'master'>) => boolean = () => true,
): PortVlans[] {
  const asked = {
    operation: 'list the VLANs of bridge ports',
    type: RTM_GETLINK,
    payload: join(header(0), uint32(IFLA_EXT_MASK, RTEXT_FILTER_BRVLAN_COMPRESSED)),
  }
  return dump(route, asked, ({ type, payload }) => {
    const port = type === RTM_NEWLINK ? readPortVlans(payload) : undefined
    return port && isPicked(port) ? port : undefined
  })
}

/** Reads a port's message of that dump. */
export function readPortVlans(payload: Uint8Array): PortVlans {
  const [head, rest] = split(payload, 16)
  const found = attributeMap(rest)
  const specification = found.get(IFLA_AF_SPEC)
  const master = found.get(IFLA_MASTER)
  const link = head.getInt32(4, true)
  return {
    link,
    ...(master && readUint32(master) !== link ? { master: readUint32(master) } : {}),
    vlans: specification ? readVlans(specification) : [],
  }
}

function readVlans(specification: Uint8Array): PortVlan[] {
  const vlans: PortVlan[] = []
  let begun: number | undefined
  for (const { type, value } of attributes(specification)) {
    if (type !== IFLA_BRIDGE_VLAN_INFO) continue
    const word = readUint32(value)
    const [flags, id] = [word & 0xffff, word >>> 16]
    const first = flags & RANGE_END ? (begun ?? id) : id
    begun = flags & RANGE_BEGIN ? id : undefined
    if (begun !== undefined) continue
    for (let each = first; each <= id; each++) {
      vlans.push({ id: each, native: (flags & PVID) !== 0, untagged: (flags & UNTAGGED) !== 0 })
    }
  }
  return vlans
}
