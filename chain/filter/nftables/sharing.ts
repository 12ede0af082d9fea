/**
 * One address on two networks: both may have it, and each of them its own elements for it. The kernel has a key once. The first
 * owner's element is looked up; a second one's waits, with its owner, in a set that no rule looks at, and takes the place of
 * the first when that goes. Of prefixes that contain one another the wider one is looked up. Pure.
 */
import { addressBytes, addressText } from '../../ip/bytes.ts'
import type { Json } from '../../linux/nftables/nft.ts'
import { ownerIn } from '../../plugin/owner.ts'
import { collectionOf, type Element, elementOf, keyText, type WaitingElement } from './elements.ts'
import { collectionsWith, prefixWidth } from './layout.ts'
import type { FoundElement } from './read.ts'

/** The owner's ID as the first field of a key: sixteen bytes, which nft shows as an address. */
export function ownerKey(owner: string): string {
  return addressText(Uint8Array.fromHex(owner.replace('-', '')))
}

function prefixOf(field: Json, family: Element['family']): { addr: string; len: number } {
  const { prefix } = (typeof field === 'object' && field !== null ? field : {}) as {
    prefix?: { addr: string; len: number }
  }
  return prefix ?? { addr: String(field), len: prefixWidth(family) }
}

/** Whether elements of this one's collection may be needed by owners of several networks. */
export function isShareable(element: Element): boolean {
  return collectionOf(element).shareable === true
}

/** An element as it waits for its owner. */
export function waitingElement(element: Element, owner: string): WaitingElement {
  const { family, kind, key } = element
  if (kind === 'waiting' || family === 'bridge') throw new TypeError(`no ${kind} of ${family} waits`)
  const fields = !collectionOf(element).interval
    ? key
    : key.flatMap<Json>((field, at) => {
        const { addr, len } = prefixOf(field, family)
        return at === key.length - 1 ? [addr, len] : [field]
      })
  return { family, kind: 'waiting', waitsFor: kind, key: [ownerKey(owner), ...fields] }
}

/** What an element waits to be; undefined for one that does not wait. */
export function awaited(element: Element): Element | undefined {
  if (element.kind !== 'waiting') return undefined
  const { family, waitsFor: kind } = element
  const [, ...fields] = element.key
  const [target] = collectionsWith(family, kind)
  if (!target?.interval) return elementOf({ family, kind, key: fields })
  const [addr, len] = fields.slice(-2)
  const last = len === prefixWidth(family) ? (addr ?? '') : { prefix: { addr: addr ?? '', len: len ?? 0 } }
  return elementOf({ family, kind, key: [...fields.slice(0, -2), last] })
}

/** Whether all keys of one element are the other's, too: the same key, or a prefix within the other's. */
function isWithin(one: Element, other: Element): boolean {
  const collection = collectionOf(one)
  if (one.family !== other.family || collection !== collectionOf(other)) return false
  if (!collection.interval) return keyText(one) === keyText(other)
  const [last, otherLast] = [one, other].map(({ key, family }) => prefixOf(key.at(-1) ?? '', family))
  const sameBefore = JSON.stringify(one.key.slice(0, -1)) === JSON.stringify(other.key.slice(0, -1))
  return Boolean(sameBefore && last && otherLast && contains(otherLast, last))
}

/** Whether the kernel would refuse one of them beside the other. */
export function areRivals(one: Element, other: Element): boolean {
  return isWithin(one, other) || isWithin(other, one)
}

function contains(wide: { addr: string; len: number }, narrow: { addr: string; len: number }): boolean {
  return wide.len <= narrow.len && bitsOf(wide.addr, wide.len) === bitsOf(narrow.addr, wide.len)
}

const bitsOf = (address: string, length: number) =>
  [...addressBytes(address)]
    .map(byte => byte.toString(2).padStart(8, '0'))
    .join('')
    .slice(0, length)

/** An element as it will be found once it is there. */
export const foundElement = (element: Element, comment: string): FoundElement => ({
  ...element,
  comment,
  owner: ownerIn(comment),
})

/** What is to be done about elements, as two lists. */
export interface Exchange {
  deleted: Element[]
  created: { element: Element; comment: string }[]
}

/**
 * Which of the elements that wait are looked up from now on: those that nothing stands in the way of any more, the widest
 * first.
 */
export function promotions(staying: readonly FoundElement[]): Exchange {
  const waiting = staying.flatMap(element => {
    const target = awaited(element)
    return target ? [{ element, target }] : []
  })
  const active = waiting.length === 0 ? [] : staying.filter(element => awaited(element) === undefined)
  const exchange: Exchange = { deleted: [], created: [] }
  for (const { element, target } of waiting.toSorted(widestFirst)) {
    const rivals = [...active, ...exchange.created.map(({ element }) => element)]
    if (rivals.some(rival => areRivals(rival, target))) continue
    exchange.deleted.push(element)
    exchange.created.push({ element: target, comment: element.comment })
  }
  return exchange
}

function widestFirst(one: { target: Element }, other: { target: Element }): number {
  const width = ({ target: { key, family } }: { target: Element }) => prefixOf(key.at(-1) ?? '', family).len
  return width(one) - width(other)
}

/**
 * Where an owner's element goes that others stand in the way of: in the place of all of them, if it is wider than each, and
 * they wait; else it waits.
 */
export function placeAmong(
  element: Element,
  { rivals, owner }: { rivals: readonly FoundElement[]; owner: { id: string; comment: string } },
): Exchange {
  const isWider = rivals.every(rival => rival.owner !== undefined && !isWithin(element, rival))
  if (!isWider)
    return { deleted: [], created: [{ element: waitingElement(element, owner.id), comment: owner.comment }] }
  return {
    deleted: [...rivals],
    created: [
      ...rivals.map(rival => ({
        element: waitingElement(rival, rival.owner ?? ''),
        comment: rival.comment,
      })),
      { element: element, comment: owner.comment },
    ],
  }
}
