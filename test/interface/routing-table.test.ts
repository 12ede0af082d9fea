/** Which routing tables of a container are free, and which a configuration may name. */
import { expect, test } from 'bun:test'
import fc from 'fast-check'
import * as z from 'zod/mini'
import { freeTables, tablesOf } from '../../chain/interface/routing-table.ts'
import { tableNumber } from '../../chain/interface/schema.ts'
import { addRule, sourceRule } from '../../chain/linux/netlink/rule.ts'
import { freshNamespace } from '../fixtures/namespace.ts'

test.each([1, 252, 256, 0xffffffff, undefined])('a configuration may name table %p', table => {
  expect(tableNumber(1).parse(table)).toBe(table)
})

test.each([0, -1, 253, 254, 255, 2 ** 32, 1.5, '100'])('and not table %p', table => {
  expect(tableNumber(1).safeParse(table).success).toBe(false)
})

test('0 is for whoever takes it for silence; the kernel’s own are named as what they are', () => {
  expect(tableNumber(0).parse(0)).toBe(0)
  expect(() => z.parse(tableNumber(0), 254)).toThrow('must not be 253, 254 or 255')
})

test('a table with a route, one that a rule leads to, and the caller’s own are not free', () => {
  using container = freshNamespace()
  container.createLink({ name: 'eth0', kind: { type: 'bridge' } }, '10.1.0.2/24', 'fd00::2/64')
  const first = (count: number, taken: readonly (number | undefined)[] = []) => {
    const free = freeTables(container.route, { first: 100, taken })
    return Array.from({ length: count }, () => free.next().value)
  }
  expect(first(2)).toEqual([100, 101])
  container.run('ip', 'route', 'add', '192.0.2.0/24', 'via', '10.1.0.1', 'table', '100')
  container.run('ip', '-6', 'route', 'add', '2001:db8::/64', 'via', 'fd00::1', 'table', '101')
  addRule(container.route, sourceRule('10.1.0.2', 102))
  addRule(container.route, sourceRule('fd00::2', 103))
  expect(first(3, [undefined, 105])).toEqual([104, 106, 107])
})

test('the kernel’s own tables are never free, wherever one begins', () => {
  using container = freshNamespace()
  container.run('ip', 'rule', 'del', 'table', 'default') // no rule leads there any more
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 300 }), first => {
      const free = freeTables(container.route, { first })
      const some = Array.from({ length: 5 }, () => free.next().value)
      expect(some).toEqual(
        [...new Set(some)].filter(table => table >= first && ![253, 254, 255].includes(table)),
      )
    }),
    { numRuns: 30, examples: [[250]] },
  )
})

test('who chooses one waits by the namespace, not by what it is called', () => {
  using one = freshNamespace()
  using other = freshNamespace()
  expect(tablesOf(one.path)).not.toBe(tablesOf(other.path))
  expect(tablesOf('/run/netns/none')).toContain('/run/netns/none')
  expect(one.inside(() => tablesOf('/proc/thread-self/ns/net'))).toBe(
    `the routing tables of namespace ${/\S+$/.exec(tablesOf(one.path))?.[0]}`,
  )
})
