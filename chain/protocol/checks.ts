/**
 * Configurations held against plain checks. Those are made of the plugins' schemas (`bun tools/docs.ts`), and take what the schemas
 * take; whatever they do not take is put to the schema itself, for its words. So zod, which costs a call 1.5 ms, is loaded for
 * refusals alone. Pure.
 */
import type { z } from 'zod/mini'
import { isObject, type JsonObject, lookup } from './configuration.ts'

/** What a value has to be. The names of types are zod's. */
export interface Check {
  type:
    | 'unknown'
    | 'string'
    | 'boolean'
    | 'number'
    | 'int'
    | 'custom'
    | 'literal'
    | 'object'
    | 'array'
    | 'record'
  isOptional?: true
  /** What counts where there is none; no rule is asked about it. */
  default?: unknown
  minimum?: number
  maximum?: number
  /** Of a literal: one of these. */
  values?: readonly unknown[]
  /** Of an object. */
  keys?: Readonly<Record<string, Check>>
  /** Of what is in a list or a record. */
  each?: Check
  /** Each has to hold. */
  rules?: readonly ((value: never) => boolean)[]
  /** Each has to find nothing. */
  inspections?: readonly ((inspected: { value: never; issues: never[] }) => void)[]
}

/** A schema's checks, and the schema. */
export interface Checks<Configuration> {
  check: Check
  schema(): Promise<z.ZodMiniType<Configuration>>
}

/** A configuration as its schema describes it. Code 7, with the path of the offending key, for what it refuses. */
export function decode<Configuration>(
  checks: Checks<Configuration>,
  json: unknown,
): Configuration | Promise<Configuration> {
  const value = read(checks.check, json)
  return value === REFUSED ? bySchema(checks, json, 'decodeBySchema') : (value as Configuration)
}

/** As `decode`, for DEL: values that are refused count as absent. Throws only where the schema needs what is not there. */
export function decodeLeniently<Configuration>(
  checks: Checks<Configuration>,
  json: unknown,
): Configuration | Promise<Configuration> {
  const value = read(checks.check, json)
  return value === REFUSED ? bySchema(checks, json, 'decodeLenientlyBySchema') : (value as Configuration)
}

async function bySchema<Configuration>(
  { schema }: Checks<Configuration>,
  json: unknown,
  manner: 'decodeBySchema' | 'decodeLenientlyBySchema',
): Promise<Configuration> {
  const decoders = await import('./by-schema.ts')
  return decoders[manner](await schema(), json)
}

const REFUSED = Symbol('refused')

/** The value as the check describes it: keys in the schema's spelling, without nulls, with defaults; or REFUSED. */
function read(check: Check, given: unknown): unknown {
  if (given === undefined) return absent(check)
  const value = readGiven(check, given)
  if (value === REFUSED) return REFUSED
  if (check.rules) for (const isKept of check.rules) if (!isKept(value as never)) return REFUSED
  if (check.inspections) return inspected(check.inspections, value)
  return value
}

function absent(check: Check): unknown {
  const { default: value, isOptional } = check
  if (value === undefined) return isOptional ? undefined : REFUSED
  return typeof value === 'object' ? structuredClone(value) : value // whoever is given it may change it
}

function inspected(inspections: NonNullable<Check['inspections']>, value: unknown): unknown {
  const issues: never[] = []
  for (const inspect of inspections) inspect({ value: value as never, issues })
  return issues.length === 0 ? value : REFUSED
}

function readGiven(check: Check, given: unknown): unknown {
  const { type } = check
  switch (type) {
    case 'string':
    case 'boolean':
      return typeof given === type ? given : REFUSED
    case 'int':
      return Number.isSafeInteger(given) && isWithin(check, given as number) ? given : REFUSED
    case 'number':
      return Number.isFinite(given) && isWithin(check, given as number) ? given : REFUSED
    case 'object':
      return isObject(given) ? readKeys(check, given) : REFUSED
    case 'array':
      return Array.isArray(given) ? readList(check, given) : REFUSED
    case 'record':
      return isObject(given) ? readRecord(check, given) : REFUSED
    case 'literal':
      return check.values?.includes(given) ? given : REFUSED
    default:
      return given // unknown; or custom, which has rules
  }
}

function isWithin({ minimum, maximum }: Check, value: number): boolean {
  return (minimum === undefined || value >= minimum) && (maximum === undefined || value <= maximum)
}

function readKeys({ keys }: Check, given: JsonObject): unknown {
  const found: JsonObject = {}
  for (const key in keys) {
    const value = read(keys[key] as Check, lookup(given, key))
    if (value === REFUSED) return REFUSED
    if (value !== undefined) found[key] = value
  }
  return found
}

function readList({ each }: Check, given: readonly unknown[]): unknown {
  const found: unknown[] = []
  for (const item of given) {
    const value = read(each as Check, item)
    if (value === REFUSED) return REFUSED
    found.push(value)
  }
  return found
}

function readRecord({ each }: Check, given: JsonObject): unknown {
  const found: JsonObject = {}
  for (const key of Object.keys(given)) {
    if (key === '__proto__') return REFUSED // no key for an object that is made here: the schema may say what becomes of it
    const value = given[key] === null ? undefined : read(each as Check, given[key])
    if (value === REFUSED) return REFUSED
    if (value !== undefined) found[key] = value
  }
  return found
}
