/** Every plugin's schema as JSON Schema (draft 2020-12) with its page's words in it: for pages and for editors, from one source. */
import * as z from 'zod/mini'
import { plugins } from '../../chain/catena.ts'
import type { DescribedKey, KeyText } from './page.ts'
import { pages } from './pages.ts'

export interface JsonSchema {
  $schema?: string
  type?: string | readonly string[]
  description?: string
  properties?: Record<string, JsonSchema>
  items?: JsonSchema
  required?: string[]
  additionalProperties?: JsonSchema | boolean
  propertyNames?: JsonSchema
  default?: unknown
  const?: unknown
  enum?: readonly unknown[]
  minimum?: number
  maximum?: number
  anyOf?: readonly JsonSchema[]
  allOf?: readonly JsonSchema[]
  if?: JsonSchema
  then?: JsonSchema
  title?: string
  $ref?: string
  $defs?: Record<string, JsonSchema>
}

export const types: readonly string[] = Object.keys(plugins).toSorted()

export const ipamTypes: readonly string[] = types.filter(type => plugins[type]?.file.startsWith('ipam/'))

/** What ADD holds a configuration against; undefined for a plugin that takes none. */
export async function schemaOf(type: string): Promise<z.ZodMiniType | undefined> {
  const plugin = await plugins[type]?.load()
  return (await (plugin?.strict ?? plugin?.config)?.schema()) as z.ZodMiniType | undefined
}

export function describedKey(text: KeyText): DescribedKey {
  return typeof text === 'string' ? { says: text } : text
}

/** A leaf of a configuration: "ipam.ranges[][].subnet". */
export interface Key {
  path: string
  schema: JsonSchema
  isRequired: boolean
}

/** What the frame adds by itself, and is not configured. */
const internal = /^(name|prevResult)$/

/** All leaves, in the schema's order. */
export function keysOf(schema: JsonSchema, { path = '', isRequired = false } = {}): Key[] {
  if (schema.properties) {
    return Object.entries(schema.properties)
      .filter(([name]) => path !== '' || !internal.test(name))
      .flatMap(([name, inner]) =>
        keysOf(inner, {
          path: path === '' ? name : `${path}.${name}`,
          isRequired: schema.required?.includes(name) ?? false,
        }),
      )
  }
  if (schema.items) return keysOf(schema.items, { path: `${path}[]`, isRequired })
  return path === '' ? [] : [{ path, schema, isRequired }]
}

const HUGE = Number.MAX_SAFE_INTEGER

/** zod's bounds of every integer are none of the plugin's. */
function withoutHugeBounds(schema: JsonSchema): void {
  if (schema.minimum === -HUGE) delete schema.minimum
  if (schema.maximum === HUGE) delete schema.maximum
}

function addWords({ path, schema }: Key, text: KeyText | undefined): void {
  if (text === undefined) throw new Error(`nothing is said about the key ${path}`)
  const { says, values, minimum, maximum } = describedKey(text)
  withoutHugeBounds(schema)
  schema.description = says.replaceAll(/\]\([^)]*\)/g, ']').replaceAll(/[`[\]]/g, '')
  if (values) Object.assign(schema, { enum: values })
  if (minimum !== undefined) schema.minimum = minimum
  if (maximum !== undefined) schema.maximum = maximum
}

/** A schema with what a page says about its keys; throws where a key has no words, or words have no key. */
export function withWords(json: JsonSchema, words: Readonly<Record<string, KeyText>>): JsonSchema {
  const keys = keysOf(json)
  for (const key of keys) addWords(key, words[key.path])
  const unknown = Object.keys(words).find(path => !keys.some(key => key.path === path))
  if (unknown !== undefined) throw new Error(`there is no key ${unknown}`)
  return json
}

/** A plugin's configuration, with its page's words. */
export async function jsonSchemaOf(type: string): Promise<JsonSchema> {
  const schema = await schemaOf(type)
  const json: JsonSchema = schema
    ? (z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as JsonSchema)
    : { type: 'object', properties: {} }
  delete json.$schema
  try {
    return withWords(json, pages[type]?.keys ?? {})
  } catch (thrown) {
    throw new Error(`tools/docs/plugins/${type}.ts: ${thrown instanceof Error ? thrown.message : thrown}`)
  }
}

const DRAFT = 'https://json-schema.org/draft/2020-12/schema'

/** What a plugin's object in a list has: without what the runtime hands over, with its capabilities instead. */
function inList(type: string, { properties = {}, required = [] }: JsonSchema): JsonSchema {
  const { runtimeConfig, name: _name, prevResult: _previous, ipam, ...own } = properties
  const isIpam = ipamTypes.includes(type)
  const capabilities = Object.fromEntries(
    Object.keys(runtimeConfig?.properties ?? {}).map(name => [name, { type: 'boolean' }]),
  )
  const typeOnly = { type: { const: type, description: pages[type]?.line ?? '' } }
  if (isIpam) {
    const { properties: keys = {}, required: needed = [] } = ipam ?? {}
    return { type: 'object', properties: { ...typeOnly, ...keys }, required: ['type', ...needed] }
  }
  return {
    type: 'object',
    properties: {
      ...typeOnly,
      ...own,
      ...(ipam ? { ipam: { allOf: [ipam, { $ref: '#/$defs/ipam' }] } } : {}),
      capabilities: { type: 'object', properties: capabilities, additionalProperties: { type: 'boolean' } },
    },
    required: ['type', ...required.filter(name => name !== 'ipam')],
  }
}

/** By its type one schema or another; a type that is not ours passes. */
function choice(among: readonly string[]): JsonSchema {
  return {
    type: 'object',
    properties: {
      type: { type: 'string', description: 'Name of the plugin’s file in a folder of CNI_PATH.' },
    },
    allOf: among.map(type => ({
      if: { properties: { type: { const: type } }, required: ['type'] },
      // biome-ignore lint/suspicious/noThenProperty: the keyword's name
      then: { $ref: `#/$defs/${type}` },
    })),
  }
}

/** The schema of network configuration lists, `*.conflist`. */
export async function conflistSchema(): Promise<JsonSchema> {
  const definitions = await Promise.all(
    types.map(async type => [type, inList(type, await jsonSchemaOf(type))] as const),
  )
  const inLists = types.filter(type => !ipamTypes.includes(type))
  return {
    $schema: DRAFT,
    title: 'CNI network configuration list',
    type: 'object',
    properties: {
      cniVersion: { type: 'string', description: 'Version of the specification, 0.1.0 to 1.1.0.' },
      name: { type: 'string', description: 'The network’s name: one for each on a host.' },
      disableCheck: { type: 'boolean', description: 'CHECK succeeds without asking any plugin.' },
      disableGC: { type: 'boolean', description: 'GC does nothing.' },
      loadOnlyInlinedPlugins: {
        type: 'boolean',
        description: 'No files of a folder with the network’s name are added.',
      },
      plugins: {
        type: 'array',
        description: 'In the order of ADD.',
        items: { allOf: [choice(inLists)], required: ['type'] },
      },
    },
    required: ['name'],
    $defs: { ...Object.fromEntries(definitions), ipam: choice(ipamTypes) },
  }
}

/** All files of dist/schemas/. */
export async function schemaFiles(): Promise<Record<string, JsonSchema>> {
  const plugins = await Promise.all(
    types.map(async type => {
      const schema = await jsonSchemaOf(type)
      return [`${type}.json`, { $schema: DRAFT, title: type, ...schema }] as const
    }),
  )
  return { 'conflist.json': await conflistSchema(), ...Object.fromEntries(plugins) }
}
