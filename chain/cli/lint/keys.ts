/** Keys that are not read: written twice, misspelt, or in the wrong place. */

import type { Node } from 'jsonc-parser'
import { closestMatch } from 'leven'
import { isObject } from '../../protocol/configuration.ts'
import type { Document, Path } from './document.ts'
import type { Fault } from './fault.ts'

/** The parts of a zod schema that tell which keys it has. */
interface Schema {
  _zod: {
    def: {
      type: string
      shape?: Record<string, Schema>
      element?: Schema
      innerType?: Schema
      options?: readonly Schema[]
      in?: Schema
    }
  }
}

/** The key that somebody may have meant, if there is one near enough. */
export function didYouMean(key: string, candidates: readonly string[]): string | undefined {
  const plain = (text: string) => text.toLowerCase().replaceAll(/[-_. ]/g, '')
  const names = new Map(candidates.map(each => [plain(each), each]))
  const written = plain(key)
  const letters = (text: string) => [...text].toSorted().join('')
  const swapped = [...names.keys()].find(each => letters(each) === letters(written))
  if (swapped !== undefined) return names.get(swapped)
  const found = closestMatch(written, [...names.keys()], {
    maxDistance: Math.max(1, Math.floor(written.length / 3)),
  })
  return found === undefined ? undefined : names.get(found)
}

/** Objects that have a key twice: the last one counts, and no error says so. */
export function duplicateFaults(document: Document): Fault[] {
  const visit = (node: Node): Fault[] => {
    const own = node.type === 'object' ? duplicatesIn(document, node) : []
    return [...own, ...(node.children ?? []).flatMap(visit)]
  }
  return document.root ? visit(document.root) : []
}

function duplicatesIn(document: Document, { children = [] }: Node): Fault[] {
  const seen = new Map<string, Node>()
  return children.flatMap((property): Fault[] => {
    const key = property.children?.[0]
    const name: string = key?.value ?? ''
    const before = seen.get(name.toLowerCase())
    if (key) seen.set(name.toLowerCase(), key)
    if (!key || !before) return []
    const isSame = before.value === name
    return [
      {
        document,
        rule: 'duplicate-key',
        level: 'error',
        path: [],
        span: key,
        says: isSame ? `"${name}" stands here twice` : `"${name}" and "${before.value}" are one key`,
        why: isSame ? 'only the last one is read' : 'plugins match keys without regard to case',
        write: 'one of them',
      },
    ]
  })
}

/** The keys that a schema has, through everything that is around it; undefined for what is no object with known keys. */
export function shapeOf(schema: unknown): Readonly<Record<string, unknown>> | undefined {
  const { shape, innerType, in: input } = (schema as Schema)._zod.def
  if (shape) return shape
  const inner = innerType ?? input
  return inner && shapeOf(inner)
}

function elementOf(schema: Schema): Schema | undefined {
  const { element, innerType, in: input } = schema._zod.def
  const inner = innerType ?? input
  return element ?? (inner && elementOf(inner))
}

export interface KnownKeys {
  /** Whose keys: "bridge", "ipam of host-local". */
  owner: string
  /** Schemas by key; undefined for keys of which nothing more is known. */
  keys: Readonly<Record<string, unknown>>
  /** Keys that are read elsewhere, with where that is: "ipam". */
  elsewhere: Readonly<Record<string, string>>
}

/** Keys of an object, and of what is inside, that a plugin passes over. */
export function unknownKeys(
  document: Document,
  { path, value }: { path: Path; value: unknown },
  known: KnownKeys,
): Fault[] {
  if (!isObject(value)) return []
  const { owner, keys, elsewhere } = known
  const names = Object.keys(keys)
  return Object.entries(value).flatMap(([key, inner]): Fault[] => {
    if (key.startsWith('cni.dev/')) return [] // the specification's own
    const name =
      names.find(each => each === key) ?? names.find(each => each.toLowerCase() === key.toLowerCase())
    const at = [...path, key]
    if (name === undefined) return [unknownKey(document, at, { key, owner, names, elsewhere })]
    return keys[name] === undefined
      ? []
      : below(document, { path: at, value: inner }, { owner, schema: keys[name] as Schema })
  })
}

function below(
  document: Document,
  { path, value }: { path: Path; value: unknown },
  { owner, schema }: { owner: string; schema: Schema },
): Fault[] {
  const element = elementOf(schema)
  if (Array.isArray(value) && element)
    return value.flatMap((item, index) =>
      below(document, { path: [...path, index], value: item }, { owner, schema: element }),
    )
  const keys = shapeOf(schema)
  if (!keys) return []
  const last = path.findLast(each => typeof each === 'string')
  return unknownKeys(document, { path, value }, { owner: `${last} of ${owner}`, keys, elsewhere: {} })
}

function unknownKey(
  document: Document,
  path: Path,
  {
    key,
    owner,
    names,
    elsewhere,
  }: { key: string; owner: string; names: readonly string[]; elsewhere: KnownKeys['elsewhere'] },
): Fault {
  const head = { document, path, at: 'key' } as const
  const meant = didYouMean(key, names)
  const place = Object.keys(elsewhere).find(each => each.toLowerCase() === key.toLowerCase())
  if (place !== undefined) {
    return {
      ...head,
      rule: 'misplaced-key',
      level: 'error',
      says: `"${key}" is not read here`,
      why: `it is a key of ${elsewhere[place]}`,
      write: `"${place}" in ${elsewhere[place]}`,
    }
  }
  const why = 'a key that is not known is passed over without a word'
  const says = `${owner} has no key "${key}"`
  if (meant === undefined) return { ...head, rule: 'unknown-key', level: 'warning', says, why }
  return {
    ...head,
    rule: 'unknown-key',
    level: 'error',
    says: `${says}: did you mean "${meant}"?`,
    why,
    write: `"${meant}"`,
  }
}
