/** From an entry file to an executable. */
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { bunOf } from './bun.ts'
import { commitOf } from './commit.ts'
import { embed } from './embed.ts'
import { trimLocales } from './icu.ts'
import { loaderFor } from './loader.ts'
import type { Target } from './targets.ts'
import { run } from './work.ts'

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

/** Compiles one entry file to an executable that needs nothing of its machine; without a target to Bun's own. */
export function compile(entry: string, outfile: string, target: Target | undefined): void {
  const define = `CATENA_COMMIT=${JSON.stringify(commitOf())}`
  const words = [process.execPath, 'build', ...OPTIONS, '--define', define, entry, '--outfile', outfile]
  if (!target) {
    run(words)
    return
  }
  const bun = bunOf(target.package)
  run([...words, `--target=bun-linux-${target.bun}`, `--compile-executable-path=${bun}`])
  const program = readFileSync(outfile)
  const hole = trimLocales(program)
  writeFileSync(outfile, embed(program, readFileSync(loaderFor(target, bun)), hole))
  chmodSync(outfile, 0o755)
}
