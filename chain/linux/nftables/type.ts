/** nft's datatypes (its datatype.h): number, length in a key, and values as bytes. Pure. */

import { addressBytes, coveredBits } from '../../ip/bytes.ts'
import { hardwareAddressBytes } from '../../ip/hardware.ts'
import { encodeText, join } from '../bytes.ts'
import type { Json } from './nft.ts'

/** What only nft can encode: whoever meets it leaves the whole transaction to nft. */
export class OnlyNft extends Error {
  override name = 'OnlyNft'
}

export function onlyNft(what: string): never {
  throw new OnlyNft(what)
}

export interface Datatype {
  number: number
  /** Bytes in a key, before padding to four. */
  length: number
  /** The kernel has it in the processor's byte order, not the network's. */
  hostOrder?: boolean
  encode(value: Json): Uint8Array
}

const protocolNumbers: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132 }

function twoBytes(value: number): Uint8Array {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff) onlyNft(`port ${value}`)
  return new Uint8Array([value >> 8, value & 0xff])
}

function protocol(value: Json): Uint8Array {
  const number = protocolNumbers[String(value)] ?? Number(value)
  return Number.isInteger(number) && number >= 0 && number < 256
    ? new Uint8Array([number])
    : onlyNft(`protocol ${value}`)
}

function linkName(value: Json): Uint8Array {
  const name = String(value)
  if (name.includes('*') || encodeText(name).length > 15) onlyNft(`link name ${name}`) // IFNAMSIZ, with its zero
  return join(encodeText(name), new Uint8Array(16 - encodeText(name).length))
}

export const datatypes = {
  ipv4_addr: { number: 7, length: 4, encode: value => addressBytes(String(value)) },
  ipv6_addr: { number: 8, length: 16, encode: value => addressBytes(String(value)) },
  ether_addr: { number: 9, length: 6, encode: value => hardwareAddressBytes(String(value)) },
  inet_proto: { number: 12, length: 1, encode: protocol },
  inet_service: { number: 13, length: 2, encode: value => twoBytes(Number(value)) },
  ifname: { number: 41, length: 16, hostOrder: true, encode: linkName },
} as const satisfies Readonly<Record<string, Datatype>>

export function datatypeNamed(name: string): Datatype {
  if (!Object.hasOwn(datatypes, name)) return onlyNft(`type ${name}`)
  return datatypes[name as keyof typeof datatypes]
}

function datatypeNumbered(number: number): Datatype {
  for (const datatype of Object.values(datatypes)) if (datatype.number === number) return datatype
  return onlyNft(`type number ${number}`)
}

const TYPE_BITS = 6

/** The number of a key's type: of a concatenation, six bits for each part. */
export function keyTypeOf(parts: readonly Datatype[]): number {
  let type = 0
  for (const { number } of parts) type = (type << TYPE_BITS) | number
  return type
}

/** The parts of a key's type. */
export function typesIn(keyType: number): Datatype[] {
  const types: Datatype[] = []
  for (let rest = keyType; rest > 0; rest >>>= TYPE_BITS)
    types.unshift(datatypeNumbered(rest & ((1 << TYPE_BITS) - 1)))
  return types
}

/** A part of a concatenation fills registers of four bytes. */
export function padded(bytes: Uint8Array): Uint8Array {
  const result = new Uint8Array((bytes.length + 3) & ~3)
  result.set(bytes)
  return result
}

export function isObject(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A prefix of libnftables-json as bytes: its first address and its mask. */
export function prefixBytes(value: Json, datatype: Datatype): { start: Uint8Array; mask: Uint8Array } {
  const { addr = '', len = 0 } = isObject(value) && isObject(value.prefix) ? value.prefix : onlyNft('a range')
  const start = datatype.encode(addr)
  const mask = new Uint8Array(start.length)
  for (let at = 0; at < mask.length; at++) mask[at] = coveredBits(Number(len), at)
  return { start, mask }
}

/** nft's own limit, NFTNL_UDATA_COMMENT_MAXLEN. */
const LONGEST_COMMENT = 128

/** Userdata as nft writes it: type 0 (comment), length, text with its terminating zero. */
export function commentData(comment: string): Uint8Array {
  const bytes = encodeText(`${comment}\0`)
  if (bytes.length > LONGEST_COMMENT + 1) onlyNft('a comment longer than nft takes')
  return join(new Uint8Array([0, bytes.length]), bytes)
}

/** Verdicts of linux/netfilter/nf_tables.h and linux/netfilter.h. */
export const verdicts = { drop: 0, accept: 1, jump: -3, goto: -4, return: -5 } as const
