/**
 * Transactions of nf_tables over netlink, for what comes and goes with each container: elements, and deletions. Running nft
 * costs ten times more than the whole of it. What it cannot encode (rules with expressions) is left to nft.
 */
import { encodeText } from '../bytes.ts'
import { addressBytes, hardwareAddressBytes } from '../inet.ts'
import { errno, waitReadable } from '../libc.ts'
import { type Command, describeCommand, type Json, NftError, type Object as NftObject } from '../nft.ts'
import { attribute, encodeMessage, join, messages, nested, text, uint32Big } from './codec.ts'
import { describeSets, type SetDescription } from './nftables.ts'
import {
  CREATE,
  EXCLUSIVE,
  KernelError,
  NETLINK_NETFILTER,
  openTransport,
  REQUEST,
  readRefusal,
  type Transport,
} from './socket.ts'

const SUBSYSTEM = 10 << 8 // NFNL_SUBSYS_NFTABLES
const DELETE_TABLE = SUBSYSTEM | 2
const DELETE_CHAIN = SUBSYSTEM | 5
const DELETE_RULE = SUBSYSTEM | 8
const NEW_ELEMENTS = SUBSYSTEM | 12
const DELETE_ELEMENTS = SUBSYSTEM | 14
const BATCH_BEGIN = 0x10 // NFNL_MSG_BATCH_BEGIN
const BATCH_END = 0x11
const ACK = 4 // NLM_F_ACK
const ERROR = 2 // NLMSG_ERROR
const GOTO = 0xfffffffc // NFT_GOTO, -4

const families = { inet: 1, ip: 2, bridge: 7, ip6: 10 } // NFPROTO_*

/** nft's datatypes (its datatype.h), with their lengths in a key; a concatenation holds six bits for each. */
const datatypes: Readonly<Record<number, { length: number; encode(value: Json): Uint8Array }>> = {
  7: { length: 4, encode: value => addressBytes(String(value)) }, // ipv4_addr
  8: { length: 16, encode: value => addressBytes(String(value)) }, // ipv6_addr
  9: { length: 6, encode: value => hardwareAddressBytes(String(value)) }, // ether_addr
  12: { length: 1, encode: value => new Uint8Array([protocolNumbers[String(value)] ?? Number(value)]) }, // inet_proto
  13: { length: 2, encode: value => new Uint8Array([Number(value) >> 8, Number(value) & 0xff]) }, // inet_service
  41: { length: 16, encode: value => encodeText(String(value).padEnd(16, '\0')) }, // ifname
}
const protocolNumbers: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132 }

interface Encoded {
  type: number
  flags: number
  payload: Uint8Array
  command: Command
}

/** More than fits one datagram with the usual buffers goes through nft, which enlarges them. */
const LARGEST_BATCH = 128 * 1024
/** nft's own limit, NFTNL_UDATA_COMMENT_MAXLEN. */
const LONGEST_COMMENT = 128
/** An attribute's length has 16 bits. */
const LARGEST_ATTRIBUTE = 60 * 1024

/**
 * Applies commands as one transaction; false when there is one among them that only nft can encode. Throws NftError with
 * the command that the kernel refused.
 */
export function applyBatch(commands: readonly Command[]): boolean {
  if (!commands.every(isEncodable)) return false
  const netfilter = openTransport(NETLINK_NETFILTER)
  using _later = closingLater(netfilter)
  const sets = new Map<string, SetDescription>()
  const encoded: Encoded[] = []
  for (const command of commands) {
    const one = encodeCommand(command, (family, table, name) =>
      describe(netfilter, sets, [family, table, name]),
    )
    if (!one || one.payload.length > LARGEST_ATTRIBUTE) return false
    encoded.push(one)
  }
  if (encoded.reduce((size, { payload }) => size + payload.length, 0) > LARGEST_BATCH) return false
  transact(netfilter, encoded)
  return true
}

/**
 * Closes a netfilter socket when the present work is done. After a transaction that deletes, close waits 7 to 15 ms for the
 * kernel's clean-up (nft_rcv_nl_event); deleting a link waits as long for its own, and so the two waits overlap.
 */
export function closingLater(netfilter: Transport): Disposable {
  return { [Symbol.dispose]: () => void setTimeout(() => netfilter.close(), 0) }
}

/** What can be seen without asking the kernel for its sets. */
function isEncodable(command: Command): boolean {
  if ('add' in command) return 'element' in command.add
  if ('create' in command) return 'element' in command.create
  return !('insert' in command)
}

type Family = keyof typeof families

/** Sets as the kernel describes them, each table looked at once. */
function describe(
  netfilter: Transport,
  known: Map<string, SetDescription>,
  [family, table, name]: [Family, string, string],
): SetDescription | undefined {
  const key = (set: string) => `${family} ${table} ${set}`
  if (!known.has(key(name)))
    for (const set of describeSets(netfilter, family, table)) known.set(key(set.name), set)
  return known.get(key(name))
}

type Describe = (family: Family, table: string, name: string) => SetDescription | undefined

function message(
  command: Command,
  { type, family, flags = 0 }: { type: number; family: Family; flags?: number },
  ...parts: Uint8Array[]
): Encoded {
  return { command, type, flags, payload: join(new Uint8Array([families[family], 0, 0, 0]), ...parts) }
}

function encodeCommand(command: Command, describeSet: Describe): Encoded | undefined {
  if ('create' in command)
    return encodeElements(command, command.create, { describeSet, flags: CREATE | EXCLUSIVE })
  if ('add' in command) return encodeElements(command, command.add, { describeSet, flags: CREATE })
  if ('delete' in command) return encodeDeletion(command, command.delete, describeSet)
  if (!('flush' in command) || !('chain' in command.flush)) return undefined
  const { family, table, name } = command.flush.chain
  return message(command, { type: DELETE_RULE, family }, text(1, table), text(2, name)) // no handle: all rules
}

function encodeElements(
  command: Command,
  object: NftObject,
  { describeSet, flags }: { describeSet: Describe; flags?: number },
): Encoded | undefined {
  if (!('element' in object)) return undefined
  const { family, table, name, elem } = object.element
  const set = describeSet(family, table, name)
  // A set that is not there is for the kernel to refuse, as it would refuse nft.
  const elements = set ? elem.map(one => encodeElement(one, set)) : []
  const known = elements.filter(one => one !== undefined)
  if (known.length < elements.length) return undefined
  const type = flags === undefined ? DELETE_ELEMENTS : NEW_ELEMENTS
  return message(
    command,
    { type, family, flags: flags ?? 0 },
    text(1, table),
    text(2, name),
    nested(3, ...known),
  )
}

function encodeDeletion(command: Command, object: NftObject, describeSet: Describe): Encoded | undefined {
  if ('element' in object) return encodeElements(command, object, { describeSet })
  if ('table' in object) {
    const { family, name } = object.table
    return message(command, { type: DELETE_TABLE, family }, text(1, name))
  }
  if ('chain' in object) {
    const { family, table, name } = object.chain
    return message(command, { type: DELETE_CHAIN, family }, text(1, table), text(3, name))
  }
  if (!('rule' in object) || object.rule.handle === undefined) return undefined
  const { family, table, chain, handle } = object.rule
  return message(
    command,
    { type: DELETE_RULE, family },
    text(1, table),
    text(2, chain),
    bigEndian64(3, handle),
  )
}

function bigEndian64(type: number, value: number): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(8))
  bytes.setBigUint64(0, BigInt(value))
  return attribute(type, new Uint8Array(bytes.buffer))
}

/** An element of libnftables-json: a key, a pair of key and value, either within an `elem` that holds a comment. */
function encodeElement(element: Json, set: SetDescription): Uint8Array | undefined {
  const [keyed, value] =
    set.isMap && Array.isArray(element) ? [element[0] ?? null, element[1]] : [element, undefined]
  const { key, comment } = unwrap(keyed)
  const fields = isConcatenation(key) ? key.concat : [key]
  const bounds = encodeKey(fields, set)
  const data = value === undefined ? undefined : encodeValue(value, set)
  if (comment !== undefined && comment.length > LONGEST_COMMENT) return undefined
  if (!bounds || (value !== undefined && !data)) return undefined
  return nested(
    1, // NFTA_LIST_ELEM
    nested(1, attribute(1, bounds.start)),
    ...(set.isInterval ? [nested(10, attribute(1, bounds.end))] : []),
    ...(data ? [nested(2, data)] : []),
    ...(comment === undefined ? [] : [attribute(6, commentData(comment))]),
  )
}

function unwrap(keyed: Json): { key: Json; comment?: string } {
  if (typeof keyed !== 'object' || keyed === null || Array.isArray(keyed) || !('elem' in keyed))
    return { key: keyed }
  const { val = null, comment } = keyed.elem as { val?: Json; comment?: Json }
  return { key: val, ...(comment === undefined ? {} : { comment: String(comment) }) }
}

function isConcatenation(key: Json): key is { concat: Json[] } {
  return typeof key === 'object' && key !== null && !Array.isArray(key) && Array.isArray(key.concat)
}

/** Userdata as nft writes it: type 0 (comment), length, text with its terminating zero. */
function commentData(comment: string): Uint8Array {
  const bytes = encodeText(`${comment}\0`)
  return join(new Uint8Array([0, bytes.length]), bytes)
}

function encodeKey(
  fields: readonly Json[],
  { isInterval, keyType }: SetDescription,
): { start: Uint8Array; end: Uint8Array } | undefined {
  const types = typesIn(keyType)
  if (types.length !== fields.length) return undefined
  const parts = fields.map((field, index) => encodeField(field, types[index] ?? 0))
  if (parts.includes(undefined)) return undefined
  // intervals of a single field are elements of their own kind, and other sets have none
  if (isInterval ? fields.length === 1 : parts.some(part => part?.isRange)) return undefined
  const whole = (pick: 'start' | 'end') =>
    fields.length === 1
      ? (parts[0]?.[pick] ?? new Uint8Array(0))
      : join(...parts.map(part => padded(part?.[pick])))
  return { start: whole('start'), end: whole('end') }
}

function padded(bytes: Uint8Array = new Uint8Array(0)): Uint8Array {
  const result = new Uint8Array((bytes.length + 3) & ~3)
  result.set(bytes)
  return result
}

const TYPE_BITS = 6

function typesIn(concatenated: number): number[] {
  const types: number[] = []
  for (let rest = concatenated; rest > 0; rest >>>= TYPE_BITS) types.unshift(rest & ((1 << TYPE_BITS) - 1))
  return types
}

function encodeField(
  field: Json,
  type: number,
): { start: Uint8Array; end: Uint8Array; isRange: boolean } | undefined {
  const datatype = datatypes[type]
  if (!datatype) return undefined
  if (typeof field !== 'object' || field === null || Array.isArray(field)) {
    const bytes = datatype.encode(field)
    return { start: bytes, end: bytes, isRange: false }
  }
  if (!('prefix' in field)) return undefined
  const { addr, len } = field.prefix as { addr: string; len: number }
  const start = datatype.encode(addr)
  const end = start.map((byte, index) => byte | (0xff >> Math.min(8, Math.max(0, len - index * 8))))
  return { start, end, isRange: true }
}

function encodeValue(value: Json, { dataType }: SetDescription): Uint8Array | undefined {
  if (typeof value === 'object' && value !== null && !Array.isArray(value) && 'goto' in value) {
    const { target } = value.goto as { target: string }
    return nested(2, uint32Big(1, GOTO), text(2, target)) // NFTA_DATA_VERDICT: code, chain
  }
  const datatype = datatypes[dataType]
  return datatype && attribute(1, datatype.encode(value))
}

let lastSequence = 0

/** Sends a batch and reads each command's acknowledgement. */
function transact(netfilter: Transport & { descriptor: number }, commands: readonly Encoded[]): void {
  const first = ++lastSequence
  const edge = (type: number, sequence: number) =>
    encodeMessage({ type, flags: REQUEST, sequence, payload: new Uint8Array([0, 0, 0, 10]) }) // res_id: the subsystem
  const body = commands.map(({ type, flags, payload }) =>
    encodeMessage({ type, flags: REQUEST | ACK | flags, sequence: ++lastSequence, payload }),
  )
  netfilter.send(join(edge(BATCH_BEGIN, first), ...body, edge(BATCH_END, ++lastSequence)))
  const refusals = acknowledgements(netfilter, { first, commands })
  const [refusal] = refusals
  if (!refusal) return
  const subject = refusal.command ? `: ${describeCommand(refusal.command)}` : ''
  throw new NftError(`apply nftables rules${subject}: ${refusal.error.message}`, refusal.error.message, {
    errno: refusal.error.errno,
    command: refusal.command,
  })
}

const PATIENCE = 10_000 // milliseconds: the kernel answers within the send

function acknowledgements(
  netfilter: Transport & { descriptor: number },
  { first, commands }: { first: number; commands: readonly Encoded[] },
): { error: KernelError; command: Command | undefined }[] {
  const refusals: { error: KernelError; command: Command | undefined }[] = []
  for (let open = commands.length; open > 0; ) {
    if (!waitReadable(netfilter.descriptor, PATIENCE)) {
      throw new KernelError(
        'apply nftables rules',
        errno.ETIMEDOUT,
        'the kernel did not acknowledge the batch',
      )
    }
    for (const message of messages(netfilter.receive())) {
      if (message.type !== ERROR) continue
      const command = commands[message.sequence - first - 1]?.command
      const error = readRefusal('nf_tables', message)
      if (error) refusals.push({ error, command })
      open = command === undefined ? 0 : open - 1 // an answer to the batch itself is the only one
    }
  }
  return refusals
}
