/**
 * What failed, out of the output of `bun test`: `files OUTPUT…` lists the test files with a failure, one per line; without
 * it, each failure is told once more with what was printed about it, so that the end of a long run says what to look at.
 */
import { readFileSync } from 'node:fs'

export interface Failure {
  file: string
  /** what was printed since the test before it, the line that says (fail) last */
  lines: string[]
}

/** The failures in the order of the output: tests that failed, and what was thrown outside of any test. */
export function failuresIn(output: string): Failure[] {
  const failures: Failure[] = []
  let file = ''
  let lines: string[] = []
  for (const line of output.split('\n')) {
    const header = /^(test\/\S+\.test\.ts):$/.exec(line)
    if (/^\d+ tests? (failed|skipped):$/.test(line)) break // bun's own summary repeats what was said
    if (header?.[1]) file = header[1]
    else lines.push(line)
    if (line.startsWith('(fail)') || line.startsWith('# Unhandled error')) failures.push({ file, lines })
    if (header || /^\((pass|fail|skip)\)/.test(line)) lines = []
  }
  return failures
}

const MOST_LINES = 60

if (import.meta.main) {
  const isForFiles = process.argv[2] === 'files'
  const outputs = process.argv.slice(isForFiles ? 3 : 2)
  const failures = outputs.flatMap(path => failuresIn(readFileSync(path, 'utf8')))
  if (isForFiles) for (const file of new Set(failures.map(({ file }) => file))) console.log(file)
  else
    for (const { file, lines } of failures)
      console.log([`\n${file}:`, ...lines.slice(-MOST_LINES)].join('\n'))
}
