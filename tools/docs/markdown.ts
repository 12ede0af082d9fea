/** A plugin's page as Markdown: docs/plugins/<type>.md. */
import { plugins } from '../../chain/catena.ts'
import { supportedVersions } from '../../chain/protocol/version.ts'
import type { Example, Page } from './page.ts'
import { pages } from './pages.ts'
import { describedKey, ipamTypes, type JsonSchema, jsonSchemaOf, type Key, keysOf, types } from './schemas.ts'

/** The first line of every generated page. */
const HEAD = '<!-- Made by `bun tools/docs.ts` from the schema and tools/docs/plugins: change these. -->'

const code = (text: string) => `\`${text}\``
const list = (entries: readonly string[]) => entries.map(entry => `- ${entry}`).join('\n')
const cell = (text: string) => text.replaceAll('|', '\\|')

/** A row with less than its header's cells is filled up. */
function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(' | ')} |`
  return [line(header), `|${header.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n')
}

const typeWords: Readonly<Record<string, string>> = {
  integer: 'whole number',
  boolean: 'true or false',
  string: 'text',
  object: 'object',
}

/** "1 to 65535", "at most 4294967295". */
function boundsOf({ minimum, maximum }: JsonSchema): string {
  if (minimum !== undefined && maximum !== undefined) return `${minimum} to ${maximum}`
  if (maximum !== undefined) return `at most ${maximum}`
  return minimum === undefined ? '' : `at least ${minimum}`
}

function valuesOf(schema: JsonSchema): string {
  if (schema.enum) {
    return schema.enum
      .filter(value => value !== '')
      .map(value => code(JSON.stringify(value)))
      .join(', ')
  }
  const word = typeWords[String(schema.type)] ?? String(schema.type ?? 'any')
  const bounds = boundsOf(schema)
  return bounds === '' ? word : `${word}, ${bounds}`
}

function defaultOf({ schema, isRequired }: Key, said: string | undefined): string {
  if (said !== undefined) return code(said)
  if (isRequired) return 'required'
  const value = schema.default
  return value === undefined || value === '' ? '–' : code(JSON.stringify(value))
}

function keyRow(type: string, key: Key): string[] {
  const text = pages[type]?.keys[key.path] ?? ''
  const { says, since = '0.1.0', isOurs, default: said } = describedKey(text)
  return [
    code(key.path),
    valuesOf(key.schema),
    defaultOf(key, said),
    isOurs ? `${since}, Catena only` : since,
    says,
  ]
}

function keysSection(type: string, schema: JsonSchema): string {
  const keys = keysOf(schema)
  if (keys.length === 0) return 'It has no keys of its own.'
  const capabilities = Object.keys(schema.properties?.runtimeConfig?.properties ?? {})
  const handed =
    capabilities.length === 0
      ? ''
      : `\n\nThe runtime hands over ${code('runtimeConfig')} where the list says ${code(`"capabilities": {${capabilities.map(name => `"${name}": true`).join(', ')}}`)}.`
  return `${table(
    ['key', 'value', 'default', 'since', 'what it does'],
    keys.map(key => keyRow(type, key)),
  )}${handed}`
}

/** The list of an example. */
export function conflistOf(type: string, { plugins }: Example): object {
  return { cniVersion: '1.1.0', name: `example-${type}`, plugins }
}

function exampleSection(type: string, example: Example): string {
  const commands = [
    ...(example.host ?? []),
    `catena add example-${type} web --create${example.capabilities ? ` --cap-args '${JSON.stringify(example.capabilities)}'` : ''}`,
    `catena check example-${type} web`,
    `catena del example-${type} web`,
  ]
  return [
    `${code(`/etc/cni/net.d/example-${type}.conflist`)}:`,
    `\`\`\`json\n${JSON.stringify(conflistOf(type, example), null, 2)}\n\`\`\``,
    `\`\`\`sh\n${commands.join('\n')}\n\`\`\``,
  ].join('\n\n')
}

function refusalsSection({ refusals }: Page): string {
  const rows = refusals.map(({ change, code: number, says, remedy }) => [
    code(shown(change)),
    String(number),
    says,
    remedy,
  ])
  return table(['the example with', 'code', 'the error says', 'what to do'], rows)
}

/** JSON where a key that is taken away can be seen. */
function shown(change: object): string {
  const text = JSON.stringify(change, (_key, value) => (value === undefined ? '\u0000' : value))
  return text.replaceAll('"\\u0000"', '(absent)')
}

function section(title: string, text: string | undefined): string[] {
  return text === undefined || text === '' ? [] : [`## ${title}`, text]
}

export async function pageOf(type: string): Promise<string> {
  const page = pages[type]
  const entry = plugins[type]
  if (!page || !entry) throw new Error(`there is no page on ${type}`)
  const versions = entry.versions ?? supportedVersions
  const parts = [
    HEAD,
    `# ${type}`,
    page.line,
    `${kindOf(type)}; versions ${versions[0]} to ${versions.at(-1)} of the specification; source: [${entry.file}](../../${entry.file}).`,
    ...section('Keys', keysSection(type, await jsonSchemaOf(type))),
    ...section('What ADD makes', list(page.makes)),
    ...section(
      'How to look at it',
      page.look.length === 0
        ? undefined
        : `For the example below, on the host:\n\n${table(
            ['command', 'shows'],
            page.look.map(({ run, shows }) => [code(run), code(shows)]),
          )}`,
    ),
    ...section('State on disk', page.state && list(page.state)),
    ...section('Errors', page.refusals.length === 0 ? undefined : refusalsSection(page)),
    ...section('Worth knowing', page.notes && list(page.notes)),
    ...section('Where it differs from the Go plugin', page.differs && list(page.differs)),
    ...section('Example', exampleSection(type, page.example)),
  ]
  return `${parts.join('\n\n')}\n\nAll codes and what to do: [errors](../errors.md). Decisions that concern several plugins: [differences](../upstream-differences.md).\n`
}

function kindOf(type: string): string {
  if (ipamTypes.includes(type)) return 'IPAM plugin, named by the key `ipam` of another'
  return plugins[type]?.file.startsWith('meta/')
    ? 'Meta plugin, behind others in a list'
    : 'Main plugin, first in a list'
}

/** The table of all pages; `folder` leads from where the table stands to theirs. */
export function pluginTable(folder: string): string {
  const rows = types.map(type => [`[${type}](${folder}${type}.md)`, pages[type]?.line ?? ''])
  return table(['plugin', 'what it does'], rows)
}

/** docs/plugins/README.md. */
export function indexPage(): string {
  return `${HEAD}\n\n# Plugins\n\n${pluginTable('')}\n`
}
