/**
 * Builds dist/: one program under every plugin's name and as `catena` (hard links), or with --separate an executable for
 * each plugin file.
 */
import { linkSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { plugins } from './catena.ts'

const ROOT = `${import.meta.dir}/..`
const DIST = `${ROOT}/dist`

/**
 * Measured choices: bytecode saves 1 ms of start-up, splitting keeps what is not asked for unloaded; and a plugin that runs
 * as root must not read the .env and bunfig.toml of the folder that it is started in.
 */
const OPTIONS = [
  '--compile',
  '--minify',
  '--bytecode',
  '--format=esm',
  '--splitting',
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

function buildOne(): void {
  const program = `${DIST}/catena`
  compile('chain/catena.ts', `${program}.new`)
  renameSync(`${program}.new`, program)
  for (const name of Object.keys(plugins)) linkAs(program, `${DIST}/${name}`)
}

function buildSeparate(): void {
  for (const [name, { file }] of Object.entries(plugins)) {
    rmSync(`${DIST}/${name}`, { force: true })
    compile(file, `${DIST}/${name}`)
  }
}

const flags = new Set(process.argv.slice(2))
const started = performance.now()
mkdirSync(DIST, { recursive: true })
if (flags.has('--separate')) buildSeparate()
else buildOne()
if (!flags.has('--quiet')) {
  const size = (statSync(`${DIST}/bridge`).size / 1e6).toFixed(0)
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  console.log(`dist/: ${Object.keys(plugins).length} plugins and catena, ${size} MB, built in ${seconds} s`)
}
