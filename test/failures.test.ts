/** The end of a run says what failed, with what was printed about it. */
import { expect, test } from 'bun:test'
import { failuresIn } from './failures.ts'

const output = `bun test v1.4.5

test/ip/one.test.ts:
(pass) passes [0.05ms]
error: expect(received).toBe(expected)
(fail) fails > of a group [0.35ms]
(skip) is not for this kernel

test/ip/two.test.ts:
said by a test that passes
(pass) passes as well
# Unhandled error between tests
-------------------------------
error: late

2 tests failed:
(fail) fails > of a group [0.35ms]
`

test('a failure is told with its file and with what was printed about it, once', () => {
  expect(failuresIn(output)).toMatchObject([
    {
      file: 'test/ip/one.test.ts',
      lines: ['error: expect(received).toBe(expected)', '(fail) fails > of a group [0.35ms]'],
    },
    { file: 'test/ip/two.test.ts' },
  ])
})

test('a run without a failure has none', () => {
  expect(failuresIn('test/ip/one.test.ts:\n(pass) passes\n\n 1 pass\n 0 fail\n')).toEqual([])
})
