/**
 * Plain checks made of the plugins' schemas: beside each schema.ts the file checks.ts, with the schema as data. A rule of a schema
 * has to be a function that a file without zod exports, so that the data can name it.
 */
import type { z } from 'zod/mini'
import type { Check } from '../../chain/protocol/checks.ts'
import { importsOf } from './imports.ts'

const ROOT = `${import.meta.dir}/../..`

/** A rule by the file that exports it, as the schema's file imports it, and its name there. */
interface Named {
  specifier: string
  name: string
}

/** What checks are made of, in the words of zod's definitions. */
interface Definition {
  type: Check['type'] | 'optional' | 'default' | 'number'
  format?: string
  innerType?: Node
  defaultValue?: unknown
  shape?: Record<string, Node>
  element?: Node
  valueType?: Node
  values?: readonly unknown[]
  fn?: Rule
  checks?: readonly RuleNode[]
}
interface Node {
  _zod: { def: Definition }
}
interface RuleNode {
  _zod: { def: { check: string; value?: number; inclusive?: boolean; fn?: Rule }; check: Rule }
}
type Rule = (value: never) => boolean

/** A schema's check; throws where the schema has something that checks do not know. */
export function checkOf(schema: z.ZodMiniType | Node): Check {
  const { def } = (schema as Node)._zod
  const inner = def.innerType && checkOf(def.innerType)
  const check = { ...(inner ?? shapeOf(def)), ...rulesOf(def, inner) }
  if (def.type === 'optional') return { ...check, isOptional: true }
  if (def.type !== 'default') return check
  for (const keeps of check.rules ?? [])
    if (!keeps(def.defaultValue as never)) throw new Error('a default that is against a rule')
  return { ...check, default: def.defaultValue }
}

function shapeOf(def: Definition): Check {
  switch (def.type) {
    case 'unknown':
    case 'string':
    case 'boolean':
      return { type: def.type }
    case 'number':
      if (def.format !== undefined && def.format !== 'safeint') break
      return { type: def.format ? 'int' : 'number' }
    case 'custom':
      return { type: 'custom', ...(def.fn ? { rules: [def.fn] } : {}) }
    case 'literal':
      return { type: 'literal', values: def.values ?? [] }
    case 'array':
      return { type: 'array', ...eachOf(def.element) }
    case 'record':
      return { type: 'record', ...eachOf(def.valueType) }
    case 'object': {
      const keys = Object.entries(def.shape ?? {}).map(([key, schema]) => [key, checkOf(schema)] as const)
      return { type: 'object', keys: Object.fromEntries(keys) }
    }
  }
  throw new Error(`checks know no ${def.type} ${def.format ?? ''}`)
}

const eachOf = (schema: Node | undefined) => (schema ? { each: checkOf(schema) } : {})

/** What stands at a schema beside its type, after what its inner one has. */
function rulesOf({ checks = [] }: Definition, inner: Check | undefined): Partial<Check> {
  const rules = [...(inner?.rules ?? [])]
  const inspections = [...(inner?.inspections ?? [])]
  const bounds: Partial<Check> = {}
  for (const { _zod } of checks) {
    const { check, value, inclusive, fn } = _zod.def
    if (check === 'greater_than' && inclusive && value !== undefined) bounds.minimum = value
    else if (check === 'less_than' && inclusive && value !== undefined) bounds.maximum = value
    else if (check === 'custom' && fn) rules.push(fn)
    else if (check === 'custom') inspections.push(_zod.check as never)
    else throw new Error(`checks know no ${check}`)
  }
  return {
    ...bounds,
    ...(rules.length > 0 ? { rules } : {}),
    ...(inspections.length > 0 ? { inspections } : {}),
  }
}

/** The functions that a file's imports bring, and those of the schemas that it stands on, with where they are from. */
async function rulesWithin(path: string, found = new Map<unknown, Named>()): Promise<Map<unknown, Named>> {
  for (const { specifier, kind } of importsOf(await Bun.file(path).text())) {
    if (kind !== 'static' || !specifier.startsWith('.')) continue
    const imported = new URL(specifier, `file://${path}`).pathname
    if (imported.endsWith('/schema.ts')) await rulesWithin(imported, found)
    else
      for (const [name, value] of Object.entries((await import(imported)) as object))
        if (typeof value === 'function') found.set(value, { specifier: imported, name })
  }
  return found
}

/** One file of checks. */
async function checksBeside(path: string): Promise<string> {
  const rules = await rulesWithin(path)
  const used = new Map<string, Set<string>>()
  const nameOf = (rule: unknown) => {
    const named = rules.get(rule)
    if (!named) throw new Error(`a rule is no exported function: ${rule}`)
    used.getOrInsertComputed(named.specifier, () => new Set()).add(named.name)
    return named.name
  }
  const schemas = Object.entries((await import(path)) as object).filter(([, value]) => '_zod' in value)
  const constants = schemas.map(
    ([name, schema]) =>
      `export const ${name}: Checks<z.infer<typeof schema.${name}>> = {\n` +
      `  check: ${literal(checkOf(schema as Node), nameOf, '  ')},\n` +
      `  schema: async () => (await import('./schema.ts')).${name},\n}\n`,
  )
  const folder = path.slice(0, path.lastIndexOf('/'))
  const imports = [...used].map(
    ([file, names]) => `import { ${[...names].toSorted().join(', ')} } from '${relative(folder, file)}'\n`,
  )
  const checks = relative(folder, `${ROOT_PATH}/chain/protocol/checks.ts`)
  return [
    '/** The schema as plain checks. Made of schema.ts by `bun tools/docs.ts`: change that. */\n',
    "import type { z } from 'zod/mini'\n",
    `import type { Checks } from '${checks}'\n`,
    ...imports.toSorted(),
    "import type * as schema from './schema.ts'\n\n",
    constants.join('\n'),
  ].join('')
}

const ROOT_PATH = new URL(`file://${ROOT}`).pathname

function relative(folder: string, file: string): string {
  const [from, to] = [folder.split('/'), file.split('/')]
  let common = 0
  while (from[common] === to[common]) common++
  const up = '../'.repeat(from.length - common) || './'
  return up + to.slice(common).join('/')
}

/** A check as TypeScript; objects with their keys in lines of their own. */
function literal(check: Check, nameOf: (rule: unknown) => string, indentation: string): string {
  const { keys, each, rules, inspections, ...plain } = check
  const further = `${indentation}  `
  const lines = Object.entries(keys ?? {}).map(
    ([key, inner]) => `${further}  ${key}: ${literal(inner, nameOf, `${further}  `)},\n`,
  )
  const parts = [
    ...Object.entries(plain).map(([name, value]) => `${name}: ${plainText(value)}`),
    ...(keys ? [`keys: {\n${lines.join('')}${further}}`] : []),
    ...(each ? [`each: ${literal(each, nameOf, keys ? further : indentation)}`] : []),
    ...(rules ? [`rules: [${rules.map(nameOf).join(', ')}]`] : []),
    ...(inspections ? [`inspections: [${inspections.map(nameOf).join(', ')}]`] : []),
  ]
  return keys
    ? `{\n${parts.map(part => `${further}${part},\n`).join('')}${indentation}}`
    : `{ ${parts.join(', ')} }`
}

function plainText(value: unknown): string {
  if (typeof value === 'string')
    return `'${JSON.stringify(value).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`
  return Array.isArray(value) ? `[${value.map(plainText).join(', ')}]` : JSON.stringify(value)
}

/** All files of checks by their path from the root of the repository. */
export async function checkFiles(): Promise<Record<string, string>> {
  const paths = [...new Bun.Glob('{main,meta,ipam}/**/schema.ts').scanSync({ cwd: ROOT })].toSorted()
  const made: Record<string, string> = {}
  for (const path of paths) {
    try {
      made[path.replace(/schema\.ts$/, 'checks.ts')] = await checksBeside(`${ROOT_PATH}/${path}`)
    } catch (thrown) {
      throw new Error(`${path}: ${thrown instanceof Error ? thrown.message : thrown}`)
    }
  }
  return made
}
