/** A configuration file as text and as a tree, so that whatever is said of a value can be shown where it stands. */
import { type Node, type ParseError, parseTree } from 'jsonc-parser'

/** Keys and positions from the document's root: ["plugins", 0, "bridge"]. */
export type Path = readonly (string | number)[]

/** Characters of a text, from 0. */
export interface Span {
  offset: number
  length: number
}

export interface Document {
  file: string
  text: string
  /** Undefined where there is nothing at all. */
  root: Node | undefined
  /** What the text says; undefined of a broken one. */
  value: unknown
  /** What is wrong with the text as JSON, in its order. */
  errors: readonly ParseError[]
}

export function parseDocument(file: string, text: string): Document {
  const errors: ParseError[] = []
  const root = parseTree(text, errors, { disallowComments: true, allowTrailingComma: false })
  return { file, text, root, value: errors.length === 0 ? valueIn(text) : undefined, errors }
}

function valueIn(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** A property as Go's decoder finds it: spelt exactly, else whatever its case; of several the last. */
function propertyOf(node: Node, name: string): Node | undefined {
  const properties = node.children ?? []
  const nameOf = (property: Node): string => property.children?.[0]?.value ?? ''
  return (
    properties.findLast(each => nameOf(each) === name) ??
    properties.findLast(each => nameOf(each).toLowerCase() === name.toLowerCase())
  )
}

function step(node: Node, key: string | number): { key: Node | undefined; value: Node | undefined } {
  if (typeof key === 'number')
    return { key: undefined, value: node.type === 'array' ? node.children?.[key] : undefined }
  const property = node.type === 'object' ? propertyOf(node, key) : undefined
  return { key: property?.children?.[0], value: property?.children?.[1] }
}

/**
 * Where a key or its value stands. What is not there is shown at the nearest thing around it that is: the key of the object
 * that lacks it, or its brace.
 */
export function spanOf({ root, text }: Document, path: Path, at: 'key' | 'value' = 'value'): Span {
  if (!root) return { offset: 0, length: Math.min(text.length, 1) }
  let found: { key: Node | undefined; value: Node } = { key: undefined, value: root }
  for (const [index, name] of path.entries()) {
    const { key, value } = step(found.value, name)
    if (!value) return asSpan(found.key ?? found.value, text)
    found = { key, value }
    if (index === path.length - 1 && at === 'key' && key) return asSpan(key, text)
  }
  return asSpan(found.value, text)
}

/** An object or list of several lines is shown at its beginning. */
function asSpan({ offset, length }: Span, text: string): Span {
  const end = text.slice(offset, offset + length).indexOf('\n')
  return { offset, length: end < 0 ? length : 1 }
}

export interface Place {
  /** From 1; columns count UTF-16 units, as editors do. */
  line: number
  column: number
  /** Behind the last character. */
  endColumn: number
  /** The whole line. */
  source: string
}

export function placeOf(text: string, { offset, length }: Span): Place {
  const start = text.lastIndexOf('\n', offset - 1) + 1
  const end = text.indexOf('\n', offset)
  const source = text.slice(start, end < 0 ? text.length : end).replace(/\r$/, '')
  const column = offset - start + 1
  return {
    line: text.slice(0, start).split('\n').length,
    column,
    endColumn: Math.max(column + 1, Math.min(column + length, source.length + 1)),
    source,
  }
}
