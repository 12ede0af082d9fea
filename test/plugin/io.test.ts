/** Output that is kept has everything in order, and either stream for itself. */
import { expect, test } from 'bun:test'
import { keptOutput } from '../../chain/plugin/io.ts'

test('what is written is kept in order, of each stream for itself, and of each call', () => {
  const one = keptOutput()
  const other = keptOutput()
  one.stdout('{"a":')
  one.stderr('a word\n')
  one.stdout('1}')
  expect(one.kept).toEqual({ stdout: '{"a":1}', stderr: 'a word\n' })
  expect(other.kept).toEqual({ stdout: '', stderr: '' })
})
