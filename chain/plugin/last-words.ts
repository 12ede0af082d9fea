/** For a process that cannot even call the C library: without memory that may be executed, bun:ffi does not work. */
import { CniError, errorDocument, toCniError } from '../protocol/error.ts'
import { printError } from '../protocol/result.ts'

const ADVICE =
  'a process that is denied memory which is writable and executable cannot call it (MemoryDenyWriteExecute=, seccomp, execmem)'

/** Prints an error document without the C library, and answers the exit status. */
export async function lastWords(thrown: unknown): Promise<1> {
  const { writeSync } = await import('node:fs')
  const error = toCniError(thrown)
  const details = error.details ?? (error.message.includes('C library') ? ADVICE : undefined)
  const told = new CniError(error.code, error.message, details === undefined ? {} : { details })
  writeSync(1, printError(errorDocument(told)))
  return 1
}
