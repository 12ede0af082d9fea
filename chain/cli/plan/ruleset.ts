/** The ruleset of nf_tables made again in another namespace: each message of the kernel's lists is one that makes the object. */
import { enlargeBuffer } from '../../linux/libc/socket.ts'
import {
  align,
  attribute,
  encodeMessage,
  join,
  type Message,
  messages,
  readInt32,
  readText,
  viewOf,
} from '../../linux/netlink/codec.ts'
import {
  APPEND,
  CREATE,
  dump,
  NETLINK_NETFILTER,
  openTransport,
  REQUEST,
} from '../../linux/netlink/socket.ts'
import { openNetfilterIfPresent } from '../../linux/nftables/netfilter.ts'

const SUBSYSTEM = 10 << 8 // NFNL_SUBSYS_NFTABLES
const TABLE = 0
const CHAIN = 3
const RULE = 6
const SET = 9
const ELEMENTS = 12
const BEGIN = 0x10
const END = 0x11
const ACK = 4
const ERROR = 2
const SET_ID = 10

/** Attributes that the kernel tells and does not take: handles, positions, counts, the kernel's way to keep a set. */
const told: Readonly<Record<number, readonly number[]>> = {
  [TABLE]: [3, 4],
  [CHAIN]: [2, 6],
  [RULE]: [3, 6],
  [SET]: [16, 19, 20],
}

/** The objects of each table, in an order in which they can be made. */
export type CapturedRuleset = Map<string, Message[]>

interface Part {
  type: number
  bytes: Uint8Array
}

/** The attributes of a message, each with its header as it came. */
function partsOf({ payload }: Message): Part[] {
  const parts: Part[] = []
  const view = viewOf(payload)
  for (let at = 4; at + 4 <= payload.length; ) {
    const length = view.getUint16(at, true)
    if (length < 4) break
    parts.push({ type: view.getUint16(at + 2, true) & 0x3fff, bytes: payload.slice(at, at + align(length)) })
    at += align(length)
  }
  return parts
}

const attributeOf = (message: Message, type: number): Part | undefined =>
  partsOf(message).find(part => part.type === type)

/** All tables with what is in them; none where the kernel has no nf_tables. */
export function captureRuleset(): CapturedRuleset {
  const tables: CapturedRuleset = new Map()
  const netfilter = openNetfilterIfPresent()
  if (!netfilter) return tables
  using _open = netfilter
  const list = (kind: number, more: Uint8Array = new Uint8Array(0), family = 0): Message[] =>
    dump(netfilter, {
      operation: 'list the ruleset',
      type: SUBSYSTEM | (kind + 1),
      payload: join(new Uint8Array([family, 0, 0, 0]), more),
    }).map(message => ({ ...message, payload: message.payload.slice() }))
  const sets = list(SET)
  const elements = sets.flatMap(set => {
    const place = [1, 2].flatMap(type => attributeOf(set, type)?.bytes ?? [])
    return list(ELEMENTS, join(...place), set.payload[0])
  })
  for (const message of [...list(TABLE), ...list(CHAIN), ...sets, ...elements, ...list(RULE)]) {
    const name = attributeOf(message, 1)
    const table = `${message.payload[0]} ${name ? readText(name.bytes.subarray(4)) : ''}`
    tables.set(table, [...(tables.get(table) ?? []), message])
  }
  return tables
}

/** NFPROTO_*. */
export const familyNames: Readonly<Record<string, string>> = {
  '1': 'inet',
  '2': 'ip',
  '7': 'bridge',
  '10': 'ip6',
}

/** Makes it in the namespace that the thread is in. Answers the tables that the kernel did not take. */
export function restoreRuleset(tables: CapturedRuleset): { family: string; name: string }[] {
  return [...tables].flatMap(([key, objects]) => {
    const [family = '', name = ''] = key.split(' ')
    return restoreTable(objects) === 0 ? [] : [{ family: familyNames[family] ?? family, name }]
  })
}

/** In one transaction; answers the first refusal's number. */
function restoreTable(objects: readonly Message[]): number {
  let identity = 0
  const encoded = objects.map((message, index) => {
    const kind = message.type & 0xff
    const parts = partsOf(message).filter(({ type }) => !told[kind]?.includes(type))
    const id = kind === SET ? [attribute(SET_ID, bigEndian(++identity))] : []
    const payload = join(
      new Uint8Array([message.payload[0] ?? 0, 0, 0, 0]),
      ...parts.map(({ bytes }) => bytes),
      ...id,
    )
    const flags = REQUEST | CREATE | ACK | (kind === RULE ? APPEND : 0)
    return encodeMessage({ type: message.type, flags, sequence: index + 1, payload })
  })
  const edge = (type: number) =>
    encodeMessage({ type, flags: REQUEST, sequence: 0, payload: new Uint8Array([0, 0, 0, 10]) })
  return firstRefusal(join(edge(BEGIN), ...encoded, edge(END)), objects.length)
}

function bigEndian(number: number): Uint8Array {
  const bytes = new Uint8Array(4)
  viewOf(bytes).setUint32(0, number)
  return bytes
}

function firstRefusal(batch: Uint8Array, count: number): number {
  using netfilter = openTransport(NETLINK_NETFILTER)
  enlargeBuffer(netfilter.descriptor, 'sending', batch.length * 2)
  enlargeBuffer(netfilter.descriptor, 'receiving', count * 1024)
  netfilter.send(batch)
  for (let open = count; open > 0; ) {
    for (const { type, payload } of messages(netfilter.receive())) {
      if (type !== ERROR) continue
      open--
      const number = -readInt32(payload)
      if (number !== 0) return number
    }
  }
  return 0
}
