/** Families of addresses, by their text. */
import { expect, test } from 'bun:test'
import { familyOf, socketFamilyOf, tableFamilyOf, widthOf } from '../../chain/ip/family.ts'

test('a family is told by its text', () => {
  expect([socketFamilyOf('10.0.0.1'), socketFamilyOf('::ffff:10.0.0.1')]).toEqual([2, 10])
})

test.each([
  ['10.0.0.1', 4, 'ip', 32],
  ['10.0.0.0/8', 4, 'ip', 32],
  ['fd00::1', 6, 'ip6', 128],
  ['::ffff:10.0.0.1', 6, 'ip6', 128],
] as const)('%s is of family %p, which tables call %s: %p bits', (text, family, table, width) => {
  expect([familyOf(text), tableFamilyOf(text), widthOf(familyOf(text))]).toEqual([family, table, width])
})
