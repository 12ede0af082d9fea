/** What a plugin that has failed said, and what is made of it where that is no error. */
import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { failureOf, printedError } from '../../chain/invoke/failure.ts'
import type { Answer } from '../../chain/invoke/invoke.ts'
import { CniError, errorDocument } from '../../chain/protocol/error.ts'

const answer = (more: Partial<Answer>): Answer => ({ status: 1, stdout: '', stderr: '', ...more })

test('an error that was printed is read as it was meant', () => {
  fc.assert(
    fc.property(
      fc.integer(),
      fc.string(),
      fc.option(fc.string({ minLength: 1 }), { nil: undefined }),
      (code, msg, details) => {
        const printed = JSON.stringify(errorDocument(new CniError(code, msg, { details }), '1.1.0'))
        expect(printedError(printed)).toMatchObject({ code, message: msg, details })
        expect(failureOf(answer({ stdout: printed }))).toMatchObject({ code, message: msg, details })
      },
    ),
  )
})

test.each([
  '',
  '{',
  'null',
  '7',
  '"msg"',
  '[]',
  '{}',
  '{"code":7}',
  '{"msg":7}',
  '{"code":7,"message":"no"}',
])('%s is no error of a plugin’s', printed => {
  expect(printedError(printed)).toBeUndefined()
})

test('one that says no number, or details that are no text, still has its words', () => {
  expect(printedError('{"msg":"no"}')).toMatchObject({ code: 999, message: 'no', details: undefined })
  expect(printedError('{"code":"7","msg":"no","details":{}}')).toMatchObject({
    code: 999,
    details: undefined,
  })
})

test.each([
  { name: 'silence', given: {}, message: 'netplugin failed with no error message: exit status 1' },
  {
    name: 'a signal',
    given: { status: 137, signal: 'SIGKILL' },
    message: 'netplugin failed with no error message: signal: SIGKILL',
  },
  {
    name: 'words on standard error alone',
    given: { status: 2, stderr: 'panic: "no"\n' },
    message: 'netplugin failed: "panic: \\"no\\"\\n": exit status 2',
  },
  {
    name: 'what is no error',
    given: { stdout: 'oops' },
    message: 'netplugin failed but error parsing its diagnostic message "oops": exit status 1',
  },
])('of $name libcni’s sentence is made', ({ given, message }) => {
  expect(failureOf(answer(given))).toMatchObject({ code: 999, message, details: undefined })
})

test('what it said on standard error stands beside what it printed', () => {
  expect(failureOf(answer({ stdout: 'oops', stderr: 'line\n' }))).toMatchObject({ details: 'line' })
})

test('one that took too long is told by its time, with what it had said; what it printed counts no more', () => {
  const late = answer({ status: 137, signal: 'SIGKILL', timedOut: true, stdout: '{"msg":"half' })
  expect(failureOf(late, 250)).toMatchObject({
    message: 'netplugin did not end in time',
    details: '250 ms were over; it was killed with all that it had started',
  })
  expect(failureOf({ ...late, stderr: 'still at it\n' }, 250).details).toContain('; it had said: still at it')
})
