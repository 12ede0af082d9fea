/**
 * Builds dist/ (or the folder --into): one program under every plugin's name and as `catena` (hard links), or with --separate
 * an executable for each plugin file, or for those that are named; and systemd's units for the daemon of dhcp, which say where
 * plugins are going to be (--installed-in).
 */
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { plugins } from './catena.ts'

const ROOT = `${import.meta.dir}/..`

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

function compile(entry: string, outfile: string): void {
  const { exitCode, stderr } = Bun.spawnSync(
    [process.execPath, 'build', ...OPTIONS, entry, '--outfile', outfile],
    {
      cwd: ROOT,
    },
  )
  if (exitCode !== 0) throw new Error(`cannot compile ${entry}: ${stderr}`)
}

/** Puts a hard link in the place of whatever has that name, without a moment in which the name is missing. */
function linkAs(existing: string, name: string): void {
  const temporary = `${name}.new`
  rmSync(temporary, { force: true })
  linkSync(existing, temporary)
  renameSync(temporary, name)
}

function buildOne(folder: string): string[] {
  const program = `${folder}/catena`
  compile('chain/catena.ts', `${program}.new`)
  renameSync(`${program}.new`, program)
  for (const name of Object.keys(plugins)) linkAs(program, `${folder}/${name}`)
  return ['catena', ...Object.keys(plugins)]
}

function buildSeparate(folder: string, wanted: readonly string[]): string[] {
  const names = Object.keys(plugins).filter(name => wanted.length === 0 || wanted.includes(name))
  for (const name of names) {
    compile(plugins[name]?.file ?? '', `${folder}/${name}.new`)
    renameSync(`${folder}/${name}.new`, `${folder}/${name}`)
  }
  return names
}

const USUAL_PLACE = '/opt/cni/bin'

/** The program of a unit is named by its whole path: systemd knows no other. */
function writeUnits(folder: string, installedIn: string): void {
  for (const name of ['cni-dhcp.service', 'cni-dhcp.socket']) {
    const text = readFileSync(`${ROOT}/ipam/dhcp/${name}`, 'utf8')
    writeFileSync(`${folder}/${name}.new`, text.replaceAll(`${USUAL_PLACE}/`, `${installedIn}/`))
    renameSync(`${folder}/${name}.new`, `${folder}/${name}`)
  }
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    into: { type: 'string', default: `${ROOT}/dist` },
    'installed-in': { type: 'string', default: USUAL_PLACE },
    separate: { type: 'boolean', default: false },
    quiet: { type: 'boolean', default: false },
  },
})
const started = performance.now()
mkdirSync(values.into, { recursive: true })
const built = values.separate ? buildSeparate(values.into, positionals) : buildOne(values.into)
writeUnits(values.into, resolve(values['installed-in']))
if (!values.quiet) {
  const size = (statSync(`${values.into}/${built[0]}`).size / 1e6).toFixed(0)
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  const files = values.separate
    ? `${built.length} executables of`
    : `one executable under ${built.length} names,`
  console.log(`${values.into}: ${files} ${size} MB, built in ${seconds} s`)
}
