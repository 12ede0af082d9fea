/** Routing policy rules: as the usual tools send them, and as the kernel keeps them. */
import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { addressText } from '../../../chain/ip/bytes.ts'
import { AF_INET, AF_INET6 } from '../../../chain/ip/family.ts'
import { errno } from '../../../chain/linux/libc/errno.ts'
import {
  addRule,
  describeRule,
  listRules,
  newRule,
  type Rule,
  readRule,
  removeRule,
  sourceRule,
} from '../../../chain/linux/netlink/rule.ts'
import { batch } from '../../../chain/linux/netlink/socket.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'
import { bytes, outcomesOfCut } from './captured.ts'

/** `ip rule add from 10.1.0.2 lookup 1000`, after the message's header. */
const rule = bytes(`
  02 00 20 00               # AF_INET, destination length, source length 32, tos
  00 00 00 01               # RT_TABLE_UNSPEC, reserved, FR_ACT_TO_TBL
  00 00 00 00               # flags
  08 00 02 00 0a 01 00 02   # FRA_SRC 10.1.0.2
  08 00 0f 00 e8 03 00 00   # FRA_TABLE 1000
`)

test('what ip rule add sends is read as what it says', () => {
  expect(readRule(rule)).toEqual({ ...sourceRule('10.1.0.2', 1000), priority: 0 })
})

test('what is written is read as it was', () => {
  const octets = (count: number) => fc.uint8Array({ minLength: count, maxLength: count }).map(addressText)
  const given = fc
    .constantFrom<{ family: Rule['family']; width: number }>(
      { family: AF_INET, width: 32 },
      { family: AF_INET6, width: 128 },
    )
    .chain(({ family, width }) =>
      fc.record(
        {
          family: fc.constant(family),
          source: fc.record({ address: octets(width / 8), prefixLength: fc.integer({ min: 1, max: width }) }),
          table: fc.integer({ min: 1, max: 0xffffffff }),
          priority: fc.nat(0x7fffffff),
          input: fc.stringMatching(/^[a-z][a-z0-9.]{0,14}$/),
        },
        { requiredKeys: ['family', 'table', 'priority'] },
      ),
    )
  fc.assert(fc.property(given, rule => expect(readRule(newRule(rule).payload)).toEqual(rule)))
})

test('rules come back from the kernel as they were added, and go once', () => {
  using host = freshNamespace()
  const wanted = [sourceRule('10.1.0.2', 100), sourceRule('fd00::2', 4242)]
  batch(host.route, wanted.map(newRule))
  const found = listRules(host.route).filter(({ source }) => source)
  expect(found).toMatchObject(wanted)
  for (const rule of wanted) expect(removeRule(host.route, rule)).toBe('removed')
  for (const rule of wanted) expect(removeRule(host.route, rule)).toBe('absent')
})

test('all that a rule may have comes back, and one that differs in any of it stays', () => {
  using host = freshNamespace()
  host.createLink({ name: 'eth0', kind: { type: 'bridge' } })
  const rule: Rule = { ...sourceRule('10.1.0.2', 0x12345678), priority: 77, input: 'eth0' }
  addRule(host.route, rule)
  expect(listRules(host.route, [AF_INET])).toContainEqual(rule)
  for (const other of [
    { ...rule, table: 7 },
    { ...rule, priority: 78 },
    { ...rule, input: 'lo' },
    sourceRule('10.1.0.3', rule.table),
  ])
    expect(removeRule(host.route, other)).toBe('absent')
  expect(removeRule(host.route, rule)).toBe('removed')
})

test('an equal one of the same priority is refused, in words that say which', () => {
  using host = freshNamespace()
  const rule = { ...sourceRule('10.1.0.2', 100), priority: 7 }
  addRule(host.route, rule)
  expect(() => addRule(host.route, rule)).toThrow(
    expect.objectContaining({ errno: errno.EEXIST, operation: 'add rule from 10.1.0.2/32 lookup 100' }),
  )
  expect(describeRule({ family: AF_INET6, table: 7 })).toBe('from all lookup 7')
})

test('rules are listed in the order in which they are asked, of one family or both', () => {
  using host = freshNamespace()
  for (const priority of [300, 100, 200])
    addRule(host.route, { ...sourceRule('10.1.0.2', priority), priority })
  const tables = listRules(host.route, [AF_INET]).map(({ table }) => table)
  expect(tables).toEqual([255, 100, 200, 300, 254, 253])
  expect(listRules(host.route).length).toBeGreaterThan(tables.length)
})

test('a message that is cut anywhere is read, or refused as CodecError', () => {
  expect(outcomesOfCut(rule, readRule)).toEqual(new Set(['refused', 'read']))
})
