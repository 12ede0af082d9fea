/** What the steps of a build share: where they keep things, and how they run programs. */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { resolve } from 'node:path'

export const ROOT = resolve(import.meta.dir, '../..')
export const CACHE = `${ROOT}/.cache/static`
mkdirSync(CACHE, { recursive: true })

/** Runs a program to its end and answers what it printed; throws with its last words. */
export function run(
  words: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...words], {
    cwd: options.cwd ?? ROOT,
    env: { ...process.env, LC_ALL: 'C', ...options.env },
    maxBuffer: 1 << 28,
  })
  if (exitCode !== 0) {
    const last = `${stdout}${stderr}`.trim().split('\n').slice(-12).join('\n')
    throw new Error(`${words.slice(0, 4).join(' ')} … failed:\n${last}`)
  }
  return stdout.toString()
}

/** Sixteen digits for what something is made of. */
export function hashOf(parts: readonly string[]): string {
  return new Bun.CryptoHasher('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16)
}

/** Moves a folder to where the cache keeps it; another build may have been there first, with the same. */
export function keep(folder: string, name: string): string {
  try {
    renameSync(folder, `${CACHE}/${name}`)
  } catch (thrown) {
    rmSync(folder, { recursive: true, force: true })
    if (!existsSync(`${CACHE}/${name}`)) throw thrown
  }
  return name
}
