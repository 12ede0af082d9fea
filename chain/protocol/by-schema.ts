/** Configurations held against schemas, and refusals in sentences that start with the key. Pure. */
import type { z } from 'zod/mini'
import { isObject, type JsonObject, lookup } from './configuration.ts'
import { CniError, code } from './error.ts'

/** The parts of a zod schema that matching keys needs; the same for zod's every flavour. */
interface SchemaDefinition {
  type: string
  shape?: Record<string, Schema>
  element?: Schema
  innerType?: Schema
  valueType?: Schema
  options?: readonly Schema[]
  in?: Schema
}
interface Schema {
  _zod: { def: SchemaDefinition }
}

/** Renames keys to the schema's spelling and drops nulls. Keys of records are data and stay. */
export function matchKeys(schema: Schema, value: unknown): unknown {
  const { type, shape, element, innerType, valueType, options, in: input } = schema._zod.def
  if (type === 'object' && shape && isObject(value)) return matchObject(shape, value)
  if (type === 'array' && element && Array.isArray(value)) return value.map(item => matchKeys(element, item))
  if (type === 'record' && valueType && isObject(value)) {
    const matched: JsonObject = {}
    for (const [key, item] of Object.entries(value))
      if (item !== null) matched[key] = matchKeys(valueType, item)
    return matched
  }
  if (options) {
    const kind = Array.isArray(value) ? 'array' : 'object'
    const fitting = options.find(option => option._zod.def.type === kind)
    return fitting ? matchKeys(fitting, value) : value
  }
  if (type === 'pipe' && input) return matchKeys(input, value)
  return innerType ? matchKeys(innerType, value) : value
}

function matchObject(shape: Record<string, Schema>, value: JsonObject): JsonObject {
  const matched: JsonObject = {}
  for (const [key, schema] of Object.entries(shape)) {
    const found = lookup(value, key)
    if (found !== undefined) matched[key] = matchKeys(schema, found)
  }
  return matched
}

/** A configuration as its schema describes it. Code 7, with the path of the offending key, for what it refuses. */
export function decodeBySchema<Output>(schema: z.ZodMiniType<Output>, json: unknown): Output {
  const matched = matchKeys(schema as unknown as Schema, json)
  const outcome = schema.safeParse(matched)
  if (outcome.success) return outcome.data
  const { issues } = outcome.error
  const sentences = issues.slice(0, TOLD).map(issue => sentenceAbout(issue, matched))
  if (issues.length > TOLD) sentences.push(`and ${issues.length - TOLD} more`)
  throw new CniError(code.invalidConfiguration, sentences[0] ?? 'the configuration is not valid', {
    details: sentences.slice(1).join('; ') || undefined,
  })
}

/** So many offending keys are told one by one: a list can have thousands. */
const TOLD = 20

/**
 * As `decodeBySchema`, for DEL: values that the schema refuses count as absent, since what ADD refused must not keep a runtime from
 * cleaning up. Throws only where the schema needs what is not there. Each round drops all that was refused, the innermost: what
 * holds it is judged again in the next one.
 */
export function decodeLenientlyBySchema<Output>(schema: z.ZodMiniType<Output>, json: unknown): Output {
  let matched = matchKeys(schema as unknown as Schema, json)
  for (;;) {
    const outcome = schema.safeParse(matched)
    if (outcome.success) return outcome.data
    const refused = refusedParts(matched, outcome.error.issues)
    if (isDropped(refused)) return decodeBySchema(schema, json)
    matched = without(matched, refused)
  }
}

/** What is refused, as a tree: keys of a value, with what is refused inside theirs. */
interface Refused {
  isWhole: boolean
  inside: Map<string, Refused>
}

function isDropped({ isWhole, inside }: Refused): boolean {
  return isWhole && inside.size === 0
}

function refusedParts(root: unknown, issues: readonly Issue[]): Refused {
  const refused: Refused = { isWhole: false, inside: new Map() }
  for (const { path } of issues) {
    let value = root
    let part = refused
    for (const step of path) {
      value = childOf(value, step)
      if (value === undefined) break // it is missing, so that what lacks it is refused
      part = part.inside.getOrInsertComputed(String(step), () => ({ isWhole: false, inside: new Map() }))
    }
    part.isWhole = true
  }
  return refused
}

function without(value: unknown, { inside }: Refused): unknown {
  if (inside.size === 0 || typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).flatMap(([key, item]) => {
    const refused = inside.get(key)
    if (!refused) return [[key, item] as const]
    return isDropped(refused) ? [] : [[key, without(item, refused)] as const]
  })
  return Array.isArray(value) ? entries.map(([, item]) => item) : Object.fromEntries(entries)
}

function childOf(value: unknown, step: PropertyKey): unknown {
  return typeof value === 'object' && value !== null ? (value as JsonObject)[String(step)] : undefined
}

/** "ranges[0][1].gateway". */
export function formatPath(path: readonly PropertyKey[]): string {
  return path
    .map((step, index) => (typeof step === 'number' ? `[${step}]` : `${index > 0 ? '.' : ''}${String(step)}`))
    .join('')
}

type Issue = z.core.$ZodIssue

/** What a schema refuses: where, and why; `isMissing`: there is nothing. */
export interface Refusal {
  path: readonly PropertyKey[]
  says: string
  isMissing: boolean
}

/**
 * All that a schema refuses, for who shows it where it stands. What is wrong among several keys comes to light when what is wrong
 * with each has been dropped; what is missing only then is not.
 */
export function refusalsOf(schema: z.ZodMiniType, json: unknown): Refusal[] {
  const found: Refusal[] = []
  for (let matched = matchKeys(schema as unknown as Schema, json); ; ) {
    const outcome = schema.safeParse(matched)
    if (outcome.success) return found
    const { issues } = outcome.error
    const isFirst = found.length === 0
    found.push(
      ...issues.map(issue => describeIssue(issue, matched)).filter(({ isMissing }) => isFirst || !isMissing),
    )
    const refused = refusedParts(matched, issues)
    if (isDropped(refused)) return found
    matched = without(matched, refused)
  }
}

const MISSING_IPAM = "IPAM config missing 'ipam' key" // as the Go plugins say it

function sentenceAbout(issue: Issue, input: unknown): string {
  const { path, says } = describeIssue(issue, input)
  return says === MISSING_IPAM ? says : `${formatPath(path) || 'configuration'}: ${says}`
}

function describeIssue(issue: Issue, input: unknown): Refusal {
  const { path } = issue
  const value = issue.path.reduce<unknown>(
    (inner, step) =>
      typeof inner === 'object' && inner !== null ? (inner as JsonObject)[String(step)] : undefined,
    input,
  )
  if (value === undefined)
    return { path, says: formatPath(path) === 'ipam' ? MISSING_IPAM : 'is missing', isMissing: true }
  return { path, says: `${requirement(issue)}: got ${shorten(JSON.stringify(value))}`, isMissing: false }
}

function shorten(text: string): string {
  return text.length > 100 ? `${text.slice(0, 97)}...` : text
}

const typeNames: Readonly<Record<string, string>> = {
  int: 'an integer',
  number: 'a number',
  string: 'a string',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
}

/** zod/mini has no sentences without a locale and calls everything "Invalid input". */
function requirement(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `must be ${typeNames[issue.expected] ?? issue.expected}`
    case 'too_small':
      return issue.origin === 'string' || issue.origin === 'array'
        ? 'must not be empty'
        : `must be at least ${issue.minimum}`
    case 'too_big':
      return `must be at most ${issue.maximum}`
    case 'invalid_value':
      return `must be one of ${issue.values.map(value => JSON.stringify(value)).join(', ')}`
    case 'invalid_union':
      return 'is of the wrong type'
    default:
      return issue.message && issue.message !== 'Invalid input' ? issue.message : 'is not valid'
  }
}
