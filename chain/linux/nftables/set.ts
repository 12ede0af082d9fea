/** Sets, maps and their elements as nfnetlink attributes (linux/netfilter/nf_tables.h), as nft writes them. Pure. */

import { attribute, join, nested, text, uint32, uint32Big } from '../netlink/codec.ts'
import type { SetDescription } from './list.ts'
import type { ElementSpec, Json, MapSpec, SetSpec } from './nft.ts'
import {
  commentData,
  type Datatype,
  datatypeNamed,
  isObject,
  keyTypeOf,
  onlyNft,
  padded,
  prefixBytes,
  typesIn,
  verdicts,
} from './type.ts'

const INTERVAL = 4 // NFT_SET_INTERVAL
const MAP = 8 // NFT_SET_MAP
const CONCATENATION = 0x80 // NFT_SET_CONCAT
const VERDICT = 0xffffff00 // NFT_DATA_VERDICT
const VERDICT_LENGTH = 16
const LIST_ELEMENT = 1 // NFTA_LIST_ELEM

/** A new set or map: its attributes, and the description that its elements are encoded by. `id` is its number in the batch. */
export function encodeSet(
  spec: SetSpec | MapSpec,
  id: number,
): { parts: Uint8Array[]; description: SetDescription } {
  const { table, name, type, flags = [] } = spec
  const types = (typeof type === 'string' ? [type] : type).map(datatypeNamed)
  const isInterval = flags.includes('interval')
  if (flags.some(flag => flag !== 'interval') || (isInterval && types.length === 1)) onlyNft('flags of a set')
  const map = 'map' in spec ? spec.map : undefined
  const keyType = keyTypeOf(types)
  const data = map === undefined ? undefined : dataOf(map)
  const flagBits = (isInterval ? INTERVAL | CONCATENATION : 0) | (data ? MAP : 0)
  return {
    parts: [
      text(1, table), // NFTA_SET_*
      text(2, name),
      uint32Big(3, flagBits),
      uint32Big(4, keyType),
      uint32Big(5, keyLength(types)),
      ...(data ? [uint32Big(6, data.type), uint32Big(7, data.length)] : []),
      ...(isInterval ? [nested(9, nested(2, ...types.map(fieldLength)))] : []), // NFTA_SET_DESC_CONCAT
      uint32Big(10, id),
      attribute(13, userdata(types, map)),
    ],
    description: { name, keyType, dataType: data?.type ?? 0, isMap: data !== undefined, isInterval },
  }
}

function dataOf(map: string): { type: number; length: number } {
  if (map === 'verdict') return { type: VERDICT, length: VERDICT_LENGTH }
  const { number, length } = datatypeNamed(map)
  return { type: number, length }
}

function keyLength(types: readonly Datatype[]): number {
  const [only] = types
  if (types.length === 1 && only) return only.length
  let length = 0
  for (const type of types) length += (type.length + 3) & ~3
  return length
}

function fieldLength({ length }: Datatype): Uint8Array {
  return nested(LIST_ELEMENT, uint32Big(1, length)) // NFTA_SET_FIELD_LEN
}

const BIG_ENDIAN = 2
const HOST_ENDIAN = 1

/** What nft notes down for itself, so that it prints values as they were meant (libnftnl's udata.h, NFTNL_UDATA_SET_*). */
function userdata(types: readonly Datatype[], map: string | undefined): Uint8Array {
  const [only] = types
  const keyOrder = types.length > 1 || !only ? 0 : orderOf(only)
  const isTyped = types.length > 1
  return join(
    note(0, keyOrder), // KEYBYTEORDER
    ...(map === undefined ? [] : [note(1, map === 'verdict' ? 0 : orderOf(datatypeNamed(map)))]), // DATABYTEORDER
    ...(isTyped ? [new Uint8Array([3, 8]), note(0, CONCATENATED_KEY), new Uint8Array([1, 0])] : []), // KEY_TYPEOF
    ...(map === undefined ? [] : [note(6, 0)]), // DATA_INTERVAL
  )
}

const CONCATENATED_KEY = 13 // nft's EXPR_CONCAT

function orderOf({ hostOrder }: Datatype): number {
  return hostOrder ? HOST_ENDIAN : BIG_ENDIAN
}

/** A type, a length and four bytes in the processor's order. */
function note(type: number, value: number): Uint8Array {
  return join(new Uint8Array([type, 4]), uint32(0, value).subarray(4))
}

/** A list's length has 16 bits; this leaves room for names beside it. */
const LARGEST_LIST = 32 * 1024

/** The elements of one command, in as many lists as they need. */
export function encodeElements({ elem }: ElementSpec, set: SetDescription): Uint8Array[] {
  const lists: Uint8Array[] = []
  let list: Uint8Array[] = []
  let size = 0
  for (const one of elem) {
    const element = encodeElement(one, set)
    if (size + element.length > LARGEST_LIST) {
      lists.push(nested(3, ...list))
      list = []
      size = 0
    }
    list.push(element)
    size += element.length
  }
  return [...lists, nested(3, ...list)] // NFTA_SET_ELEM_LIST_ELEMENTS
}

/** An element of libnftables-json: a key, a pair of key and value, either within an `elem` that holds a comment. */
function encodeElement(element: Json, set: SetDescription): Uint8Array {
  const [keyed, value] =
    set.isMap && Array.isArray(element) ? [element[0] ?? null, element[1]] : [element, undefined]
  const { key, comment } = unwrap(keyed)
  const bounds = encodeKey(isObject(key) && Array.isArray(key.concat) ? key.concat : [key], set)
  return nested(
    LIST_ELEMENT,
    nested(1, attribute(1, bounds.start)), // NFTA_SET_ELEM_KEY
    ...(set.isInterval ? [nested(10, attribute(1, bounds.end))] : []), // NFTA_SET_ELEM_KEY_END
    ...(value === undefined ? [] : [nested(2, encodeValue(value, set))]),
    ...(comment === undefined ? [] : [attribute(6, commentData(comment))]),
  )
}

function unwrap(keyed: Json): { key: Json; comment?: string } {
  if (!isObject(keyed) || !isObject(keyed.elem)) return { key: keyed }
  const { val = null, comment } = keyed.elem
  return { key: val, ...(comment === undefined ? {} : { comment: String(comment) }) }
}

function encodeKey(
  fields: readonly Json[],
  { isInterval, keyType }: SetDescription,
): { start: Uint8Array; end: Uint8Array } {
  const types = typesIn(keyType)
  if (types.length !== fields.length) onlyNft('a key of another type')
  // intervals of a single field are elements of their own kind
  if (isInterval && fields.length === 1) onlyNft('intervals of a single field')
  const starts: Uint8Array[] = []
  const ends: Uint8Array[] = []
  for (const [index, type] of types.entries()) {
    const field = fields[index] ?? null
    if (isObject(field) && !isInterval) onlyNft('a range in a set without intervals')
    const { start, end } = encodeField(field, type)
    starts.push(fields.length === 1 ? start : padded(start))
    ends.push(fields.length === 1 ? end : padded(end))
  }
  return { start: join(...starts), end: join(...ends) }
}

function encodeField(field: Json, type: Datatype): { start: Uint8Array; end: Uint8Array } {
  if (!isObject(field)) {
    const bytes = type.encode(field)
    return { start: bytes, end: bytes }
  }
  const { start, mask } = prefixBytes(field, type)
  const end = start.slice()
  for (let at = 0; at < end.length; at++) end[at] = (end[at] ?? 0) | (~(mask[at] ?? 0) & 0xff)
  return { start, end }
}

function encodeValue(value: Json, { dataType }: SetDescription): Uint8Array {
  if (isObject(value) && isObject(value.goto)) {
    return nested(2, uint32Big(1, verdicts.goto >>> 0), text(2, String(value.goto.target))) // NFTA_DATA_VERDICT
  }
  const [type] = isObject(value) || dataType >= VERDICT ? [] : typesIn(dataType)
  return type ? attribute(1, type.encode(value)) : onlyNft('a value')
}
