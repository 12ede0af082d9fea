/** Filters of queueing disciplines over rtnetlink (linux/pkt_cls.h): u32 matches on addresses, and redirection to another link. */
import { addressBytes } from '../../ip/bytes.ts'
import { errno } from '../libc/errno.ts'
import {
  attribute,
  attributeMap,
  attributes,
  CodecError,
  join,
  nested,
  readText,
  readUint32,
  split,
  text,
  uint32,
  viewOf,
} from './codec.ts'
import { trafficHeader } from './qdisc.ts'
import { CREATE, dump, EXCLUSIVE, isRefusal, type Request, type Transport } from './socket.ts'

const RTM_NEWTFILTER = 44
const RTM_GETTFILTER = 46
// TCA_*
const KIND = 1
const OPTIONS = 2
// TCA_U32_*
const CLASS_ID = 1
const SELECTOR = 5
const ACTION = 7
const TERMINAL = 1 // TC_U32_TERMINAL
const ACT_KIND = 1
const ACT_OPTIONS = 2
const MIRRED_PARMS = 2
const STOLEN = 4 // TC_ACT_STOLEN
const EGRESS_REDIRECT = 1 // TCA_EGRESS_REDIR

/** ETH_P_*. */
const protocols = { all: 0x0003, ipv4: 0x0800, ipv6: 0x86dd } as const
export type Protocol = keyof typeof protocols

/** Four bytes of a packet, counted from its network header: they must be `value` where `mask` has ones. */
export interface Key {
  offset: number
  mask: number
  value: number
}

/** What a packet must look like, and what becomes of it: it goes to a class, or to another link. */
export interface Filter {
  /** Lower ones are asked first; those of different protocols differ in it. */
  priority: number
  protocol: Protocol
  /** All must match; none matches everything. */
  keys: Key[]
  classId?: number
  /** Index of the link; 0 when that has gone. */
  redirectTo?: number
}

/** The keys that match a prefix of a packet's source or destination. */
export function matchPrefix(
  { address, prefixLength }: { address: string; prefixLength: number },
  end: 'source' | 'destination',
): Key[] {
  const bytes = addressBytes(address)
  const start =
    bytes.length === 4 ? { source: 12, destination: 16 }[end] : { source: 8, destination: 24 }[end]
  const keys: Key[] = []
  for (let at = 0; at * 8 < prefixLength; at += 4) {
    const bits = Math.min(32, prefixLength - at * 8)
    const mask = (0xffffffff << (32 - bits)) >>> 0
    keys.push({ offset: start + at, mask, value: (viewOf(bytes).getUint32(at) & mask) >>> 0 })
  }
  return keys
}

/** struct tc_u32_sel with its keys. */
function selector(keys: readonly Key[]): Uint8Array {
  const shown = keys.length > 0 ? keys : [{ offset: 0, mask: 0, value: 0 }]
  const bytes = new Uint8Array(16 + shown.length * 16)
  const view = viewOf(bytes)
  view.setUint8(0, TERMINAL)
  view.setUint8(2, shown.length)
  shown.forEach(({ mask, offset, value }, index) => {
    const at = 16 + index * 16 // struct tc_u32_key
    view.setUint32(at, mask)
    view.setUint32(at + 4, value)
    view.setInt32(at + 8, offset, true)
  })
  return bytes
}

/** struct tc_mirred in an action: the packet is taken away and sent out of another link. */
function redirection(link: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(28))
  view.setInt32(8, STOLEN, true)
  view.setInt32(20, EGRESS_REDIRECT, true)
  view.setUint32(24, link, true)
  const parameters = attribute(MIRRED_PARMS, new Uint8Array(view.buffer))
  return nested(ACTION, nested(1, text(ACT_KIND, 'mirred'), nested(ACT_OPTIONS, parameters)))
}

/** The request that adds a filter to a discipline of a link. */
export function newFilter(link: number, parent: number, filter: Filter): Request {
  const { classId, keys, priority, protocol, redirectTo } = filter
  const code = protocols[protocol]
  const info = ((priority << 16) | ((code & 0xff) << 8) | (code >> 8)) >>> 0 // the protocol in network order
  return {
    operation: `add filter to link ${link}`,
    type: RTM_NEWTFILTER,
    flags: CREATE | EXCLUSIVE,
    payload: join(
      trafficHeader({ link, parent, info }),
      text(KIND, 'u32'),
      nested(
        OPTIONS,
        ...(classId === undefined ? [] : [uint32(CLASS_ID, classId)]),
        attribute(SELECTOR, selector(keys)),
        ...(redirectTo === undefined ? [] : [redirection(redirectTo)]),
      ),
    ),
  }
}

/** The u32 filters of a discipline, in the order in which they are asked; other kinds come back without keys. None where there is no such discipline. */
export function listFilters(route: Transport, link: number, parent: number): Filter[] {
  try {
    const asked = {
      operation: `list filters of link ${link}`,
      type: RTM_GETTFILTER,
      payload: trafficHeader({ link, parent }),
    }
    return dump(route, asked, ({ type, payload }) =>
      type === RTM_NEWTFILTER ? readFilter(payload) : undefined,
    ).flat()
  } catch (thrown) {
    if (isRefusal(thrown, errno.EINVAL, errno.ENODEV, errno.ENOENT)) return []
    throw thrown
  }
}

/** Nothing for a message that tells of a hash table of filters only. */
export function readFilter(payload: Uint8Array): Filter[] {
  const [head, rest] = split(payload, 20)
  const info = head.getUint32(16, true)
  const code = ((info & 0xff) << 8) | ((info >> 8) & 0xff)
  const protocol = (Object.keys(protocols) as Protocol[]).find(name => protocols[name] === code) ?? 'all'
  const found = attributeMap(rest)
  const kind = found.get(KIND)
  const options = found.get(OPTIONS)
  const priority = info >>> 16
  if (!kind || readText(kind) !== 'u32') return [{ priority, protocol, keys: [] }]
  const inner = attributeMap(options ?? new Uint8Array(0))
  const selection = inner.get(SELECTOR)
  if (!selection) return []
  const classId = inner.get(CLASS_ID)
  const action = inner.get(ACTION)
  const redirectTo = action && redirectionIn(action)
  return [
    {
      priority,
      protocol,
      keys: keysIn(selection),
      ...(classId ? { classId: readUint32(classId) } : {}),
      ...(redirectTo === undefined ? {} : { redirectTo }),
    },
  ]
}

function keysIn(selection: Uint8Array): Key[] {
  const [head] = split(selection, 16)
  const count = head.getUint8(2)
  if (selection.length < 16 + count * 16)
    throw new CodecError(`a u32 selector: ${count} keys in ${selection.length} bytes`)
  const view = viewOf(selection)
  return Array.from({ length: count }, (_, index) => {
    const at = 16 + index * 16
    return { mask: view.getUint32(at), value: view.getUint32(at + 4), offset: view.getInt32(at + 8, true) }
  }).filter(({ mask }) => mask !== 0)
}

/** The first redirection among the actions. */
function redirectionIn(actions: Uint8Array): number | undefined {
  for (const { value } of attributes(actions)) {
    const found = attributeMap(value)
    const kind = found.get(ACT_KIND)
    const parameters = attributeMap(found.get(ACT_OPTIONS) ?? new Uint8Array(0)).get(MIRRED_PARMS)
    if (kind && readText(kind) === 'mirred' && parameters) return split(parameters, 28)[0].getUint32(24, true)
  }
  return undefined
}
