/** Connections that the kernel tracks (linux/netfilter/nfnetlink_conntrack.h): deletes those that old rules translated. */
import { addressBytes, addressText } from '../../ip/bytes.ts'
import { AF_INET, AF_INET6, socketFamilyOf } from '../../ip/family.ts'
import { errno } from '../libc/errno.ts'
import { openNetfilter } from '../nftables/netfilter.ts'
import {
  after,
  attribute,
  attributeMap,
  findAttribute,
  join,
  type Message,
  nested,
  readUint8,
  readUint16Big,
  uint8,
  uint16Big,
  uint32,
} from './codec.ts'
import { dump, isRefusal, request, type Transport } from './socket.ts'

const SUBSYSTEM = 1 << 8 // NFNL_SUBSYS_CTNETLINK
const GET = SUBSYSTEM | 1
const DELETE = SUBSYSTEM | 2
// CTA_*
const ORIGINAL = 1
const REPLY = 2
const ID = 12
const FILTER = 25
const TUPLE_IP = 1
const TUPLE_PROTOCOL = 2
const PROTOCOL_NUMBER = 1 // CTA_PROTO_NUM
const DESTINATION_PORT = 3 // CTA_PROTO_DST_PORT
// CTA_FILTER_F_* (net/netfilter/nf_internals.h)
const FILTER_SOURCE = 1
const FILTER_PROTOCOL = 8
const FILTER_DESTINATION_PORT = 32

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

/** Which connections are listed. */
export interface ConnectionFilter {
  protocol: number
  /** To which the client has sent. */
  ports?: ReadonlySet<number>
  /** From where the answers come. */
  replySource?: string
}

/** Of so many ports each is asked for by itself: the kernel looks through a hundred thousand connections in 20 ms. */
const MOST_PORTS = 16

/**
 * The connections of a family that match; none where the kernel does not track any. It is asked to leave the others out,
 * of which a node has hundreds of thousands; kernels before 5.8 do not, and then they are passed over as they come.
 */
export function listConnections(
  conntrack: Transport,
  family: typeof AF_INET | typeof AF_INET6,
  filter?: ConnectionFilter,
): Connection[] {
  const ports = filter?.ports && filter.ports.size <= MOST_PORTS ? [...filter.ports] : [undefined]
  let found: Connection[] = []
  for (const port of ports) {
    let isWhole = false // all connections came, those to the other ports too
    const read = ({ payload }: Message) => {
      const original = filter && tupleIn(payload, ORIGINAL)
      if (port !== undefined && original?.port !== port) isWhole = true
      return matches(payload, original, filter) ? readConnection(payload) : undefined
    }
    const listed = dumpConnections(conntrack, { family, filter, port, read })
    if (isWhole) return listed
    found = found.concat(listed)
  }
  return found
}

interface Listing {
  family: number
  filter: ConnectionFilter | undefined
  port: number | undefined
  read: (message: Message) => Connection | undefined
}

function dumpConnections(conntrack: Transport, { family, filter, port, read }: Listing): Connection[] {
  const header = new Uint8Array([family, 0, 0, 0]) // struct nfgenmsg
  for (const payload of filter ? [join(header, ...encodeFilter(filter, port)), header] : [header]) {
    try {
      return dump(conntrack, { operation: 'list connections', type: GET, payload }, read)
    } catch (thrown) {
      if (!isRefusal(thrown, errno.EOPNOTSUPP, errno.EINVAL)) throw thrown
    }
  }
  return []
}

/** CTA_FILTER: which parts of the tuples beside it a connection must have. */
function encodeFilter({ protocol, replySource }: ConnectionFilter, port: number | undefined): Uint8Array[] {
  const source = replySource === undefined ? undefined : addressBytes(replySource)
  const number = uint8(PROTOCOL_NUMBER, protocol)
  return [
    nested(
      ORIGINAL,
      nested(TUPLE_PROTOCOL, number, ...(port === undefined ? [] : [uint16Big(DESTINATION_PORT, port)])),
    ),
    ...(source
      ? [
          nested(
            REPLY,
            nested(TUPLE_IP, attribute(source.length === 4 ? 1 : 3, source)), // CTA_IP_V4_SRC, CTA_IP_V6_SRC
            nested(TUPLE_PROTOCOL, number),
          ),
        ]
      : []),
    nested(
      FILTER,
      uint32(1, FILTER_PROTOCOL | (port === undefined ? 0 : FILTER_DESTINATION_PORT)), // CTA_FILTER_ORIG_FLAGS
      ...(source ? [uint32(2, FILTER_PROTOCOL | FILTER_SOURCE)] : []), // CTA_FILTER_REPLY_FLAGS
    ),
  ]
}

/** Protocol and destination port of a tuple, without taking the rest apart: this is done for every connection there is. */
function tupleIn(payload: Uint8Array, type: number): { protocol: number; port: number } | undefined {
  const tuple = findAttribute(payload.subarray(4), type)
  const parts = tuple && findAttribute(tuple, TUPLE_PROTOCOL)
  const protocol = parts && findAttribute(parts, PROTOCOL_NUMBER)?.[0]
  if (parts === undefined || protocol === undefined) return undefined
  const port = findAttribute(parts, DESTINATION_PORT)
  return { protocol, port: port ? readUint16Big(port) : 0 }
}

function matches(
  payload: Uint8Array,
  original: ReturnType<typeof tupleIn>,
  filter: ConnectionFilter | undefined,
): boolean {
  if (!filter) return true
  if (original?.protocol !== filter.protocol) return false
  if (filter.ports && !filter.ports.has(original.port)) return false
  if (filter.replySource === undefined) return true
  const reply = findAttribute(payload.subarray(4), REPLY)
  const addresses = reply && findAttribute(reply, TUPLE_IP)
  const source = addresses && (findAttribute(addresses, 1) ?? findAttribute(addresses, 3))
  return source !== undefined && addressText(source) === filter.replySource
}

function readConnection(payload: Uint8Array): Connection | undefined {
  const found = attributeMap(after(payload, 4))
  const original = found.get(ORIGINAL)
  const reply = found.get(REPLY)
  const id = found.get(ID)
  if (!original || !reply || !id) return undefined
  const key = join(attribute(ORIGINAL | 0x8000, original), attribute(ID, id))
  return { original: readTuple(original), reply: readTuple(reply), key, family: payload[0] ?? 0 }
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
    protocol: Number(number(PROTOCOL_NUMBER, readUint8)),
    sourcePort: Number(number(2, readUint16Big)),
    destinationPort: Number(number(DESTINATION_PORT, readUint16Big)),
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

/** Forgets the connections that match, of both families, if a test picks them. Answers how many there were. */
export function flushConnections(
  filter: ConnectionFilter,
  picked: (connection: Connection) => boolean,
): number {
  using conntrack = openConntrack()
  const { replySource } = filter
  const families = replySource === undefined ? ([AF_INET, AF_INET6] as const) : [socketFamilyOf(replySource)]
  let count = 0
  for (const family of families) {
    for (const connection of listConnections(conntrack, family, filter)) {
      if (picked(connection) && removeConnection(conntrack, connection) === 'removed') count++
    }
  }
  return count
}
