/** The one error that is thrown on purpose, and what is made of every other. */
import { expect, test } from 'bun:test'
import { BusyError } from '../../chain/linux/lock.ts'
import { CniError, code, errorDocument, toCniError } from '../../chain/protocol/error.ts'

test('the codes are those of the specification', () => {
  // SPEC.md, section "Error"; below 100 they are the specification's, and ours begin there
  expect(code).toMatchObject({
    incompatibleVersion: 1,
    unsupportedField: 2,
    unknownContainer: 3,
    invalidEnvironment: 4,
    io: 5,
    decoding: 6,
    invalidConfiguration: 7,
    tryAgainLater: 11,
    pluginNotAvailable: 50,
    limitedConnectivity: 51,
  })
  const own = Object.values(code).filter(number => number >= 100)
  expect(own).toEqual([999])
})

test('an error of ours stays as it is', () => {
  const error = new CniError(7, 'no', { details: 'at all' })
  expect(toCniError(error)).toBe(error)
})

test('any other has its own words, and is its cause; no stack is told', () => {
  const fault = new TypeError('x is not a function')
  const error = toCniError(fault)
  expect(error).toMatchObject({ code: 999, message: 'x is not a function', details: undefined, cause: fault })
  expect(JSON.stringify(errorDocument(error))).not.toContain(' at ')
})

test('what says of itself that it passes is code 11', () => {
  expect(toCniError(new BusyError('the file', 'process 7', 30_000))).toMatchObject({
    code: 11,
    message: 'the file is locked by process 7: gave up after 30 s',
  })
  expect(toCniError(Object.assign(new Error('no'), { isTemporary: 'yes' })).code).toBe(999)
})

test.each([
  ['a text', 'a text'],
  [undefined, 'undefined'],
  [null, 'null'],
  [7, '7'],
])('%p that was thrown has words', (thrown, words) => {
  expect(toCniError(thrown)).toMatchObject({ code: 999, message: words })
})

test('a document has what is known, and no key for what is not', () => {
  expect(errorDocument(new CniError(7, 'no'))).toEqual({ code: 7, msg: 'no' })
  expect(errorDocument(new CniError(7, 'no', { details: '' }), '1.0.0')).toEqual({
    cniVersion: '1.0.0',
    code: 7,
    msg: 'no',
  })
  expect(errorDocument(new CniError(7, 'no', { details: 'at all' }), '')).toEqual({
    cniVersion: '',
    code: 7,
    msg: 'no',
    details: 'at all',
  })
})
