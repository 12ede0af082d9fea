/** Makes what follows from the code: the pages of docs/, and the plugins' checks: `bun tools/docs.ts`. A test fails when the committed ones are others. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { architecturePage } from './docs/architecture.ts'
import { checkFiles } from './docs/checks.ts'
import { indexPage, pageOf, pluginTable } from './docs/markdown.ts'
import { types } from './docs/schemas.ts'

const ROOT = `${import.meta.dir}/..`

/** The README with its list of plugins made again. */
function readme(): string {
  const text = readFileSync(`${ROOT}/README.md`, 'utf8')
  const [before, rest = ''] = text.split(/(?<=<!-- plugins -->\n)/)
  return `${before}\n${pluginTable('docs/plugins/')}\n\n${rest.slice(rest.indexOf('<!-- /plugins -->'))}`
}

/** What is made, by its path from the root of the repository. */
export async function generatedFiles(): Promise<Record<string, string>> {
  const plugins = await Promise.all(
    types.map(async type => [`docs/plugins/${type}.md`, await pageOf(type)] as const),
  )
  return {
    'README.md': readme(),
    'docs/architecture.md': architecturePage(),
    'docs/plugins/README.md': indexPage(),
    ...Object.fromEntries(plugins),
    ...(await checkFiles()),
  }
}

function write(files: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(`${ROOT}/${path.slice(0, path.lastIndexOf('/'))}`, { recursive: true })
    writeFileSync(`${ROOT}/${path}`, text)
  }
}

async function writeAll(): Promise<void> {
  write(await checkFiles()) // pages are made of the plugins, which stand on them
  write(await generatedFiles())
}

if (import.meta.main) {
  writeAll().catch(thrown => {
    console.error(`docs: ${thrown instanceof Error ? thrown.message : thrown}`)
    process.exitCode = 1
  })
}
