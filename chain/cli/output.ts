/** Where the command's words go: JSON as cnitool prints it when piped, something readable on a terminal. */
import { writeAll } from '../linux/libc/file.ts'
import { type CniError, errorDocument } from '../protocol/error.ts'
import { parseResult, printError, printJson } from '../protocol/result.ts'
import { newestVersion } from '../protocol/version.ts'
import type { RuntimeOptions, Step } from '../runtime/network.ts'
import { renderError, renderResult, renderStep, renderSuccess, type Style, styleFor } from './render.ts'

export interface Output {
  /** A person is looking: words and colours instead of JSON. */
  isTerminal: boolean
  style: Style
  /** Columns of the terminal. */
  width: number
  /** A result of an ADD. */
  result(document: object): void
  /** Any other answer: as JSON, or the words for a person. */
  answer(document: object, words: () => string): void
  /** What is for another program, as it is. */
  text(text: string): void
  /** Beside the answer, on standard error. */
  aside(text: string): void
  /** What was done, for a person only. */
  success(sentence: string): void
  failure(error: CniError): void
  step: NonNullable<RuntimeOptions['onStep']>
}

/** Through libc: console.error paints what it prints. */
const print = (text: string) => writeAll(1, Buffer.from(text), 'standard output')
const printAside = (text: string) => writeAll(2, Buffer.from(text), 'standard error')

/** False when standard output is not read any more. */
function printIfRead(text: string): boolean {
  try {
    print(text)
    return true
  } catch {
    return false
  }
}

export function outputFor(argv: readonly string[]): Output {
  const wantsJson = argv.includes('--json')
  const isTerminal = Boolean(process.stdout.isTTY) && !wantsJson
  let hasResult = false
  const steps: Pick<Step, 'verb' | 'plugin' | 'milliseconds' | 'by'>[] = []
  const style = styleFor({ isTerminal, env: process.env })
  return {
    isTerminal,
    style,
    width: process.stdout.columns || 100,
    result(document) {
      hasResult = true
      if (isTerminal) print(`${renderResult(parseResult(document, versionOf(document)), style)}\n`)
      else if (wantsJson) print(printJson({ ...document, catena: { steps } }))
      else print(printJson(document)) // no newline: byte for byte what cnitool prints
    },
    answer(document, words) {
      print(isTerminal ? `${words()}\n` : `${printJson(document)}\n`)
    },
    text: print,
    aside: printAside,
    success(sentence) {
      if (isTerminal) print(`${renderSuccess(sentence, style)}\n`)
      else if (wantsJson && steps.length > 0 && !hasResult) print(`${printJson({ catena: { steps } })}\n`)
    },
    failure(error) {
      const asideStyle = styleFor({ isTerminal: Boolean(process.stderr.isTTY), env: process.env })
      const isTold = isTerminal || printIfRead(printError(errorDocument(error, newestVersion)))
      if (isTerminal || !isTold || process.stderr.isTTY) printAside(`${renderError(error, asideStyle)}\n`)
    },
    step(step) {
      const { verb, plugin, milliseconds, by } = step
      steps.push({
        verb,
        plugin,
        milliseconds: Math.round(milliseconds * 1000) / 1000,
        ...(by ? { by } : {}),
      })
      if (isTerminal) print(`${renderStep(step, style)}\n`)
      if (step.stderr) printAside(step.stderr)
    },
  }
}

function versionOf(document: object): string {
  return 'cniVersion' in document ? String(document.cniVersion) : newestVersion
}
