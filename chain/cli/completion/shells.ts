/**
 * Completions of the command's words for shells, as the scripts that they read. What a person types is never evaluated, nor are the
 * names of namespaces and networks that are offered: whoever completes may be root.
 */
import type { Command } from 'commander'
import { bash } from './bash.ts'
import { fish } from './fish.ts'
import { verbsOf } from './grammar.ts'
import { zsh } from './zsh.ts'

/** By shell, what the script's file is called where that shell looks for it. */
export const files: Readonly<Record<string, string>> = {
  bash: 'catena.bash',
  zsh: '_catena',
  fish: 'catena.fish',
}

const scripts: Readonly<Record<string, typeof bash>> = { bash, zsh, fish }

/** The script for one of these shells; undefined for another. */
export function completionFor(shell: string, root: Command): string | undefined {
  return Object.hasOwn(scripts, shell) ? scripts[shell]?.(verbsOf(root)) : undefined
}
