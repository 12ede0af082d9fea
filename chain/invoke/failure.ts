/** What a plugin that has failed says: the error that it printed, or libcni's words about what it left instead. */
import { CniError, code } from '../protocol/error.ts'
import type { Answer } from './invoke.ts'

/** The error that a plugin printed; undefined where there is none to be read. */
export function printedError(stdout: string): CniError | undefined {
  try {
    const { code: number, msg, details } = JSON.parse(stdout) as Partial<Record<string, unknown>>
    if (typeof msg !== 'string') return undefined
    return new CniError(typeof number === 'number' ? number : code.internal, msg, {
      details: typeof details === 'string' ? details : undefined,
    })
  } catch {
    return undefined
  }
}

/** A failed plugin's answer as an error. `timeout`: the milliseconds that it was given. */
export function failureOf(answer: Answer, timeout?: number): CniError {
  const { stdout, stderr, status, signal, timedOut } = answer
  if (timedOut) {
    const details = `${timeout} ms were over; it was killed with all that it had started${stderr ? `; it had said: ${stderr.trim()}` : ''}`
    return new CniError(code.internal, 'netplugin did not end in time', { details })
  }
  const how = signal ? `signal: ${signal}` : `exit status ${status}`
  if (stdout === '') {
    const said = stderr
      ? `netplugin failed: ${JSON.stringify(stderr)}: ${how}`
      : `netplugin failed with no error message: ${how}`
    return new CniError(code.internal, said)
  }
  return (
    printedError(stdout) ??
    new CniError(
      code.internal,
      `netplugin failed but error parsing its diagnostic message ${JSON.stringify(stdout)}: ${how}`,
      { details: stderr.trim() || undefined },
    )
  )
}
