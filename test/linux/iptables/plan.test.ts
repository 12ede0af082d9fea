/** What an iptables table is to hold, as what iptables-restore reads. */
import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { checksOf, lineIn, linesOf, type Plan } from '../../../chain/linux/iptables/plan.ts'
import { readSavedRule } from '../../../chain/linux/iptables/removal.ts'
import { first, jump, planOf } from './place.ts'

const texts = (lines: readonly { text: string }[]) => lines.map(({ text }) => text)

test('a plan is one transaction that checks what is shared, makes what is owned, and then enters it', () => {
  expect(texts(linesOf(planOf('OWN'), new Set()))).toEqual([
    '*nat',
    '-C PREROUTING -m addrtype --dst-type LOCAL -j SHARED',
    '-C POSTROUTING -m comment --comment "comes first" -j SHARED',
    '-N OWN',
    '-A OWN -p tcp -j RETURN',
    String.raw`-A SHARED -m comment --comment "a \"quoted\" OWN" -j OWN`,
    'COMMIT',
  ])
})

test('what is absent is added where it belongs', () => {
  expect(texts(linesOf(planOf('OWN'), new Set([jump, first]))).slice(1, 3)).toEqual([
    '-A PREROUTING -m addrtype --dst-type LOCAL -j SHARED',
    '-I POSTROUTING -m comment --comment "comes first" -j SHARED',
  ])
})

test('a plan is checked rule by rule', () => {
  expect(texts(checksOf(planOf('OWN'))).slice(3, 5)).toEqual([
    '-C OWN -p tcp -j RETURN',
    String.raw`-C SHARED -m comment --comment "a \"quoted\" OWN" -j OWN`,
  ])
})

test('a word that would end its line is refused', () => {
  expect(() => linesOf(planOf('OWN', [['-j', 'RETURN\n-F']]), new Set())).toThrow('ends its line')
})

test('tables that come first are transactions of their own, before it; so are their checks', () => {
  const guard = { chain: 'INPUT', args: ['-j', 'DROP'] }
  const plan: Plan = { ...planOf('OWN'), first: [{ family: 'ip', table: 'filter', ensure: [guard] }] }
  for (const lines of [linesOf(plan, new Set()), checksOf(plan)])
    expect(texts(lines).slice(0, 4)).toEqual(['*filter', '-C INPUT -j DROP', 'COMMIT', '*nat'])
  expect(texts(linesOf(plan, new Set([guard])))[1]).toBe('-A INPUT -j DROP')
})

test('each line says what it is there for, so that a refusal can be made good', () => {
  const lines = linesOf(planOf('OWN'), new Set([first]))
  expect(lines.map(({ checks, creates, adds }) => checks ?? creates ?? adds)).toEqual([
    undefined,
    jump,
    first,
    'OWN',
    { chain: 'OWN', args: ['-p', 'tcp', '-j', 'RETURN'] },
    expect.objectContaining({ chain: 'SHARED' }),
    undefined,
  ])
})

test('words are read again as they were, whatever is in them', () => {
  const odd = fc.constantFrom('a', 'é', ' ', '\t', '"', "'", '\\', '-', '$', '#')
  const word = fc.oneof(fc.string({ unit: odd, minLength: 1 }), fc.string({ unit: 'grapheme', minLength: 1 }))
  fc.assert(
    fc.property(word, comment => {
      fc.pre(!/[\n\r\0]/.test(comment))
      const rule = { chain: 'OWN', args: ['-m', 'comment', '--comment', comment, '-j', 'RETURN'] }
      const [, line] = linesOf({ family: 'ip', table: 'nat', enter: [rule] }, new Set())
      expect(readSavedRule(line?.text ?? '')).toEqual({ chain: 'OWN', comment, targets: ['RETURN'] })
    }),
  )
})

test.each(['\n', '\r', '\0'])('a word with %j is refused, wherever it stands', end => {
  const word = `a${end}b`
  const plans: Partial<Plan>[] = [
    { own: [{ name: word, rules: [] }] },
    { enter: [{ chain: word, args: [] }] },
    { ensure: [{ chain: 'INPUT', args: [word] }] },
  ]
  for (const plan of plans)
    expect(() => linesOf({ family: 'ip', table: 'nat', ...plan }, new Set())).toThrow('ends its line')
})

test.each([
  ['iptables-restore: line 3 failed', 3],
  ['iptables-restore v1.8.9 (nf_tables): \nline 12: CHAIN_ADD failed (File exists): chain X', 12],
  ["Error occurred at line: 7\nTry `iptables-restore -h' for more information.", 7],
  ['iptables-restore v1.8.9 (legacy): deadline 3', undefined],
  ['', undefined],
])('of %j the line is %p', (stderr, line) => {
  expect(lineIn(stderr)).toBe(line as number)
})
