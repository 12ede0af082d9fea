/**
 * Lists of ten thousand entries in every array that a plugin's configuration may have: invalid ones, valid ones, one entry again and
 * again. What a verb makes of them is its own affair, but DEL succeeds, and none of them takes long. The arrays are found by
 * walking the plugins' schemas, so that a new one is tried by itself.
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { Glob } from 'bun'
import * as z from 'zod/mini'
import { plugins } from '../../chain/catena.ts'
import type { Plugin } from '../../chain/plugin/define.ts'
import { configuration as hostLocal } from '../../ipam/host-local/schema.ts'
import { configuration as staticAddresses } from '../../ipam/static/schema.ts'
import { strict as flannel } from '../../meta/flannel/schema.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { call, type Verb } from '../fixtures/plugin.ts'

const LENGTH = 10_000
const LIMIT = 2000 // milliseconds

/** The parts of a schema that are walked; as by-schema.ts has them. */
interface Definition {
  type: string
  shape?: Record<string, Schema>
  element?: Schema
  innerType?: Schema
  valueType?: Schema
  options?: readonly Schema[]
  in?: Schema
}
type Schema = z.ZodMiniType & { _zod: { def: Definition } }

interface List {
  path: string[]
  element: Schema
}

const root = `${import.meta.dir}/../..`

/** Every array of a schema; a path goes through lists by their first entry. */
function listsIn(schema: Schema, path: string[] = []): List[] {
  const { type, shape, element, innerType, valueType, options = [], in: input } = schema._zod.def
  if (type === 'array' && element) return [{ path, element }, ...listsIn(element, [...path, '0'])]
  const parts = Object.entries(shape ?? {}).flatMap(([key, part]) => listsIn(part, [...path, key]))
  const inner = [innerType, input, ...options].flatMap(part => (part ? listsIn(part, path) : []))
  return [...parts, ...inner, ...(valueType ? listsIn(valueType, [...path, 'any']) : [])]
}

const isSchema = (value: unknown): value is Schema => value instanceof z.ZodMiniObject

/** Schemas besides those that the run decodes for every verb: of plugins that decode for some verbs only. */
const more: Record<string, unknown> = { flannel, 'host-local': hostLocal, static: staticAddresses }

async function schemasOf(name: string): Promise<Schema[]> {
  const { config } = await pluginOf(name)
  return [await config?.schema(), more[name]].filter(isSchema)
}

async function pluginOf(name: string): Promise<Plugin> {
  const plugin = await plugins[name]?.load()
  if (!plugin) throw new Error(`there is no plugin ${name}`)
  return plugin
}

/** What every configuration has besides, as far as it is lists. */
const common: List[] = ['interfaces', 'ips', 'routes'].map(key => ({
  path: ['prevResult', key],
  element: z.object({
    name: z.string(),
    address: z.string().check(z.refine(text => text.includes('/'))),
    dst: z.string().check(z.refine(text => text.includes('/'))),
  }) as unknown as Schema,
}))
common.push({
  path: ['cni.dev/valid-attachments'],
  element: z.object({ containerID: z.string(), ifname: z.string() }) as unknown as Schema,
})

async function listsOf(name: string): Promise<List[]> {
  const found = (await schemasOf(name)).flatMap(schema => listsIn(schema))
  const byPath = new Map(found.map(list => [list.path.join('.'), list]))
  return [...byPath.values(), ...common]
}

const names = Object.keys(plugins)
const lists = new Map(await Promise.all(names.map(async name => [name, await listsOf(name)] as const)))

/** A value that a schema takes, another one for each number as far as it has so many. */
function valid(schema: Schema, index: number): unknown {
  const { type, shape, element, innerType, options, in: input } = schema._zod.def
  if (shape) return Object.fromEntries(Object.entries(shape).map(([key, part]) => [key, valid(part, index)]))
  if (type === 'array' && element) return [valid(element, index)]
  const inner = innerType ?? input ?? options?.[0]
  if (inner) return valid(inner, index)
  const network = `10.${index >> 8}.${index & 255}`
  const texts = [`${network}.0/24`, `${network}.2`, 'tcp', `word${index}`]
  const tried = [...texts, index + 1, (index % 4094) + 1, index % 2 === 0, {}]
  return tried.find(value => schema.safeParse(value).success)
}

/** What no element is: of another type, without its keys, with keys of another type. */
function invalid(element: Schema): unknown[] {
  const keys = Object.keys(element._zod.def.shape ?? {})
  return keys.length === 0
    ? [7.5, 'no \0 such']
    : [7.5, {}, Object.fromEntries(keys.map(key => [key, { none: true }]))]
}

function placed([key, ...rest]: readonly string[], list: unknown): unknown {
  if (key === undefined) return list
  return key === '0' ? [placed(rest, list)] : { [key]: placed(rest, list) }
}

/** Of what all plugins read alike, the kind that goes furthest. */
function contentsOf({ path: [first], element }: List): [string, unknown[]][] {
  const all = contents(element)
  return common.some(({ path }) => path[0] === first) ? all.slice(-2, -1) : all
}

function contents(element: Schema): [string, unknown[]][] {
  return [
    ...invalid(element).map((value, index): [string, unknown[]] => [
      `invalid entries, kind ${index}`,
      new Array(LENGTH).fill(value),
    ]),
    [
      'valid and invalid entries in turn',
      Array.from({ length: LENGTH }, (_, at) => (at % 2 ? 7.5 : valid(element, at))),
    ],
    ['valid entries', Array.from({ length: LENGTH }, (_, at) => valid(element, at))],
    ['one valid entry again and again', new Array(LENGTH).fill(valid(element, 1))],
  ]
}

const prevResult = {
  cniVersion: '1.1.0',
  interfaces: [{ name: 'host0' }, { name: 'eth0', sandbox: '/run/netns/none' }],
  ips: [{ address: '10.1.2.3/24', interface: 1 }],
}

/** What a plugin needs besides. */
const base: Record<string, object> = {
  bridge: { bridge: 'lists0' },
  dhcp: { ipam: { type: 'dhcp', daemonSocketPath: '/run/none/dhcp.sock' } },
  'host-local': { ipam: { type: 'host-local', dataDir: '/run/lists' } },
}

function merged(one: unknown, other: unknown): unknown {
  if (typeof one !== 'object' || typeof other !== 'object' || Array.isArray(one) || !one || !other)
    return other
  const keys = [...new Set([...Object.keys(one), ...Object.keys(other)])] as (keyof typeof one)[]
  return Object.fromEntries(
    keys.map(key => [
      key,
      key in one && key in other ? merged(one[key], other[key]) : (other[key] ?? one[key]),
    ]),
  )
}

/** Milliseconds of a call, and its status. */
async function timed(plugin: Plugin, verb: Verb, config: object, netns: string) {
  const start = performance.now()
  const { status, stdout, json } = await call(plugin, verb, { config, netns })
  return { took: performance.now() - start, status, stdout, json }
}

test('whoever decodes for itself is among them', async () => {
  const sources = [...new Glob('{main,meta,ipam}/**/*.ts').scanSync(root)]
  const texts = await Promise.all(sources.map(file => Bun.file(`${root}/${file}`).text()))
  const decoding = sources.filter((_, at) => /\bdecode\([a-z]+, /.test(texts[at] ?? ''))
  expect(decoding.sort()).toEqual([
    'ipam/dhcp/daemon/registry.ts', // with the plugin's schema
    'ipam/host-local/configuration.ts',
    'ipam/static.ts',
    'meta/flannel/configuration.ts',
  ])
})

test('every array of the sources is found', () => {
  const paths = (name: string) => lists.get(name)?.map(({ path }) => path.join('.')) ?? []
  expect(paths('portmap').slice(0, 3)).toEqual(['conditionsV4', 'conditionsV6', 'runtimeConfig.portMappings'])
  expect(paths('bridge')).toContain('vlanTrunk')
  expect(paths('static')).toContain('ipam.addresses')
  expect(paths('flannel')).toContain('ipam.routes')
  expect(paths('host-local')).toContain('ipam.ranges.0')
  expect(paths('bandwidth')).toContain('runtimeConfig.bandwidth.shapedSubnets')
  expect(paths('macvlan')).toContain('dns.search')
  expect(paths('dhcp')).toContain('ipam.request')
})

for (const [name, found] of lists) {
  describe(name, () => {
    let container: Namespace
    beforeAll(() => {
      container = freshNamespace()
    })
    afterAll(() => container[Symbol.dispose]())

    for (const { path, element } of found) {
      test(path.join('.'), async () => {
        const plugin = await pluginOf(name)
        const slow: string[] = []
        const isOfGc = path[0] === 'cni.dev/valid-attachments'
        const verbs: Verb[] = isOfGc ? ['DEL', 'GC'] : ['ADD', 'CHECK', 'DEL']
        for (const [title, list] of contentsOf({ path, element })) {
          const given = placed(path, list) as object
          const config = { prevResult, ...(merged(base[name] ?? {}, given) as object) }
          for (const verb of verbs) {
            const { took, status, stdout, json } = await timed(plugin, verb, config, container.path)
            if (took > LIMIT) slow.push(`${title}: ${verb} took ${Math.round(took)} ms`)
            if (verb === 'DEL') expect({ title, status, stdout }).toEqual({ title, status: 0, stdout: '' })
            if (json?.code === 7) expect(stdout.length).toBeLessThan(100_000)
          }
        }
        expect(slow).toEqual([])
      }, 120_000)
    }
  })
}
