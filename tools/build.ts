/**
 * Builds dist/ (or the folder --into): one program under every plugin's name and as `catena` (hard links), or with --separate
 * an executable for each plugin file, or for those that are named; and systemd's units for the daemon of dhcp, which say where
 * plugins are going to be (--installed-in); schemas/ for editors, completions/ for shells and man/. The executables need nothing of the machine that they run on: no C library, no
 * folder. With --plain they are what Bun makes by itself, for this machine's glibc; with --target for another machine, into dist-TARGET.
 */
import { linkSync, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { builtins, plugins, served } from '../chain/catena.ts'
import { commandLine } from '../chain/cli/command.ts'
import { completionFor, files } from '../chain/cli/completion/shells.ts'
import { outputFor } from '../chain/cli/output.ts'
import { unitsFor } from '../chain/cli/shipped.ts'
import { version } from '../package.json' with { type: 'json' }
import { manualPages } from './docs/manual.ts'
import { schemaFiles } from './docs/schemas.ts'
import { compile } from './static/compile.ts'
import { type Target, targets, thisMachine } from './static/targets.ts'
import { ROOT } from './static/work.ts'

/** Puts a hard link in the place of whatever has that name, without a moment in which the name is missing. */
function linkAs(existing: string, name: string): void {
  const temporary = `${name}.new`
  rmSync(temporary, { force: true })
  linkSync(existing, temporary)
  renameSync(temporary, name)
}

function buildOne(folder: string, target: Target | undefined): string[] {
  const program = `${folder}/catena`
  compile('chain/catena.ts', `${program}.new`, target)
  renameSync(`${program}.new`, program)
  for (const name of Object.keys(plugins)) linkAs(program, `${folder}/${name}`)
  return ['catena', ...Object.keys(plugins)]
}

function buildSeparate(folder: string, named: readonly string[], target: Target | undefined): string[] {
  const names = Object.keys(plugins).filter(name => named.length === 0 || named.includes(name))
  for (const name of names) {
    compile(plugins[name]?.file ?? '', `${folder}/${name}.new`, target)
    renameSync(`${folder}/${name}.new`, `${folder}/${name}`)
  }
  return names
}

const USUAL_PLACE = '/opt/cni/bin'

/** Puts texts into a folder by name, without a moment in which one is missing or half written. */
function writeTexts(folder: string, texts: Readonly<Record<string, string>>): void {
  mkdirSync(folder, { recursive: true })
  for (const [name, text] of Object.entries(texts)) {
    writeFileSync(`${folder}/${name}.new`, text)
    renameSync(`${folder}/${name}.new`, `${folder}/${name}`)
  }
}

/** JSON Schemas of configurations, for editors. */
async function schemaTexts(): Promise<Record<string, string>> {
  const schemas = Object.entries(await schemaFiles())
  return Object.fromEntries(schemas.map(([name, schema]) => [name, `${JSON.stringify(schema, null, 2)}\n`]))
}

/** Completions for shells and manual pages, of the definition that `--help` prints. */
function commandTexts(): { completions: Record<string, string>; man: Record<string, string> } {
  const command = commandLine({ builtins, served, pluginNames: served.names }, outputFor([]), () => {})
  const completions = Object.entries(files).map(([shell, file]) => [
    file,
    completionFor(shell, command) ?? '',
  ])
  return { completions: Object.fromEntries(completions), man: manualPages(command, version) }
}

function targetOf(name: string): Target {
  const target = targets[name]
  if (target) return target
  throw new Error(`no target ${name}: there are ${Object.keys(targets).join(', ')}`)
}

async function build(words: readonly string[]): Promise<string> {
  const { values, positionals } = parseArgs({
    args: [...words],
    allowPositionals: true,
    options: {
      into: { type: 'string' },
      'installed-in': { type: 'string', default: USUAL_PLACE },
      target: { type: 'string', default: thisMachine },
      plain: { type: 'boolean', default: false },
      separate: { type: 'boolean', default: false },
      quiet: { type: 'boolean', default: false },
    },
  })
  const started = performance.now()
  const target = values.plain ? undefined : targetOf(values.target)
  const folder = values.into ?? `${ROOT}/dist${values.target === thisMachine ? '' : `-${values.target}`}`
  mkdirSync(folder, { recursive: true })
  const built = values.separate ? buildSeparate(folder, positionals, target) : buildOne(folder, target)
  writeTexts(folder, unitsFor(resolve(values['installed-in'])))
  writeTexts(`${folder}/schemas`, await schemaTexts())
  const { completions, man } = commandTexts()
  writeTexts(`${folder}/completions`, completions)
  writeTexts(`${folder}/man`, man)
  if (values.quiet) return ''
  const size = (statSync(`${folder}/${built[0]}`).size / 1e6).toFixed(0)
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  const files = values.separate
    ? `${built.length} executables of`
    : `one executable under ${built.length} names,`
  return `${folder}: ${files} ${size} MB, built in ${seconds} s\n`
}

build(process.argv.slice(2))
  .then(text => process.stdout.write(text))
  .catch(thrown => {
    console.error(`build: ${thrown instanceof Error ? thrown.message : thrown}`)
    process.exitCode = 1
  })
