/** ADD is all or nothing; DEL takes every step. Knows neither plugins nor the kernel. */
import { CniError, code, toCniError } from '../protocol/error.ts'

/** Registers how the step just taken is undone. `what` completes the sentence "could not …". */
export type Undo = (what: string, step: () => unknown) => void

/**
 * Runs a body whose steps say how they are undone. When it fails, these run backwards; the first error is thrown, and
 * what could not be undone stands in its details.
 */
export async function allOrNothing<T>(body: (undo: Undo) => Promise<T> | T): Promise<T> {
  const steps: { what: string; step: () => unknown }[] = []
  try {
    return await body((what, step) => void steps.push({ what, step }))
  } catch (thrown) {
    const left = await runBackwards(steps)
    if (left.length === 0) throw thrown
    const error = toCniError(thrown)
    const details = [error.details, ...left].filter(Boolean).join('; ')
    throw new CniError(error.code, error.message, { details, cause: thrown })
  }
}

async function runBackwards(steps: { what: string; step: () => unknown }[]): Promise<string[]> {
  const failures: string[] = []
  for (const { what, step } of steps.toReversed()) {
    try {
      await step()
    } catch (thrown) {
      failures.push(`could not ${what}: ${toCniError(thrown).message}`)
    }
  }
  return failures
}

/** Takes every step whatever became of the others, then throws one error that names all that failed, with the first one's code. */
export async function everyStep(steps: Readonly<Record<string, (() => unknown) | undefined>>): Promise<void> {
  const failures: { what: string; error: CniError }[] = []
  for (const [what, step] of Object.entries(steps)) {
    try {
      await step?.()
    } catch (thrown) {
      failures.push({ what, error: toCniError(thrown) })
    }
  }
  const [first] = failures
  if (!first) return
  throw new CniError(
    first.error.code ?? code.internal,
    failures.map(({ what, error }) => `${what}: ${error.message}`).join('; '),
    {
      details: failures
        .map(({ error }) => error.details)
        .filter(Boolean)
        .join('; '),
      cause: first.error,
    },
  )
}
