/** What our nftables tables hold, read from the kernel: every element with its owner, and owners' chains. Changes nothing. */
import { addressText } from '../../ip/bytes.ts'
import { hardwareAddressText } from '../../ip/hardware.ts'
import { readText } from '../../linux/netlink/codec.ts'
import type { Transport } from '../../linux/netlink/socket.ts'
import {
  filledSets,
  type Element as KernelElement,
  listChains,
  listElements,
  listRules,
} from '../../linux/nftables/list.ts'
import type { Json } from '../../linux/nftables/nft.ts'
import { ownerIn } from '../../plugin/owner.ts'
import { type Element, elementOf } from './elements.ts'
import {
  type Collection,
  collectionsOf,
  collectionsWith,
  type Field,
  families,
  fieldLength,
  isConditionsChain,
  type OurFamily,
  TABLE,
} from './layout.ts'

/** An element found in the kernel. */
export type FoundElement = Element & Ownership

interface Ownership {
  owner: string | undefined
  comment: string
}

/** All elements in our tables, of all owners. */
export function listOwned(netfilter: Transport, only: readonly OurFamily[] = families): FoundElement[] {
  return only.flatMap(family => listIn(netfilter, family, collectionsOf(family)))
}

/** The elements of some collections of a table; none when there is no such table. */
export function listIn(
  netfilter: Transport,
  family: OurFamily,
  collections: readonly Collection[],
): FoundElement[] {
  return listerFor(netfilter, family)(collections)
}

/** Lists as `listIn`; which collections have elements at all, the table is asked once. */
export function listerFor(
  netfilter: Transport,
  family: OurFamily,
): (collections: readonly Collection[]) => FoundElement[] {
  const filled = filledSets(netfilter, family, TABLE)
  return collections => {
    const found: FoundElement[] = []
    for (const collection of collections) {
      if (!filled.includes(collection.name)) continue
      for (const element of listElements(netfilter, { family, table: TABLE, set: collection.name })) {
        const { comment } = element
        found.push({ ...readElement(element, collection, family), comment, owner: ownerIn(comment) })
      }
    }
    return found
  }
}

/** The kernel's bytes as the collection's fields describe them. */
function readElement(
  element: KernelElement,
  { kind, waitsFor, key, value }: Collection,
  family: OurFamily,
): Element {
  return elementOf({
    family,
    kind,
    ...(waitsFor === undefined ? {} : { waitsFor }),
    key: readKey(element, key, family),
    ...(value === undefined ? {} : { value: readValue(element, value, family) }),
  })
}

function readKey({ key, keyEnd }: KernelElement, fields: readonly Field[], family: OurFamily): Json[] {
  let at = 0
  return fields.map(field => {
    const length = fieldLength(field, family)
    const start = key.subarray(at, at + length)
    const end = keyEnd?.subarray(at, at + length)
    at += (length + 3) & ~3
    return readField(field, start, end)
  })
}

const protocols: Record<number, string> = { 6: 'tcp', 17: 'udp', 132: 'sctp' }

function readField(field: Field, start: Uint8Array, end: Uint8Array | undefined): Json {
  switch (field) {
    case 'address':
      return readInterval(start, end ?? start)
    case 'protocol':
      return protocols[start[0] ?? 0] ?? start[0] ?? 0
    case 'owner':
      return addressText(start)
    case 'port':
    case 'length':
      return ((start[0] ?? 0) << 8) | (start[1] ?? 0)
    case 'interface':
      return readText(start)
    case 'hardware':
      return hardwareAddressText(start)
  }
}

function readInterval(start: Uint8Array, end: Uint8Array): Json {
  let same = 0
  for (let index = 0; index < start.length; index++) {
    const difference = (start[index] ?? 0) ^ (end[index] ?? 0)
    for (let bit = 0x80; bit > 0 && (difference & bit) === 0; bit >>= 1) same++
    if (difference !== 0) break
  }
  return same === start.length * 8 ? addressText(start) : { prefix: { addr: addressText(start), len: same } }
}

function readValue(
  { data, target }: KernelElement,
  kind: 'address' | 'port' | 'verdict',
  family: OurFamily,
): Json {
  if (kind === 'verdict') return { goto: { target: target ?? '' } }
  return readField(kind, data.subarray(0, fieldLength(kind, family)), undefined)
}

/** Owners' chains of conditions. Whose one is, its rules say, and the elements that lead there: either may have been flushed. */
export function ownedChains(netfilter: Transport, family: 'ip' | 'ip6') {
  const chains = listChains(
    netfilter,
    family,
    ({ table, name }) => table === TABLE && isConditionsChain(name),
  )
  if (chains.length === 0) return []
  const owners = new Map<string, string>()
  for (const { value, owner } of listIn(netfilter, family, collectionsWith(family, 'published-conditions')))
    if (owner !== undefined && typeof value === 'object') owners.set(value.goto.target, owner)
  for (const { chain, comment } of listRules(netfilter, { family, table: TABLE })) {
    const owner = ownerIn(comment)
    if (owner !== undefined) owners.set(chain, owner)
  }
  return chains.flatMap(({ name }) => {
    const owner = owners.get(name)
    return owner === undefined ? [] : [{ family, name, owner }]
  })
}
