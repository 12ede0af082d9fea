/** ADD is all or nothing; DEL takes every step. Knows no plugins. */
import { KernelError } from '../linux/netlink/socket.ts'
import { CniError, code, toCniError } from '../protocol/error.ts'

/** Registers how the step just taken is undone. `what` completes the sentence "could not …". */
export type Undo = (what: string, step: () => unknown) => void

/** Keeps what was opened open until ADD has come to its end, undoing included, which may have to do without new descriptors. */
export type Keep = <T extends Disposable>(opened: T) => T

/**
 * Runs a body whose steps say how they are undone. When it fails, these run backwards; the first error is thrown, and
 * what could not be undone stands in its details.
 */
export async function allOrNothing<T>(body: (undo: Undo, keep: Keep) => Promise<T> | T): Promise<T> {
  const steps: { what: string; step: () => unknown }[] = []
  const kept: Disposable[] = []
  try {
    return await body(
      (what, step) => void steps.push({ what, step }),
      opened => {
        kept.push(opened)
        return opened
      },
    )
  } catch (thrown) {
    const left = await runBackwards(steps)
    if (left.length === 0) throw thrown
    const error = toCniError(thrown)
    const details = [error.details, ...left].filter(Boolean).join('; ')
    throw new CniError(error.code, error.message, { details, cause: thrown })
  } finally {
    for (const opened of kept) opened[Symbol.dispose]()
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

/**
 * Takes a step that the kernel carries out or refuses, and says at once how it is undone. Only a refusal tells that nothing
 * was done: when the answer got lost, since there was no memory for it, say, the step was taken.
 */
export function reversible<T>(
  undo: Undo,
  what: string,
  { forth, back }: { forth: () => T; back: () => unknown },
): T {
  let answer: T
  try {
    answer = forth()
  } catch (thrown) {
    if (!(thrown instanceof KernelError)) undo(what, back)
    throw thrown
  }
  undo(what, back) // which may stop ADD here
  return answer
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
