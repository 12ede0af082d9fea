/** Connections that the kernel tracks (linux/netfilter/nfnetlink_conntrack.h): deletes those that old rules translated. */
import { AF_INET, AF_INET6, addressText } from '../inet.ts'
import { errno } from '../libc.ts'
import { attribute, attributeMap, join, type Message, readUint8, readUint16Big, split } from './codec.ts'
import { openNetfilter } from './nftables.ts'
import { dump, isRefusal, request, type Transport } from './socket.ts'

const SUBSYSTEM = 1 << 8 // NFNL_SUBSYS_CTNETLINK
const GET = SUBSYSTEM | 1
const DELETE = SUBSYSTEM | 2
// CTA_*
const ORIGINAL = 1
const REPLY = 2
const ID = 12
const TUPLE_IP = 1
const TUPLE_PROTOCOL = 2

/** One direction of a connection. */
export interface Tuple {
  source: string
  destination: string
  protocol: number
  sourcePort: number
  destinationPort: number
}

export interface Connection {
  original: Tuple
  reply: Tuple
  /** The raw original tuple and ID, by which it is deleted. */
  key: Uint8Array
  family: number
}

export function openConntrack(): Transport {
  return openNetfilter()
}

/** The connections of a family; none where the kernel does not track any. */
export function listConnections(
  conntrack: Transport,
  family: typeof AF_INET | typeof AF_INET6,
): Connection[] {
  try {
    const payload = new Uint8Array([family, 0, 0, 0]) // struct nfgenmsg
    return dump(conntrack, { operation: 'list connections', type: GET, payload }).flatMap(readConnection)
  } catch (thrown) {
    if (isRefusal(thrown, errno.EOPNOTSUPP, errno.EINVAL)) return []
    throw thrown
  }
}

function readConnection({ payload }: Message): Connection[] {
  const found = attributeMap(split(payload, 4)[1])
  const original = found.get(ORIGINAL)
  const reply = found.get(REPLY)
  const id = found.get(ID)
  if (!original || !reply || !id) return []
  const key = join(attribute(ORIGINAL | 0x8000, original), attribute(ID, id))
  return [{ original: readTuple(original), reply: readTuple(reply), key, family: payload[0] ?? 0 }]
}

function readTuple(bytes: Uint8Array): Tuple {
  const parts = attributeMap(bytes)
  const addresses = attributeMap(parts.get(TUPLE_IP) ?? new Uint8Array(0))
  const protocol = attributeMap(parts.get(TUPLE_PROTOCOL) ?? new Uint8Array(0))
  const address = (four: number, six: number) => {
    const value = addresses.get(four) ?? addresses.get(six)
    return value ? addressText(value) : ''
  }
  const number = <T>(type: number, read: (value: Uint8Array) => T) => {
    const value = protocol.get(type)
    return value ? read(value) : 0
  }
  return {
    source: address(1, 3), // CTA_IP_V4_SRC, CTA_IP_V6_SRC
    destination: address(2, 4),
    protocol: Number(number(1, readUint8)), // CTA_PROTO_NUM
    sourcePort: Number(number(2, readUint16Big)),
    destinationPort: Number(number(3, readUint16Big)),
  }
}

/** Deletes one connection; one that has ended meanwhile is fine. */
export function removeConnection(
  conntrack: Transport,
  { family, key, original }: Connection,
): 'removed' | 'absent' {
  try {
    request(conntrack, {
      operation: `forget the connection to port ${original.destinationPort}`,
      type: DELETE,
      payload: join(new Uint8Array([family, 0, 0, 0]), key),
    })
    return 'removed'
  } catch (thrown) {
    if (isRefusal(thrown, errno.ENOENT)) return 'absent'
    throw thrown
  }
}

/** Forgets all connections of both families that a test picks. Answers how many there were. */
export function flushConnections(picked: (connection: Connection) => boolean): number {
  using conntrack = openConntrack()
  const stale = ([AF_INET, AF_INET6] as const)
    .flatMap(family => listConnections(conntrack, family))
    .filter(picked)
  for (const connection of stale) removeConnection(conntrack, connection)
  return stale.length
}
