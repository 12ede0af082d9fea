/**
 * Rules as nfnetlink attributes: the expressions that nft makes of libnftables-json, each into registers as nft chooses them,
 * so that the kernel holds the same bytes. What is not here is for nft. Pure.
 */

import { attribute, nested, text, uint32Big } from '../netlink/codec.ts'
import type { SetDescription } from './list.ts'
import type { Family, Json, RuleSpec } from './nft.ts'
import { commentData, type Datatype, datatypes, isObject, onlyNft, prefixBytes, verdicts } from './type.ts'

type Found = (name: string) => SetDescription | undefined

interface Context {
  family: Family
  /** The table's sets by name, as far as there are any. */
  findSet: Found
}

/** A new rule's attributes. */
export function encodeRule(spec: RuleSpec, findSet: Found): Uint8Array[] {
  const { family, table, chain, expr = [], comment, handle } = spec
  if (handle !== undefined) onlyNft('a rule beside another')
  const context: Context = { family, findSet }
  const expressions: Uint8Array[] = []
  for (const statement of expr) for (const one of encodeStatement(statement, context)) expressions.push(one)
  return [
    text(1, table), // NFTA_RULE_*
    text(2, chain),
    nested(4, ...expressions),
    ...(comment === undefined ? [] : [attribute(7, commentData(comment))]),
  ]
}

/** One expression of a rule: NFTA_LIST_ELEM with NFTA_EXPR_NAME and NFTA_EXPR_DATA. */
function expression(name: string, ...data: Uint8Array[]): Uint8Array {
  return nested(1, text(1, name), nested(2, ...data))
}

function encodeStatement(statement: Json, context: Context): Uint8Array[] {
  if (!isObject(statement)) return onlyNft('a statement')
  const [[kind = '', content = null] = []] = Object.entries(statement)
  switch (kind) {
    case 'match':
      return encodeMatch(content, context)
    case 'vmap':
      return isObject(content) ? lookUp(content, { context, slot: 0, into: 'verdict' }) : onlyNft('a vmap')
    case 'dnat':
      return encodeDestination(content, context)
    case 'masquerade':
      return content === null ? [expression('masq')] : onlyNft('options of masquerade')
    case 'accept':
    case 'drop':
    case 'return':
      return [verdict(verdicts[kind])]
    case 'jump':
    case 'goto':
      return isObject(content) ? [verdict(verdicts[kind], String(content.target))] : onlyNft(kind)
    default:
      return onlyNft(kind)
  }
}

function verdict(code: number, chain?: string): Uint8Array {
  const parts = [uint32Big(1, code >>> 0), ...(chain === undefined ? [] : [text(2, chain)])]
  return expression('immediate', uint32Big(1, 0), nested(2, nested(2, ...parts))) // register 0 is the verdict's
}

/** Registers of four bytes, counted from 0: nft names those that begin 16 bytes by their old numbers. */
function register(slot: number): number {
  return slot % 4 === 0 ? 1 + slot / 4 : 8 + slot
}

/** What a packet is looked at for. */
interface Operand {
  type: Datatype
  /** Loads it, or its first bytes. */
  load(slot: number, length?: number): Uint8Array
  /** Only a part of a packet can be loaded in part. */
  isPayload: boolean
  /** The kernel has it as an integer of its own order, which intervals need turned. */
  isHostInteger: boolean
}

interface Place {
  base: number
  offset: number
  type: Datatype
  families?: readonly Family[]
}

const [LINK, NETWORK, TRANSPORT] = [0, 1, 2] // NFT_PAYLOAD_*_HEADER
const { ipv4_addr, ipv6_addr, ether_addr, inet_service, inet_proto, ifname } = datatypes
const [four, six, frames] = [['ip'], ['ip6'], ['bridge']] as const

/** Places in a packet, in the families where a rule need not ask first whether they are there. */
const payloads: Readonly<Record<string, Place>> = {
  'ip saddr': { base: NETWORK, offset: 12, type: ipv4_addr, families: four },
  'ip daddr': { base: NETWORK, offset: 16, type: ipv4_addr, families: four },
  'ip6 saddr': { base: NETWORK, offset: 8, type: ipv6_addr, families: six },
  'ip6 daddr': { base: NETWORK, offset: 24, type: ipv6_addr, families: six },
  'ether daddr': { base: LINK, offset: 0, type: ether_addr, families: frames },
  'ether saddr': { base: LINK, offset: 6, type: ether_addr, families: frames },
  'th sport': { base: TRANSPORT, offset: 0, type: inet_service },
  'th dport': { base: TRANSPORT, offset: 2, type: inet_service },
}

const metas: Readonly<Record<string, { key: number; type: Datatype }>> = {
  iifname: { key: 6, type: ifname }, // NFT_META_*
  oifname: { key: 7, type: ifname },
  l4proto: { key: 16, type: inet_proto },
}

function operandOf(value: Json, { family }: Context): Operand {
  if (isObject(value) && isObject(value.payload)) {
    const place = payloads[`${value.payload.protocol} ${value.payload.field}`]
    if (!place || place.families?.includes(family) === false) return onlyNft('a part of a packet')
    const { base, offset, type } = place
    const load = (slot: number, length = type.length) =>
      expression(
        'payload',
        uint32Big(1, register(slot)),
        uint32Big(2, base),
        uint32Big(3, offset),
        uint32Big(4, length),
      )
    return { type, load, isPayload: true, isHostInteger: false }
  }
  const meta = isObject(value) && isObject(value.meta) ? metas[String(value.meta.key)] : undefined
  if (!meta) return onlyNft('an operand')
  const load = (slot: number) => expression('meta', uint32Big(2, meta.key), uint32Big(1, register(slot)))
  return { type: meta.type, load, isPayload: false, isHostInteger: meta.type === inet_proto }
}

/** Loads a key, the parts of a concatenation into one register after the other. */
function loadKey(key: Json, given: { context: Context; slot: number; set?: SetDescription }): Uint8Array[] {
  const parts = isObject(key) && Array.isArray(key.concat) ? key.concat : [key]
  const expressions: Uint8Array[] = []
  let { slot } = given
  for (const part of parts) {
    const { type, load, isHostInteger } = operandOf(part, given.context)
    expressions.push(load(slot))
    if (given.set?.isInterval && isHostInteger) expressions.push(toNetworkOrder(slot, type.length))
    slot += (type.length + 3) >> 2
  }
  return expressions
}

function toNetworkOrder(slot: number, length: number): Uint8Array {
  return expression(
    'byteorder',
    uint32Big(1, register(slot)), // NFTA_BYTEORDER_*
    uint32Big(2, register(slot)),
    uint32Big(3, 1), // NFT_BYTEORDER_HTON
    uint32Big(4, length),
    uint32Big(5, 2), // the smallest size there is
  )
}

/** A key loaded and looked up in a map, whose value goes into the key's registers or becomes the verdict. */
function lookUp(
  { key = null, data = null }: { [key: string]: Json },
  { context, slot, into }: { context: Context; slot: number; into: 'register' | 'verdict' },
): Uint8Array[] {
  const set = described(data, context)
  const target = uint32Big(3, into === 'verdict' ? 0 : register(slot)) // NFTA_LOOKUP_DREG
  const look = expression('lookup', text(1, nameIn(data)), uint32Big(2, register(slot)), target)
  return [...loadKey(key, { context, slot, ...(set ? { set } : {}) }), look]
}

function nameIn(reference: Json): string {
  return typeof reference === 'string' && reference.startsWith('@')
    ? reference.slice(1)
    : onlyNft('a nameless set')
}

function described(reference: Json, { findSet }: Context): SetDescription | undefined {
  return findSet(nameIn(reference))
}

const PORT_SLOT = 4 // an address takes 16 bytes of registers, whatever its family

/** dnat to an address and a port that come from maps. */
function encodeDestination(content: Json, context: Context): Uint8Array[] {
  if (!isObject(content) || Object.keys(content).some(key => !['family', 'addr', 'port'].includes(key)))
    return onlyNft('options of dnat')
  const { addr, port, family } = content
  if (!isObject(addr) || !isObject(addr.map) || !isObject(port) || !isObject(port.map))
    return onlyNft('a destination that is in no map')
  return [
    ...lookUp(addr.map, { context, slot: 0, into: 'register' }),
    ...lookUp(port.map, { context, slot: PORT_SLOT, into: 'register' }),
    expression(
      'nat',
      uint32Big(1, 1), // NFTA_NAT_*; NFT_NAT_DNAT
      uint32Big(2, family === 'ip6' ? 10 : 2), // NFPROTO_IPV6, NFPROTO_IPV4
      uint32Big(3, register(0)),
      uint32Big(5, register(PORT_SLOT)),
    ),
  ]
}

function encodeMatch(content: Json, context: Context): Uint8Array[] {
  const { op = '==', left = null, right = null } = isObject(content) ? content : {}
  if (isObject(left) && 'fib' in left) return matchFib(left.fib ?? null, { op, right })
  if (isObject(left) && 'ct' in left) return matchConnection(left.ct ?? null, { op, right })
  if (op !== '==' && op !== '!=') return onlyNft(`operator ${op}`)
  if (typeof right === 'string' && right.startsWith('@')) {
    const set = described(right, context)
    const parts = [text(1, nameIn(right)), uint32Big(2, register(0))] // NFTA_LOOKUP_*
    if (op === '!=') parts.push(uint32Big(5, 1)) // NFT_LOOKUP_F_INV
    return [...loadKey(left, { context, slot: 0, ...(set ? { set } : {}) }), expression('lookup', ...parts)]
  }
  const operand = operandOf(left, context)
  if (!isObject(right)) return [operand.load(0), compare(operand.type.encode(right), op)]
  return matchPrefix(operand, right, op)
}

function matchPrefix(operand: Operand, right: Json, op: Comparison): Uint8Array[] {
  const { start, mask } = prefixBytes(right, operand.type)
  if (!operand.isPayload) return onlyNft('a prefix of what is not in a packet')
  const whole = mask.indexOf(0)
  const length = whole < 0 ? mask.length : whole
  if (length === 0) return onlyNft('a prefix of no bits')
  const masked = start.map((byte, at) => byte & (mask[at] ?? 0))
  // a prefix of whole bytes is loaded alone
  if (mask[length - 1] === 0xff) return [operand.load(0, length), compare(masked.subarray(0, length), op)]
  return [operand.load(0), keepBits(mask), compare(masked, op)]
}

type Comparison = '==' | '!='

function compare(value: Uint8Array, op: Comparison): Uint8Array {
  return expression(
    'cmp',
    uint32Big(1, register(0)),
    uint32Big(2, op === '==' ? 0 : 1),
    nested(3, attribute(1, value)),
  )
}

function keepBits(mask: Uint8Array): Uint8Array {
  return expression(
    'bitwise',
    uint32Big(1, register(0)), // NFTA_BITWISE_*
    uint32Big(2, register(0)),
    uint32Big(3, mask.length),
    nested(4, attribute(1, mask)),
    nested(5, attribute(1, new Uint8Array(mask.length))),
  )
}

/** A number of four bytes in the processor's order. */
function native(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer)
}

const addressTypes: Readonly<Record<string, number>> = { unicast: 1, local: 2, broadcast: 3, multicast: 5 } // RTN_*
const fibFlags: Readonly<Record<string, number>> = { saddr: 1, daddr: 2 } // NFTA_FIB_F_*

/** The type of an address, as the routing table says. */
function matchFib(fib: Json, { op, right }: { op: Json; right: Json }): Uint8Array[] {
  const { result, flags } = isObject(fib) ? fib : {}
  const [flag] = Array.isArray(flags) && flags.length === 1 ? flags : [flags]
  const bit = fibFlags[String(flag)]
  const type = addressTypes[String(right)]
  if (op !== '==' || result !== 'type' || bit === undefined || type === undefined)
    return onlyNft('a look at the routes')
  const load = expression('fib', uint32Big(1, register(0)), uint32Big(2, 3), uint32Big(3, bit)) // NFT_FIB_RESULT_ADDRTYPE
  return [load, compare(native(type), '==')]
}

/** Bits of NFT_CT_STATE (NF_CT_STATE_BIT) and of NFT_CT_STATUS (IPS_*). */
const connectionKeys: Readonly<Record<string, { key: number; bits: Readonly<Record<string, number>> }>> = {
  state: { key: 0, bits: { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 } },
  status: { key: 2, bits: { 'seen-reply': 2, assured: 4, confirmed: 8, snat: 16, dnat: 32 } },
}

/** Whether a connection has one of some bits. */
function matchConnection(connection: Json, { op, right }: { op: Json; right: Json }): Uint8Array[] {
  const known = isObject(connection) ? connectionKeys[String(connection.key)] : undefined
  if (!known || op !== 'in') return onlyNft('a look at the connection')
  let mask = 0
  for (const name of Array.isArray(right) ? right : [right])
    mask |= known.bits[String(name)] ?? onlyNft(`bit ${name}`)
  return [
    expression('ct', uint32Big(2, known.key), uint32Big(1, register(0))),
    keepBits(native(mask)),
    compare(native(0), '!='),
  ]
}
