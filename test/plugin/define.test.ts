/** prevResult, for plugins that need it, and for those that can do without. */
import { expect, test } from 'bun:test'
import { notChained, readablePrevious, requirePrevious } from '../../chain/plugin/define.ts'
import { CniError } from '../../chain/protocol/error.ts'
import { emptyResult } from '../../chain/protocol/result.ts'

test('who needs it and has none is told by whom it is missed', () => {
  const result = emptyResult()
  expect(requirePrevious(result, 'bridge')).toBe(result)
  expect(() => requirePrevious(undefined, 'bridge')).toThrow(
    expect.objectContaining({ code: 7, message: 'prevResult: bridge: Required prevResult missing' }),
  )
})

test('who is called first in a list, and must not be, is told in the phrases of all the Go plugins', () => {
  const { code, message } = notChained('sbr')
  expect(code).toBe(7)
  for (const phrase of [
    'must be called as chained plugin',
    'Required prevResult missing',
    'missing prevResult from earlier plugin',
  ])
    expect(message).toContain(phrase)
})

/** A request whose prevResult is read when somebody looks. */
const unreadable = (thrown: Error) => ({
  get previous(): never {
    throw thrown
  },
})

test('who can do without takes one that cannot be read for none, and only that', () => {
  expect(readablePrevious({ previous: undefined })).toBeUndefined()
  const previous = emptyResult()
  expect(readablePrevious({ previous })).toBe(previous)
  expect(readablePrevious(unreadable(new CniError(6, 'could not parse prevResult')))).toBeUndefined()
  const fault = new TypeError('no such property')
  expect(() => readablePrevious(unreadable(fault))).toThrow(fault)
})
