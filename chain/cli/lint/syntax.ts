/** Text that is no JSON: where it stops being that, in words. */
import { createScanner } from 'jsonc-parser'
import { type Document, placeOf, type Span } from './document.ts'
import type { Fault } from './fault.ts'

/** ParseErrorCode of jsonc-parser, which exports its numbers as types alone. */
const code = {
  invalidSymbol: 1,
  propertyNameExpected: 3,
  valueExpected: 4,
  colonExpected: 5,
  commaExpected: 6,
  closeBraceExpected: 7,
  closeBracketExpected: 8,
  endOfFileExpected: 9,
  invalidComment: 10,
  endOfComment: 11,
  endOfString: 12,
  invalidUnicode: 14,
  invalidEscape: 15,
  invalidCharacter: 16,
}

type Words = Pick<Fault, 'says' | 'why' | 'write'> & { span: Span }

/** The first thing that is wrong: what follows is often its consequence. */
export function syntaxFault(document: Document): Fault | undefined {
  const { text, errors } = document
  const head = { document, rule: 'json', level: 'error', path: [] } as const
  if (text.trim() === '')
    return { ...head, span: { offset: 0, length: 0 }, says: 'the file is empty', write: '{ … }' }
  const first = errors.toSorted((one, other) => one.offset - other.offset)[0]
  if (first) return { ...head, ...wordsFor(text, first.error, first) }
  try {
    JSON.parse(text)
  } catch (thrown) {
    const says = String(thrown).replace(/^SyntaxError: /, '')
    return { ...head, span: { offset: 0, length: 1 }, says: `it is not JSON: ${says}` }
  }
  return undefined
}

interface Token extends Span {
  text: string
}

/** The tokens up to a place, and the brackets that are open there. */
function before(text: string, offset: number): { last: Token | undefined; open: Token[] } {
  const scanner = createScanner(text, true)
  const open: Token[] = []
  let last: Token | undefined
  while (scanner.scan() !== EOF && scanner.getTokenOffset() < offset) {
    const token = { offset: scanner.getTokenOffset(), length: scanner.getTokenLength(), text: '' }
    token.text = text.slice(token.offset, token.offset + token.length)
    last = token
    if (token.text === '{' || token.text === '[') open.push(token)
    if (token.text === '}' || token.text === ']') open.pop()
  }
  return { last, open }
}

/** SyntaxKind.EOF of jsonc-parser. */
const EOF = 17

function wordsFor(text: string, error: number, { offset, length }: Span): Words {
  const span = { offset, length: Math.max(length, 1) }
  const { last, open } = before(text, offset)
  const found = text.slice(offset, offset + length)
  const isClosing = found === '}' || found === ']'
  const swallowed = last && missingQuote(text, last, offset)
  if (swallowed) return swallowed
  if (last?.text === ',' && isClosing) {
    return { span: last, says: `a comma before ${found}, with nothing between`, write: 'no comma there' }
  }
  if (last && /^-?0$/.test(last.text) && last.offset + last.length === offset) {
    const digits = /^\d*/.exec(found)?.[0] ?? ''
    return {
      span: { offset: last.offset, length: last.length + digits.length },
      says: 'numbers do not begin with a zero',
      write: digits,
    }
  }
  switch (error) {
    case code.commaExpected:
      return isClosing ? wrongEnd(text, span, open.at(-1)) : missingComma(last ?? span)
    case code.colonExpected:
      return { span: behind(last ?? span), says: 'a colon is missing between key and value', write: ':' }
    case code.closeBraceExpected:
    case code.closeBracketExpected:
      return isClosing ? wrongEnd(text, span, open.at(-1)) : notClosed(text, open.at(-1))
    case code.propertyNameExpected:
    case code.valueExpected:
      if (offset >= text.trimEnd().length) return notClosed(text, open.at(-1))
      return expected(span, { found, what: error === code.valueExpected ? 'a value' : 'a key in quotes' })
    case code.endOfString:
      return unfinished(span, text)
    default:
      return inToken(span, { error, found })
  }
}

const behind = ({ offset, length }: Span): Span => ({ offset: offset + length, length: 1 })

const missingComma = (last: Span): Words => ({
  span: behind(last),
  says: 'a comma is missing',
  why: 'what follows stands behind it in the same object or list',
  write: ',',
})

const expected = (span: Span, { found, what }: { found: string; what: string }): Words => ({
  span,
  says: `${what} is missing${found ? ` before ${found}` : ''}`,
})

function wrongEnd(text: string, span: Span, open: Token | undefined): Words {
  const found = text.slice(span.offset, span.offset + span.length)
  if (!open) return { span, says: `${found} closes nothing`, write: `no ${found} there` }
  const other = open.text === '{' ? '}' : ']'
  return {
    span,
    says: `${found} where ${open.text} of line ${placeOf(text, open).line} is open`,
    write: other,
  }
}

function notClosed(text: string, open: Token | undefined): Words {
  const end = text.trimEnd().length
  const span = { offset: Math.max(end - 1, 0), length: 1 }
  if (!open) return { span, says: 'the file ends too early' }
  const closing = open.text === '{' ? '}' : ']'
  return {
    span,
    says: `the file ends while ${open.text} of line ${placeOf(text, open).line} is open`,
    write: closing,
  }
}

function unfinished({ offset }: Span, text: string): Words {
  const line = text.slice(offset).split('\n')[0]?.trimEnd() ?? ''
  const content = line.replace(/[,\]}]*$/, '')
  return {
    span: { offset, length: line.length },
    says: 'the closing quote is missing',
    why: 'text ends on the line on which it begins',
    write: `${content}"`,
  }
}

/** `"name: "web"`: the text before what is no symbol is a key that has swallowed its colon. */
function missingQuote(text: string, last: Token, offset: number): Words | undefined {
  const [, key] = /^"([^"]*?)\s*:\s*"$/.exec(last.text) ?? []
  if (key === undefined) return undefined
  if (key === '') {
    const word = /([\w.-]+)$/.exec(text.slice(0, last.offset))?.[1]
    if (word === undefined) return undefined
    const span = { offset: last.offset - word.length, length: word.length }
    return { span, says: `the quote before ${word} is missing`, write: `"${word}"` }
  }
  if (text.slice(last.offset, offset).includes('\n')) return undefined
  return {
    span: { ...last, length: key.length + 1 },
    says: 'the closing quote of the key is missing',
    write: `"${key}":`,
  }
}

const constants: Readonly<Record<string, string>> = {
  True: 'true',
  TRUE: 'true',
  yes: 'true',
  on: 'true',
  False: 'false',
  FALSE: 'false',
  no: 'false',
  off: 'false',
  None: 'null',
  nil: 'null',
  undefined: 'null',
}

function inToken(span: Span, { error, found }: { error: number; found: string }): Words {
  switch (error) {
    case code.endOfFileExpected:
      return { span, says: `${found} stands behind the end`, why: 'a file holds one object' }
    case code.invalidComment:
    case code.endOfComment:
      return { span, says: 'JSON has no comments', why: 'runtimes refuse the whole file' }
    case code.invalidEscape:
    case code.invalidUnicode:
      return { span, says: 'this is no escape of JSON', why: 'a backslash is written twice: \\\\' }
    case code.invalidCharacter:
      return { span, says: 'a control character in a text', write: '\\t, \\n or \\u….' }
    case code.invalidSymbol:
      return symbol(span, found)
    default:
      return { span, says: `${found || 'this'} is not JSON` }
  }
}

function symbol(span: Span, found: string): Words {
  if (found.startsWith('\ufeff'))
    return { span, says: 'the file begins with a byte order mark', why: 'JSON has none, and Go refuses it' }
  const constant = Object.hasOwn(constants, found) ? constants[found] : undefined
  if (constant !== undefined) return { span, says: `${found} is no word of JSON`, write: constant }
  const [, quoted] = /^'(.*)'$/.exec(found) ?? []
  if (quoted !== undefined) return { span, says: 'quotes are double ones', write: JSON.stringify(quoted) }
  const says = /^[\w./:-]+$/.test(found) ? `the quote before ${found} is missing` : `${found} is not JSON`
  return {
    span,
    says,
    why: 'keys and texts stand between quotes',
    write: JSON.stringify(found.replace(/"+$/, '')),
  }
}
