/**
 * Builds dist/ (or the folder --into): one program under every plugin's name and as `catena` (hard links), or with --separate
 * an executable for each plugin file, or for those that are named; and systemd's units for the daemon of dhcp, which say where
 * plugins are going to be (--installed-in); and schemas/ for editors. The executables need nothing of the machine that they run on: no C library, no
 * folder. With --plain they are what Bun makes by itself, for this machine's glibc; with --target for another machine, into dist-TARGET.
 */
import {
  chmodSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { plugins } from '../chain/catena.ts'
import { unitsFor } from '../chain/cli/shipped.ts'
import { schemaFiles } from './docs/schemas.ts'
import { bunOf } from './static/bun.ts'
import { commitOf } from './static/commit.ts'
import { embed } from './static/embed.ts'
import { loaderFor } from './static/loader.ts'
import { type Target, targets, thisMachine } from './static/targets.ts'
import { ROOT, run } from './static/work.ts'

/**
 * Measured choices: bytecode saves 4 ms of start-up; splitting keeps what is not asked for unloaded; a hundred times more
 * calls before a function is compiled to machine code save 1 ms and 2 ms of processor time, since a plugin has ended before
 * that pays (loops over tens of thousands of names still get there). And a plugin that runs as root must not read the .env
 * and bunfig.toml of the folder that it is started in.
 */
const OPTIONS = [
  '--compile',
  '--minify',
  '--bytecode',
  '--format=esm',
  '--splitting',
  '--compile-jit-policy=100',
  '--no-compile-autoload-dotenv',
  '--no-compile-autoload-bunfig',
]

/** Compiles one entry file to an executable; without a target to Bun's own. */
function compile(entry: string, outfile: string, target: Target | undefined): void {
  const define = `CATENA_COMMIT=${JSON.stringify(commitOf())}`
  const words = [process.execPath, 'build', ...OPTIONS, '--define', define, entry, '--outfile', outfile]
  if (!target) {
    run(words)
    return
  }
  const bun = bunOf(target.package)
  run([...words, `--target=bun-linux-${target.bun}`, `--compile-executable-path=${bun}`])
  const file = embed(readFileSync(outfile), readFileSync(loaderFor(target, bun)))
  writeFileSync(outfile, file)
  chmodSync(outfile, 0o755)
}

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

function buildSeparate(folder: string, wanted: readonly string[], target: Target | undefined): string[] {
  const names = Object.keys(plugins).filter(name => wanted.length === 0 || wanted.includes(name))
  for (const name of names) {
    compile(plugins[name]?.file ?? '', `${folder}/${name}.new`, target)
    renameSync(`${folder}/${name}.new`, `${folder}/${name}`)
  }
  return names
}

const USUAL_PLACE = '/opt/cni/bin'

function writeUnits(folder: string, installedIn: string): void {
  for (const [name, text] of Object.entries(unitsFor(installedIn))) {
    writeFileSync(`${folder}/${name}.new`, text)
    renameSync(`${folder}/${name}.new`, `${folder}/${name}`)
  }
}

/** JSON Schemas of configurations, for editors. */
async function writeSchemas(folder: string): Promise<void> {
  mkdirSync(`${folder}/schemas`, { recursive: true })
  for (const [name, schema] of Object.entries(await schemaFiles())) {
    writeFileSync(`${folder}/schemas/${name}.new`, `${JSON.stringify(schema, null, 2)}\n`)
    renameSync(`${folder}/schemas/${name}.new`, `${folder}/schemas/${name}`)
  }
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
  writeUnits(folder, resolve(values['installed-in']))
  await writeSchemas(folder)
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
