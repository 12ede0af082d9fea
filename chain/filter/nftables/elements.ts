/**
 * What a container has in our nftables tables, as data: elements and chains of an owner, and the commands that put them there.
 * Pure; the layout itself is layout.ts.
 */
import { familyOf, tableFamilyOf, widthOf } from '../../ip/family.ts'
import type { Command, Json } from '../../linux/nftables/nft.ts'
import type { Owner } from '../../plugin/owner.ts'
import { type Collection, collectionsOf, families, type Kind, type OurFamily, TABLE } from './layout.ts'

/** A network as nft takes it: an address alone where that is all of it. */
export type Network = string | { prefix: { addr: string; len: number } }

/** A port of the host, on all of its addresses or on one. */
export type HostPort =
  | readonly [protocol: string, port: number]
  | readonly [hostAddress: string, protocol: string, port: number]

interface Internet {
  family: 'ip' | 'ip6'
  value?: undefined
}

interface Published {
  family: 'ip' | 'ip6'
  key: HostPort
}

interface Frames {
  family: 'bridge'
  value?: undefined
}

/** What packets are looked up in: a key, and in a map its value. Links are named as in the host. */
export type ActiveElement =
  | (Internet & { kind: 'masquerade'; key: readonly [address: string] })
  | (Internet & { kind: 'masquerade-exception'; key: readonly [address: string, destination: Network] })
  | (Internet & { kind: 'hairpin'; key: readonly [address: string, protocol: string, port: number] })
  | (Internet & { kind: 'hairpin-source'; key: readonly [address: string, source: Network] })
  | (Published & { kind: 'published-address'; value: string })
  | (Published & { kind: 'published-port'; value: number })
  | (Published & { kind: 'published-conditions'; value: { goto: { target: string } } })
  | (Internet & { kind: 'localnet-guard'; key: readonly [link: string] })
  | (Internet & { kind: 'forwarded'; key: readonly [address: string] })
  | (Internet & { kind: 'policy-member' | 'isolated'; key: readonly [bridge: string, address: string] })
  | (Internet & { kind: 'policy-bridge'; key: readonly [bridge: string] })
  | (Internet & { kind: 'policy-inside'; key: readonly [input: string, output: string] })
  | (Frames & { kind: 'guarded-port' | 'isolated-port'; key: readonly [port: string] })
  | (Frames & { kind: 'allowed-source'; key: readonly [port: string, mac: string] })

/** What another network's container has by now: its owner before the key (sharing.ts). */
export interface WaitingElement extends Internet {
  kind: 'waiting'
  waitsFor: ActiveElement['kind']
  key: readonly [owner: string, ...Json[]]
}

export type Element = ActiveElement | WaitingElement

/** What may be an element: as the kernel has it, or a record. */
export interface Fields {
  family: OurFamily
  kind: Element['kind']
  waitsFor?: Kind
  key: readonly Json[]
  value?: Json | undefined
}

function findCollection({ family, kind, waitsFor, key }: Fields): Collection | undefined {
  return collectionsOf(family).find(
    each => each.kind === kind && each.waitsFor === waitsFor && each.key.length === key.length,
  )
}

const isElement = (fields: Fields): fields is Element => findCollection(fields) !== undefined

/** Fields as the element that they are. The layout says which are. */
export function elementOf(fields: Fields): Element {
  if (isElement(fields)) return fields
  throw new TypeError(`nothing of ${fields.family} is ${fields.kind} ${JSON.stringify(fields.key)}`)
}

/** The set or map that an element is in. */
export function collectionOf(element: Element): Collection {
  const found = findCollection(element)
  if (found) return found
  throw new TypeError(`no collection holds ${JSON.stringify(element)}`)
}

/** A chain of an owner's own, named after it, with rules. */
export interface OwnedChain {
  family: OurFamily
  name: string
  rules: readonly Json[][]
}

export interface Owned {
  owner: Owner
  elements: readonly Element[]
  chains?: readonly OwnedChain[]
  /** Elements that belong to all: they stay as long as the table, or as long as their collection is kept. */
  shared?: readonly Element[]
  /** Chains that an administrator fills, and that the overrides jump to. They are made if need be, and left alone. */
  overrides?: readonly { family: 'ip' | 'ip6'; name: string }[]
}

/** A network in CIDR notation. */
export function networkIn(cidr: string): Network {
  const [addr = '', length] = cidr.split('/')
  const full = widthOf(familyOf(addr))
  return Number(length) === full ? addr : { prefix: { addr, len: Number(length) } }
}

/** An address of a container, and the network that it reaches without masquerade ("10.1.0.0/16"). */
export interface Source {
  address: string
  network: string
}

/** Addresses of a container whose traffic leaves masqueraded, but for their own networks. */
export function masquerade(sources: readonly Source[]): Element[] {
  return sources.flatMap<Element>(({ address, network }) => [
    { family: tableFamilyOf(address), kind: 'masquerade', key: [address] },
    { family: tableFamilyOf(address), kind: 'masquerade-exception', key: [address, networkIn(network)] },
  ])
}

function elementJson({ key, value }: Element, comment?: string): Json {
  const [first = null] = key
  const whole: Json = key.length === 1 ? first : { concat: [...key] }
  const element: Json = comment === undefined ? whole : { elem: { val: whole, comment } }
  return value === undefined ? element : [element, value]
}

/** Elements of one collection in one command: nft then sends them in one message. */
export function elementCommands(
  verb: 'create' | 'add' | 'delete',
  elements: readonly { element: Element; comment?: string }[],
): Command[] {
  return families.flatMap(family => {
    const groups = new Map<Collection, Json[]>()
    for (const { element, comment } of elements) {
      if (element.family !== family) continue
      const collection = collectionOf(element)
      const group = groups.get(collection) ?? []
      group.push(elementJson(element, comment))
      groups.set(collection, group)
    }
    return [...groups].map<Command>(([{ name }, elem]) => ({
      verb,
      kind: 'element',
      family,
      table: TABLE,
      name,
      elem,
    }))
  })
}

function chainCommands({ owner, chains = [] }: Owned): Command[] {
  return chains.flatMap(({ family, name, rules }) => [
    // whatever of it a flush has left is the owner's own
    { verb: 'add', kind: 'chain', family, table: TABLE, name },
    { verb: 'flush', kind: 'chain', family, table: TABLE, name },
    ...rules.map<Command>(expr => ({
      verb: 'add',
      kind: 'rule',
      family,
      table: TABLE,
      chain: name,
      expr,
      comment: owner.comment,
    })),
  ])
}

/** Commands that put an owner's elements and chains there; refused as a whole when a key is taken. Pure. */
export function additions(owned: Owned): Command[] {
  const { owner, elements, shared = [] } = owned
  return [
    ...chainCommands(owned),
    ...elementCommands(
      'add',
      shared.map(element => ({ element })),
    ),
    ...elementCommands(
      'create',
      elements.map(element => ({ element, comment: owner.comment })),
    ),
  ]
}

/** A key as text, for comparing. */
export function keyText(element: Element): string {
  return JSON.stringify([element.family, collectionOf(element).name, element.key])
}
