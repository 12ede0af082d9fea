/** Which commit a build is of. */
import { ROOT } from './work.ts'

/** "0123456789ab", with "+changes" where files differ from it; "unknown" where this folder is no checkout of its own. */
export function commitOf(folder = ROOT): string {
  const top = git(folder, 'rev-parse', '--show-toplevel')
  const commit = git(folder, 'rev-parse', '--short=12', 'HEAD')
  if (top !== folder || commit === undefined) return 'unknown'
  return git(folder, 'status', '--porcelain', '--untracked-files=no') === '' ? commit : `${commit}+changes`
}

/** What git answers, if it is there and knows. */
function git(folder: string, ...words: string[]): string | undefined {
  try {
    const { exitCode, stdout } = Bun.spawnSync(['git', '-C', folder, ...words], { stderr: 'ignore' })
    return exitCode === 0 ? stdout.toString().trim() : undefined
  } catch {
    return undefined
  }
}
