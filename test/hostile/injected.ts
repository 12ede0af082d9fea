/** Plugins of ours whose system calls are refused by a tracer, as those of a kernel that lacks something. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { ours } from '../fixtures/plugin.ts'

/** strace's words for what is refused: "setns:error=EPERM:when=2+". Of a call that a warm service does it would see nothing. */
export function traced(injection: string, ...command: string[]): string[] {
  return [
    'strace',
    '-f',
    '-qq',
    '-o',
    '/dev/null',
    '-e',
    `inject=${injection}`,
    '-E',
    'CATENA_WARM=off',
    ...command,
  ]
}

/** An executable that runs a plugin of ours so. */
export function injected(injection: string, name: string): { file: string } & Disposable {
  const folder = mkdtempSync('/run/injected-')
  const file = `${folder}/${name}`
  const words = traced(injection, `${ours}/${name}`).map(word => `'${word}'`)
  writeFileSync(file, `#!/bin/sh\nexec ${words.join(' ')}\n`, { mode: 0o755 })
  return { file, [Symbol.dispose]: () => rmSync(folder, { recursive: true }) }
}
